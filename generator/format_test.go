package generator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/imports"
)

// Files are formatted as by goimports, whatever group the module's path is in.
func TestFormatIsThatOfGoimports(t *testing.T) {
	t.Parallel()
	options := &imports.Options{Comments: true, TabIndent: true, TabWidth: 8, FormatOnly: true}
	for name, text := range map[string]string{
		"none":             "",
		"one":              "import \"MODULE/a\"\n",
		"one of two":       "import (\n\t\"fmt\"\n\t\"MODULE/a\"\n)\n",
		"in groups":        "import (\n\t\"fmt\"\n\t\"os\"\n\n\t\"github.com/x/y\"\n\n\t\"MODULE/a\"\n\t\"MODULE/b\"\n)\n",
		"in no order":      "import (\n\t\"os\"\n\t\"MODULE/b\"\n\t\"MODULE/a\"\n\t\"github.com/x/y\"\n\t\"fmt\"\n)\n",
		"mixed in a group": "import (\n\t\"fmt\"\n\n\t\"MODULE/a\"\n\t\"github.com/x/y\"\n\t\"zz.example/z\"\n)\n",
		"named":            "import (\n\t_ \"embed\"\n\ta \"MODULE/b\"\n\n\t. \"github.com/x/y\"\n)\n",
		"with comments":    "import (\n\t// for its name\n\t\"fmt\" // too\n\t// ours\n\t\"MODULE/a\"\n)\n",
		"twice":            "import \"fmt\"\n\nimport (\n\t\"os\"\n\t\"MODULE/a\"\n)\n",
		"the same twice":   "import (\n\t\"fmt\"\n\t\"fmt\"\n)\n",
		"on one line":      "import (\"os\"; \"MODULE/a\";\"fmt\")\n",
		"appengine":        "import (\n\t\"fmt\"\n\t\"appengine/x\"\n\t\"MODULE/a\"\n)\n",
	} {
		for _, module := range []string{"example.com/demo", "demo", "zz.example/z", "a.b/c", "appengine/demo", "appengine.example/x"} {
			source := []byte("package x\n" + strings.ReplaceAll(text, "MODULE", module) + "var  x = 1\n")
			want, err := imports.Process("x.go", source, options)
			if err != nil {
				t.Fatal(err)
			}
			file := File{Path: "x.go", Data: source}
			if err := formatGo(&file); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(file.Data)); diff != "" {
				t.Errorf("imports %s, module %s (-goimports +ours):\n%s", name, module, diff)
			}
		}
	}
}
