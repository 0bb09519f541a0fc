package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// A File is one file of a project.
type File struct {
	Path  string      // slash-separated, relative to the project
	Mode  fs.FileMode // 0o644, or 0o755 for a script
	Data  []byte
	Layer string // the name of the layer that owns it
}

// A Tree is all files of a project, sorted by path.
type Tree []File

// newTree sorts files into a tree. Two files in one place are an error, because
// layers never override each other; so is a path that some file system refuses
// or, ignoring case, takes for another.
func newTree(files []File) (Tree, error) {
	tree := Tree(slices.Clone(files))
	slices.SortFunc(tree, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var errs []error
	owners := map[string]string{}
	for _, file := range tree {
		key := strings.ToLower(file.Path)
		if err := module.CheckFilePath(file.Path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file.Layer, err))
		}
		if owner, ok := owners[key]; ok {
			errs = append(errs, fmt.Errorf("path %q: rendered by both %s and %s", file.Path, owner, file.Layer))
		}
		owners[key] = file.Layer
	}
	for _, file := range tree {
		for dir := path.Dir(strings.ToLower(file.Path)); dir != "."; dir = path.Dir(dir) {
			if owner, ok := owners[dir]; ok {
				errs = append(errs, fmt.Errorf("path %q: %s has a file where %s needs a folder", dir, owner, file.Layer))
			}
		}
	}
	return tree, errors.Join(errs...)
}
