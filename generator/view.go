package generator

import (
	"fmt"
	"reflect"
)

// viewType returns the struct that templates see, with a field for each option, so
// that a template which misspells one is an error. Text is a string; choices are a
// struct of bools, settings a struct of lists: {{.Name}}, {{if .Provider.Supabase}},
// {{range .Settings.All}}. It has only those choices for which sees is true.
func (s *Stack) viewType(sees func(choice string) bool) reflect.Type {
	text, boolean := reflect.TypeFor[string](), reflect.TypeFor[bool]()
	fields := []reflect.StructField{{Name: "Version", Type: text}, {Name: partsField, Type: reflect.TypeFor[parts]()}}
	for _, option := range s.Options {
		kind := text
		if !option.IsText() {
			var choices []reflect.StructField
			for _, name := range option.ChoiceNames() {
				if sees(option.Name + "/" + name) {
					choices = append(choices, reflect.StructField{Name: camel(name), Type: boolean})
				}
			}
			kind = reflect.StructOf(choices)
		}
		fields = append(fields, reflect.StructField{Name: camel(option.Name), Type: kind})
	}
	if base := s.layers[0].settings; len(base) > 0 {
		list := reflect.TypeFor[[]Setting]()
		groupFields := []reflect.StructField{{Name: "All", Type: list}}
		for _, group := range groups(base) {
			groupFields = append(groupFields, reflect.StructField{Name: camel(group), Type: list})
		}
		fields = append(fields, reflect.StructField{Name: settingsField, Type: reflect.StructOf(groupFields)})
	}
	return reflect.StructOf(fields)
}

// view returns what the plan's templates see, and fills slots and settings from
// these layers.
func (p *Plan) view(kind reflect.Type, layers []*layer) (any, error) {
	view := reflect.New(kind).Elem()
	filled, err := partsOf(layers)
	if err != nil {
		return nil, err
	}
	view.FieldByName(partsField).Set(reflect.ValueOf(filled))
	view.FieldByName("Version").SetString(p.Version)
	for _, option := range p.Stack.Options {
		field := view.FieldByName(camel(option.Name))
		for _, value := range p.Answers[option.Name].Values {
			if option.IsText() {
				field.SetString(value)
			} else if choice := field.FieldByName(camel(value)); choice.IsValid() {
				choice.SetBool(true)
			}
		}
	}
	if field := view.FieldByName(settingsField); field.IsValid() {
		declared := make([][]Setting, len(layers))
		for i, l := range layers {
			declared[i] = l.settings
		}
		all := settingsOf(declared, p.Answers.Name())
		field.FieldByName("All").Set(reflect.ValueOf(all))
		for _, setting := range all {
			group := field.FieldByName(camel(setting.Group))
			group.Set(reflect.Append(group, reflect.ValueOf(setting)))
		}
	}
	return view.Interface(), nil
}

func partsOf(layers []*layer) (parts, error) {
	var all parts
	for _, l := range layers {
		c, err := l.contents()
		if err != nil {
			return nil, fmt.Errorf("read layer %q: %w", l.name, err)
		}
		if c.slots != nil {
			all = append(all, c.slots)
		}
	}
	return all, nil
}
