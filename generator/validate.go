package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
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

// Validate returns all that is wrong with the answers, as joined errors of type
// *AnswerError, or nil. They may be to some of the options only: what a choice
// requires of an option without an answer is not wrong yet.
func (s *Stack) Validate(answers Answers) error {
	v := &validation{stack: s, answers: answers}
	v.unknown()
	for _, option := range s.Options {
		answer, ok := answers[option.Name]
		switch {
		case !ok:
		case !option.Many && len(answer.Values) != 1:
			v.refuse(AnswerError{Option: option.Name, Value: strings.Join(answer.Values, ","), Reason: "want one answer"})
		case !option.IsText():
			v.choices(option, answer.Values)
		case answer.Origin != FromDefault: // a default is made from the name, which is checked by itself
			v.text(option, answer.Values[0])
		}
	}
	return errors.Join(v.errs...)
}

// A validation is one visit to a set of answers.
type validation struct {
	stack   *Stack
	answers Answers
	errs    []error
}

func (v *validation) refuse(wrong AnswerError) { v.errs = append(v.errs, &wrong) }

func (v *validation) unknown() {
	names := make([]string, len(v.stack.Options))
	for i, option := range v.stack.Options {
		names[i] = option.Name
	}
	for _, name := range slices.Sorted(maps.Keys(v.answers)) {
		if !slices.Contains(names, name) {
			v.refuse(AnswerError{Option: name, Reason: "no such option", Better: Nearest(name, names), Among: names, unquoted: true})
		}
	}
}

func (v *validation) choices(option Option, values []string) {
	names := option.ChoiceNames()
	for i, value := range values {
		if !slices.Contains(names, value) {
			v.refuse(AnswerError{Option: option.Name, Value: value, Reason: "no such choice", Better: Nearest(value, names), Among: names})
		} else if slices.Contains(values[:i], value) {
			v.refuse(AnswerError{Option: option.Name, Value: value, Reason: "given twice"})
		}
	}
	for _, choice := range option.Choices {
		if slices.Contains(values, choice.Name) {
			v.relations(option, choice)
		}
	}
}

// relations holds a choice against the other answers.
func (v *validation) relations(option Option, choice Choice) {
	for _, other := range choice.Conflicts {
		if _, chosen := v.status(other); chosen {
			v.refuse(AnswerError{Option: option.Name, Value: choice.Name, Reason: "does not go with " + flagForm(other)})
		}
	}
	for _, other := range choice.Requires {
		if answered, chosen := v.status(other); answered && !chosen {
			v.refuse(AnswerError{Option: option.Name, Value: choice.Name, Reason: "needs " + flagForm(other)})
		}
	}
}

// status returns whether the option of a choice, "option/choice", is answered,
// and whether with this choice.
func (v *validation) status(choice string) (answered, chosen bool) {
	option, name, _ := strings.Cut(choice, "/")
	answer, answered := v.answers[option]
	return answered, slices.Contains(answer.Values, name)
}

func flagForm(choice string) string { return "--" + strings.Replace(choice, "/", " ", 1) }

func (v *validation) text(option Option, value string) {
	better, err := option.check(value)
	if err == nil && option.Name == NameOption {
		better, err = v.stack.checkNameIsFree(value)
	}
	if err == nil && option.Name == v.stack.Lock.Self && v.stack.requires(value) {
		if better = formats[option.Format].better(v.answers.Name()); better == value {
			better += "-service"
		}
		err = errors.New("the project itself requires what has this name")
	}
	if err != nil {
		v.refuse(AnswerError{Option: option.Name, Value: value, Reason: err.Error(), Better: better})
	}
}

// checkNameIsFree refuses a name with which a file or folder that is called like the
// project, or that the stack's commands leave at its top, would be in the way of
// another, in any combination.
func (s *Stack) checkNameIsFree(name string) (better string, err error) {
	named, literal := map[string]bool{}, map[string]bool{}
	for _, left := range s.Leaves {
		named[strings.ReplaceAll(left, "NAME", name)] = true
	}
	for _, l := range s.layers {
		err := fs.WalkDir(l.files, ".", func(at string, _ fs.DirEntry, err error) error {
			if into := strings.ReplaceAll(path.Base(at), "{{.Name}}", name); into != path.Base(at) {
				named[strings.ToLower(path.Join(path.Dir(at), strings.TrimSuffix(into, templateSuffix)))] = true
			} else {
				literal[strings.ToLower(strings.TrimSuffix(at, templateSuffix))] = true
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	for taken := range named {
		if literal[taken] {
			return name + "-service", errors.New("a file or folder of the project has this name")
		}
	}
	return "", nil
}

// requires reports whether projects depend on what is called name, in any combination.
func (s *Stack) requires(name string) bool {
	return slices.ContainsFunc(s.layers, func(l *layer) bool { return l.lock != nil && l.lock.versions[name] != "" })
}

// Nearest returns the word that text is most likely to have been meant for, ""
// when none is near: at most two letters that differ, or the same beginning.
func Nearest(text string, words []string) string {
	best, least := "", 3
	for _, word := range words {
		d := distance(text, word)
		if len(text) > 1 && strings.HasPrefix(word, text) {
			d = min(d, 1)
		}
		if d < least && d < len(word) {
			best, least = word, d
		}
	}
	return best
}

// distance is Levenshtein's: the letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // of the row above, one to the left
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}
