package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// TestPublishedModule makes the module zip that a proxy would serve, and runs
// the tool from it in an empty folder as the README says. A file that embed or
// the zip leaves out is missing here, though it is there in a checkout.
func TestPublishedModule(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	t.Parallel()
	self := module.Version{Path: "github.com/nullpool/nullpool", Version: "v0.0.1-published"}
	cache := goEnv(t, "GOMODCACHE")
	command := exec.CommandContext(t.Context(), "go", "run", self.Path+"/cmd/nullpool@"+self.Version, "new", "demo", "--yes")
	command.Dir = t.TempDir()
	command.Env = append(os.Environ(),
		// The dependencies are in the local cache, for this test was built from them.
		"GOPROXY=file://"+publish(t, self)+",file://"+cache+"/cache/download,"+goEnv(t, "GOPROXY"),
		"GOMODCACHE="+t.TempDir(), // a version is fetched once, and this one changes
		"GOFLAGS=-mod=mod -modcacherw -buildvcs=false",
		"GOSUMDB=off", "GOPRIVATE=", "GONOPROXY=", "GOWORK=off",
	)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	answers, err := os.ReadFile(filepath.Join(command.Dir, "demo", ".nullpool.json"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `"nullpool": "` + self.Version + `"`; !strings.Contains(string(answers), want) {
		t.Errorf("answers are %s, want %s", answers, want)
	}
	if _, err := os.Stat(filepath.Join(command.Dir, "demo", "go.sum")); err != nil {
		t.Error(err)
	}

	// go run makes 1 of every exit status; the document keeps it.
	again := exec.CommandContext(t.Context(), "go", append(command.Args[1:], "--json")...)
	again.Dir, again.Env = command.Dir, command.Env
	out, err := again.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != exitFailed || !strings.Contains(string(out), `"exit_code": 3`) {
		t.Errorf("into the same folder: %v\n%s", err, out)
	}

	// What is said to try is what was done: this version.
	args := command.Args[1:3] // go run MODULE/cmd/nullpool@VERSION
	hint := exec.CommandContext(t.Context(), "go", append(args, "new")...)
	hint.Dir, hint.Env = command.Dir, command.Env
	said, _ := hint.CombinedOutput() // it fails, for it has no answers
	if want := "\nnullpool: hint: go " + strings.Join(args, " ") + " new demo --stack go --module "; !strings.Contains(string(said), want) {
		t.Errorf("without answers: %s, want %q", said, want)
	}
}

// publish returns the folder of a module proxy that serves this module alone.
func publish(t *testing.T, self module.Version) string {
	t.Helper()
	proxy := t.TempDir()
	dir := filepath.Join(proxy, filepath.FromSlash(self.Path), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join("..", "..")
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"list":                 self.Version + "\n",
		self.Version + ".info": `{"Version": "` + self.Version + `"}`,
		self.Version + ".mod":  string(mod),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Create(filepath.Join(dir, self.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := archive.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := zip.CreateFromDir(archive, self, root); err != nil {
		t.Fatal(err)
	}
	return proxy
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
