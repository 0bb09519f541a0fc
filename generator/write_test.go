package generator

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var smallTree = Tree{
	{Path: ".hidden", Mode: 0o644, Data: []byte("hidden\n")},
	{Path: "a/b/c.txt", Mode: 0o644, Data: []byte("c\n")},
	{Path: "a/run.sh", Mode: 0o755, Data: []byte("#!/bin/sh\n")},
	{Path: "z.txt", Mode: 0o644},
}

var smallFiles = map[string]string{
	".hidden": "0644 hidden\n", "a/b/c.txt": "0644 c\n", "a/run.sh": "0755 #!/bin/sh\n", "z.txt": "0644 ",
	"a": "folder", "a/b": "folder",
}

// A targetPlace is a folder to work in, and a target in it.
type targetPlace struct {
	name   string
	make   func(t *testing.T, dir string) // what is there before
	target string
}

var places = []targetPlace{
	{"new", func(*testing.T, string) {}, "x"},
	{"new below new", func(*testing.T, string) {}, "x/y/z"},
	{"empty", func(t *testing.T, dir string) { mkdir(t, dir, "x") }, "x"},
	{"only .git", func(t *testing.T, dir string) { mkdir(t, dir, "x/.git/refs") }, "x"},
	{"beside others", func(t *testing.T, dir string) { mkdir(t, dir, "y/a") }, "x"},
	{"the folder itself", func(*testing.T, string) {}, "."},
}

func mkdir(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// snapshot returns all there is below dir, with modes as git keeps them.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := entry.Info()
		if err != nil || info.IsDir() {
			all[filepath.ToSlash(name)] = "folder"
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(path)
			all[filepath.ToSlash(name)] = "link to " + link
			return err
		}
		data, err := os.ReadFile(path)
		mode := "0644 "
		if info.Mode()&0o111 != 0 {
			mode = "0755 "
		}
		all[filepath.ToSlash(name)] = mode + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWrite(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			place.make(t, dir)
			want := snapshot(t, dir)
			for at := filepath.ToSlash(place.target); at != "."; at = filepath.ToSlash(filepath.Dir(at)) {
				want[at] = "folder"
			}
			for name, content := range smallFiles {
				want[filepath.ToSlash(filepath.Join(place.target, name))] = content
			}
			if err := Write(t.Context(), smallTree, filepath.Join(dir, place.target)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, snapshot(t, dir)); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

// An existing target stays the folder that it was.
func TestWriteKeepsFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), smallTree, dir); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(dir)
	if err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() {
		t.Errorf("before %v, after %v: %v", before, after, err)
	}
}

// A stepping context calls step each time it is asked whether it is done.
type stepping struct {
	context.Context
	step func() error
}

func (c stepping) Err() error { return c.step() }

// TestWriteInterrupted stops a write at each of its steps in turn.
func TestWriteInterrupted(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			for last := 0; ; last++ {
				dir := t.TempDir()
				place.make(t, dir)
				before := snapshot(t, dir)
				steps := 0
				ctx := stepping{t.Context(), func() error {
					if steps++; steps > last {
						return context.Canceled
					}
					return nil
				}}
				err := Write(ctx, smallTree, filepath.Join(dir, place.target))
				if err == nil {
					if last < len(smallTree)+1 {
						t.Errorf("done after %d steps: not all were interrupted", last)
					}
					return
				}
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("interrupted after %d steps: error %v", last, err)
				}
				if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
					t.Fatalf("interrupted after %d steps (-before +after):\n%s", last, diff)
				}
			}
		})
	}
}

// TestWriteUndone fails in the middle: once while staging, once while the last
// entry of an existing target is put in place.
func TestWriteUndone(t *testing.T) {
	t.Parallel()
	t.Run("staging", func(t *testing.T) {
		t.Parallel()
		tree := append(Tree{}, smallTree...)
		tree = append(tree, File{Path: strings.Repeat("x", 1000), Mode: 0o644})
		for _, place := range places {
			dir := t.TempDir()
			place.make(t, dir)
			before := snapshot(t, dir)
			if err := Write(t.Context(), tree, filepath.Join(dir, place.target)); err == nil {
				t.Errorf("%s: no error", place.name)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("%s (-before +after):\n%s", place.name, diff)
			}
		}
	})
	t.Run("placing", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		// Somebody else creates z.txt, the last to be placed, at the last moment.
		ctx := stepping{t.Context(), func() error {
			return os.WriteFile(filepath.Join(dir, "z.txt"), []byte("theirs\n"), 0o644)
		}}
		err := Write(ctx, smallTree, dir)
		if err == nil || !strings.Contains(err.Error(), `put "z.txt" in place: appeared`) {
			t.Errorf("error %v", err)
		}
		if diff := cmp.Diff(map[string]string{"z.txt": "0644 theirs\n"}, snapshot(t, dir)); diff != "" {
			t.Errorf("after (-want +got):\n%s", diff)
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		make func(t *testing.T, dir string)
		want string
	}{
		"a file": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "exists and is no folder"},
		"a link to a full folder": {func(t *testing.T, dir string) {
			mkdir(t, dir, "y/a")
			if err := os.Symlink("y", filepath.Join(dir, "x")); err != nil {
				t.Skip(err)
			}
		}, "not empty: a"},
		"a dangling link": {func(t *testing.T, dir string) {
			if err := os.Symlink("y", filepath.Join(dir, "x")); err != nil {
				t.Skip(err)
			}
		}, "exists and is no folder"},
		"a dangling link above": {func(t *testing.T, dir string) {
			if err := os.Symlink("nowhere/z", filepath.Join(dir, "y")); err != nil {
				t.Skip(err)
			}
			if err := os.Symlink("y/a", filepath.Join(dir, "x")); err != nil {
				t.Skip(err)
			}
		}, "exists and is no folder"},
		"a file beside .git": {func(t *testing.T, dir string) {
			mkdir(t, dir, "x/.git")
			mkdir(t, dir, "x/a")
		}, "not empty: a"},
		"many files": {func(t *testing.T, dir string) {
			for _, name := range "abcdefghijklm" {
				mkdir(t, dir, "x/"+string(name))
			}
		}, "not empty: a, b, c, d, e, f, g, h, i, j and 3 more"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			test.make(t, dir)
			before := snapshot(t, dir)
			err := Write(t.Context(), smallTree, filepath.Join(dir, "x"))
			if _, ok := errors.AsType[*InTheWayError](err); !ok || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
		})
	}
}

// A link that leads nowhere is in the way of all that would be below it, and so is
// a file.
func TestWriteBelowNoFolder(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(path string) error{
		"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		"file":          func(path string) error { return os.WriteFile(path, nil, 0o644) },
	} {
		dir := t.TempDir()
		if err := put(filepath.Join(dir, "x")); err != nil {
			t.Skip(err)
		}
		before := snapshot(t, dir)
		target := filepath.Join(dir, "x", "y", "z")
		for call, err := range map[string]error{"check": CheckTarget(target), "write": Write(t.Context(), smallTree, target)} {
			way, ok := errors.AsType[*InTheWayError](err)
			if !ok || way.Dir != filepath.Join(dir, "x") {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", name, diff)
		}
	}
}
