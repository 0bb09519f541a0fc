package generator

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
)

const slotsFile = "slots.tmpl"

// templateText finds template text of ours. Not every {{ is: other tools use it, too.
var templateText = regexp.MustCompile(`\{\{-? *(\.[A-Z]|if |slot |define )`)

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

// A renderer renders the files of one plan.
type renderer struct {
	data  any
	slots []*template.Template // the parts of each layer that has any, in plan order
}

func render(p *Plan) (Tree, error) {
	r := &renderer{data: p.data()}
	for _, layer := range p.Layers {
		if err := r.addSlots(layer); err != nil {
			return nil, fmt.Errorf("read slots of layer %q: %w", layer.Name, err)
		}
	}
	var files []File
	for _, layer := range p.Layers {
		rendered, err := r.renderLayer(layer)
		if err != nil {
			return nil, fmt.Errorf("render layer %q: %w", layer.Name, err)
		}
		files = append(files, rendered...)
	}
	answers, err := p.AnswersFile()
	if err != nil {
		return nil, err
	}
	files = append(files, File{Path: AnswersPath, Mode: 0o644, Data: answers, Layer: "answers"})
	return newTree(files)
}

func (r *renderer) addSlots(layer Layer) error {
	text, err := fs.ReadFile(layer.files, slotsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parts, err := r.parse(slotsFile, string(text))
	if err != nil {
		return err
	}
	if parts.Tree != nil && !parse.IsEmptyTree(parts.Root) {
		return errors.New("text outside of a define block")
	}
	r.slots = append(r.slots, parts)
	return nil
}

func (r *renderer) renderLayer(layer Layer) ([]File, error) {
	var files []File
	err := fs.WalkDir(layer.files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || name == slotsFile {
			return err
		}
		data, err := fs.ReadFile(layer.files, name)
		if err != nil {
			return err
		}
		target, isTemplate := strings.CutSuffix(name, templateSuffix)
		if isTemplate {
			data, err = r.execute(name, string(data))
		} else if text := templateText.Find(data); text != nil {
			err = fmt.Errorf("%s: %q in a file without the suffix %s", name, text, templateSuffix)
		}
		if err != nil {
			return err
		}
		path, err := r.execute(name, target)
		if err != nil {
			return err
		}
		files = append(files, File{Path: string(path), Mode: fileMode(data), Data: data, Layer: layer.Name})
		return nil
	})
	return files, err
}

// fileMode makes scripts executable, and knows them by their first line: an
// embedded file has no mode of its own.
func fileMode(data []byte) fs.FileMode {
	if bytes.HasPrefix(data, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

func (r *renderer) parse(name, text string) (*template.Template, error) {
	return template.New(name).Funcs(template.FuncMap{"slot": r.slot}).Parse(text)
}

func (r *renderer) execute(name, text string) ([]byte, error) {
	parsed, err := r.parse(name, text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, r.data)
	return out.Bytes(), err
}

// slot joins the layers' parts of a slot. A part is the text between {{define}}
// and {{end}} without its last newline: so it starts on a line of its own, and
// {{- slot "name" .}} leaves nothing behind where no layer has a part.
func (r *renderer) slot(name string, data any) (string, error) {
	var out strings.Builder
	for _, parts := range r.slots {
		if parts.Lookup(name) == nil {
			continue
		}
		var part strings.Builder
		if err := parts.ExecuteTemplate(&part, name, data); err != nil {
			return "", err
		}
		out.WriteString(strings.TrimSuffix(part.String(), "\n"))
	}
	return out.String(), nil
}
