package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// A Plan is a complete and valid set of answers, and what follows from them.
type Plan struct {
	Version string // the tool's
	Stack   *Stack
	Answers Answers // one for each option of the stack
	Layers  []Layer // in the order in which their parts are joined in a slot
}

// A Layer is a folder of templates that the project takes whole.
type Layer struct {
	Name  string // "base", "locks/…" or "option/choice"
	files fs.FS
}

// An AnswerError is an answer that a plan cannot be made from.
type AnswerError struct {
	Option string // the option's name, or the unknown name that was answered
	Value  string // the answer, or "" when it is missing
	Reason string
	Better string // another value to try, or ""
	Among  []string
}

func (e *AnswerError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %s", e.Option, e.Reason)
	}
	return fmt.Sprintf("%s %q: %s", e.Option, e.Value, e.Reason)
}

// NewPlan makes a plan from answers and the stack's defaults. Its error joins
// one *AnswerError for each thing that is wrong. The version is recorded in the
// project.
func NewPlan(s *Stack, given Answers, version string) (*Plan, error) {
	p := &Plan{Version: version, Stack: s, Answers: given.WithDefaults(s)}
	errs := []error{s.Check(given)} // a default is wrong only where the name is
	for _, option := range s.Options {
		if _, ok := p.Answers[option.Name]; !ok {
			errs = append(errs, &AnswerError{Option: option.Name, Reason: "missing", Better: option.Example})
		}
	}
	errs = append(errs, s.CheckRelations(p.Answers))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, p.addLayers()
}

// Check returns what is wrong with each of the answers by itself, as joined
// errors of type *AnswerError, or nil. Options without an answer are left out.
func (s *Stack) Check(answers Answers) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if _, ok := s.Option(name); !ok {
			errs = append(errs, &AnswerError{Option: name, Reason: "no such option", Better: nearest(name, s.optionNames()), Among: s.optionNames()})
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

// choice returns the declaration of an active choice.
func (p *Plan) choice(name string) Choice {
	optionName, choiceName, _ := strings.Cut(name, "/")
	option, _ := p.Stack.Option(optionName)
	choice, _ := option.choice(choiceName)
	return choice
}

// CheckRelations returns which of the answers, all or some of the stack's options,
// do not go together, as joined errors of type *AnswerError, or nil. An answer that
// needs one to another option is held against that option's answer, if there is one.
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
	for _, pattern := range []string{"base/*", "locks/*/*", "options/*/*/*"} {
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

var requirement = regexp.MustCompile(`(?m)^(?:require )?\s*(\S+) v\S+`)

// checkModuleIsFree refuses the path of a module that the project requires in
// any combination.
func (s *Stack) checkModuleIsFree(option Option, answers Answers) error {
	files, err := fs.Glob(s.files, "locks/*/go.mod"+templateSuffix)
	if err != nil {
		return err
	}
	path := answers.text(option.Name)
	for _, file := range files {
		data, err := fs.ReadFile(s.files, file)
		if err != nil {
			return err
		}
		for _, match := range requirement.FindAllSubmatch(data, -1) {
			if string(match[1]) == path {
				return &AnswerError{
					Option: option.Name, Value: path, Better: "example.com/" + kebab(answers.Name()),
					Reason: "the project itself requires this module",
				}
			}
		}
	}
	return nil
}

// addLayers names the plan's layers: base, the locks, then one for each choice.
func (p *Plan) addLayers() error {
	if err := p.addLayer("base", "base"); err != nil {
		return err
	}
	if locks := p.Locks(); locks != "" {
		if err := p.addLayer(locks, locks); err != nil {
			return err
		}
	}
	for _, name := range p.active() {
		if err := p.addLayer(name, "options/"+name); err != nil {
			return err
		}
	}
	return nil
}

// Locks returns the name of the layer that holds go.mod and go.sum, made of the
// active choices that change dependencies: "locks/pgx+goose". It is "" when no
// active choice does.
func (p *Plan) Locks() string {
	var names []string
	for _, name := range p.active() {
		if choice := p.choice(name); choice.Locks {
			names = append(names, choice.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "locks/" + strings.Join(names, "+")
}

// WithoutLocks returns the plan less its locks, for the program that makes them.
func (p *Plan) WithoutLocks() *Plan {
	without := *p
	without.Layers = slices.DeleteFunc(slices.Clone(p.Layers), func(l Layer) bool { return l.Name == p.Locks() })
	return &without
}

func (p *Plan) addLayer(name, folder string) error {
	files, err := fs.Sub(p.Stack.files, folder)
	if err != nil {
		return fmt.Errorf("open layer %q: %w", name, err)
	}
	p.Layers = append(p.Layers, Layer{Name: name, files: files})
	return nil
}

// data returns what templates see: a struct with a field for each option, so
// that a template which misspells one is an error. Text is a string; choices
// are a struct of bools: {{.Name}}, {{.Module}}, {{if .Provider.Supabase}}.
func (p *Plan) data() any {
	boolean, text := reflect.TypeFor[bool](), reflect.TypeFor[string]()
	fields := make([]reflect.StructField, 0, 1+len(p.Stack.Options))
	fields = append(fields, reflect.StructField{Name: "Version", Type: text})
	for _, option := range p.Stack.Options {
		kind := text
		if !option.IsText() {
			var choices []reflect.StructField
			for _, name := range option.ChoiceNames() {
				choices = append(choices, reflect.StructField{Name: camel(name), Type: boolean})
			}
			kind = reflect.StructOf(choices)
		}
		fields = append(fields, reflect.StructField{Name: camel(option.Name), Type: kind})
	}
	data := reflect.New(reflect.StructOf(fields)).Elem()
	data.FieldByName("Version").SetString(p.Version)
	for _, option := range p.Stack.Options {
		field := data.FieldByName(camel(option.Name))
		for _, value := range p.Answers[option.Name].Values {
			if option.IsText() {
				field.SetString(value)
			} else {
				field.FieldByName(camel(value)).SetBool(true)
			}
		}
	}
	return data.Interface()
}

// camel returns the Go field name of an option or choice: GithubActions for
// github-actions.
func camel(name string) string {
	var field strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		field.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return field.String()
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
	commands := make([][]string, len(p.Stack.Verify))
	for i, command := range p.Stack.Verify {
		commands[i] = strings.Fields(strings.ReplaceAll(command, "NAME", p.Answers.Name()))
	}
	return commands
}

func (s *Stack) optionNames() []string {
	names := make([]string, len(s.Options))
	for i, option := range s.Options {
		names[i] = option.Name
	}
	return names
}
