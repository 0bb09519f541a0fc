package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// firstCommand is the README's first.
const firstCommand = "go run ./cmd/nullpool new demo --yes"

func TestProgramWords(t *testing.T) {
	t.Parallel()
	clone := t.TempDir()
	inner := filepath.Join(clone, "cmd", "nullpool", "testdata")
	other := t.TempDir()
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, module := range map[string]string{clone: modulePath, other: "example.com/other"} {
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+module+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const (
		built  = "/tmp/go-build123/b001/exe/nullpool"
		cached = "/home/x/.cache/go-build/0f/0f5e5d2cdf689cb036b57af33132a4efcbe290ef1121b9ddb739a9704474234e-d/nullpool"
	)
	tests := map[string]struct{ executable, typed, folder, version, want string }{
		"by its name":           {"/usr/bin/nullpool", "nullpool", clone, "v1.2.3", "nullpool"},
		"by a path":             {"/x/bin/nullpool", "./bin/nullpool", clone, "(devel)", "./bin/nullpool"},
		"by a path to quote":    {"/x/my bin/nullpool", "/x/my bin/nullpool", clone, "", "'/x/my bin/nullpool'"},
		"by nothing":            {"/usr/bin/nullpool", "", clone, "", "nullpool"},
		"in the clone":          {built, built, clone, "(devel)", "go run ./cmd/nullpool"},
		"again":                 {cached, cached, clone, "(devel)", "go run ./cmd/nullpool"},
		"below":                 {built, built, filepath.Join(clone, "cmd"), "", "go run ./nullpool"},
		"in its own folder":     {built, built, filepath.Dir(inner), "", "go run ."},
		"below that":            {built, built, inner, "", "go run .."},
		"a version":             {built, built, other, "v1.2.3", "go run github.com/nullpool/nullpool/cmd/nullpool@v1.2.3"},
		"a version, in a clone": {cached, cached, clone, "v1.2.3", "go run github.com/nullpool/nullpool/cmd/nullpool@v1.2.3"},
		"of another module":     {built, built, other, "(devel)", "go run github.com/nullpool/nullpool/cmd/nullpool"},
	}
	for name, test := range tests {
		got := programWords(test.executable, test.typed, test.folder, debug.Module{Path: modulePath, Version: test.version})
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// A module that another has in its place is no version to run, and a shell reads ~ as
// somebody's folder.
func TestProgramWordsWork(t *testing.T) {
	t.Parallel()
	const built = "/tmp/go-build123/b001/exe/nullpool"
	module := debug.Module{Path: modulePath, Version: "v0.0.0", Replace: &debug.Module{Path: "../clone"}}
	if got := programWords(built, built, t.TempDir(), module); got != "go run "+modulePath+"/"+programPath {
		t.Errorf("a replaced module: %q", got)
	}
	if got := quote("~/demo"); got != "'~/demo'" {
		t.Errorf("~/demo: %q", got)
	}
}

// TestHints wants whatever is said to try to begin as the reader began.
func TestHints(t *testing.T) {
	t.Parallel()
	const program = "go run ./here"
	elsewhere := regexp.MustCompile(`(^|[^/])nullpool (new|list|version|completion|help)`)
	for _, line := range []string{
		"new", "new --json", "new --bogus", "new Demo --yes", "new ./demo/ --yes", "new demo --answers missing.json", "new demo --cookbook x",
		"nwe", "help nwe", "list --bogus", "help", "help new", "help completion",
	} {
		a, out, errs := newTestApp(nil)
		a.program = program
		a.run(t.Context(), strings.Fields(line))
		said := out.String() + errs.String()
		if !strings.Contains(said, program) || elsewhere.MatchString(said) {
			t.Errorf("%s: %s, want %s", line, said, program)
		}
	}
}

// TestGoRun runs the tool from the clone, twice, since go run keeps what it has
// built, and as a program in a folder: what it says to try is what was done.
func TestGoRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	program := filepath.Join(t.TempDir(), "my tools", "nullpool")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	for _, command := range []struct {
		folder string
		words  []string
		want   string
	}{
		{"../..", append(strings.Fields(firstCommand), "--dir", dir), "files written"},
		{"../..", []string{"go", "run", "./cmd/nullpool", "new"}, "\nnullpool: hint: go run ./cmd/nullpool new demo --"},
		{"..", []string{"go", "run", "./nullpool", "nwe"}, "\nnullpool: hint: did you mean go run ./nullpool new?\n"},
		{".", []string{"go", "run", ".", "new", "--help"}, "\n  go run . new [NAME] [flags]\n"},
		{".", []string{program, "new", "--bogus"}, "\nnullpool: hint: '" + program + "' new --help\n"},
	} {
		run := exec.CommandContext(t.Context(), command.words[0], command.words[1:]...)
		run.Dir = command.folder
		out, _ := run.CombinedOutput() // some fail, and all say why
		if !strings.Contains(string(out), command.want) {
			t.Errorf("%q: %s, want %q", command.words, out, command.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Error(err)
	}
}
