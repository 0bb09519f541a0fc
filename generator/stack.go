package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// NameOption is the option that every stack has: the project's name. It is
// given as an argument, where every other option is a flag.
const NameOption = "name"

// templateSuffix is that of a file that is rendered.
const templateSuffix = ".tmpl"

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
	Locks     bool     `json:"locks,omitempty"`     // it changes what the project depends on
	Uses      []string `json:"uses,omitempty"`      // folders below shared/ that it brings, as others may
	Requires  []string `json:"requires,omitempty"`  // "option/choice"
	Conflicts []string `json:"conflicts,omitempty"` // "option/choice"
}

// Load returns the stacks among the top folders of files, sorted by name. A
// mistake in a stack, such as a folder that no choice declares, is an error. Where
// it joins nothing but *LockError, the stacks are returned with it, for the program
// that mends these.
func Load(files fs.FS) ([]*Stack, error) {
	paths, err := fs.Glob(files, "*/stack.json")
	if err != nil {
		return nil, fmt.Errorf("find stacks: %w", err)
	}
	var stacks []*Stack
	var locks []error
	for _, p := range paths {
		stack, err := loadStack(files, path.Dir(p))
		if err != nil {
			return nil, fmt.Errorf("load stack %q: %w", path.Dir(p), err)
		}
		stacks = append(stacks, stack)
		locks = append(locks, stack.checkLocks())
	}
	return stacks, errors.Join(locks...)
}

func loadStack(files fs.FS, name string) (*Stack, error) {
	folder, err := fs.Sub(files, name)
	if err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(folder, "stack.json")
	if err != nil {
		return nil, err
	}
	stack := &Stack{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(stack); err != nil {
		return nil, fmt.Errorf("read stack.json: %w", err)
	}
	stack.Name, stack.files = name, folder
	if err := stack.checkOptions(); err != nil {
		return nil, err
	}
	if stack.layers, err = layersOf(stack); err != nil {
		return nil, err
	}
	return stack, errors.Join(stack.checkRelations(), stack.checkPaths(), stack.checkSettings())
}

// checkRelations wants a project of the defaults, and one with each choice.
func (s *Stack) checkRelations() error {
	var errs []error
	if err := s.Validate(Answers{}.WithDefaults(s)); err != nil {
		errs = append(errs, fmt.Errorf("defaults: %w", err))
	}
	for _, choice := range s.choices() {
		if _, ok := s.complete(map[string]bool{choice: true}); !ok {
			errs = append(errs, fmt.Errorf("choice %s: goes with no others", choice))
		}
	}
	return errors.Join(errs...)
}

// Option returns the option called name.
func (s *Stack) Option(name string) (Option, bool) {
	i := slices.IndexFunc(s.Options, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return Option{}, false
	}
	return s.Options[i], true
}

// properName is that of an option, a choice or a group of settings: a field of what
// templates see.
var properName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

func (s *Stack) checkOptions() error {
	var errs []error
	seen := map[string]bool{versionKey: true, stackKey: true, "version": true, "parts": true, "settings": true}
	for _, option := range s.Options {
		if !properName.MatchString(option.Name) || seen[option.Name] {
			errs = append(errs, fmt.Errorf("option %q: malformed, reserved or declared twice", option.Name))
		}
		seen[option.Name] = true
		if _, ok := formats[option.Format]; !ok {
			errs = append(errs, fmt.Errorf("option %q: unknown format %q", option.Name, option.Format))
		}
		for i, choice := range option.Choices {
			if !properName.MatchString(choice.Name) || slices.Contains(option.ChoiceNames()[:i], choice.Name) {
				errs = append(errs, fmt.Errorf("choice %s/%s: malformed or declared twice", option.Name, choice.Name))
			}
			for _, other := range slices.Concat(choice.Requires, choice.Conflicts) {
				if !s.declares(other) {
					errs = append(errs, fmt.Errorf("choice %s/%s: names %q, which is no choice", option.Name, choice.Name, other))
				}
			}
		}
	}
	if !seen[NameOption] {
		errs = append(errs, fmt.Errorf("option %q: missing", NameOption))
	}
	return errors.Join(errs...)
}

// declares reports whether name, as "option/choice", is a choice of the stack.
func (s *Stack) declares(name string) bool {
	optionName, choiceName, _ := strings.Cut(name, "/")
	option, _ := s.Option(optionName)
	_, ok := option.choice(choiceName)
	return ok
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
