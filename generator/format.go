package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/BurntSushi/toml"
	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"
	"golang.org/x/tools/imports"
)

// check formats the tree's Go files in place and returns all that is wrong with
// any file. What it finds are mistakes in templates, which must not reach a disk.
func (t Tree) check() error {
	errs := make([]error, len(t))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) { // formatting is most of what a run does
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(t)); i = next.Add(1) - 1 {
				if err := t[i].check(); err != nil {
					errs[i] = fmt.Errorf("check %q of layer %q: %w", t[i].Path, t[i].Layer, err)
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// syntaxes holds, by file extension, what parses a file and may rewrite it.
var syntaxes = map[string]func(*File) error{
	".go":   formatGo,
	".json": func(f *File) error { return json.Unmarshal(f.Data, new(any)) },
	".toml": func(f *File) error { return toml.Unmarshal(f.Data, new(any)) },
	".mod":  func(f *File) error { _, err := modfile.Parse(f.Path, f.Data, nil); return err },
	".yaml": checkYAML,
	".yml":  checkYAML,
}

func (f *File) check() error {
	var errs []error
	if syntax, ok := syntaxes[path.Ext(f.Path)]; ok {
		errs = append(errs, syntax(f))
	}
	if bytes.Contains(f.Data, []byte("<no value>")) {
		errs = append(errs, errors.New("a template's field without a value"))
	}
	if bytes.ContainsRune(f.Data, '\r') {
		errs = append(errs, errors.New("a carriage return: lines end with a line feed alone"))
	}
	if len(f.Data) > 0 && !bytes.HasSuffix(f.Data, []byte("\n")) {
		errs = append(errs, errors.New("no newline at the end"))
	}
	return errors.Join(errs...)
}

// formatGo formats a file, and sorts and groups its imports as goimports does.
// goimports formats once more, so it is left out where it would change nothing.
// FormatOnly, because looking for imports would search the module cache of whoever
// runs this.
func formatGo(f *File) error {
	data, err := format.Source(f.Data)
	if err == nil && !importsSettled(data) {
		options := &imports.Options{Comments: true, TabIndent: true, TabWidth: 8, FormatOnly: true}
		data, err = imports.Process(f.Path, data, options)
	}
	if err != nil {
		return err
	}
	f.Data = data
	return nil
}

// importsSettled reports whether goimports would leave the imports of a formatted
// file as they are: in one declaration, in which no block of lines mixes groups.
func importsSettled(data []byte) bool {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", data, parser.ImportsOnly)
	if err != nil || len(file.Decls) > 1 {
		return false
	}
	for i, spec := range file.Imports[min(1, len(file.Imports)):] {
		before := file.Imports[i]
		apart := files.Position(spec.Pos()).Line - files.Position(before.End()).Line
		if apart == 1 && importGroup(spec) != importGroup(before) {
			return false
		}
	}
	return true
}

// importGroup tells the groups of goimports apart: in turn the standard library,
// other modules, and what a first kind of App Engine had.
func importGroup(spec *ast.ImportSpec) int {
	first, _, _ := strings.Cut(strings.Trim(spec.Path.Value, `"`), "/")
	switch {
	case strings.HasPrefix(first, "appengine"):
		return 2
	case strings.Contains(first, "."):
		return 1
	}
	return 0
}

func checkYAML(f *File) error {
	return yaml.Unmarshal(f.Data, new(any)) // a key that two layers set is an error, too
}
