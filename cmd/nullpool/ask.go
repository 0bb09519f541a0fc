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

// askOpen asks every question that is open. Where nobody can be asked, an open
// question is an error, unless --yes leaves it to the defaults.
func askOpen(ctx context.Context, r *request) error {
	if r.yes {
		return nil
	}
	var open []generator.Option
	for _, option := range r.stack.Options {
		if _, ok := r.given[option.Name]; !ok && option.IsQuestion() {
			open = append(open, option)
		}
	}
	if len(open) == 0 {
		return nil
	}
	wrong := r.stack.Validate(r.given)
	if r.app.prompter == nil || r.app.json { // a document is for a program
		return errors.Join(wrong, unanswered(r, open, wrong))
	}
	if wrong == nil {
		wrong = r.checkTarget(r.given)
	}
	if wrong != nil {
		return wrong // before the first question, not after the last
	}
	for _, option := range open {
		if err := askOption(ctx, r, option, option.Defaults(r.given.Name())); err != nil {
			return err
		}
	}
	return nil
}

// askOption asks for one option and keeps the answer. An answer that does not go
// with those given before is refused at the question.
func askOption(ctx context.Context, r *request, option generator.Option, defaults []string) error {
	q := prompt.Question{Name: option.Name, Text: option.Prompt, Help: option.Help, Many: option.Many, Defaults: defaults}
	for _, choice := range option.Choices {
		q.Choices = append(q.Choices, prompt.Choice{Name: choice.Name, Help: choice.Help})
	}
	q.Check = func(values []string) error {
		so := maps.Clone(r.given)
		so[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
		if err := r.stack.Validate(so); err != nil || option.Name != generator.NameOption {
			return offer(err)
		}
		return r.checkTarget(so)
	}
	values, err := r.app.prompter.Ask(ctx, q)
	if err != nil {
		return err
	}
	r.given[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
	r.asked = true
	return nil
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
	return &missingError{why: why, flags: flags, command: r.commandLine(answers.WithDefaults(r.stack))}
}
