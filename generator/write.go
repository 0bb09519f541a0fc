package generator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// An InTheWayError says that a project cannot be written to Dir because of what
// is there already.
type InTheWayError struct {
	Dir   string
	Names []string // entries of Dir, sorted; none when Dir is no folder
}

func (e *InTheWayError) Error() string {
	const most = 10
	switch {
	case len(e.Names) == 0:
		return fmt.Sprintf("target %q: exists and is no folder", e.Dir)
	case len(e.Names) > most:
		return fmt.Sprintf("target %q: not empty: %s and %d more", e.Dir, strings.Join(e.Names[:most], ", "), len(e.Names)-most)
	}
	return fmt.Sprintf("target %q: not empty: %s", e.Dir, strings.Join(e.Names, ", "))
}

// aside are what may be in a target: a repository, and what systems leave in folders.
var aside = []string{".git", ".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"}

// CheckTarget returns nil if Write would accept dir: it does not exist, or is a
// folder, or a link to one, that holds nothing but what a project leaves aside, such
// as .git. Otherwise the error is an *InTheWayError, or says why dir cannot be looked at.
func CheckTarget(dir string) error {
	dir = filepath.Clean(dir) // as it is written to: "missing/../x" is x
	info, err := os.Stat(dir)
	if isAbsent(err) {
		if _, err := os.Lstat(dir); err == nil { // a link that leads nowhere
			return &InTheWayError{Dir: dir}
		}
		_, _, err := findAnchor(dir)
		return err
	}
	if err != nil {
		return fmt.Errorf("look at target: %w", err)
	}
	if !info.IsDir() {
		return &InTheWayError{Dir: dir}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into target: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if !slices.Contains(aside, entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	if len(names) > 0 {
		return &InTheWayError{Dir: dir, Names: names}
	}
	return nil
}

// Write puts the tree into dir, wholly or not at all. The files are staged on
// the same file system, next to a new dir or inside one that CheckTarget
// accepts, and then renamed into place. On an error, which may be ctx's, the
// disk is as it was before.
func Write(ctx context.Context, tree Tree, dir string) (err error) {
	if err := CheckTarget(dir); err != nil {
		return err
	}
	anchor, below, err := findAnchor(dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(anchor)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := writeBelow(ctx, root, below, tree); err != nil {
		return fmt.Errorf("write to %q: %w", anchor, err)
	}
	return nil
}

// rootFolder is what writing needs of an os.Root.
type rootFolder interface {
	Mkdir(name string, mode fs.FileMode) error
	MkdirAll(name string, mode fs.FileMode) error
	WriteFile(name string, data []byte, mode fs.FileMode) error
	Lstat(name string) (fs.FileInfo, error)
	Rename(from, to string) error
	RemoveAll(name string) error
}

func writeBelow(ctx context.Context, root rootFolder, below string, tree Tree) (err error) {
	stage := ".nullpool-" + strings.ToLower(rand.Text()[:10])
	if err := root.Mkdir(stage, 0o777); err != nil {
		return fmt.Errorf("create a folder to stage in: %w", err)
	}
	// In the end the staging folder is empty, or has itself been renamed.
	defer func() { err = errors.Join(err, root.RemoveAll(stage)) }()

	if err := writeFiles(ctx, root, path.Join(stage, below), tree); err != nil {
		return err
	}
	return place(ctx, root, moves(stage, below, tree))
}

// findAnchor returns the folder to stage in: dir if it exists, else the nearest
// one above that does. Below is the path from there to dir, or "". The error is an
// *InTheWayError where a symbolic link leads nowhere, or a file is where a folder
// would have to be.
func findAnchor(dir string) (anchor, below string, err error) {
	anchor, err = filepath.Abs(dir)
	for err == nil {
		info, err := os.Stat(anchor)
		if err == nil && !info.IsDir() {
			return "", "", &InTheWayError{Dir: anchor}
		}
		if !isAbsent(err) || anchor == filepath.Dir(anchor) {
			break
		}
		if _, err := os.Lstat(anchor); err == nil {
			return "", "", &InTheWayError{Dir: anchor}
		}
		below = path.Join(filepath.Base(anchor), below)
		anchor = filepath.Dir(anchor)
	}
	return anchor, below, err
}

// isAbsent reports whether err says that nothing is there. ENOTDIR says so, too: of
// a path that leads through a file.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func writeFiles(ctx context.Context, root rootFolder, dir string, tree Tree) error {
	if err := root.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	made := dir
	for _, file := range tree {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(dir, file.Path)
		if parent := path.Dir(name); parent != made { // most files lie beside the one before
			if err := root.MkdirAll(parent, 0o777); err != nil {
				return fmt.Errorf("create folder: %w", err)
			}
			made = parent
		}
		if err := root.WriteFile(name, file.Data, file.Mode); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	return nil
}

// A move is a rename within the anchor.
type move struct{ from, to string }

// moves returns the renames that put a staged tree into place: one for a new
// target, one for each top entry of the tree for a target that exists.
func moves(stage, below string, tree Tree) []move {
	if below != "" {
		top, _, _ := strings.Cut(below, "/")
		return []move{{path.Join(stage, top), top}}
	}
	var all []move
	for _, file := range tree {
		top, _, _ := strings.Cut(file.Path, "/")
		if next := (move{path.Join(stage, top), top}); !slices.Contains(all, next) {
			all = append(all, next)
		}
	}
	return all
}

// place makes all the moves, or undoes those it made.
func place(ctx context.Context, root rootFolder, all []move) (err error) {
	var made []move
	defer func() {
		if len(made) == len(all) {
			return // else an error, or a panic
		}
		for _, m := range slices.Backward(made) {
			err = errors.Join(err, root.Rename(m.to, m.from))
		}
	}()
	for _, m := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A rename replaces a file, and this one may be younger than CheckTarget.
		if _, err := root.Lstat(m.to); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put %q in place: appeared while the project was written", m.to)
		}
		if err := root.Rename(m.from, m.to); err != nil {
			return fmt.Errorf("put %q in place: %w", m.to, err)
		}
		made = append(made, m)
	}
	return nil
}
