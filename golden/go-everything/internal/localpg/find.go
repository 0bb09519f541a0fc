package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// ErrNotFound is returned where the machine has no Postgres. It says how to get one.
var ErrNotFound = errors.New("no Postgres on this machine: install one (Debian: apt-get install postgresql, " +
	"macOS: brew install postgresql@17), or name its folder in EMBEDDED_PG")

// folders are where packages put the server's programs without putting them on PATH. A version has two digits: older
// servers know no SCRAM.
var folders = []string{
	"/usr/lib/postgresql/??/bin", // Debian and Ubuntu
	"/usr/pgsql-??/bin",          // PGDG's packages for Red Hat
	"/opt/homebrew/opt/postgresql@??/bin",
	"/usr/local/opt/postgresql@??/bin", // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/??/bin",
}

// findBinaries returns the folder that holds postgres and initdb. It looks in EMBEDDED_PG (which, when set, is the
// only place), then on PATH, then in the usual folders of packages, newest version first. The error is ErrNotFound, or
// says what is wrong with EMBEDDED_PG.
func findBinaries() (string, error) {
	dirs, missing := usualDirs(), ErrNotFound
	if dir := os.Getenv("EMBEDDED_PG"); dir != "" {
		dirs = []string{dir, filepath.Join(dir, "bin")}
		missing = fmt.Errorf("EMBEDDED_PG %q holds no postgres and initdb: name a folder that does, or unset it", dir)
	}
	for _, dir := range dirs {
		_, err1 := exec.LookPath(filepath.Join(dir, "postgres"))
		_, err2 := exec.LookPath(filepath.Join(dir, "initdb")) // client packages bring psql alone
		if err1 == nil && err2 == nil {
			return filepath.Abs(dir)
		}
	}
	return "", missing
}

func usualDirs() (dirs []string) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // a link may stand alone; its target has initdb beside it
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range folders {
		found, _ := filepath.Glob(pattern) // fails for a malformed pattern alone
		slices.Sort(found)
		slices.Reverse(found)
		dirs = append(dirs, found...)
	}
	return dirs
}
