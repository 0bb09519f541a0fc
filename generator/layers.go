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

// layersOf returns all layers of a stack, in the order in which their parts are
// joined in a slot: base, what choices share, the choices, and what is for choices
// that come together.
func layersOf(s *Stack, all fs.FS) ([]*layer, error) {
	layers := []*layer{{name: "base", folder: "base"}}
	known := []string{"base", "options", "pairs", "shared", "stack.json"}
	tops, err := fs.Glob(s.files, "*")
	errs := []error{err}
	for _, top := range tops {
		if !slices.Contains(known, top) {
			errs = append(errs, fmt.Errorf("%s: a stack has %s", top, strings.Join(known, ", ")))
		}
	}
	choices := slices.DeleteFunc(s.choices(), s.hasNothing)
	errs = append(errs, s.checkFolders("options/*/*", choices, "declare it among the choices of its option"))
	shared := s.shared()
	var own []string
	for _, l := range shared {
		if _, err := fs.Stat(all, l.name); err == nil { // all stacks share it
			l.folder = "../" + l.name
		} else {
			own = append(own, strings.TrimPrefix(l.name, "shared/"))
		}
	}
	errs = append(errs, s.checkFolders("shared/*", own, `a choice brings it with "uses"`))
	layers = append(layers, shared...)
	for _, choice := range choices {
		layers = append(layers, &layer{name: choice, folder: "options/" + choice, when: [][]string{{choice}}})
	}
	pairs, err := s.pairs()
	layers, errs = append(layers, pairs...), append(errs, err)
	for _, l := range layers {
		errs = append(errs, l.open(all, s.Name, lockKinds[s.Lock.File]))
	}
	return layers, errors.Join(errs...)
}

// checkFolders wants a folder for each name and a name for each folder, so that a
// misspelt one cannot drop out of every project unnoticed.
func (s *Stack) checkFolders(pattern string, names []string, cure string) error {
	prefix, _, _ := strings.Cut(pattern, "*")
	folders, err := fs.Glob(s.files, pattern)
	errs := []error{err}
	for _, folder := range folders {
		if !slices.Contains(names, strings.TrimPrefix(folder, prefix)) {
			errs = append(errs, fmt.Errorf("folder %s: nothing in stack.json has it: %s", folder, cure))
		}
	}
	for _, name := range names {
		if !slices.Contains(folders, prefix+name) {
			errs = append(errs, fmt.Errorf("%s: has no folder %s", name, prefix+name))
		}
	}
	return errors.Join(errs...)
}

// hasNothing reports whether a choice has no folder, since what it uses is all it brings.
func (s *Stack) hasNothing(choice string) bool {
	_, err := fs.Stat(s.files, "options/"+choice)
	return err != nil && len(s.choice(choice).Uses) > 0
}

// shared returns the layers that every project uses, and those that choices share, in
// the order of their first use.
func (s *Stack) shared() (layers []*layer) {
	for _, name := range s.Uses {
		layers = append(layers, &layer{name: "shared/" + name, folder: "shared/" + name})
	}
	for _, option := range s.Options {
		for _, choice := range option.Choices {
			for _, name := range choice.Uses {
				i := slices.IndexFunc(layers, func(l *layer) bool { return l.name == "shared/"+name })
				if i < 0 {
					i = len(layers)
					layers = append(layers, &layer{name: "shared/" + name, folder: "shared/" + name, when: [][]string{nil}})
				}
				layers[i].when[0] = append(layers[i].when[0], option.Name+"/"+choice.Name)
			}
		}
	}
	return layers
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
	inOrder := func(a, b string) int { return order[a] - order[b] }
	var layers []*layer
	for _, folder := range folders {
		choices := strings.Split(strings.ReplaceAll(path.Base(folder), ".", "/"), "+")
		l := &layer{name: strings.Join(choices, "+"), folder: folder}
		for i, choice := range choices {
			_, known := order[choice]
			switch {
			case !known:
				errs = append(errs, fmt.Errorf("folder %s: %s is no choice", folder, choice))
			case len(choices) < 2 || slices.Contains(choices[:i], choice):
				errs = append(errs, fmt.Errorf("folder %s: want two choices or more", folder))
			}
			l.when = append(l.when, []string{choice})
		}
		if sorted := slices.SortedFunc(slices.Values(choices), inOrder); !slices.Equal(sorted, choices) {
			name := strings.ReplaceAll(strings.Join(sorted, "+"), "/", ".")
			errs = append(errs, fmt.Errorf("folder %s: call it %s, in the order of stack.json", folder, name))
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

// checkPaths returns which files two layers of one project would both render, or
// where one has a file and the other a folder.
func (s *Stack) checkPaths() error {
	made := &layer{name: "nullpool"} // what no layer renders
	files, folders := map[string][]*layer{strings.ToLower(AnswersPath): {made}}, map[string][]*layer{}
	for _, name := range lockKinds[s.Lock.File].makes {
		files[name] = []*layer{made}
	}
	var errs []error
	for _, l := range s.layers {
		errs = append(errs, fs.WalkDir(l.files, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || name == "." || slices.Contains(notRendered, name) {
				return err
			}
			target := strings.ToLower(strings.TrimSuffix(name, templateSuffix))
			others, own := slices.Concat(files[target], folders[target]), files
			if entry.IsDir() {
				others, own = files[target], folders
			}
			for _, other := range others {
				if other != l && s.meet(l, other) {
					return fmt.Errorf("path %q: rendered by both %s and %s: want a slot, or another name", strings.TrimSuffix(name, templateSuffix), other.name, l.name)
				}
			}
			own[target] = append(own[target], l)
			return nil
		}))
	}
	return errors.Join(errs...)
}
