package main

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/nullpool/nullpool/generator"
)

// askOpen asks every question that is open. Where nobody can be asked, an open
// question is an error, unless --yes leaves it to the defaults.
func (opts *newOptions) askOpen(ctx context.Context) error {
	if opts.yes {
		return nil
	}
	var open []generator.Option
	for _, option := range opts.stack.Options {
		if _, ok := opts.given[option.Name]; !ok && option.IsQuestion() {
			open = append(open, option)
		}
	}
	if len(open) == 0 {
		return nil
	}
	wrong := errors.Join(opts.stack.Check(opts.given), opts.stack.CheckRelations(opts.given))
	if opts.app.prompter == nil || opts.app.json { // a document is for a program
		return errors.Join(wrong, missing(opts, open))
	}
	if wrong == nil {
		wrong = opts.checkTarget(opts.given)
	}
	if wrong != nil {
		return wrong // before the first question, not after the last
	}
	for _, option := range open {
		if err := opts.ask(ctx, option, option.Defaults(opts.given.Name())); err != nil {
			return err
		}
	}
	return nil
}

// ask asks for one option and keeps the answer. An answer that does not go with
// those given before is refused at the question.
func (opts *newOptions) ask(ctx context.Context, option generator.Option, defaults []string) error {
	values, err := opts.app.prompter.Ask(ctx, question{
		Option:   option,
		Defaults: defaults,
		Check: func(values []string) error {
			if err := opts.stack.Check(generator.Answers{option.Name: {Values: values}}); err != nil {
				return offer(err)
			}
			so := maps.Clone(opts.given)
			so[option.Name] = generator.Answer{Values: values}
			if err := opts.stack.CheckRelations(so); err != nil || option.Name != generator.NameOption {
				return err
			}
			return opts.checkTarget(so)
		},
	})
	if err != nil {
		return err
	}
	opts.given[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
	opts.asked = true
	return nil
}

// offer adds to an error what can be answered instead, where that is known.
func offer(err error) error {
	if answer, ok := errors.AsType[*generator.AnswerError](err); ok && answer.Better != "" {
		return fmt.Errorf("%w; try %s", err, answer.Better)
	}
	return err
}

// missing returns the error that lists the open questions and a command that
// answers them, and better answers those that are wrong.
func missing(opts *newOptions, open []generator.Option) error {
	flags := make([]string, len(open))
	answers := maps.Clone(opts.given)
	for i, option := range open {
		flags[i] = flagName(option)
		if option.Example != "" {
			answers[option.Name] = generator.Answer{Values: []string{option.Example}}
		}
	}
	for name, answer := range opts.given {
		err := opts.stack.Check(generator.Answers{name: answer})
		if wrong, ok := errors.AsType[*generator.AnswerError](err); ok && wrong.Better != "" {
			answers[name] = generator.Answer{Values: []string{wrong.Better}}
		} else if ok {
			delete(answers, name) // for the default
		}
	}
	return &missingError{flags: flags, command: opts.commandLine(answers.WithDefaults(opts.stack))}
}
