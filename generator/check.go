package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

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

// formatGo sorts imports and formats. FormatOnly, because looking for imports
// would search the module cache of whoever runs this.
func formatGo(f *File) error {
	options := &imports.Options{Comments: true, TabIndent: true, TabWidth: 8, FormatOnly: true}
	data, err := imports.Process(f.Path, f.Data, options)
	if err != nil {
		return err
	}
	f.Data = data
	return nil
}

func checkYAML(f *File) error {
	return yaml.Unmarshal(f.Data, new(any)) // a key that two layers set is an error, too
}
