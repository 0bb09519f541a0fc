package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/prompt"
	"github.com/nullpool/nullpool/generator"
)

// askOpen asks every question that is open, first which stack it is to be. Where nobody
// can be asked, an open question is an error, unless --yes leaves it to the defaults.
func askOpen(ctx context.Context, r *request) error {
	if r.yes {
		return nil
	}
	if r.stackFrom == "" && r.canAsk() {
		if err := askStack(ctx, r); err != nil {
			return err
		}
	}
	open := r.open()
	if len(open) == 0 {
		return nil
	}
	if !r.canAsk() {
		wrong := r.stack.Validate(r.given)
		return errors.Join(wrong, unanswered(r, open, wrong))
	}
	if err := r.check(r.given); err != nil {
		return err // before the first question, not after the last
	}
	for at := 0; at < len(open); at++ {
		option, defaults := open[at], open[at].Defaults(r.given.Name())
		if before, again := r.given[option.Name]; again {
			defaults = before.Values
		}
		err := askOption(ctx, r, option, defaults, at > 0)
		if errors.Is(err, prompt.ErrBack) {
			at -= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}

// askStack asks which stack it is to be, unless what is given goes with none.
func askStack(ctx context.Context, r *request) error {
	try := func(i int) error {
		if err := r.take(r.stacks[i]); err != nil {
			return err
		}
		return r.check(r.given)
	}
	var wrong []error
	for i := range r.stacks {
		wrong = append(wrong, try(i))
	}
	if !slices.Contains(wrong, nil) {
		return wrong[0]
	}
	option := generator.StackOption(r.stacks)
	q := question(option, option.Defaults(""))
	q.Check = func(values []string) error { return offer(try(slices.Index(option.ChoiceNames(), values[0]))) }
	values, err := r.app.prompter.Ask(ctx, q)
	if err != nil {
		return err
	}
	r.stackFrom, r.asked = generator.FromPrompt, true
	return try(slices.Index(option.ChoiceNames(), values[0]))
}

// askOption asks for one option and keeps the answer. An answer that does not go
// with those given before is refused at the question. With back, prompt.ErrBack
// can be the answer.
func askOption(ctx context.Context, r *request, option generator.Option, defaults []string, back bool) error {
	q := question(option, defaults)
	q.Back = back
	q.Check = func(values []string) error {
		so := maps.Clone(r.given)
		so[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
		return offer(r.check(so))
	}
	values, err := r.app.prompter.Ask(ctx, q)
	if err != nil {
		return err
	}
	r.given[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
	r.asked = true
	return nil
}

func question(option generator.Option, defaults []string) prompt.Question {
	q := prompt.Question{Name: option.Name, Text: option.Prompt, Help: option.Help, Many: option.Many, Defaults: defaults}
	for _, choice := range option.Choices {
		q.Choices = append(q.Choices, prompt.Choice{Name: choice.Name, Help: choice.Help})
	}
	return q
}

// offer adds to an error what can be answered instead, where that is known.
func offer(err error) error {
	if answer, ok := errors.AsType[*generator.AnswerError](err); ok && answer.Better != "" {
		return fmt.Errorf("%w; try %s", err, answer.Better)
	}
	return err
}

// unanswered returns the error that lists the open questions and a command that
// answers them, and better answers those that are wrong.
func unanswered(r *request, open []generator.Option, wrong error) error {
	flags := make([]string, len(open))
	answers := maps.Clone(r.given)
	for i, option := range open {
		flags[i] = flagName(option)
		if option.Example != "" {
			answers[option.Name] = generator.Answer{Values: []string{option.Example}}
		}
	}
	for _, err := range slices.Backward(flatten(wrong)) { // what is wrong first in an answer counts
		answer, ok := errors.AsType[*generator.AnswerError](err)
		if ok && answer.Better != "" {
			answers[answer.Option] = generator.Answer{Values: []string{answer.Better}}
		} else if ok {
			delete(answers, answer.Option) // for the default
		}
	}
	why := "no terminal to ask at"
	switch {
	case r.app.prompter != nil:
		why = "with --json nobody is asked"
	case r.app.full != nil:
		why = ciSystem() + " is set, so nobody is asked"
	}
	ready := *r
	ready.stackFrom = generator.FromDefault
	return &missingError{why: why, flags: flags, command: ready.commandLine(answers.WithDefaults(r.stack))}
}
