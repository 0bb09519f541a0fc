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
	Name    string   `json:"name"`    // that of its folder
	Title   string   `json:"title"`   // what it is, for people
	Next    []string `json:"next"`    // commands to try first in a new project; NAME stands for its name
	Verify  []string `json:"verify"`  // commands that build the project, run its tests and show their report
	Options []Option `json:"options"` // in the order in which they are asked

	// The versions of the modules that projects import, by path: the one place for them.
	Modules map[string]string `json:"modules,omitempty"`

	files  fs.FS    // the stack's folder
	layers []*layer // all there are, in the order in which their parts are joined in a slot
}

// An Option is a question. It takes text when it has no choices, any number of
// its choices when Many is set, and exactly one of them otherwise.
type Option struct {
	Name    string   `json:"name"`              // its flag and its key in an answers file
	Prompt  string   `json:"prompt"`            // the question, without a question mark
	Help    string   `json:"help"`              // what it decides, for a line of its own
	Format  string   `json:"format,omitempty"`  // rule for text, a key of formats
	Default string   `json:"default,omitempty"` // for text; NAME stands for the project's name
	Example string   `json:"example,omitempty"` // for text that has no default
	Many    bool     `json:"many,omitempty"`    // any number of choices, none included
	Without string   `json:"without,omitempty"` // the flag that takes choices away, for Many
	Choices []Choice `json:"choices,omitempty"` // none for text
}

// A Choice is one answer to an option and owns a folder of templates.
type Choice struct {
	Name      string   `json:"name"`                // as it is answered
	Help      string   `json:"help"`                // what it brings
	Default   bool     `json:"default,omitempty"`   // for Many; otherwise the first choice is the default
	Locks     bool     `json:"locks,omitempty"`     // its folder has lock.mod and lock.sum: it changes what the project depends on
	Verify    []string `json:"verify,omitempty"`    // commands that come after the stack's
	Uses      []string `json:"uses,omitempty"`      // folders below shared/ that it brings, as others may
	Requires  []string `json:"requires,omitempty"`  // "option/choice"
	Conflicts []string `json:"conflicts,omitempty"` // "option/choice"
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

func (o Option) choice(name string) (Choice, bool) {
	i := slices.IndexFunc(o.Choices, func(c Choice) bool { return c.Name == name })
	if i < 0 {
		return Choice{}, false
	}
	return o.Choices[i], true
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
