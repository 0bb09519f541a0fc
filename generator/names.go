package generator

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// A textFormat is a rule for text that an option names in stack.json.
type textFormat struct {
	check  func(text string) error
	better func(text string) string // the answer that text was most likely meant for
}

var formats = map[string]textFormat{
	"":             {func(string) error { return nil }, func(text string) string { return text }},
	"project-name": {checkName, kebab},
	"go-module":    {checkModule, betterModule},
}

// check returns what is wrong with a text as an answer, and a better one.
func (o Option) check(text string) (better string, err error) {
	if err = o.accept(text); err == nil {
		return "", nil
	}
	better = formats[o.Format].better(text)
	if o.accept(better) != nil { // it is well formed, but has a meaning of its own
		better += "-service"
	}
	return better, err
}

func (o Option) accept(text string) error {
	if err := formats[o.Format].check(text); err != nil {
		return err
	}
	word, _, _ := strings.Cut(text, "/")
	for _, refusal := range o.Refuse {
		if slices.Contains(refusal.Words, word) {
			return errors.New(strings.ReplaceAll(refusal.Because, "WORD", word))
		}
	}
	return nil
}

var projectName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkName accepts what can be a folder, a command, a DNS label and a word in
// any file of a project, on every operating system.
func checkName(name string) error {
	if !projectName.MatchString(name) {
		return errors.New("want at most 63 of a-z, 0-9 and -, first a letter, last no -")
	}
	if module.CheckImportPath(name) != nil {
		return errors.New("reserved on Windows") // a device's name, such as con
	}
	return nil
}

// kebab returns the project name nearest to the last element of a path, or to text.
func kebab(text string) string {
	text = text[strings.LastIndexAny(text, `/\`)+1:]
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	name := strings.TrimLeft(strings.Join(words, "-"), "0123456789-")
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-")
	}
	if name == "" {
		return "demo"
	}
	return name
}

// checkModule accepts what the go command takes as the path of a main module
// whose packages import each other.
func checkModule(path string) error {
	if repositoryURL.MatchString(path) {
		return errors.New("the address of a repository, and no path")
	}
	if strings.HasPrefix(path, ".") || strings.HasPrefix(path, "~") {
		return errors.New("the go command cannot link or import a path that begins so")
	}
	if err := module.CheckImportPath(path); err != nil {
		// The wrapper repeats the path, which the caller quotes already.
		if invalid, ok := errors.AsType[*module.InvalidPathError](err); ok {
			err = invalid.Err
		}
		return fmt.Errorf("malformed: %w", err)
	}
	if slices.Contains(strings.Split(path, "/"), "vendor") {
		return errors.New("the go command imports nothing from below vendor")
	}
	return nil
}

// repositoryURL matches how git is told of a repository: a URL, or user@host:path.
var repositoryURL = regexp.MustCompile(`^(?:(?i:[a-z+]+://)(?:[^/@]*@)?([^/:]+)(?::\d+)?/|[^/@:]+@([^/:]+):)([^?#]*).*$`)

// betterModule returns the path that a repository's address stands for, or an
// example of one that ends as path does.
func betterModule(path string) string {
	if match := repositoryURL.FindStringSubmatch(path); match != nil {
		repository := match[1] + match[2] + "/" + strings.Trim(strings.TrimSuffix(strings.Trim(match[3], "/"), ".git"), "/")
		if checkModule(repository) == nil {
			return repository
		}
	}
	if trimmed := strings.TrimRight(path, "/"); strings.Contains(trimmed, "/") && checkModule(trimmed) == nil {
		return trimmed
	}
	return "example.com/" + kebab(path)
}
