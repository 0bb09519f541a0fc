package generator

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"text/template/parse"

	"github.com/nullpool/nullpool/templates"
)

// withExtra returns the real stack with one choice more: with/greeting, which owns
// the folder testdata/extra.
func withExtra(t *testing.T) *Stack {
	t.Helper()
	files := fstest.MapFS{}
	add := func(from fs.FS, to string) {
		err := fs.WalkDir(from, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := fs.ReadFile(from, name)
			files[path.Join(to, name)] = &fstest.MapFile{Data: data}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(templates.Files, ".")
	add(os.DirFS("testdata/extra"), "go/options/with/greeting")
	declared := map[string]any{}
	if err := json.Unmarshal(files["go/stack.json"].Data, &declared); err != nil {
		t.Fatal(err)
	}
	options, _ := declared["options"].([]any)
	i := slices.IndexFunc(options, func(o any) bool { option, _ := o.(map[string]any); return option["name"] == "with" })
	extras, _ := options[i].(map[string]any)
	choices, _ := extras["choices"].([]any)
	extras["choices"] = append(choices, map[string]any{"name": "greeting", "help": "a greeting"})
	data, err := json.Marshal(declared)
	if err != nil {
		t.Fatal(err)
	}
	files["go/stack.json"] = &fstest.MapFile{Data: data}
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return stacks[0]
}

// TestExtra adds an extra by its folder and one line of stack.json alone: its
// setting, hook, command and the rest get where they belong, and the project is fine.
func TestExtra(t *testing.T) {
	t.Parallel()
	s := withExtra(t)
	tree := generate(t, s, answers("name=demo", "with=docker,notes,verify,engine-tests,greeting"))
	for name, wants := range map[string][]string{
		"internal/config/config.go":  {"\tGreeting ", `{"GREETING", "", name(&c.Greeting)},`},
		".env.example":               {"# logged when the service starts\n#GREETING=hello\n"},
		"README.md":                  {"| `GREETING` | nothing | 63 characters without spaces | logged when the service starts |\n", "\n## Greeting\n"},
		"cmd/demo/serve.go":          {"s.checkDatabase, Stop: s.db.Close},\n\t\ts.greeting(),\n\t\tlifecycle.Hook{Name: \"http server\""},
		"cmd/demo/main.go":           {"  greet                   print a greeting\n  version ", "case line == \"greet\":"},
		"internal/httpapi/routes.go": {"GET /greeting"},
		"cmd/demo/running_test.go":   {`"GREETING=hello",`},
		"Makefile":                   {"greet: ## print a greeting"},
		"compose.yaml":               {"\n  greeter:\n", "\n\n  app:\n"},
	} {
		for _, want := range wants {
			if !bytes.Contains(file(tree, name).Data, []byte(want)) {
				t.Errorf("%s has no %q", name, want)
			}
		}
	}
	for name, slot := range unfilled(t) {
		t.Errorf("%s: testdata/extra has no part for slot %q", name, slot)
	}
	if testing.Short() {
		return
	}
	dir := written(t, tree)
	mustBuild(t, tree, "")
	goTool(t, dir, nil, "test", "./internal/config")
	if _, err := exec.LookPath("make"); err == nil {
		out, err := exec.CommandContext(t.Context(), "make", "-C", dir, "greet").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "hello from demo") {
			t.Errorf("make greet: %v\n%s", err, out)
		}
	}
}

func file(tree Tree, name string) File {
	for _, f := range tree {
		if f.Path == name {
			return f
		}
	}
	return File{}
}

// unfilled returns the slots that neither a layer nor testdata/extra fills, by the
// file that opens them.
func unfilled(t *testing.T) map[string]string {
	t.Helper()
	parts, err := os.ReadFile(filepath.Join("testdata", "extra", slotsFile))
	if err != nil {
		t.Fatal(err)
	}
	empty := map[string]string{}
	trees := templateTrees(t)
	for name, tree := range trees {
		walk(tree.Root, 0, func(node parse.Node, _ int) {
			slot, ok := slotName(node)
			if !ok || bytes.Contains(parts, []byte(`{{define "`+slot+`"}}`)) {
				return
			}
			for other := range trees {
				if strings.HasSuffix(other, "/"+slotsFile+"#"+slot) {
					return
				}
			}
			empty[name] = slot
		})
	}
	return empty
}
