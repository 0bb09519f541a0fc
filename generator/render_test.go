package generator

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestGenerateRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ path, text, want string }{
		"a Go file":            {"base/a.go", "package a\n", "a.go: call it a.go.tmpl"},
		"misspelt field":       {"base/a.txt.tmpl", "{{.Nome}}\n", "can't evaluate field Nome"},
		"misspelt choice":      {"base/a.txt.tmpl", "{{if .Main.Fisch}}x{{end}}\n", "can't evaluate field Fisch"},
		"misspelt in a path":   {"base/{{.Nome}}.txt", "x\n", "can't evaluate field Nome"},
		"misspelt in a slot":   {"options/main/fish/slots.tmpl", `{{define "dishes"}}{{.Nome}}{{end}}`, "can't evaluate field Nome"},
		"malformed template":   {"base/a.txt.tmpl", "{{\n", "unclosed action"},
		"text beside slots":    {"options/main/fish/slots.tmpl", "fish\n", "text outside of a define block"},
		"two owners":           {"options/main/fish/plain.txt", "x\n", `path "plain.txt": rendered by both base and main/fish`},
		"two owners by suffix": {"options/main/fish/plain.txt.tmpl", "x\n", `path "plain.txt": rendered by both base and main/fish`},
		"two owners by case":   {"options/main/fish/PLAIN.txt", "x\n", `path "PLAIN.txt": rendered by both base and main/fish`},
		"file and folder":      {"options/main/fish/plain.txt/x.txt", "x\n", `path "plain.txt": rendered by both base and main/fish`},
		"owner of the answers": {"base/.nullpool.json", "{}\n", `path ".nullpool.json": rendered by both`},
		"path not portable":    {"base/con.txt", "x\n", `malformed file path "con.txt"`},
		"suffix forgotten":     {"base/a.txt", "x\n{{.Name}}\n", `a.txt: "{{.N" in a file without the suffix .tmpl`},
		"no value":             {"base/a.txt", "<no value>\n", "a template's field without a value"},
		"carriage return":      {"base/a.txt", "x\r\n", "a carriage return"},
		"no last newline":      {"base/a.txt", "x", "no newline at the end"},
		"Go syntax":            {"base/a.go.tmpl", "package {\n", `check "a.go" of layer "base": 1:9`},
		"JSON syntax":          {"base/a.json", "{,}\n", "invalid character"},
		"YAML syntax":          {"base/a.yml", "a: [\n", "yaml: "},
		"YAML key twice":       {"base/a.yaml", "a: 1\na: 2\n", `mapping key "a" already defined`},
		"go.mod syntax":        {"base/dishes/go.mod.tmpl", "modul x\n", "unknown directive"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := menu()
			files["menu/"+test.path] = &fstest.MapFile{Data: []byte(test.text)}
			if err := generateFrom(files); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// generateFrom returns what loading and generating say of a stack.
func generateFrom(files fstest.MapFS) error {
	stacks, err := Load(files)
	if err != nil {
		return err
	}
	plan, err := NewPlan(stacks[0], answers("name=supper"), testVersion)
	if err != nil {
		return err
	}
	_, err = Generate(plan)
	return err
}

func TestGenerateFormatsGo(t *testing.T) {
	t.Parallel()
	files := menu()
	files["menu/base/a.go.tmpl"] = &fstest.MapFile{Data: []byte("package a\nimport (\"os\";\"fmt\")\nvar _=fmt.Sprint( os.Args )\n")}
	files["menu/base/ci.yml"] = &fstest.MapFile{Data: []byte("token: ${{ secrets.TOKEN }}\n")}
	files["menu/base/b.go.tmpl"] = &fstest.MapFile{Data: []byte("package a\n\nvar _ = [][]int{ {1}}\n")}
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"a.go": "package a\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nvar _ = fmt.Sprint(os.Args)\n",
		// In a template, { { says what {{ cannot.
		"b.go":   "package a\n\nvar _ = [][]int{{1}}\n",
		"ci.yml": "token: ${{ secrets.TOKEN }}\n",
	}
	for _, file := range generate(t, stacks[0], answers("name=supper")) {
		if text, ok := want[file.Path]; ok && string(file.Data) != text {
			t.Errorf("%s is %q, want %q", file.Path, file.Data, text)
		}
	}
}
