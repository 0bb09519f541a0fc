package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Plan is a complete and valid set of answers, and what follows from them.
type Plan struct {
	Version string // the tool's
	Stack   *Stack
	Answers Answers // one for each option of the stack

	layers   []*layer // in the order in which their parts are joined in a slot
	unlocked bool
}

// NewPlan makes a plan from answers and the stack's defaults. Its error joins
// one *AnswerError for each thing that is wrong. The version is recorded in the
// project.
func NewPlan(s *Stack, given Answers, version string) (*Plan, error) {
	p := &Plan{Version: version, Stack: s, Answers: given.WithDefaults(s)}
	errs := []error{s.Validate(p.Answers)}
	for _, option := range s.Options {
		if _, ok := p.Answers[option.Name]; !ok {
			errs = append(errs, &AnswerError{Option: option.Name, Reason: "missing", Better: option.Example, unquoted: true})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	choices := map[string]bool{}
	for _, name := range p.active() {
		choices[name] = true
	}
	for _, l := range s.layers {
		if l.active(choices) {
			p.layers = append(p.layers, l)
		}
	}
	return p, nil
}

// active returns the chosen choices as "option/choice", in the stack's order:
// the order of answers must not show in a project.
func (p *Plan) active() []string {
	var names []string
	for _, option := range p.Stack.Options {
		for _, choice := range option.Choices {
			if slices.Contains(p.Answers[option.Name].Values, choice.Name) {
				names = append(names, option.Name+"/"+choice.Name)
			}
		}
	}
	return names
}

// Unlocked returns the plan of the same project without its lock, for the program that
// makes the lock's parts.
func (p *Plan) Unlocked() *Plan {
	unlocked := *p
	unlocked.unlocked = true
	return &unlocked
}

// Next returns the commands to try first in the new project.
func (p *Plan) Next() []string {
	commands := make([]string, len(p.Stack.Next))
	for i, command := range p.Stack.Next {
		commands[i] = strings.ReplaceAll(command, "NAME", p.Answers.Name())
	}
	return commands
}

// Verify returns the commands that build and test the new project, each with its
// arguments. They are words without quotes.
func (p *Plan) Verify() [][]string {
	lines := slices.Clone(p.Stack.Verify)
	for _, option := range p.Stack.Options {
		for _, choice := range option.Choices {
			if slices.Contains(p.Answers[option.Name].Values, choice.Name) {
				lines = append(lines, choice.Verify...)
			}
		}
	}
	commands := make([][]string, len(lines))
	for i, line := range lines {
		commands[i] = strings.Fields(strings.ReplaceAll(line, "NAME", p.Answers.Name()))
	}
	return commands
}

// lockFiles returns the lock, put together from the parts of the layers.
func (p *Plan) lockFiles() []File {
	var parts []*lockPart
	for _, l := range p.layers {
		if l.lock != nil {
			parts = append(parts, l.lock)
		}
	}
	return lockKinds[p.Stack.Lock.File].files(parts, p.self())
}

// self returns the project's name among what it depends on.
func (p *Plan) self() string { return p.Answers.text(p.Stack.Lock.Self) }

// AnswersFile returns the plan's answers as ReadAnswers takes them, with the
// version of the tool, in the order of the stack's options.
func (p *Plan) AnswersFile() ([]byte, error) {
	var file bytes.Buffer
	pair := func(key string, value any) error {
		data, err := json.Marshal(value)
		fmt.Fprintf(&file, ",\n  %q: %s", key, data)
		return err
	}
	err := pair(versionKey, p.Version)
	if err == nil {
		err = pair(stackKey, p.Stack.Name)
	}
	for _, option := range p.Stack.Options {
		if err == nil {
			err = pair(option.Name, p.Answers.value(option))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encode answers: %w", err)
	}
	return append(append([]byte("{"), file.Bytes()[1:]...), "\n}\n"...), nil
}
