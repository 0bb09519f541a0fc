// Package prompt asks a person at a terminal. It knows questions, and not what
// they are for.
package prompt

import (
	"context"
	"errors"
	"slices"
)

// ErrInterrupted is the answer of somebody who wants to be asked no more: Ctrl-C,
// Ctrl-D, or the end of the context.
var ErrInterrupted = errors.New("interrupted at a question")

// ErrBack is the answer of somebody who wants to answer the question before again.
var ErrBack = errors.New("back to the question before")

// back is what is answered for that.
const back = "<"

// A Prompter asks. Ask returns an answer that the question takes, ErrInterrupted,
// or ErrBack where the question has Back.
type Prompter interface {
	Ask(ctx context.Context, q Question) ([]string, error)
}

// A Question takes text when it has no choices, any number of its choices when
// Many is set, and exactly one of them otherwise.
type Question struct {
	Name     string // what is asked for, in an error
	Text     string // without a mark at its end
	Help     string // "" for a question that has no default to speak of
	Choices  []Choice
	Many     bool
	Defaults []string
	Back     bool                        // there is a question before it
	Check    func(values []string) error // nil takes all
}

// A Choice is what can be answered.
type Choice struct{ Name, Help string }

func (q Question) isText() bool { return len(q.Choices) == 0 }

func (q Question) names() []string {
	names := make([]string, len(q.Choices))
	for i, choice := range q.Choices {
		names[i] = choice.Name
	}
	return names
}

func (q Question) isDefault(name string) bool { return slices.Contains(q.Defaults, name) }

// accept returns what is wrong with an answer.
func (q Question) accept(values []string) error {
	if q.Check == nil || q.Back && slices.Contains(values, back) {
		return nil
	}
	return q.Check(values)
}
