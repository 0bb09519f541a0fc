package generator

import (
	"io/fs"
	"slices"
	"strings"
)

// NameOption is the option that every stack has: the project's name. It is
// given as an argument, where every other option is a flag.
const NameOption = "name"

// Keys of the answers file that are no options.
const (
	versionKey = "nullpool"
	stackKey   = "stack"
)

// A Stack is a kind of project, as its stack.json declares it.
type Stack struct {
	Name    string   `json:"name"`              // that of its folder
	Title   string   `json:"title"`             // what it is, for people
	Default bool     `json:"default,omitempty"` // the one that is meant where none is named
	Next    []string `json:"next"`              // commands to try first in a new project; NAME stands for its name
	Verify  []string `json:"verify"`            // commands that build the project, run its tests and show their report
	Leaves  []string `json:"leaves,omitempty"`  // what they leave at a project's top, where nothing may be in their way
	Uses    []string `json:"uses,omitempty"`    // as a choice's, for every project
	Options []Option `json:"options"`           // in the order in which they are asked

	// What projects depend on: the versions of what they ask for, by name, of which
	// this is the one place, and how all the rest is pinned.
	Modules map[string]string `json:"modules,omitempty"`
	Lock    Lock              `json:"lock,omitzero"`

	files  fs.FS    // the stack's folder
	layers []*layer // all there are, in the order in which their parts are joined in a slot
}

// An Option is a question. It takes text when it has no choices, any number of
// its choices when Many is set, and exactly one of them otherwise.
type Option struct {
	Name    string    `json:"name"`              // its flag and its key in an answers file
	Prompt  string    `json:"prompt"`            // the question, without a question mark
	Help    string    `json:"help"`              // what it decides, for a line of its own
	Format  string    `json:"format,omitempty"`  // rule for text, a key of formats
	Refuse  []Refusal `json:"refuse,omitempty"`  // text that it does not take all the same
	Default string    `json:"default,omitempty"` // for text; NAME stands for the project's name
	Example string    `json:"example,omitempty"` // for text that has no default
	Many    bool      `json:"many,omitempty"`    // any number of choices, none included
	Without string    `json:"without,omitempty"` // the flag that takes choices away, for Many
	Choices []Choice  `json:"choices,omitempty"` // none for text
}

// A Choice is one answer to an option and owns a folder of templates.
type Choice struct {
	Name      string   `json:"name"`                // as it is answered
	Help      string   `json:"help"`                // what it brings
	Default   bool     `json:"default,omitempty"`   // for Many; otherwise the first choice is the default
	Locks     bool     `json:"locks,omitempty"`     // its folder has a part of the lock: it changes what the project depends on
	Verify    []string `json:"verify,omitempty"`    // commands that come after the stack's
	Uses      []string `json:"uses,omitempty"`      // folders below shared/, the stack's or that of all, which it brings as others may
	Requires  []string `json:"requires,omitempty"`  // "option/choice"
	Conflicts []string `json:"conflicts,omitempty"` // "option/choice"
}

// A Refusal is words that an option does not take, such as a language's keywords,
// and why. Of a path it is about the first element.
type Refusal struct {
	Because string   `json:"because"` // WORD stands for the one that was answered
	Words   []string `json:"words"`
}

// A Lock says how a stack pins what its projects depend on: in files that are put
// together from the parts that layers have.
type Lock struct {
	File string `json:"file"`           // what projects have: a key of lockKinds
	Self string `json:"self,omitempty"` // the option that names the project among what it depends on
	Make string `json:"make,omitempty"` // what go generate makes parts with, where that is no program of Go's
}

// StackOption returns the first question, whose choices are the stacks.
func StackOption(stacks []*Stack) Option {
	option := Option{Name: stackKey, Prompt: "Stack", Help: "the kind of project"}
	for _, s := range stacks {
		option.Choices = append(option.Choices, Choice{Name: s.Name, Help: s.Title})
	}
	return option
}

// Option returns the option called name.
func (s *Stack) Option(name string) (Option, bool) {
	i := slices.IndexFunc(s.Options, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return Option{}, false
	}
	return s.Options[i], true
}

// choices returns all choices of the stack in declared order, as "option/choice".
func (s *Stack) choices() []string {
	var names []string
	for _, option := range s.Options {
		for _, choice := range option.Choices {
			names = append(names, option.Name+"/"+choice.Name)
		}
	}
	return names
}

// choice returns the choice that is called so, as "option/choice".
func (s *Stack) choice(name string) Choice {
	optionName, name, _ := strings.Cut(name, "/")
	option, _ := s.Option(optionName)
	for _, choice := range option.Choices {
		if choice.Name == name {
			return choice
		}
	}
	return Choice{}
}

// IsText reports whether the option is answered with text instead of choices.
func (o Option) IsText() bool { return len(o.Choices) == 0 }

// IsQuestion reports whether there is anything to decide, which there is not where
// one of a single choice must be taken.
func (o Option) IsQuestion() bool { return o.IsText() || o.Many || len(o.Choices) > 1 }

// ChoiceNames returns the names of the option's choices in declared order.
func (o Option) ChoiceNames() []string {
	names := make([]string, len(o.Choices))
	for i, choice := range o.Choices {
		names[i] = choice.Name
	}
	return names
}

// Defaults returns the answer of somebody who has no opinion, for a project
// called project. It is nil for text that has no default: that must be answered.
func (o Option) Defaults(project string) []string {
	switch {
	case o.IsText() && o.Default == "":
		return nil
	case o.IsText():
		return []string{strings.ReplaceAll(o.Default, "NAME", project)}
	case !o.Many:
		return []string{o.Choices[0].Name}
	}
	defaults := []string{}
	for _, choice := range o.Choices {
		if choice.Default {
			defaults = append(defaults, choice.Name)
		}
	}
	return defaults
}
