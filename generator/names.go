package generator

import (
	"cmp"
	"errors"
	"fmt"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// goModule is the format of a Go module's path.
const goModule = "go-module"

// formats are the rules that a text option names in stack.json. Each returns
// what is wrong with an answer, and a better one where it can think of one.
var formats = map[string]func(value string) (better string, err error){
	"":             func(string) (string, error) { return "", nil },
	"project-name": checkName,
	goModule:       checkModule,
}

var projectName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// unfitNames mean something else to the go command when a folder has them.
var unfitNames = []string{"internal", "testdata", "vendor"}

// checkName accepts what can be a folder, a command, a DNS label and a word in
// any file of a project, on every operating system.
func checkName(name string) (string, error) {
	switch {
	case !projectName.MatchString(name):
		return kebab(name[strings.LastIndexAny(name, `/\`)+1:]), errors.New("want at most 63 of a-z, 0-9 and -, first a letter, last no -")
	case token.IsKeyword(name):
		return name + "-service", errors.New("a Go keyword")
	case types.Universe.Lookup(name) != nil:
		return name + "-service", errors.New("a predeclared identifier of Go")
	case slices.Contains(unfitNames, name):
		return name + "-service", errors.New("the go command gives such a folder a meaning of its own")
	}
	if err := module.CheckImportPath(name); err != nil {
		// The pattern leaves only names that Windows keeps for devices, such as con.
		return name + "-service", errors.New("reserved on Windows")
	}
	return "", nil
}

// checkModule accepts what the go command takes as the path of a main module
// whose packages import each other.
func checkModule(path string) (string, error) {
	better := "example.com/" + kebab(path[strings.LastIndex(path, "/")+1:])
	if match := repositoryURL.FindStringSubmatch(path); match != nil {
		return cmp.Or(pathOfRepository(match), better), errors.New("the address of a repository, and no path")
	}
	if strings.HasPrefix(path, ".") || strings.HasPrefix(path, "~") {
		return better, errors.New("the go command cannot link or import a path that begins so")
	}
	if err := module.CheckImportPath(path); err != nil {
		reason := err
		// The wrapper repeats the path, which the caller quotes already.
		if invalid, ok := errors.AsType[*module.InvalidPathError](err); ok {
			reason = invalid.Err
		}
		return better, fmt.Errorf("malformed: %w", reason)
	}
	if slices.Contains(strings.Split(path, "/"), "vendor") {
		return better, errors.New("the go command imports nothing from below vendor")
	}
	if first, _, _ := strings.Cut(path, "/"); slices.Contains(standardLibrary, first) {
		return better, errors.New("the standard library has packages below " + first)
	}
	return "", nil
}

// repositoryURL matches how git is told of a repository: a URL, or user@host:path.
var repositoryURL = regexp.MustCompile(`^(?:[a-z+]+://(?:[^/@]*@)?([^/:]+)(?::\d+)?/|[^/@:]+@([^/:]+):)(.*)$`)

// pathOfRepository returns the module path that a repository's address stands for, ""
// where there is none.
func pathOfRepository(match []string) string {
	path := match[1] + match[2] + "/" + strings.Trim(strings.TrimSuffix(strings.Trim(match[3], "/"), ".git"), "/")
	if _, err := checkModule(path); err != nil {
		return ""
	}
	return path
}

// standardLibrary are the first elements of its packages' paths, and of the go
// command's own: a package of the same path would never be imported.
var standardLibrary = strings.Fields("all archive bufio builtin bytes cmd cmp compress container context crypto " +
	"database debug embed encoding errors expvar flag fmt go hash html image index internal io iter log main maps " +
	"math mime net os path plugin reflect regexp runtime slices sort std strconv strings structs sync syscall " +
	"testing text time tool unicode unique unsafe vendor weak")

// kebab returns the project name nearest to text.
func kebab(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	name := strings.TrimLeft(strings.Join(words, "-"), "0123456789-")
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-")
	}
	if !projectName.MatchString(name) {
		return "demo"
	}
	if better, err := checkName(name); err != nil {
		return better
	}
	return name
}
