package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"text/template"
)

// notRendered are the files of a layer's folder that are no files of the project.
var notRendered = []string{slotsFile, settingsFile, "lock.mod", "lock.sum", "lock.in", "lock.txt"}

// A layer is a folder of templates that a project takes whole or not at all.
type layer struct {
	name   string     // "base", "option/choice", "shared/name" or "option/choice+option/choice"
	folder string     // from the stack's own
	when   [][]string // of each list one choice must be active, as "option/choice"; none for base
	files  fs.FS

	settings []Setting
	lock     *lockPart                 // nil where it changes no dependencies
	contents func() (*contents, error) // parsed when they are first needed, since a project takes some layers of many
}

// contents are the templates of a layer.
type contents struct {
	sources []source
	slots   *template.Template // the parts it adds to slots; nil where it adds none
}

// open reads what Load checks of the layer, in a stack's folder among all. Its templates
// are left for later.
func (l *layer) open(all fs.FS, stack string, kind lockKind) (err error) {
	if l.files, err = fs.Sub(all, path.Join(stack, l.folder)); err != nil {
		return err
	}
	l.contents = sync.OnceValues(l.parse)
	var lockErr, sharedErr error
	l.settings, err = readSettings(l.files)
	l.lock, lockErr = kind.readPart(l.files)
	if l.name == "base" {
		sharedErr = l.fillSettings(all)
	}
	if err = errors.Join(err, lockErr, sharedErr); err != nil {
		return fmt.Errorf("layer %q: %w", l.name, err)
	}
	return nil
}

func (l *layer) fillSettings(all fs.FS) error {
	shared, err := readSettings(all)
	for i := range l.settings {
		if at, ok := find(shared, l.settings[i].Name); ok {
			l.settings[i] = l.settings[i].filled(shared[at])
		}
	}
	return err
}

// active reports whether a project with these choices takes the layer.
func (l *layer) active(choices map[string]bool) bool {
	for _, either := range l.when {
		if !slices.ContainsFunc(either, func(choice string) bool { return choices[choice] }) {
			return false
		}
	}
	return true
}

// wanted returns choices with which the layer is active.
func (l *layer) wanted() map[string]bool {
	choices := map[string]bool{}
	for _, either := range l.when {
		choices[either[0]] = true
	}
	return choices
}

func (l *layer) parse() (*contents, error) {
	c := &contents{}
	err := fs.WalkDir(l.files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || name != slotsFile && slices.Contains(notRendered, name) {
			return err
		}
		data, err := fs.ReadFile(l.files, name)
		if err != nil {
			return err
		}
		if name == slotsFile {
			c.slots, err = parseSlots(string(data))
			return err
		}
		file := source{name: name, data: data}
		target, isTemplate := strings.CutSuffix(name, templateSuffix)
		if path.Ext(name) == ".go" { // or it would be a package of the module that embeds it
			return fmt.Errorf("%s: call it %s%s", name, name, templateSuffix)
		}
		if isTemplate {
			file.data = nil
			file.body, err = parseTemplate(name, string(data))
		} else if text := templateText.Find(data); text != nil {
			err = fmt.Errorf("%s: %q in a file without the suffix %s", name, text, templateSuffix)
		}
		if err == nil {
			file.path, err = parseTemplate(name, target)
		}
		c.sources = append(c.sources, file)
		return err
	})
	return c, err
}
