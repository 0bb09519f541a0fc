package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// An AnswerError is an answer that a plan cannot be made from.
type AnswerError struct {
	Option string   // the option's name, or the unknown name that was answered
	Value  string   // the answer, or "" where it is not the value that is wrong
	Reason string   // what is wrong with it, in lower case
	Better string   // another value to try, or ""
	Among  []string // all values or names to choose from, or nil where any text may do

	unquoted bool // the message leaves Value out
}

func (e *AnswerError) Error() string {
	if e.unquoted {
		return fmt.Sprintf("%s: %s", e.Option, e.Reason)
	}
	return fmt.Sprintf("%s %q: %s", e.Option, e.Value, e.Reason)
}

// Check returns what is wrong with each of the answers by itself, as joined
// errors of type *AnswerError, or nil. Options without an answer are left out.
func (s *Stack) Check(answers Answers) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if _, ok := s.Option(name); !ok {
			errs = append(errs, &AnswerError{Option: name, Reason: "no such option", Better: nearest(name, s.optionNames()), Among: s.optionNames(), unquoted: true})
		}
	}
	for _, option := range s.Options {
		answer, ok := answers[option.Name]
		if !ok {
			continue
		}
		err := option.Check(answer.Values)
		switch { // one reason is enough
		case err != nil:
		case option.Name == NameOption:
			err = s.checkNameIsFree(answers.Name())
		case option.Format == goModule:
			err = s.checkModuleIsFree(option, answers)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Stack) optionNames() []string {
	names := make([]string, len(s.Options))
	for i, option := range s.Options {
		names[i] = option.Name
	}
	return names
}

// Check returns what is wrong with values as an answer to the option, as joined
// errors of type *AnswerError, or nil.
func (o Option) Check(values []string) error {
	if !o.Many && len(values) != 1 {
		return &AnswerError{Option: o.Name, Value: strings.Join(values, ","), Reason: "want one answer"}
	}
	var errs []error
	for i, value := range values {
		if o.IsText() {
			if better, err := formats[o.Format](value); err != nil {
				errs = append(errs, &AnswerError{Option: o.Name, Value: value, Reason: err.Error(), Better: better})
			}
		} else if _, ok := o.choice(value); !ok {
			errs = append(errs, &AnswerError{Option: o.Name, Value: value, Reason: "no such choice", Better: nearest(value, o.ChoiceNames()), Among: o.ChoiceNames()})
		} else if slices.Contains(values[:i], value) {
			errs = append(errs, &AnswerError{Option: o.Name, Value: value, Reason: "given twice"})
		}
	}
	return errors.Join(errs...)
}

// CheckRelations returns which of the answers do not go together, as joined errors
// of type *AnswerError, or nil. The answers may be to some of the options only: what
// a choice requires of an option without an answer is not an error yet.
func (s *Stack) CheckRelations(answers Answers) error {
	partial := &Plan{Stack: s, Answers: answers}
	active := partial.active()
	var errs []error
	for _, name := range active {
		option, value, _ := strings.Cut(name, "/")
		refuse := func(reason, other string) {
			errs = append(errs, &AnswerError{Option: option, Value: value, Reason: reason + flagForm(other)})
		}
		for _, other := range partial.choice(name).Conflicts {
			if slices.Contains(active, other) {
				refuse("does not go with ", other)
			}
		}
		for _, other := range partial.choice(name).Requires {
			needed, _, _ := strings.Cut(other, "/")
			if _, answered := answers[needed]; answered && !slices.Contains(active, other) {
				refuse("needs ", other)
			}
		}
	}
	return errors.Join(errs...)
}

func flagForm(choice string) string { return "--" + strings.Replace(choice, "/", " ", 1) }

// checkNameIsFree refuses a name that a folder or file at the project's top has
// in any combination: the command that go build leaves there would be in its
// way.
func (s *Stack) checkNameIsFree(name string) error {
	for _, pattern := range []string{"base/*", "options/*/*/*", "pairs/*/*", "shared/*/*"} {
		paths, err := fs.Glob(s.files, pattern)
		if err != nil {
			return err
		}
		for _, taken := range paths {
			taken = strings.TrimSuffix(taken[strings.LastIndex(taken, "/")+1:], templateSuffix)
			if strings.EqualFold(taken, name) {
				return &AnswerError{
					Option: NameOption, Value: name, Better: name + "-service",
					Reason: "a file or folder of the project has this name",
				}
			}
		}
	}
	return nil
}

// checkModuleIsFree refuses the path of a module that the project requires in
// any combination.
func (s *Stack) checkModuleIsFree(option Option, answers Answers) error {
	path := answers.text(option.Name)
	for _, l := range s.layers {
		if l.lock != nil && l.lock.versions[path] != "" {
			return &AnswerError{
				Option: option.Name, Value: path, Better: "example.com/" + kebab(answers.Name()),
				Reason: "the project itself requires this module",
			}
		}
	}
	return nil
}
