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

// TestStaticRules runs the static checks over code that breaks them, and
// wants each finding on its line and no other.
func TestStaticRules(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "static.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	overlay, want := map[string][]byte{}, map[string]bool{}
	wanted := regexp.MustCompile(`// want ((NP\d\d ?)+)$`)
	for _, f := range archive.Files {
		overlay[filepath.Join(moduleDir(t), filepath.FromSlash(f.Name))] = f.Data
		for i, line := range strings.Split(string(f.Data), "\n") {
			m := wanted.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			for rule := range strings.FieldsSeq(m[1]) {
				want[fmt.Sprintf("%s:%d %s", f.Name, i+1, rule)] = true
			}
		}
	}
	findings, allowed := loadSource(t, overlay, "./internal/fixture/...").check()
	for _, f := range findings {
		if !strings.HasPrefix(f.file, "internal/fixture/") {
			continue // the module's own code, which TestVerify looks at
		}
		key := fmt.Sprintf("%s:%d %s", f.file, f.line, f.rule)
		if strings.Contains(f.text, "needs a reason") {
			continue
		}
		if !want[key] {
			t.Errorf("unexpected: %s %s", f.rule, f)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("not found: %s", key)
	}
	reason := func(e Exception) bool {
		return e.Rule == "NP03" && e.Reason == "listens for notifications on a connection of its own"
	}
	if !slices.ContainsFunc(allowed, reason) {
		t.Errorf("the allowed finding is not among the exceptions: %v", allowed)
	}
	unreasoned := func(f finding) bool { return strings.Contains(f.text, "needs a reason") }
	if !slices.ContainsFunc(findings, unreasoned) {
		t.Error("an exception without a reason was taken")
	}
}
