package generator

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A faulty folder fails, or panics, at one of its calls. Removing what was staged
// is left alone: where that fails nothing can be done.
type faulty struct {
	rootFolder
	left  int // calls that still succeed
	fault func() error
}

func (f *faulty) next() error {
	if f.left--; f.left == -1 {
		return f.fault()
	}
	return nil
}

func (f *faulty) Mkdir(name string, mode fs.FileMode) error {
	return errors.Join(f.next(), ignoreAfter(f, func() error { return f.rootFolder.Mkdir(name, mode) }))
}

func (f *faulty) MkdirAll(name string, mode fs.FileMode) error {
	return errors.Join(f.next(), ignoreAfter(f, func() error { return f.rootFolder.MkdirAll(name, mode) }))
}

// WriteFile leaves half of a file, as a full disk does.
func (f *faulty) WriteFile(name string, data []byte, mode fs.FileMode) error {
	if err := f.next(); err != nil {
		return errors.Join(err, f.rootFolder.WriteFile(name, data[:len(data)/2], mode))
	}
	return f.rootFolder.WriteFile(name, data, mode)
}

func (f *faulty) Lstat(name string) (fs.FileInfo, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	return f.rootFolder.Lstat(name)
}

func (f *faulty) Rename(from, to string) error {
	return errors.Join(f.next(), ignoreAfter(f, func() error { return f.rootFolder.Rename(from, to) }))
}

// ignoreAfter makes a call unless it is the one that fails.
func ignoreAfter(f *faulty, call func() error) error {
	if f.left == -1 {
		return nil
	}
	return call()
}

// TestWriteFaults fails at each call of the file system in turn, by an error and
// by a panic, and wants the disk as it was.
func TestWriteFaults(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, fault := range map[string]func() error{
		"error": func() error { return broken },
		"panic": func() error { panic(broken) },
	} {
		for _, place := range places {
			t.Run(name+"/"+place.name, func(t *testing.T) {
				t.Parallel()
				for n := 0; ; n++ {
					dir := t.TempDir()
					place.make(t, dir)
					before := snapshot(t, dir)
					if writeFaulty(t, filepath.Join(dir, place.target), n, fault) == nil {
						if n < 10 {
							t.Errorf("done with a fault at call %d", n)
						}
						return
					}
					if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
						t.Fatalf("a fault at call %d (-before +after):\n%s", n, diff)
					}
				}
			})
		}
	}
}

// writeFaulty writes with a fault at call n, and returns the error or the panic.
func writeFaulty(t *testing.T, dir string, n int, fault func() error) (err error) {
	t.Helper()
	anchor, below, err := findAnchor(dir)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(anchor)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	defer func() {
		if value, ok := recover().(error); ok {
			err = value
		}
	}()
	return writeBelow(context.Background(), &faulty{root, n, fault}, below, smallTree)
}
