package generator

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// A language is what has projects checked by the tools of their own language. Only tests
// do: rendering needs none of these.
type language struct {
	reads []string                                       // the extensions of what these tools read
	build func(t *testing.T, tree Tree)                  // checks a project as far as it goes without a database
	pass  func(t *testing.T, dir string, withTests bool) // checks one that is written, and runs its tests
}

// languages are told by what pins a stack's dependencies.
var languages = map[string]language{
	"go.mod":            {[]string{".go", ".mod", ".sum", ".sql", ".txtar"}, mustBuild, mustPass},
	"requirements.lock": {[]string{".py", ".mako", ".ini", ".toml", ".lock"}, mustCheckPython, mustPassPython},
}

func languageOf(t *testing.T, s *Stack) language {
	t.Helper()
	l, ok := languages[s.Lock.File]
	if !ok {
		t.Fatalf("stack %s: no test knows a language with %q", s.Name, s.Lock.File)
	}
	return l
}

// program returns what tells programs apart: all that the tools read.
func (l language) program(tree Tree) string {
	hash := sha256.New()
	for _, file := range tree {
		if slices.Contains(l.reads, path.Ext(file.Path)) {
			fmt.Fprintf(hash, "%s %d\n%s", file.Path, len(file.Data), file.Data)
		}
	}
	return string(hash.Sum(nil))
}

// mustBuild builds and vets a project as an owner first would: offline, with go.mod and
// go.sum as rendered. It also holds that these are exactly what go mod tidy would make.
// Where GOLANGCI_LINT names a linter, it holds instead that the project's own
// configuration of it is content.
func mustBuild(t *testing.T, tree Tree) {
	t.Helper()
	dir := written(t, tree)
	if linter := os.Getenv("GOLANGCI_LINT"); linter != "" {
		mustRun(t, dir, []string{"GOFLAGS=-buildvcs=false"}, linter, "run", "--allow-parallel-runners", "./...")
		return
	}
	goTool(t, dir, nil, "mod", "download") // primes the module cache
	// Without paths in them, packages that are the same in two projects are compiled once.
	clean := []string{"GOPROXY=off", "GOFLAGS=-mod=readonly -buildvcs=false -trimpath"}
	goTool(t, dir, clean, "build", "-o", t.TempDir(), "./...")
	goTool(t, dir, clean, "vet", "./...")
	goTool(t, dir, nil, "mod", "tidy", "-diff")
}

func mustPass(t *testing.T, dir string, withTests bool) {
	t.Helper()
	// Without paths in them, packages that two goldens share are compiled once.
	shared := []string{"GOFLAGS=-trimpath -buildvcs=false"}
	goTool(t, dir, shared, "vet", "./...")
	if withTests {
		goTool(t, dir, shared, "test", "./...")
	}
}

// mustCheckPython holds that a project's own configurations of ruff and mypy are content, and
// that its tests pass, but for those that no choice can change, which the default's have done.
func mustCheckPython(t *testing.T, tree Tree) {
	t.Helper()
	dir, programs := written(t, tree), installed(t, file(tree, "requirements.lock").Data)
	mustRun(t, dir, nil, filepath.Join(programs, "ruff"), "check", "--no-cache", ".")
	mustRun(t, dir, nil, filepath.Join(programs, "ruff"), "format", "--no-cache", "--check", ".")
	mustRun(t, dir, nil, filepath.Join(programs, "mypy"), "--cache-dir", t.TempDir())
	if os.Getenv("GOLANGCI_LINT") != "" {
		return // which asks for the linters alone
	}
	tests := []string{"-m", "pytest", "-q"}
	for _, engine := range []string{"ends", "pressure", "process", "service", "truth"} {
		tests = append(tests, "--ignore", "tests/verify/test_"+engine+".py")
	}
	mustRun(t, dir, nil, filepath.Join(programs, "python"), tests...)
}

// mustPassPython runs the tests in a copy, since Python leaves something in every folder.
func mustPassPython(t *testing.T, dir string, withTests bool) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "project")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(to, "requirements.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if programs := installed(t, lock); withTests {
		mustRun(t, to, nil, filepath.Join(programs, "python"), "-m", "pytest", "-q")
	}
}

// python returns a Python that projects run on. A test that needs it is skipped where there
// is none, and fails in CI.
func python(t *testing.T) string {
	t.Helper()
	err := exec.CommandContext(t.Context(), "python3", "-c", "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))").Run()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("needs python3, 3.11 or newer, with venv: %v", err)
	default:
		t.Skipf("needs python3, 3.11 or newer, with venv: %v", err)
	}
	return "python3"
}

var installing sync.Mutex

// installed returns the folder with the programs of what a lock pins. That is installed
// once for each lock, where the next run of the tests finds it.
func installed(t *testing.T, lock []byte) (programs string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	base := python(t)
	venv := filepath.Join(cache, "nullpool-tests", fmt.Sprintf("%x", sha256.Sum256(lock))[:16])
	programs, done := filepath.Join(venv, "bin"), filepath.Join(venv, "done")
	installing.Lock()
	defer installing.Unlock()
	if _, err := os.Stat(done); err == nil {
		return programs
	}
	mustRun(t, ".", nil, base, "-m", "venv", "--clear", venv)
	path := filepath.Join(venv, "requirements.lock")
	if err := os.WriteFile(path, lock, 0o644); err != nil {
		t.Fatal(err)
	}
	mustRun(t, ".", nil, filepath.Join(programs, "pip"), "install", "--quiet", "--require-hashes", "-r", path)
	if err := os.Rename(path, done); err != nil {
		t.Fatal(err)
	}
	return programs
}

// mustCompile compiles all files that are Python, of which two may have one path.
func mustCompile(t *testing.T, files []File) {
	t.Helper()
	dir, found := t.TempDir(), false
	for i, file := range files {
		if path.Ext(file.Path) != ".py" {
			continue
		}
		found = true
		if err := Write(t.Context(), Tree{file}, filepath.Join(dir, strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	if found {
		mustRun(t, dir, nil, python(t), "-W", "error", "-m", "compileall", "-q", ".")
	}
}
