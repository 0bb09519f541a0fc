package generator

import (
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/imports"
)

// Files are formatted as by goimports, whatever group the module's path is in.
func TestFormatIsThatOfGoimports(t *testing.T) {
	t.Parallel()
	options := &imports.Options{Comments: true, TabIndent: true, TabWidth: 8, FormatOnly: true}
	for _, module := range []string{"example.com/demo", "demo", "zz.example/z", "a.b/c", "appengine/demo", "appengine.example/x"} {
		tree := generate(t, goStack(t), Answers{"name": {Values: []string{"demo"}}, "module": {Values: []string{module}}})
		for _, file := range tree {
			if path.Ext(file.Path) != ".go" {
				continue
			}
			want, err := imports.Process(file.Path, file.Data, options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(file.Data)); diff != "" {
				t.Errorf("module %s: %s (-goimports +ours):\n%s", module, file.Path, diff)
			}
		}
	}
}
