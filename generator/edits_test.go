package generator_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// edit replaces a text that a file of a project has once. Without an old text it
// makes the file, and without either it removes the file.
type edit struct{ file, old, new string }

// apply makes the edit, and returns what undoes it.
func (e edit) apply(dir string) (undo func() error, err error) {
	path := filepath.Join(dir, filepath.FromSlash(e.file))
	if e.old == "" && e.new != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		return func() error { return os.Remove(path) }, os.WriteFile(path, []byte(e.new), 0o644)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	undo = func() error { return os.WriteFile(path, before, 0o644) }
	if e.old == "" {
		return undo, os.Remove(path)
	}
	if n := strings.Count(string(before), e.old); n != 1 {
		return nil, fmt.Errorf("%s has this %d times, not once:\n%s", e.file, n, e.old)
	}
	return undo, os.WriteFile(path, []byte(strings.Replace(string(before), e.old, e.new, 1)), 0o644)
}

// applyAll makes edits in order, and returns what undoes those that were made.
func applyAll(dir string, edits []edit) (undo func() error, err error) {
	var undone []func() error
	for _, e := range edits {
		var one func() error
		if one, err = e.apply(dir); err != nil {
			break
		}
		undone = append(undone, one)
	}
	return func() error {
		var errs []error
		for _, f := range slices.Backward(undone) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}, err
}

// copyOfGolden copies the default project to a folder of its own.
func copyOfGolden(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "project")
	if err := os.CopyFS(to, os.DirFS("../golden/go-default")); err != nil {
		t.Fatal(err)
	}
	return to
}

// goIn runs the go command in a project and returns what it printed.
func goIn(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	run := exec.CommandContext(t.Context(), "go", args...)
	run.Dir = dir
	run.Env = append(os.Environ(), "GOFLAGS=-trimpath -buildvcs=false") // copies share what is compiled
	out, err := run.CombinedOutput()
	return string(out), err
}
