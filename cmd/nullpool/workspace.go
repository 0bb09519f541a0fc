package main

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/modfile"

	"github.com/nullpool/nullpool/generator"
)

// next returns the commands that come next, to be run in the project's folder.
func (p *project) next() []string {
	if p.outsideWorkspace() {
		return slices.Concat([]string{"go work use ."}, p.plan.Next())
	}
	return p.plan.Next()
}

// outsideWorkspace reports whether the project is a Go module where a go.work file is in
// force that does not list it: the go command then takes its packages for nobody's.
func (p *project) outsideWorkspace() bool {
	dir, err := filepath.Abs(p.dir)
	file := workspaceOf(dir)
	isModule := slices.ContainsFunc(p.tree, func(f generator.File) bool { return f.Path == "go.mod" })
	if err != nil || file == "" || !isModule {
		return false
	}
	var work *modfile.WorkFile
	data, err := os.ReadFile(file)
	if err == nil {
		work, err = modfile.ParseWork(file, data, nil)
	}
	if err != nil {
		return false // the go command says it better
	}
	return !slices.ContainsFunc(work.Use, func(use *modfile.Use) bool {
		listed := filepath.FromSlash(use.Path)
		if !filepath.IsAbs(listed) {
			listed = filepath.Join(filepath.Dir(file), listed)
		}
		one, err1 := os.Stat(listed)
		other, err2 := os.Stat(dir)
		return filepath.Clean(listed) == dir || err1 == nil && err2 == nil && os.SameFile(one, other)
	})
}

// workspaceOf returns the go.work file that the go command finds from dir, or "".
func workspaceOf(dir string) string {
	switch file := os.Getenv("GOWORK"); file {
	case "":
	case "off":
		return ""
	default:
		return file
	}
	for above := ""; dir != above; dir, above = filepath.Dir(dir), dir {
		file := filepath.Join(dir, "go.work")
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file
		}
	}
	return ""
}
