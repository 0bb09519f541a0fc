package prompt

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
)

// Full asks with lists and a cursor, by survey. Both files must be terminals:
// survey takes no answers from a pipe.
type Full struct{ In, Out *os.File }

// Ask implements Prompter.
func (p *Full) Ask(ctx context.Context, q Question) ([]string, error) {
	// survey neither sees ctx nor gives the terminal back when it is left alone.
	state, err := term.GetState(int(p.In.Fd()))
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", q.Name, err)
	}
	type reply struct {
		values []string
		err    error
	}
	replies := make(chan reply, 1)
	go func() {
		values, err := p.survey(q)
		replies <- reply{values, err}
	}()
	select {
	case r := <-replies:
		if errors.Is(r.err, ErrBack) {
			return nil, ErrBack
		}
		if errors.Is(r.err, terminal.InterruptErr) || errors.Is(r.err, io.EOF) { // Ctrl-C, Ctrl-D
			return nil, ErrInterrupted
		}
		if r.err != nil {
			return nil, fmt.Errorf("ask for %s: %w", q.Name, r.err)
		}
		return r.values, nil
	case <-ctx.Done():
		return nil, errors.Join(ErrInterrupted, term.Restore(int(p.In.Fd()), state))
	}
}

// survey asks with the help above the question, where it needs no key to be seen.
func (p *Full) survey(q Question) (values []string, err error) {
	fmt.Fprintln(p.Out, strings.TrimRight("  "+q.Help, " "))
	if q.Back && q.isText() {
		fmt.Fprintln(p.Out, "  < for the question before")
	} else if q.Back {
		q.Choices = append(slices.Clone(q.Choices), Choice{back, "the question before"})
	}
	message := q.Text + ":"
	streams := survey.WithStdio(p.In, p.Out, p.Out)
	switch {
	case q.isText():
		values = make([]string, 1)
		input := &survey.Input{Message: message, Default: strings.Join(q.Defaults, "")}
		valid := func(answer any) error { return q.accept([]string{fmt.Sprint(answer)}) }
		err = survey.AskOne(input, &values[0], streams, survey.WithValidator(valid))
	case q.Many:
		values = []string{} // not nil: to choose nothing is an answer
		list := &survey.MultiSelect{Message: message, Options: q.names(), Description: q.describe, Default: q.Defaults}
		// Without these two keys, survey's line about its keys fits into 80 columns.
		err = survey.AskOne(list, &values, streams, survey.WithValidator(q.chosen),
			survey.WithRemoveSelectAll(), survey.WithRemoveSelectNone())
	default:
		values = make([]string, 1)
		list := &survey.Select{Message: message, Options: q.names(), Description: q.describe, Default: q.Defaults[0]}
		err = survey.AskOne(list, &values[0], streams, survey.WithValidator(q.chosen))
	}
	if err == nil && q.Back && slices.Contains(values, back) {
		return nil, ErrBack
	}
	return values, err
}

// describe returns what is said beside a choice. The default is marked, except
// where there are many: those are ticked.
func (q Question) describe(name string, index int) string {
	help := q.Choices[index].Help
	if !q.Many && q.Help != "" && q.isDefault(name) {
		return strings.TrimPrefix(help+" (default)", " ")
	}
	return help
}

// chosen checks what survey says was chosen from a list.
func (q Question) chosen(answer any) error {
	if one, ok := answer.(core.OptionAnswer); ok {
		return q.accept([]string{one.Value})
	}
	all, _ := answer.([]core.OptionAnswer)
	values := make([]string, len(all))
	for i, one := range all {
		values[i] = one.Value
	}
	return q.accept(values)
}
