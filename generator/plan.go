package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
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
	return p, p.addLayers()
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
