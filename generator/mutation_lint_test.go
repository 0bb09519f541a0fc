package generator_test

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// lint runs a linter as the project has set it up, on the packages that were edited, and
// says what is wrong.
func (p mutant) lint(t *testing.T, m mutation) string {
	t.Helper()
	args := []string{"run", "--allow-parallel-runners", "--enable-only", m.linter}
	for _, e := range m.edits {
		if folder := "./" + path.Dir(e.file); path.Ext(e.file) == ".go" && !strings.HasPrefix(e.file, "third_party") && !slices.Contains(args, folder) {
			args = append(args, folder)
		}
	}
	run := exec.CommandContext(t.Context(), os.Getenv("GOLANGCI_LINT"), args...)
	run.Dir, run.Env = p.dir, append(os.Environ(), "GOFLAGS=-trimpath -buildvcs=false")
	out, _ := run.CombinedOutput() // the complaints say it
	switch on, err := p.linters(t); {
	case err != nil:
		return err.Error()
	case !slices.Contains(on, m.linter):
		return m.linter + " is off, and" + notNoticed
	case strings.Contains(string(out), "(typecheck)"):
		return "does not compile:\n" + string(out)
	case !strings.Contains(string(out), " issues"):
		return "the linter was broken off:\n" + string(out)
	case !strings.Contains(string(out), "("+m.linter+")"):
		return m.linter + notNoticed
	}
	return ""
}

// linters returns the names of those that the project has on.
func (p mutant) linters(t *testing.T) (names []string, err error) {
	t.Helper()
	run := exec.CommandContext(t.Context(), os.Getenv("GOLANGCI_LINT"), "linters", "--json")
	run.Dir = p.dir
	out, err := run.Output()
	var known struct {
		Enabled []struct {
			Name string `json:"name"`
		} `json:"Enabled"` //nolint:tagliatelle // its name
	}
	err = cmp.Or(err, json.Unmarshal(out, &known))
	for _, linter := range known.Enabled {
		names = append(names, linter.Name)
	}
	return names, err
}
