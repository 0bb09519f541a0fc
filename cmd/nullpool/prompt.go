package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/AlecAivazis/survey/v2"
	"github.com/AlecAivazis/survey/v2/core"
	"github.com/AlecAivazis/survey/v2/terminal"
	"golang.org/x/term"

	"github.com/nullpool/nullpool/generator"
)

// A prompter asks a person. Ask returns a valid answer, or errInterrupted.
type prompter interface {
	Ask(ctx context.Context, q question) ([]string, error)
}

// A question is an option to be asked.
type question struct {
	generator.Option
	Defaults []string                    // in the light of earlier answers
	Check    func(values []string) error // nil accepts all
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// A surveyPrompter asks with survey. Both files must be terminals: survey takes
// no answers from a pipe.
type surveyPrompter struct{ in, out *os.File }

func (p *surveyPrompter) Ask(ctx context.Context, q question) ([]string, error) {
	// survey neither sees ctx nor gives the terminal back when it is left alone.
	state, err := term.GetState(int(p.in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", q.Name, err)
	}
	type reply struct {
		values []string
		err    error
	}
	replies := make(chan reply, 1)
	go func() {
		values, err := p.ask(q)
		replies <- reply{values, err}
	}()
	select {
	case r := <-replies:
		if errors.Is(r.err, terminal.InterruptErr) || errors.Is(r.err, io.EOF) { // Ctrl-C, Ctrl-D
			return nil, errInterrupted
		}
		if r.err != nil {
			return nil, fmt.Errorf("ask for %s: %w", q.Name, r.err)
		}
		return r.values, nil
	case <-ctx.Done():
		return nil, errors.Join(errInterrupted, term.Restore(int(p.in.Fd()), state))
	}
}

// ask asks with the help above the question, where it needs no key to be seen.
func (p *surveyPrompter) ask(q question) (values []string, err error) {
	fmt.Fprintln(p.out, strings.TrimRight("  "+q.Help, " "))
	message := q.Prompt + ":"
	streams := survey.WithStdio(p.in, p.out, p.out)
	switch {
	case q.IsText():
		values = make([]string, 1)
		input := &survey.Input{Message: message, Default: strings.Join(q.Defaults, "")}
		valid := func(answer any) error { return q.Check([]string{fmt.Sprint(answer)}) }
		err = survey.AskOne(input, &values[0], streams, survey.WithValidator(valid))
	case q.Many:
		values = []string{} // not nil: to choose nothing is an answer
		list := &survey.MultiSelect{
			Message: message, Options: q.ChoiceNames(), Description: q.describe, Default: q.Defaults,
		}
		// Without these two keys, survey's line about its keys fits into 80 columns.
		err = survey.AskOne(list, &values, streams, survey.WithValidator(q.chosen),
			survey.WithRemoveSelectAll(), survey.WithRemoveSelectNone())
	default:
		values = make([]string, 1)
		list := &survey.Select{
			Message: message, Options: q.ChoiceNames(), Description: q.describe, Default: q.Defaults[0],
		}
		err = survey.AskOne(list, &values[0], streams, survey.WithValidator(q.chosen))
	}
	return values, err
}

// describe returns what is said beside a choice. The default is marked, except
// where there are many: those are ticked.
func (q question) describe(name string, index int) string {
	help := q.Choices[index].Help
	if !q.Many && q.Help != "" && slices.Contains(q.Defaults, name) {
		return strings.TrimPrefix(help+" (default)", " ")
	}
	return help
}

// chosen checks what survey says was chosen from a list.
func (q question) chosen(answer any) error {
	if q.Check == nil {
		return nil
	}
	var values []string
	switch answer := answer.(type) {
	case core.OptionAnswer:
		values = []string{answer.Value}
	case []core.OptionAnswer:
		for _, one := range answer {
			values = append(values, one.Value)
		}
	}
	return q.Check(values)
}
