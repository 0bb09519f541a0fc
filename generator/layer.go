package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
)

// What a layer's folder holds beside the files of the project.
const (
	slotsFile    = "slots.tmpl"
	settingsFile = "settings.json"
	lockModFile  = "lock.mod"
	lockSumFile  = "lock.sum"
)

var notRendered = []string{slotsFile, settingsFile, lockModFile, lockSumFile}

// A layer is a folder of templates that a project takes whole or not at all.
type layer struct {
	name   string     // "base", "option/choice", "shared/name" or "option/choice+option/choice"
	folder string     // in the stack's folder
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

// A source is a file of a layer.
type source struct {
	name string             // in the layer's folder
	path *template.Template // in the project
	body *template.Template // nil for a file that is copied
	data []byte             // of a file that is copied
}

// layersOf returns all layers of a stack, in the order in which their parts are
// joined in a slot: base, what choices share, the choices, and what is for choices
// that come together.
func layersOf(s *Stack) ([]*layer, error) {
	layers := []*layer{{name: "base", folder: "base"}}
	errs := []error{s.checkFolders("options/*/*", s.choices())}
	shared, users := s.shared()
	errs = append(errs, s.checkFolders("shared/*", shared))
	for _, name := range shared {
		layers = append(layers, &layer{name: "shared/" + name, folder: "shared/" + name, when: [][]string{users[name]}})
	}
	for _, choice := range s.choices() {
		layers = append(layers, &layer{name: choice, folder: "options/" + choice, when: [][]string{{choice}}})
	}
	pairs, err := s.pairs()
	for _, l := range append(layers, pairs...) {
		errs = append(errs, l.open(s))
	}
	return append(layers, pairs...), errors.Join(append(errs, err)...)
}

// checkFolders wants a folder for each name and a name for each folder, so that a
// misspelt one cannot drop out of every project unnoticed.
func (s *Stack) checkFolders(pattern string, names []string) error {
	prefix, _, _ := strings.Cut(pattern, "*")
	folders, err := fs.Glob(s.files, pattern)
	errs := []error{err}
	for _, folder := range folders {
		if !slices.Contains(names, strings.TrimPrefix(folder, prefix)) {
			errs = append(errs, fmt.Errorf("folder %s: nothing in stack.json has it", folder))
		}
	}
	for _, name := range names {
		if !slices.Contains(folders, prefix+name) {
			errs = append(errs, fmt.Errorf("%s: has no folder %s", name, prefix+name))
		}
	}
	return errors.Join(errs...)
}

// shared returns the names that choices share folders by, in the order of their
// first use, and the choices that use each.
func (s *Stack) shared() (names []string, users map[string][]string) {
	users = map[string][]string{}
	for _, option := range s.Options {
		for _, choice := range option.Choices {
			for _, name := range choice.Uses {
				if users[name] == nil {
					names = append(names, name)
				}
				users[name] = append(users[name], option.Name+"/"+choice.Name)
			}
		}
	}
	return names, users
}

// pairs returns the layers for choices that come together, which are found by
// their folders: pairs/OPTION.CHOICE+OPTION.CHOICE.
func (s *Stack) pairs() ([]*layer, error) {
	folders, err := fs.Glob(s.files, "pairs/*")
	errs := []error{err}
	order := map[string]int{}
	for i, choice := range s.choices() {
		order[choice] = i
	}
	var layers []*layer
	for _, folder := range folders {
		choices := strings.Split(strings.ReplaceAll(path.Base(folder), ".", "/"), "+")
		l := &layer{name: strings.Join(choices, "+"), folder: folder}
		for i, choice := range choices {
			at, known := order[choice]
			switch {
			case !known:
				errs = append(errs, fmt.Errorf("folder %s: %s is no choice", folder, choice))
			case len(choices) < 2 || i > 0 && order[choices[i-1]] >= at:
				errs = append(errs, fmt.Errorf("folder %s: want two choices or more, in the order of stack.json", folder))
			}
			l.when = append(l.when, []string{choice})
		}
		layers = append(layers, l)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, l := range layers {
		if _, ok := s.complete(l.wanted()); !ok {
			errs = append(errs, fmt.Errorf("folder %s: these choices never come together", l.folder))
		}
	}
	return layers, errors.Join(errs...)
}

// open reads what Load checks of the layer. Its templates are left for later.
func (l *layer) open(s *Stack) (err error) {
	if l.files, err = fs.Sub(s.files, l.folder); err != nil {
		return err
	}
	l.contents = sync.OnceValues(l.parse)
	l.settings, err = readSettings(l.files)
	var lockErr error
	l.lock, lockErr = readLockPart(l.files)
	if err = errors.Join(err, lockErr); err != nil {
		return fmt.Errorf("layer %q: %w", l.name, err)
	}
	return nil
}

// active reports whether a project with these choices takes the layer.
func (l *layer) active(choices map[string]bool) bool {
	for _, any := range l.when {
		if !slices.ContainsFunc(any, func(choice string) bool { return choices[choice] }) {
			return false
		}
	}
	return true
}

// wanted returns choices with which the layer is active.
func (l *layer) wanted() map[string]bool {
	choices := map[string]bool{}
	for _, any := range l.when {
		choices[any[0]] = true
	}
	return choices
}

// meet reports whether one project can take both layers.
func (s *Stack) meet(a, b *layer) bool {
	return s.fit(append(slices.Clone(a.when), b.when...), map[string]bool{})
}

// fit reports whether a project can have one choice of each list beside the fixed.
func (s *Stack) fit(when [][]string, fixed map[string]bool) bool {
	if len(when) == 0 {
		_, ok := s.complete(fixed)
		return ok
	}
	return slices.ContainsFunc(when[0], func(choice string) bool {
		with := maps.Clone(fixed)
		with[choice] = true
		return s.fit(when[1:], with)
	})
}

// checkPaths returns which files two layers of one project would both render.
func (s *Stack) checkPaths() error {
	owners, errs := map[string][]*layer{}, []error{}
	for _, l := range s.layers {
		errs = append(errs, fs.WalkDir(l.files, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || slices.Contains(notRendered, name) {
				return err
			}
			target := strings.ToLower(strings.TrimSuffix(name, templateSuffix))
			for _, other := range owners[target] {
				if s.meet(l, other) {
					return fmt.Errorf("path %q: rendered by both %s and %s", target, other.name, l.name)
				}
			}
			owners[target] = append(owners[target], l)
			return nil
		}))
	}
	return errors.Join(errs...)
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
