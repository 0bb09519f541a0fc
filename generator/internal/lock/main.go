// Command lock makes the parts from which every project's lock is put together: lock.mod
// and lock.sum, or lock.txt, in the folder of each layer that changes what projects
// depend on. Run it with go generate in the generator's folder after a change of
// templates, or of a version in stack.json.
//
// What one layer imports, and its tests, becomes a module of its own that go mod
// tidy completes. First all layers together are one module, so that every part has
// the same version of a module: that of stack.json, or what these ask for. What is
// pinned for pip is made in the same order, by the program that stack.json names.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/nullpool/nullpool/generator"
)

const (
	templates = "../templates"
	goVersion = "1.26.0" // that every project asks for: goose does
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "lock: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	stacks, err := generator.Load(os.DirFS(templates))
	if stacks == nil { // else what is wrong is what this program mends
		return err
	}
	for _, stack := range stacks {
		if len(stack.Modules) == 0 {
			continue
		}
		write := lock
		if stack.Lock.Make != "" {
			write = pin
		}
		if err := write(ctx, stack); err != nil {
			return fmt.Errorf("stack %q: %w", stack.Name, err)
		}
	}
	return nil
}

func folderOf(stack *generator.Stack, l generator.LayerImports) string {
	return filepath.Join(templates, stack.Name, filepath.FromSlash(l.Folder))
}

// lock writes the parts of a stack whose projects are Go modules.
func lock(ctx context.Context, stack *generator.Stack) error {
	layers, err := stack.Imports()
	if err != nil {
		return err
	}
	folder := func(l generator.LayerImports) string { return folderOf(stack, l) }
	versions := map[string]string{} // of the present parts, so that they stay as they are
	for _, l := range layers {
		present, err := readPart(filepath.Join(folder(l), "lock.mod"), filepath.Join(folder(l), "lock.sum"))
		if err != nil {
			return err
		}
		maps.Copy(versions, present.versions)
	}
	maps.Copy(versions, stack.Modules)
	everything, err := makePart(ctx, layers, versions)
	if err != nil {
		return err
	}
	if err := everything.undeclared(stack.Modules); err != nil {
		return err
	}
	base, err := makePart(ctx, layers[:1], everything.versions)
	if err != nil {
		return err
	}
	errs := []error{base.write(folder(layers[0]), part{}, "go "+goVersion+"\n\n")}
	for _, l := range layers[1:] {
		whole, err := makePart(ctx, []generator.LayerImports{layers[0], l}, everything.versions)
		if err == nil {
			err = whole.place(l, folder(l), base)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("layer %q: %w", l.Layer, err))
		}
	}
	return errors.Join(errs...)
}

// place writes what a layer's part has beside base's, or removes it where that is
// nothing.
func (p part) place(l generator.LayerImports, folder string, base part) error {
	differs := !slices.Equal(p.requirements(), base.requirements()) || p.sum != base.sum
	switch {
	case l.Locks || !l.Choice && differs:
		return p.write(folder, base, "")
	case differs:
		return errors.New(`changes dependencies: say "locks": true in stack.json`)
	}
	return errors.Join(os.RemoveAll(filepath.Join(folder, "lock.mod")), os.RemoveAll(filepath.Join(folder, "lock.sum")))
}

// A part is what go.mod requires, and go.sum.
type part struct {
	versions map[string]string // by module path
	direct   map[string]bool
	sum      string
}

// readPart returns the part of a go.mod and a go.sum, or an empty one where there is
// no such go.mod.
func readPart(mod, sum string) (part, error) {
	p := part{versions: map[string]string{}, direct: map[string]bool{}}
	data, err := os.ReadFile(mod)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	parsed, err := modfile.Parse(mod, data, nil)
	if err != nil {
		return p, err
	}
	for _, require := range parsed.Require {
		p.versions[require.Mod.Path], p.direct[require.Mod.Path] = require.Mod.Version, !require.Indirect
	}
	data, err = os.ReadFile(sum)
	if errors.Is(err, os.ErrNotExist) { // nothing is imported
		err = nil
	}
	p.sum = string(data)
	return p, err
}

// requirements returns the part's lines of go.mod.
func (p part) requirements() (lines []string) {
	for _, path := range slices.Sorted(maps.Keys(p.versions)) {
		mark := " // indirect"
		if p.direct[path] {
			mark = ""
		}
		lines = append(lines, "require "+path+" "+p.versions[path]+mark)
	}
	return lines
}

// makePart returns what the layers' imports need, at these versions where they are
// named. It tidies twice: from what the packages' modules ask for, to learn which
// modules there are, and then with the versions. A module that is named at first
// and not needed would leave its traces.
func makePart(ctx context.Context, layers []generator.LayerImports, versions map[string]string) (part, error) {
	p := part{versions: map[string]string{}, direct: map[string]bool{}}
	var code, tests []string
	for _, l := range layers {
		code, tests = append(code, l.Code...), append(tests, l.Tests...)
	}
	for _, name := range slices.Concat(code, tests) {
		for path, version := range versions {
			if name == path || strings.HasPrefix(name, path+"/") {
				p.versions[path], p.direct[path] = version, true
			}
		}
	}
	for range 2 {
		var err error
		if p, err = p.tidy(ctx, source(code), source(tests)); err != nil {
			return part{}, err
		}
		for path := range p.versions {
			p.versions[path] = cmp.Or(versions[path], p.versions[path])
		}
	}
	return p, nil
}

// undeclared wants a version in stack.json of each module that a layer imports.
func (p part) undeclared(modules map[string]string) error {
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(p.direct)) {
		if _, ok := modules[path]; !ok && p.direct[path] {
			errs = append(errs, fmt.Errorf("add to \"modules\" of stack.json: %q: %q", path, p.versions[path]))
		}
	}
	return errors.Join(errs...)
}

// tidy returns the part that go mod tidy makes of a package and its tests.
func (p part) tidy(ctx context.Context, code, tests string) (tidied part, err error) {
	dir, err := os.MkdirTemp("", "nullpool-lock-")
	if err != nil {
		return part{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const header = "module lock\n\ngo " + goVersion + "\n"
	for name, text := range map[string]string{
		"go.mod": header + strings.Join(p.requirements(), "\n"), "go.sum": p.sum, "lock.go": code, "lock_test.go": tests,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return part{}, err
		}
	}
	command := exec.CommandContext(ctx, "go", "mod", "tidy")
	command.Dir, command.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := command.CombinedOutput(); err != nil {
		return part{}, fmt.Errorf("go mod tidy: %w\n%s", err, out)
	}
	tidied, err = readPart(filepath.Join(dir, "go.mod"), filepath.Join(dir, "go.sum"))
	if mod, readErr := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && !strings.HasPrefix(string(mod), header) {
		err = errors.Join(fmt.Errorf("it wants more than Go %s", goVersion), readErr)
	}
	return tidied, err
}

// source returns a file that imports these packages.
func source(packages []string) string {
	var out strings.Builder
	out.WriteString("package lock\n")
	for _, name := range slices.Compact(slices.Sorted(slices.Values(packages))) {
		fmt.Fprintf(&out, "import _ %q\n", name)
	}
	return out.String()
}

// write writes what the part has beside base's. A line of go.sum that base has and
// the part does not, since it takes a newer version, is written with a minus.
func (p part) write(folder string, base part, header string) error {
	of := func(lines, others []string, mark string) string {
		var out strings.Builder
		for _, line := range lines {
			if line != "" && !slices.Contains(others, line) {
				out.WriteString(mark + line + "\n")
			}
		}
		return out.String()
	}
	sums, baseSums := strings.Split(p.sum, "\n"), strings.Split(base.sum, "\n")
	return errors.Join(
		os.WriteFile(filepath.Join(folder, "lock.mod"), []byte(header+of(p.requirements(), base.requirements(), "")), 0o644),
		os.WriteFile(filepath.Join(folder, "lock.sum"), []byte(of(sums, baseSums, "")+of(baseSums, sums, "- ")), 0o644),
	)
}
