package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nullpool/nullpool/generator"
)

// pin writes the parts of a stack whose dependencies are pinned with hashes, for pip.
func pin(ctx context.Context, stack *generator.Stack) error {
	layers, err := stack.Imports()
	if err != nil {
		return err
	}
	var all, present []string
	for _, l := range layers {
		all = append(all, l.Code...)
		text, _ := os.ReadFile(filepath.Join(folderOf(stack, l), "lock.txt")) // it may not be there yet
		present = append(present, entries(text)...)
	}
	present = slices.DeleteFunc(present, func(entry string) bool { // what is left stays as it is
		name, _, _ := strings.Cut(entry, "==")
		for module := range stack.Modules {
			if bare, _, _ := strings.Cut(module, "["); bare == name {
				return true
			}
		}
		return false
	})
	everything, err := compile(ctx, stack, all, present)
	if err != nil {
		return err
	}
	var base []string
	var errs []error
	for i, l := range layers {
		whole, err := compile(ctx, stack, slices.Concat(layers[0].Code, l.Code), everything)
		if i == 0 {
			base = whole
		} else {
			whole = slices.DeleteFunc(whole, func(entry string) bool { return slices.Contains(base, entry) })
		}
		if err == nil {
			err = placePins(l, filepath.Join(folderOf(stack, l), "lock.txt"), whole)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("layer %q: %w", l.Layer, err))
		}
	}
	return errors.Join(errs...)
}

// placePins writes a layer's part, or removes it where that is nothing.
func placePins(l generator.LayerImports, path string, part []string) error {
	switch {
	case len(part) == 0:
		return os.RemoveAll(path)
	case l.Choice && !l.Locks:
		return errors.New(`changes dependencies: say "locks": true in stack.json`)
	}
	return os.WriteFile(path, []byte(strings.Join(part, "")), 0o644)
}

// compile returns what the stack's program pins for the names, an entry each: at the
// versions of stack.json, and of other entries.
func compile(ctx context.Context, stack *generator.Stack, names, others []string) (pinned []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	var asked, constraints []string
	for _, entry := range others {
		constraints = append(constraints, requirement(entry))
	}
	for _, name := range names {
		version, ok := stack.Modules[name]
		if !ok {
			return nil, fmt.Errorf("add %q with its version to \"modules\" of stack.json", name)
		}
		asked = append(asked, name+"=="+version)
	}
	dir, err := os.MkdirTemp("", "nullpool-lock-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for name, lines := range map[string][]string{"lock.in": asked, "constraints.txt": constraints} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	words := strings.Fields(stack.Lock.Make)
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	var said bytes.Buffer
	command.Dir, command.Stderr = dir, &said
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", words[0], err, &said)
	}
	return entries(out), nil
}

// entries returns the entries of a lock: each a line and the indented ones below it.
func entries(lock []byte) (all []string) {
	for line := range strings.Lines(string(lock)) {
		if strings.HasPrefix(line, " ") {
			all[len(all)-1] += line
		} else {
			all = append(all, line)
		}
	}
	return all
}

// requirement returns an entry without its hashes.
func requirement(entry string) string {
	line, _, _ := strings.Cut(entry, " \\\n")
	return line
}
