package verify

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"html"
	"io"
	"regexp"
	"strings"
	"testing"
)

// TestRules wants the rules to be the contract's: fifteen in six areas, sixteen
// beyond, each with its reason.
func TestRules(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, rule := range Rules {
		if !regexp.MustCompile(`^NP\d\d$`).MatchString(rule.ID) || seen[rule.ID] {
			t.Errorf("rule %q: malformed or twice", rule.ID)
		}
		seen[rule.ID] = true
		if rule.Title == "" || !strings.HasSuffix(rule.Why, ".") || !strings.HasSuffix(rule.Do, ".") {
			t.Errorf("%s has no title, or no sentence that says why or what to do", rule.ID)
		}
		if (rule.Area == further) != (rule.ID > "NP15") {
			t.Errorf("%s is in area %q", rule.ID, rule.Area)
		}
	}
	if len(seen) != 31 {
		t.Errorf("%d rules", len(seen))
	}
	for _, p := range parts {
		if !seen[p.rule] {
			t.Errorf("a check of %q, which is no rule", p.rule)
		}
	}
	for _, rule := range Rules {
		if _, detail := ofRule(rule.ID); detail == "no check yet" {
			t.Errorf("%s has no check", rule.ID)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := NewReport("a title", "a reason")
	if got, want := r.Summary(), "areas 0/6, checks 0/15, further 0/16, 31 not run"; got != want || r.Failed() {
		t.Errorf("%q, want %q", got, want)
	}
	for _, rule := range Rules {
		r.Set(rule.ID, StatusPassed, "")
	}
	if got, want := r.Summary(), "areas 6/6, checks 15/15, further 16/16"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.Set("NP01", StatusFailed, strings.Repeat("word ", 40)+strings.Repeat("x", 200))
	r.Set("NP31", StatusNotRun, "a reason")
	r.Exceptions = []Exception{{"NP15", "internal/x/x.go:12", "a listener of its own"}}
	if got, want := r.Summary(), "areas 5/6, checks 14/15, further 15/16, 1 not run"; got != want || !r.Failed() {
		t.Errorf("%q, want %q", got, want)
	}
	var text bytes.Buffer
	if err := r.Write(&text, "text", false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("wider than 80 columns: %q", line)
		}
	}
	if last := lines[len(lines)-1]; last != r.Summary() {
		t.Errorf("the last line is %q", last)
	}
	for _, want := range []string{"NP01  failed ", "why: ", "do: ", "internal/x/x.go:12", "a listener of its own"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	r := NewReport("a title", "a reason")
	r.Set("NP12", StatusWarned, "the certificate is not verified")
	if got, want := r.Summary(), "areas 0/6, checks 1/15, further 0/16, 1 warned, 30 not run"; got != want || r.Failed() {
		t.Errorf("%q, want %q", got, want)
	}
	r.Strict()
	if got, want := r.Summary(), "areas 0/6, checks 0/15, further 0/16, 30 not run"; got != want || !r.Failed() {
		t.Errorf("strict: %q, want %q", got, want)
	}
}

// TestFormats wants the same in each format, as what reads it sees it.
func TestFormats(t *testing.T) {
	t.Parallel()
	r := NewReport("a title", "a reason")
	r.Set("NP02", StatusFailed, "two <connections> & more | than *one*\na second line")
	r.Set("NP12", StatusWarned, "not verified")
	r.Set("NP13", StatusPassed, "in force")
	r.Exceptions = []Exception{{"NP15", "internal/x/x.go:12", "a listener of its own"}}
	for _, format := range Formats {
		var out bytes.Buffer
		if err := r.Write(&out, format, format == "text"); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if format == "junit" {
			var seen struct{} // well-formed is all that is asked here
			if err := xml.Unmarshal(out.Bytes(), &seen); err != nil {
				t.Errorf("junit: %v", err)
			}
		}
		text = html.UnescapeString(strings.ReplaceAll(text, "\\u003c", "<"))
		text = strings.NewReplacer("\\u003e", ">", "\\u0026", "&", "\\", "", "<br>", " ", "\n", " ").Replace(text)
		text = strings.Join(strings.Fields(text), " ")
		want := []string{"a title", r.Summary(), "two <connections> & more | than *one*", "a second line", "not verified", "in force",
			"failed", "warned", "not run", "internal/x/x.go:12", "a listener of its own"}
		if format == "junit" { // its own words
			want[8] = "skipped"
			want = append(want, `tests="31" failures="1" skipped="28"`, `classname="migrations"`)
		}
		for _, rule := range Rules {
			want = append(want, rule.ID, rule.Title, rule.Area)
			if rule.ID == "NP02" || rule.ID == "NP12" {
				want = append(want, rule.Why, rule.Do)
			}
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in\n%s", format, w, &out)
			}
		}
	}
	if err := r.Write(io.Discard, "yaml", false); err == nil {
		t.Error("an unknown format was taken")
	}
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	r := NewReport("a title", "a reason")
	r.Set("NP02", StatusFailed, "two connections")
	var out bytes.Buffer
	if err := r.Write(&out, "json", false); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Summary string
		Counts  struct {
			Checks struct{ Passed, Total int }
			NotRun int `json:"not_run"`
		}
		Rules      []struct{ ID, Area, Title, Why, Status, Detail string }
		Exceptions []any
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Summary != r.Summary() || got.Counts.Checks.Total != 15 || got.Counts.NotRun != 30 || got.Exceptions == nil || len(got.Rules) != 31 {
		t.Errorf("%s", &out)
	}
	for _, rule := range got.Rules {
		if rule.ID == "NP02" && (rule.Status != "failed" || rule.Detail != "two connections" || rule.Area != "migrations") {
			t.Errorf("%+v", rule)
		}
	}
}
