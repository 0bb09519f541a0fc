package generator

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
)

// slotsFile holds a layer's parts of slots.
const slotsFile = "slots.tmpl"

// templateSuffix is what a file that is rendered has, and loses.
const templateSuffix = ".tmpl"

// templateText finds template text of ours. Not every {{ is: other tools use it, too.
var templateText = regexp.MustCompile(`\{\{-? *(\.[A-Z]|if |range |slot |define )`)

// A source is a file of a layer.
type source struct {
	name string             // in the layer's folder
	path *template.Template // in the project
	body *template.Template // nil for a file that is copied
	data []byte             // of a file that is copied
}

// execute returns the file that the source gives in view.
func (s source) execute(view any) (File, error) {
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

func parseTemplate(name, text string) (*template.Template, error) {
	return template.New(name).Funcs(template.FuncMap{"slot": slot}).Parse(text)
}

func parseSlots(text string) (*template.Template, error) {
	parts, err := parseTemplate(slotsFile, text)
	if err == nil && parts.Tree != nil && !parse.IsEmptyTree(parts.Root) {
		err = errors.New(slotsFile + ": text outside of a define block")
	}
	return parts, err
}

// parts are what fills slots, in the order of the layers.
type parts []*template.Template

// Fields of what templates see, beside those of the options.
const (
	partsField    = "Parts" // for slot alone
	settingsField = "Settings"
)

// camel returns the Go field name of an option or choice: GithubActions for
// github-actions.
func camel(name string) string {
	var field strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		field.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return field.String()
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
	filled, ok := reflect.TypeAssert[parts](field)
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
