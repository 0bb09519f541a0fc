// Command lock writes the locks of every stack: the go.mod and go.sum that
// belong to each combination of choices that changes dependencies. Run it with
// go generate in the generator's folder after a change of templates.
//
// It renders every valid combination, lets go mod tidy say what each needs, and
// fails when two that share a lock need different ones. Versions stay as the
// present lock has them; a new lock takes them from its neighbours.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nullpool/nullpool/generator"
)

const templates = "../templates"

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "lock: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	stacks, err := generator.Load(os.DirFS(templates))
	if err != nil {
		return err
	}
	var errs []error
	for _, stack := range stacks {
		made := map[string]*lock{}
		for plan := range stack.Combinations("demo", "devel") {
			errs = append(errs, makeLock(ctx, plan, made))
		}
		for folder, l := range made {
			errs = append(errs, l.write(folder))
		}
	}
	return errors.Join(errs...)
}

// A lock is the content of a lock folder.
type lock struct{ mod, sum []byte }

// makeLock adds the plan's lock to made, or compares it with the one there.
func makeLock(ctx context.Context, plan *generator.Plan, made map[string]*lock) error {
	name := plan.Locks()
	if name == "" {
		return nil
	}
	folder := filepath.Join(templates, plan.Stack.Name, filepath.FromSlash(name))
	present, err := startingPoint(folder)
	if err != nil {
		return err
	}
	tidied, err := tidy(ctx, plan, present)
	if err != nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	if other, ok := made[folder]; ok && (!bytes.Equal(other.mod, tidied.mod) || !bytes.Equal(other.sum, tidied.sum)) {
		answers, _ := plan.AnswersFile()
		return fmt.Errorf("lock %s: another combination that shares it needs something else than\n%s", name, answers)
	}
	made[folder] = tidied
	return nil
}

// startingPoint returns the lock in folder, or else in a folder beside it, so
// that a new combination starts from the versions of the others.
func startingPoint(folder string) (*lock, error) {
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(folder), "*"))
	if err != nil {
		return nil, err
	}
	for _, candidate := range append([]string{folder}, beside...) {
		mod, modErr := os.ReadFile(filepath.Join(candidate, "go.mod.tmpl"))
		sum, sumErr := os.ReadFile(filepath.Join(candidate, "go.sum.tmpl"))
		if modErr == nil && (sumErr == nil || errors.Is(sumErr, fs.ErrNotExist)) {
			return &lock{mod, sum}, nil
		}
	}
	return nil, fmt.Errorf("lock folder %s: write a first go.mod.tmpl there", folder)
}

// tidy renders the plan with the given lock in a temporary folder and returns
// the lock as go mod tidy leaves it.
func tidy(ctx context.Context, plan *generator.Plan, present *lock) (tidied *lock, err error) {
	dir, err := os.MkdirTemp("", "nullpool-lock-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	tree, err := generator.Generate(plan.WithoutLocks())
	if err != nil {
		return nil, err
	}
	if err := generator.Write(ctx, tree, dir); err != nil {
		return nil, err
	}
	modPath, sumPath := filepath.Join(dir, "go.mod"), filepath.Join(dir, "go.sum")
	module := plan.Answers["module"].Values[0]
	mod := bytes.ReplaceAll(present.mod, []byte("{{.Module}}"), []byte(module))
	if err := errors.Join(os.WriteFile(modPath, mod, 0o644), os.WriteFile(sumPath, present.sum, 0o644)); err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, "go", "mod", "tidy")
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go mod tidy: %w\n%s", err, out)
	}
	mod, err = os.ReadFile(modPath)
	if err != nil {
		return nil, err
	}
	sum, err := os.ReadFile(sumPath) // tidy makes none for a module without dependencies
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	mod = []byte(strings.Replace(string(mod), "module "+module+"\n", "module {{.Module}}\n", 1))
	return &lock{mod, sum}, nil
}

func (l *lock) write(folder string) error {
	return errors.Join(
		os.MkdirAll(folder, 0o755),
		os.WriteFile(filepath.Join(folder, "go.mod.tmpl"), l.mod, 0o644),
		os.WriteFile(filepath.Join(folder, "go.sum.tmpl"), l.sum, 0o644),
	)
}
