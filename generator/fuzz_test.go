package generator

import (
	"bytes"
	"go/parser"
	"go/token"
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzNew gives any name, module and choices. Each is refused with a reason, or
// makes a project whose files parse (Generate checks that), with paths that stay
// within it, in which the two texts appear only as what they are: the templates
// are the same but for them.
func FuzzNew(f *testing.F) {
	stack := goStack(f)
	f.Add("demo", "example.com/demo", "supabase", "docker,notes")
	f.Add("a", "a", "postgres", "")
	f.Add("../x", "../../etc/passwd", "supabase", "docker")
	f.Add("con", "example.com/nul", "postgres", "notes")
	f.Add("x{{.Module}}", "example.com/{{.Name}}", "supabase", "notes")
	f.Add("demo\"; drop table notes; --", "example.com/`x`", "postgres", "docker,docker")
	f.Add("\xef\xbb\xbfdemo", "example.com/\xff", "supabase\r\n", "docker\x00")
	f.Add(strings.Repeat("a", 63), strings.Repeat("a/", 200)+"a", "supabase", "docker,notes")
	f.Add("Demo", "EXAMPLE.com/Demo", "Supabase", "Docker")
	f.Add("cmd", "golang.org/x/net", "postgres", "notes")
	f.Add("readme", "example.com/vendor/x", "postgres", "notes")
	f.Add("i", "example.com/~x", "postgres", "notes")
	f.Fuzz(func(t *testing.T, name, module, provider, with string) {
		given := Answers{"name": {Values: []string{name}}, "module": {Values: []string{module}}, "provider": {Values: []string{provider}}}
		given["with"] = Answer{Values: strings.FieldsFunc(with, func(r rune) bool { return r == ',' })}
		plan, err := NewPlan(stack, given, testVersion)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if line == "" || !utf8.ValidString(line) {
					t.Errorf("refused with %q", err)
				}
			}
			return
		}
		tree, err := Generate(plan)
		if err != nil {
			t.Fatalf("name %q, module %q: %v", name, module, err)
		}
		for _, file := range tree {
			wantWellFormed(t, file)
		}
	})
}

func wantWellFormed(t *testing.T, file File) {
	t.Helper()
	if path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path || strings.HasPrefix(file.Path, "../") {
		t.Errorf("path %q", file.Path)
	}
	if path.Ext(file.Path) == ".go" {
		if _, err := parser.ParseFile(token.NewFileSet(), file.Path, file.Data, parser.SkipObjectResolution); err != nil {
			t.Error(err)
		}
	}
	if bytes.Contains(file.Data, []byte("{{.")) {
		t.Errorf("%s holds a template's action", file.Path)
	}
}
