package generator

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nullpool/nullpool/generator/teststack"
	"github.com/nullpool/nullpool/templates"
)

// testVersion stands in the goldens, so that they change with the templates
// alone.
const testVersion = "v0.0.0-golden"

// goStack returns the stack that is shipped.
func goStack(t testing.TB) *Stack {
	t.Helper()
	stacks, err := Load(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, stack := range stacks {
		if stack.Name == "go" {
			return stack
		}
	}
	t.Fatal("no stack called go")
	return nil
}

// realStacks returns the stacks that are shipped.
func realStacks(t testing.TB) []*Stack {
	t.Helper()
	stacks, err := Load(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	return stacks
}

// menu returns a copy of the made-up stacks, to be changed.
func menu() fstest.MapFS {
	files := fstest.MapFS{}
	err := fs.WalkDir(teststack.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(teststack.Files, name)
		files[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		panic(err) // what is embedded can be read
	}
	return files
}

// menuStack is a made-up stack.
func menuStack(t testing.TB) *Stack {
	t.Helper()
	stacks, err := Load(teststack.Files)
	if err != nil {
		t.Fatal(err)
	}
	return stacks[0]
}

// answers makes answers of "option=value" and "option=value,value".
func answers(pairs ...string) Answers {
	all := Answers{}
	for _, pair := range pairs {
		option, text, _ := strings.Cut(pair, "=")
		values := strings.Split(text, ",")
		if text == "" {
			values = []string{}
		}
		all[option] = Answer{Values: values, Origin: FromFlag}
	}
	return all
}

// generate returns the tree for a plan and fails the test where there is none.
func generate(t testing.TB, stack *Stack, given Answers) Tree {
	t.Helper()
	plan, err := NewPlan(stack, given, testVersion)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Generate(plan)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// written generates a project into a new folder and returns the folder.
func written(t *testing.T, tree Tree) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "project")
	if err := Write(t.Context(), tree, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// goTool runs the go command in dir and fails the test where it fails.
func goTool(t *testing.T, dir string, env []string, args ...string) {
	t.Helper()
	mustRun(t, dir, env, "go", args...)
}

// mustRun runs a program in dir and fails the test where it fails.
func mustRun(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// messages returns the lines of a joined error.
func messages(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// mustBeAnswerErrors fails the test unless each joined error is one, because
// the command line turns these into its exit status and hints.
func mustBeAnswerErrors(t *testing.T, err error) {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if _, ok := errors.AsType[*AnswerError](err); !ok {
			t.Errorf("error %v: not an AnswerError", err)
		}
		return
	}
	for _, err := range joined.Unwrap() {
		mustBeAnswerErrors(t, err)
	}
}
