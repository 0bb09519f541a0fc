package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// AnswersPath is where a project records the answers it was made from.
const AnswersPath = ".nullpool.json"

// An Origin says where an answer came from.
type Origin string

// The origins, from the strongest to the weakest.
const (
	FromFlag    Origin = "flag"
	FromFile    Origin = "file"
	FromPrompt  Origin = "prompt"
	FromDefault Origin = "default"
)

// An Answer holds what was answered: one value for text and for one choice, any
// number for an option that takes many.
type Answer struct {
	Values []string
	Origin Origin
}

// Answers maps an option's name to its answer.
type Answers map[string]Answer

// Name returns the answered project name, or "".
func (a Answers) Name() string { return a.text(NameOption) }

func (a Answers) text(option string) string {
	if values := a[option].Values; len(values) > 0 {
		return values[0]
	}
	return ""
}

// WithDefaults returns a copy of the answers in which every option of the stack
// that has a default is answered.
func (a Answers) WithDefaults(s *Stack) Answers {
	complete := maps.Clone(a)
	for _, option := range s.Options {
		if _, ok := a[option.Name]; ok {
			continue
		}
		if values := option.Defaults(a.Name()); values != nil {
			complete[option.Name] = Answer{Values: values, Origin: FromDefault}
		}
	}
	return complete
}

// ReadAnswers reads an answers file: a JSON object, or the same in YAML, with a
// key for each option that it answers. It also returns the stack the file names,
// or "". Which keys and values are right is for NewPlan to say, together with all
// else.
func ReadAnswers(data []byte) (answers Answers, stack string, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // a byte order mark, as some editors leave it
	values, err := readObject(data)
	if err != nil {
		return nil, "", err
	}
	answers = Answers{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] == nil { // as YAML has a key without a value
			continue
		}
		list, ok := stringList(values[key])
		if !ok {
			return nil, "", fmt.Errorf("key %q: want a string or a list of strings", key)
		}
		answers[key] = Answer{Values: list, Origin: FromFile}
	}
	stack = answers.text(stackKey)
	delete(answers, stackKey)
	delete(answers, versionKey) // a record of who wrote the file, not an answer
	return answers, stack, nil
}

// readObject reads one JSON object where data looks like JSON, whose tabs YAML
// does not take, and else one YAML mapping. A key that is there twice is an error
// in both.
func readObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	if start := bytes.TrimSpace(data); len(start) > 0 && start[0] == '{' {
		return readJSON(data)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("empty")
	}
	if err != nil {
		return nil, fmt.Errorf("neither a JSON object nor YAML: %w", oneLine(err))
	}
	if document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("neither a JSON object nor a YAML mapping")
	}
	var values map[string]any
	if err := document.Decode(&values); err != nil {
		return nil, fmt.Errorf("not a YAML mapping of strings: %w", oneLine(err))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("not one YAML document: more follows")
	}
	return values, nil
}

// oneLine returns what YAML has to say about its input on one line.
func oneLine(err error) error {
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok {
		return errors.New(strings.Join(typed.Errors, "; "))
	}
	return err
}

func readJSON(data []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	values := map[string]any{}
	_, err := decoder.Token() // the brace
	for err == nil && decoder.More() {
		var key json.Token
		var value any
		if key, err = decoder.Token(); err == nil {
			err = decoder.Decode(&value)
		}
		name, _ := key.(string)
		if _, twice := values[name]; twice && err == nil {
			return nil, fmt.Errorf("key %q: given twice", name)
		}
		values[name] = value
	}
	if err == nil {
		_, err = decoder.Token() // the other brace
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("not one JSON object: more follows after byte %d", decoder.InputOffset())
	}
	return values, nil
}

func stringList(value any) ([]string, bool) {
	if text, ok := value.(string); ok {
		return []string{text}, true
	}
	items, ok := value.([]any)
	list := make([]string, len(items))
	for i, item := range items {
		text, isText := item.(string)
		list[i], ok = text, ok && isText
	}
	return list, ok
}

// value returns an answer in the form that the answers file has it.
func (a Answers) value(o Option) any {
	if o.Many {
		return a[o.Name].Values
	}
	return a.text(o.Name)
}
