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

// withExtra returns a real stack with one choice more: with/greeting, which owns the
// stack's folder in testdata/extra.
func withExtra(t *testing.T, stack string) *Stack {
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
	add(os.DirFS("testdata/extra/"+stack), stack+"/options/with/greeting")
	declared := map[string]any{}
	if err := json.Unmarshal(files[stack+"/stack.json"].Data, &declared); err != nil {
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
	files[stack+"/stack.json"] = &fstest.MapFile{Data: data}
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return stacks[slices.IndexFunc(stacks, func(s *Stack) bool { return s.Name == stack })]
}

// extras are what an extra's files and parts of slots give, by stack and file.
var extras = map[string]map[string][]string{
	"go": {
		"internal/config/config.go":  {"\tGreeting ", `{"GREETING", "", name(&c.Greeting)},`},
		".env.example":               {"# logged when the service starts\n#GREETING=hello\n"},
		"README.md":                  {"| `GREETING` | nothing | 63 characters without spaces | logged when the service starts |\n", "\n## Greeting\n"},
		"cmd/demo/serve.go":          {"s.checkDatabase, stop: s.db.Close},\n\t\ts.greeting(),\n\t\t{name: \"http server\""},
		"cmd/demo/main.go":           {"  greet                   print a greeting\n  version ", "case line == \"greet\":"},
		"internal/httpapi/routes.go": {"GET /greeting"},
		"cmd/demo/running_test.go":   {`"GREETING=hello",`},
		"Makefile":                   {"greet: ## print a greeting"},
		"compose.yaml":               {"\n  greeter:\n", "\n\n  app:\n"},
	},
	"fastapi": {
		"app/settings.py": {"\n    greeting: Name = \"hello\"\n"},
		"app/api/app.py":  {"\n    app.include_router(ping)\n"},
		"compose.yaml":    {"\n  greeter:\n", "\n\n  app:\n"},
	},
}

// TestExtra adds an extra to each stack by its folder and one line of stack.json alone: its
// setting, hook, command and the rest get where they belong, and the project is fine.
func TestExtra(t *testing.T) {
	t.Parallel()
	for _, shipped := range realStacks(t) {
		t.Run(shipped.Name, func(t *testing.T) {
			t.Parallel()
			s := withExtra(t, shipped.Name)
			all := map[string]bool{}
			for _, choice := range s.choices() {
				if option, _, _ := strings.Cut(choice, "/"); option == "with" {
					all[choice] = true
				}
			}
			tree := generate(t, s, s.answersOf("demo", s.asFarAsPossible(all)))
			for name, wants := range extras[s.Name] {
				for _, want := range wants {
					if !bytes.Contains(file(tree, name).Data, []byte(want)) {
						t.Errorf("%s has no %q", name, want)
					}
				}
			}
			for name, slot := range unfilled(t, s.Name) {
				t.Errorf("%s: testdata/extra/%s has no part for slot %q", name, s.Name, slot)
			}
			if !testing.Short() {
				languageOf(t, s).build(t, tree)
			}
		})
	}
}

// TestExtraWorks tries what an extra adds to a service in Go.
func TestExtraWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	t.Parallel()
	dir := written(t, generate(t, withExtra(t, "go"), answers("name=demo", "with=docker,notes,greeting")))
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

// unfilled returns the slots of a stack that neither a layer nor its folder in testdata/extra
// fills, by the file that opens them.
func unfilled(t *testing.T, stack string) map[string]string {
	t.Helper()
	parts, err := os.ReadFile(filepath.Join("testdata", "extra", stack, slotsFile))
	if err != nil {
		t.Fatal(err)
	}
	empty := map[string]string{}
	trees := templateTrees(t)
	for name := range trees {
		if top, _, _ := strings.Cut(name, "/"); top != stack && top != "shared" {
			delete(trees, name)
		}
	}
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
