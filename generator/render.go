package generator

import (
	"bytes"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strings"
	"text/template"
)

// templateText finds template text of ours. Not every {{ is: other tools use it, too.
var templateText = regexp.MustCompile(`\{\{-? *(\.[A-Z]|if |range |slot |define )`)

// Generate renders the plan's layers, formats what they give, checks it, and
// returns the whole project. Nothing is written. An error is a mistake in the
// templates: the answers were checked with the plan.
func Generate(p *Plan) (Tree, error) {
	tree, err := render(p)
	if err != nil {
		return nil, err
	}
	return tree, tree.check()
}

func render(p *Plan) (Tree, error) {
	all := func(string) bool { return true }
	view, err := p.view(p.Stack.viewType(all), p.layers)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, l := range p.layers {
		c, err := l.contents() // which partsOf has read without an error
		if err != nil {
			return nil, err
		}
		for _, s := range c.sources {
			file, err := s.render(view)
			if err != nil {
				return nil, fmt.Errorf("render layer %q: %w", l.name, err)
			}
			file.Layer = l.name
			files = append(files, file)
		}
	}
	if !p.unlocked {
		files = append(files, lockFiles(p.layers, p.module())...)
	}
	answers, err := p.AnswersFile()
	if err != nil {
		return nil, err
	}
	files = append(files, File{Path: AnswersPath, Mode: 0o644, Data: answers, Layer: "answers"})
	return newTree(files)
}

// render returns the file that the source gives in view.
func (s source) render(view any) (File, error) {
	var path, body bytes.Buffer
	if err := s.path.Execute(&path, view); err != nil {
		return File{}, err
	}
	data := s.data
	if s.body != nil {
		if err := s.body.Execute(&body, view); err != nil {
			return File{}, err
		}
		data = body.Bytes()
	}
	return File{Path: path.String(), Mode: fileMode(data), Data: data}, nil
}

// fileMode makes scripts executable, and knows them by their first line: an
// embedded file has no mode of its own.
func fileMode(data []byte) fs.FileMode {
	if bytes.HasPrefix(data, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

// parts are what fills slots, in the order of the layers.
type parts []*template.Template

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

// slot is the templates' function of that name: it joins the layers' parts of a
// slot. A part is the text between {{define}} and {{end}} without its last newline:
// so it starts on a line of its own, and {{- slot "name" .}} leaves nothing behind
// where no layer has a part.
func slot(name string, view any) (string, error) {
	field := reflect.ValueOf(view)
	if field.Kind() == reflect.Struct {
		field = field.FieldByName(partsField)
	}
	filled, ok := field.Interface().(parts)
	if !ok {
		return "", fmt.Errorf("slot %q: want {{slot %q .}} outside of range, or $ within", name, name)
	}
	var out strings.Builder
	for _, of := range filled {
		if of.Lookup(name) == nil {
			continue
		}
		var part strings.Builder
		if err := of.ExecuteTemplate(&part, name, view); err != nil {
			return "", err
		}
		out.WriteString(strings.TrimSuffix(part.String(), "\n"))
	}
	return out.String(), nil
}
