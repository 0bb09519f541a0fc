package verify

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestStaticRules runs the static checks over code that breaks them, and wants each finding on its line and no other.
func TestStaticRules(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "static.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	overlay, want := map[string][]byte{}, map[string]bool{}
	wanted := regexp.MustCompile(`// want ((NP\d\d ?)+)$`)
	for _, f := range archive.Files {
		overlay[filepath.Join(moduleDir(), filepath.FromSlash(f.Name))] = f.Data
		for i, line := range strings.Split(string(f.Data), "\n") {
			if m := wanted.FindStringSubmatch(line); m != nil {
				for rule := range strings.FieldsSeq(m[1]) {
					want[fmt.Sprintf("%s:%d %s", f.Name, i+1, rule)] = true
				}
			}
		}
	}
	s, err := loadSource(overlay, "./internal/fixture/...")
	if err != nil {
		t.Fatal(err)
	}
	unreasoned := func(f finding) bool { return strings.Contains(f.text, "needs a reason") } // its line has no room for a "want"
	if !slices.ContainsFunc(s.findings, unreasoned) {
		t.Error("an exception without a reason was taken")
	}
	for _, f := range slices.DeleteFunc(s.findings, unreasoned) {
		key := fmt.Sprintf("%s:%d %s", f.file, f.line, f.rule)
		if !want[key] && strings.HasPrefix(f.file, "internal/fixture/") { // TestVerify looks at the module's own code
			t.Errorf("unexpected: %s %s", f.rule, f)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("not found: %s", key)
	}
	if reason := "listens for notifications on a connection of its own"; !slices.ContainsFunc(s.allowed, func(e Exception) bool { return e.Rule == "NP03" && e.Reason == reason }) {
		t.Errorf("the allowed finding is not among the exceptions: %v", s.allowed)
	}
}
