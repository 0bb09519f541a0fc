package verify

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRules wants the rules to be the contract's: fifteen in six areas, sixteen beyond, each with its reason and a check.
func TestRules(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, rule := range Rules {
		if !regexp.MustCompile(`^NP\d\d$`).MatchString(rule.ID) || seen[rule.ID] || (rule.Area == further) != (rule.ID > "NP15") {
			t.Errorf("rule %q of area %q: malformed, twice, or elsewhere", rule.ID, rule.Area)
		}
		seen[rule.ID] = true
		if rule.Title == "" || !strings.HasSuffix(rule.Why, ".") || !strings.HasSuffix(rule.Do, ".") {
			t.Errorf("%s has no title, or no sentence that says why or what to do", rule.ID)
		}
		if !slices.ContainsFunc(parts, func(p part) bool { return strings.Contains(p.rules, rule.ID) }) {
			t.Errorf("%s has no check", rule.ID)
		}
	}
	stray := slices.IndexFunc(parts, func(p part) bool {
		return p.rules == "" || slices.ContainsFunc(strings.Fields(p.rules), func(rule string) bool { return !seen[rule] })
	})
	if len(seen) != 31 || stray >= 0 {
		t.Errorf("%d rules; the part %d is of none", len(seen), stray)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	r := NewReport("a title", "a reason")
	want := func(summary string, failed bool) {
		t.Helper()
		if got := r.Summary(); got != summary || r.Failed() != failed {
			t.Errorf("%q, failed %v; want %q", got, r.Failed(), summary)
		}
	}
	want("areas 0/6, checks 0/15, further 0/16, 31 not run", false)
	for _, rule := range Rules {
		r.Set(rule.ID, StatusPassed, "")
	}
	want("areas 6/6, checks 15/15, further 16/16", false)
	r.Set("NP12", StatusWarned, "the certificate is not verified")
	r.Set("NP31", StatusNotRun, "a reason")
	want("areas 6/6, checks 15/15, further 15/16, 1 warned, 1 not run", false)
	r.Strict()
	want("areas 5/6, checks 14/15, further 15/16, 1 not run", true)
}

// TestFormats wants the same as text and as JSON.
func TestFormats(t *testing.T) {
	t.Parallel()
	r := NewReport("a title", "a reason")
	r.Set("NP02", StatusFailed, "two <connections>\na second line "+strings.Repeat("word ", 40)+strings.Repeat("x", 200))
	r.Set("NP12", StatusWarned, "not verified")
	r.Set("NP13", StatusPassed, "in force")
	r.Exceptions = []Exception{{"NP15", "internal/x/x.go:12", "a listener of its own"}}
	want := []string{"a title", r.Summary(), "two <connections>", "a second line", "not verified", "in force",
		"failed", "warned", "not run", "internal/x/x.go:12", "a listener of its own"}
	for _, rule := range Rules {
		want = append(want, rule.ID, rule.Title, rule.Area)
		if rule.ID == "NP02" || rule.ID == "NP12" {
			want = append(want, rule.Why, rule.Do)
		}
	}
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		if err := r.Write(&out, asJSON); err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("\\u003c", "<", "\\u003e", ">", "\\n", " ", "\n", " ").Replace(out.String())
		text = strings.Join(strings.Fields(text), " ")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, &out)
			}
		}
		if asJSON {
			wantDocument(t, r, out.Bytes())
			continue
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if wide := slices.IndexFunc(lines, func(line string) bool { return len(line) > 80 }); wide >= 0 || lines[len(lines)-1] != r.Summary() {
			t.Errorf("line %d is wide; the last line is %q", wide, lines[len(lines)-1])
		}
	}
}

// wantDocument reads what docs/verification.md promises.
func wantDocument(t *testing.T, r Report, document []byte) {
	t.Helper()
	var got struct {
		Summary string
		Counts  struct {
			Checks struct{ Passed, Total int }
			Warned int
			NotRun int `json:"not_run"`
		}
		Rules      []struct{ ID, Area, Title, Why, Status, Detail string }
		Exceptions []struct{ Rule, Where, Reason string }
	}
	err := json.Unmarshal(document, &got)
	if err != nil || got.Summary != r.Summary() || got.Counts.Checks.Total != 15 || got.Counts.NotRun != 28 || got.Counts.Warned != 1 ||
		len(got.Exceptions) != 1 || len(got.Rules) != 31 || got.Rules[0].ID != "NP01" || got.Rules[0].Status != "not run" {
		t.Errorf("%v: %s", err, document)
	}
}
