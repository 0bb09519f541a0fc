package main

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/modfile"
)

const (
	modulePath  = "github.com/nullpool/nullpool"
	programPath = "cmd/nullpool" // below the module's
)

// goRunFolder matches where go run leaves a program: in a folder to work in, or,
// when it ran this one before, in the build cache.
var goRunFolder = regexp.MustCompile(`(^|/)(go-build\d+/b\d+/exe|[0-9a-f]{2}/[0-9a-f]{64}-d)$`)

// programWords returns what starts this program again as its reader did, in the
// same folder: what was typed, or a go run of the version or the clone.
func programWords(executable, typed, folder string, module debug.Module) string {
	if !goRunFolder.MatchString(filepath.ToSlash(filepath.Dir(executable))) {
		return quote(cmp.Or(typed, "nullpool"))
	}
	if released(module) {
		return "go run " + modulePath + "/" + programPath + "@" + module.Version
	}
	for dir, above := folder, ""; dir != above; dir, above = filepath.Dir(dir), dir {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil || modfile.ModulePath(data) != modulePath {
			continue
		}
		if path, err := filepath.Rel(folder, filepath.Join(dir, programPath)); err == nil {
			return "go run " + quote(localPath(path))
		}
	}
	return "go run " + modulePath + "/" + programPath
}

// localPath returns a relative path as the go command tells one from a package's.
func localPath(path string) string {
	path = filepath.ToSlash(path)
	if path == "." || path == ".." || strings.HasPrefix(path, "../") {
		return path
	}
	return "./" + path
}

// released reports whether a module is a version, and no checkout, which may be
// what another module has in its place.
func released(module debug.Module) bool {
	return module.Version != "" && module.Version != "(devel)" && !strings.HasSuffix(module.Version, "+dirty") && module.Replace == nil
}

// quote makes a word safe for a POSIX shell.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./,~+@:", r)
	}
	if word != "" && word[0] != '~' && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
