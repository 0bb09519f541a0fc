package generator

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWriteToFullDisk writes a project to a disk that is too small for it.
func TestWriteToFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("no disk of a size to choose: %v", err) // only root may mount one
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	plan, err := NewPlan(goStack(t), Answers{"name": {Values: []string{"demo"}}}, testVersion)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Generate(plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range places {
		if place.target == "." {
			continue // the places share the disk
		}
		sub := filepath.Join(dir, filepath.Base(t.TempDir()))
		mkdir(t, sub, ".")
		place.make(t, sub)
		before := snapshot(t, dir)
		if err := Write(t.Context(), tree, filepath.Join(sub, place.target)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v, want a full disk", place.name, err)
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", place.name, diff)
		}
	}
}
