package generator

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// LayerImports are the packages of other modules that a layer imports by itself, or
// asks for in its lock.in.
type LayerImports struct {
	Layer  string // its name
	Folder string // from the stack's own
	Code   []string
	Tests  []string // in files of tests
	Choice bool     // it is one choice's
	Locks  bool     // it is to have a part of the lock
}

// importLine finds an import that a part of a slot brings into another layer's file,
// but for one of the project's own.
var importLine = regexp.MustCompile(`(?m)^\t(?:\w+ )?"([^"\s{]+\.[^"\s{]+/[^"\s{]+)"$`)

// Imports returns what each layer imports, for the program that makes the parts of
// locks.
func (s *Stack) Imports() ([]LayerImports, error) {
	var all []LayerImports
	for _, l := range s.layers {
		choices, ok := s.complete(l.wanted())
		if !ok {
			continue // it is in no project
		}
		plan, err := NewPlan(s, s.answersOf("demo", choices), "devel")
		if err != nil {
			return nil, err
		}
		tree, err := Generate(plan.Unlocked())
		if err != nil {
			return nil, err
		}
		code, tests := l.asks(), map[string]bool{}
		for _, file := range tree {
			into := code
			if strings.HasSuffix(file.Path, "_test.go") {
				into = tests
			}
			if file.Layer == l.name && path.Ext(file.Path) == ".go" {
				if err := addImports(into, file, plan.self()); err != nil {
					return nil, err
				}
			}
		}
		all = append(all, LayerImports{l.name, l.folder, slices.Sorted(maps.Keys(code)), slices.Sorted(maps.Keys(tests)), slices.Contains(s.choices(), l.name), s.locks(l)})
	}
	return all, nil
}

// asks returns what the layer's slots import, and what its lock.in asks for.
func (l *layer) asks() map[string]bool {
	all := map[string]bool{}
	if text, err := fs.ReadFile(l.files, slotsFile); err == nil {
		for _, match := range importLine.FindAllSubmatch(text, -1) {
			all[string(match[1])] = true
		}
	}
	if text, err := fs.ReadFile(l.files, "lock.in"); err == nil {
		for name := range strings.FieldsSeq(string(text)) {
			all[name] = true
		}
	}
	return all
}

// addImports adds the packages of other modules that a file imports.
func addImports(to map[string]bool, file File, self string) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), file.Path, file.Data, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, spec := range parsed.Imports {
		name, _ := strconv.Unquote(spec.Path.Value) // the parser has seen to that
		if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") && !strings.HasPrefix(name, self+"/") {
			to[name] = true
		}
	}
	return nil
}
