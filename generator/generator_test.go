package generator

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nullpool/nullpool/templates"
)

// testVersion stands in the goldens, so that they change with the templates
// alone.
const testVersion = "v0.0.0-golden"

// goStack returns the stack that is shipped.
func goStack(t testing.TB) *Stack {
	t.Helper()
	stacks, err := Load(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, stack := range stacks {
		if stack.Name == "go" {
			return stack
		}
	}
	t.Fatal("no stack called go")
	return nil
}

// realStacks returns the stacks that are shipped.
func realStacks(t testing.TB) []*Stack {
	t.Helper()
	stacks, err := Load(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	return stacks
}

// menu is a made-up stack: it shares no word with the real one, so whatever
// works on it comes from its files alone.
func menu() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"menu/stack.json": file(`{
			"title": "A dinner",
			"next": ["eat NAME"],
			"options": [
				{"name": "name", "format": "project-name", "example": "supper"},
				{"name": "table-cloth", "default": "linen for NAME"},
				{"name": "main", "choices": [
					{"name": "fish"},
					{"name": "roast", "conflicts": ["side/ice-cream"]}
				]},
				{"name": "side", "many": true, "without": "no", "choices": [
					{"name": "rice", "default": true},
					{"name": "ice-cream"},
					{"name": "sauce", "requires": ["main/roast"]}
				]}
			]
		}`),
		"menu/base/plain.txt":                     file("as it is\n"),
		"menu/base/dishes/{{.Name}}.txt.tmpl":     file("{{.Name}} on {{.TableCloth}}\n{{- slot \"dishes\" .}}\nend\n"),
		"menu/base/serve.sh.tmpl":                 file("#!/bin/sh\necho {{.Version}}{{if .Side.IceCream}} quick{{end}}\n"),
		"menu/options/main/fish/shopping.txt":     file("a fish\n"),
		"menu/options/main/roast/shopping.txt":    file("a joint\n"),
		"menu/options/main/fish/slots.tmpl":       file("{{define \"dishes\"}}\nfish for {{.Name}}\n{{end}}\n"),
		"menu/options/main/roast/slots.tmpl":      file("{{/* nothing yet */}}\n"),
		"menu/options/side/rice/rice.yaml":        file("grains: many\n"),
		"menu/options/side/rice/slots.tmpl":       file("{{define \"dishes\"}}\n\nrice\n{{end}}\n"),
		"menu/options/side/ice-cream/slots.tmpl":  file("{{define \"dishes\"}}\nice cream\n{{end}}\n"),
		"menu/options/side/sauce/sauce/recipe.go": file("package   sauce\n"),
	}
}

func menuStack(t testing.TB) *Stack {
	t.Helper()
	stacks, err := Load(menu())
	if err != nil {
		t.Fatal(err)
	}
	return stacks[0]
}

// answers makes answers of "option=value" and "option=value,value".
func answers(pairs ...string) Answers {
	all := Answers{}
	for _, pair := range pairs {
		option, text, _ := strings.Cut(pair, "=")
		values := strings.Split(text, ",")
		if text == "" {
			values = []string{}
		}
		all[option] = Answer{Values: values, Origin: FromFlag}
	}
	return all
}

// generate returns the tree for a plan and fails the test where there is none.
func generate(t testing.TB, stack *Stack, given Answers) Tree {
	t.Helper()
	plan, err := NewPlan(stack, given, testVersion)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Generate(plan)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// written generates a project into a new folder and returns the folder.
func written(t *testing.T, tree Tree) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "project")
	if err := Write(t.Context(), tree, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// goTool runs the go command in dir and fails the test where it fails.
func goTool(t *testing.T, dir string, env []string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Dir = dir
	command.Env = append(os.Environ(), env...)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// messages returns the lines of a joined error.
func messages(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// mustBeAnswerErrors fails the test unless each joined error is one, because
// the command line turns these into its exit status and hints.
func mustBeAnswerErrors(t *testing.T, err error) {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if _, ok := errors.AsType[*AnswerError](err); !ok {
			t.Errorf("error %v: not an AnswerError", err)
		}
		return
	}
	for _, err := range joined.Unwrap() {
		mustBeAnswerErrors(t, err)
	}
}
