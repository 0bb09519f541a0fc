package generator

import (
	"go/token"
	"go/types"
	"os/exec"
	"strings"
	"testing"

	"github.com/nullpool/nullpool/generator/teststack"
)

func TestNames(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", 63)
	tests := map[string]string{ // name → better; "" means that the name is fine
		"demo": "", "a": "", "a1": "", "my-app": "", longest: "", "main": "", "null": "",
		"": "demo", "-a": "a", "a-": "a", "1a": "a", "A": "a", "My App": "my-app", "a_b": "a-b",
		"a.b": "a-b", "a/b": "b", `a\b`: "b", "a/": "demo", "../x": "x", ".": "demo", "..": "demo", "é": "demo", "a\n": "a",
		"a\x00b": "a-b", "{{.Name}}": "name", longest + "a": longest, "\xff": "demo", "\ufeffdemo": "demo",
		"func": "func-service", "Type": "type-service", "string": "string-service", "nil": "nil-service",
		"vendor": "vendor-service", "testdata": "testdata-service", "internal": "internal-service",
		"con": "con-service", "nul": "nul-service", "com1": "com1-service", "COM1": "com1-service",
	}
	option, _ := goStack(t).Option(NameOption)
	for name, want := range tests {
		better, err := option.check(name)
		if better != want || (err == nil) != (want == "") {
			t.Errorf("name %q: better %q, error %v, want better %q", name, better, err, want)
		}
	}
}

func TestModules(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"example.com/demo": "", "demo": "", "github.com/Some/One": "", "example.com/x/v2": "", "gopkg.in/x.v1": "",
		"example.com/a~b/c_d/e+f": "", "example.com/internal/x": "",
		"": "example.com/demo", "My App": "example.com/my-app", "example.com/": "example.com/demo",
		"/x": "example.com/x", "example.com//x": "example.com/x", "example.com/../x": "example.com/x",
		"example.com/x y": "example.com/x-y", `example.com\x`: "example.com/x", "-x": "example.com/x",
		"example.com/con": "example.com/con-service", "example.com/x.": "example.com/x", "example.com/é": "example.com/demo",
		"example.com/vendor/x": "example.com/x", "vendor": "example.com/vendor-service",
		"example.com/x\n": "example.com/x", "https://example.com/x": "example.com/x", "https://github.com/some/One.git": "github.com/some/One",
		"git@github.com:some/one.git": "github.com/some/one", "ssh://git@example.com:22/a/b.git/": "example.com/a/b",
		"git+https://me:secret@example.com/a": "example.com/a", "https://example.com": "example.com/example-com", "file:///x/y": "example.com/y",
		"HTTPS://GitHub.com/some/one": "GitHub.com/some/one", "https://github.com/some/one?tab=readme#a": "github.com/some/one",
		"github.com/some/one/": "github.com/some/one",
		".example.com/x":       "example.com/x", "~x": "example.com/x", "./x": "example.com/x", "example.com/.x": "", "_x": "", "example.com/x@v1": "example.com/x-v1",
	}
	option, _ := goStack(t).Option("module")
	for path, want := range tests {
		better, err := option.check(path)
		if better != want || (err == nil) != (want == "") {
			t.Errorf("module %q: better %q, error %v, want better %q", path, better, err, want)
		}
	}
}

// What is offered instead must itself be accepted.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"demo", "My App", "func", "con", "../../etc", "a\x00", "日本", strings.Repeat("x-", 99)} {
		f.Add(seed)
	}
	stacks := realStacks(f)
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range stacks {
			for _, option := range s.Options {
				if better, err := option.check(text); err != nil && option.IsText() && option.accept(better) != nil {
					t.Errorf("%s %q: offers %q: %v", option.Name, text, better, option.accept(better))
				}
			}
		}
	})
}

// TestGoWords compares what the stack go refuses with what this Go has.
func TestGoWords(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "std", "cmd").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{NameOption: types.Universe.Names(), "module": nil}
	for word := token.BREAK; word.IsKeyword(); word++ {
		want[NameOption] = append(want[NameOption], word.String())
	}
	for path := range strings.FieldsSeq(string(out)) {
		first, _, _ := strings.Cut(path, "/")
		want["module"] = append(want["module"], first)
	}
	for name, words := range want {
		option, _ := goStack(t).Option(name)
		for _, word := range words {
			if option.accept(word) == nil {
				t.Errorf("%s takes %s", name, word)
			}
		}
	}
}

// Each stack has its own words.
func TestNamesByStack(t *testing.T) {
	t.Parallel()
	stacks, err := Load(teststack.Files)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]bool{
		"class": {true, false}, "vendor": {false, true}, "con": {false, false}, "spring": {true, false}, "leaf": {true, false}, "dishes": {false, true}, "base": {true, true},
	} {
		for i, s := range stacks {
			if err := s.Validate(answers("name=" + name)); (err == nil) != want[i] {
				t.Errorf("%s, in stack %s: %v", name, s.Name, err)
			}
		}
	}
}

func TestModuleIsFree(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"net/http": "standard library", "crypto/mine": "standard library", "fmt": "standard library",
		"example.com/cutlery":      "requires what has this name",
		"example.com/cutlery/fork": "", "network/http": "", "example.com/fmt": "", "supper": "",
	} {
		err := menuStack(t).Validate(answers("name=supper", "cookbook="+path))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
