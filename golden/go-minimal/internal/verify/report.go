package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Status says what became of a rule's check.
type Status string

// The three ends of a check. A check that could not run is never counted as
// passed.
const (
	StatusPassed Status = "passed"
	StatusFailed Status = "failed"
	StatusNotRun Status = "not run"
)

// Result is one rule with what its check found.
type Result struct {
	Rule
	Status Status `json:"status"`
	// Detail is what was seen, what failed and where, or why the check did not
	// run. It holds no secret: it is meant to be shown.
	Detail string `json:"detail,omitempty"`
}

// Exception is a finding that the owner of the code has allowed by a comment
// of the form `//verify:allow NP15 reason`.
type Exception struct {
	Rule   string `json:"rule"`
	Where  string `json:"where"` // file:line, relative to the module
	Reason string `json:"reason"`
}

// Report is the outcome of a self-verification: every rule, in order.
type Report struct {
	Title      string
	Results    []Result
	Exceptions []Exception
}

// NewReport returns a report in which no rule has run yet, for the reason
// given.
func NewReport(title, reason string) Report {
	r := Report{Title: title}
	for _, rule := range Rules {
		r.Results = append(r.Results, Result{Rule: rule, Status: StatusNotRun, Detail: reason})
	}
	return r
}

// Set records the outcome of one rule. An unknown number is a mistake in this
// package, so it panics.
func (r *Report) Set(id string, status Status, detail string) {
	i := slices.IndexFunc(r.Results, func(x Result) bool { return x.ID == id })
	if i < 0 {
		panic("verify: no rule " + id)
	}
	r.Results[i].Status, r.Results[i].Detail = status, detail
}

// Failed reports whether any check failed. A rule that was not run does not
// count as failed.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Results, func(x Result) bool { return x.Status == StatusFailed })
}

// tally is how many of a kind passed.
type tally struct {
	Passed int `json:"passed"`
	Total  int `json:"total"`
}

func (t tally) String() string { return fmt.Sprintf("%d/%d", t.Passed, t.Total) }

// counts is the last line of the report, as numbers.
type counts struct {
	Areas   tally `json:"areas"`
	Checks  tally `json:"checks"`
	Further tally `json:"further"`
	NotRun  int   `json:"not_run"`
}

func (r Report) counts() counts {
	var c counts
	open := map[string]bool{} // areas with a rule that did not pass
	for _, x := range r.Results {
		kind := &c.Checks
		if x.Area == further {
			kind = &c.Further
		}
		kind.Total++
		switch x.Status {
		case StatusPassed:
			kind.Passed++
		case StatusNotRun:
			c.NotRun++
			fallthrough
		default:
			open[x.Area] = true
		}
	}
	c.Areas.Total = len(Areas)
	for _, area := range Areas {
		if !open[area] {
			c.Areas.Passed++
		}
	}
	return c
}

// Summary is the last line of the report, such as
// "areas 6/6, checks 15/15, further 16/16", and how many were not run if any.
func (r Report) Summary() string {
	c := r.counts()
	line := fmt.Sprintf("areas %v, checks %v, further %v", c.Areas, c.Checks, c.Further)
	if c.NotRun > 0 {
		line += fmt.Sprintf(", %d not run", c.NotRun)
	}
	return line
}

const (
	columns = 80
	indent  = "                 " // under a rule's title
)

// WriteText writes the report for people, at most 80 columns wide. Only an
// error of w is returned.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for line := range strings.Lines(r.Title) {
		b.WriteString(wrap(line, "") + "\n")
	}
	for _, area := range append(slices.Clone(Areas), further) {
		b.WriteString("\n" + area + "\n")
		for _, x := range r.Results {
			if x.Area == area {
				x.write(&b)
			}
		}
	}
	if len(r.Exceptions) > 0 {
		b.WriteString("\nallowed by the owner\n")
	}
	for _, e := range r.Exceptions {
		fmt.Fprintf(&b, "  %s  %s\n%s\n", e.Rule, e.Where, wrap(e.Reason, indent))
	}
	b.WriteString("\n" + r.Summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// write adds one rule: its line, then the detail, and for a failure the
// reason why the rule exists.
func (x Result) write(b *strings.Builder) {
	fmt.Fprintf(b, "  %s  %-7s  %s\n", x.ID, x.Status, x.Title)
	for line := range strings.Lines(x.Detail) {
		b.WriteString(wrap(line, indent) + "\n")
	}
	if x.Status == StatusFailed {
		b.WriteString(wrap("why: "+x.Why, indent) + "\n")
	}
}

// wrap breaks text into lines that are, with their prefix, not wider than the
// report: between words, and within a word that is wider than that by itself.
func wrap(text, prefix string) string {
	var b strings.Builder
	room := 0
	for word := range strings.FieldsSeq(text) {
		for len(word) > 0 {
			if len(word) >= room && (len(word) <= columns-len(prefix) || room < 1) {
				b.WriteString("\n" + prefix)
				room = columns - len(prefix) + 1
			} else {
				b.WriteString(" ")
			}
			part := word[:min(len(word), room-1)]
			b.WriteString(part)
			word, room = word[len(part):], room-len(part)-1
		}
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// WriteJSON writes the report as one JSON document: title, summary, counts,
// rules (id, area, title, why, status, detail) and exceptions. Only an error
// of w is returned.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Title      string      `json:"title"`
		Summary    string      `json:"summary"`
		Counts     counts      `json:"counts"`
		Rules      []Result    `json:"rules"`
		Exceptions []Exception `json:"exceptions"`
	}{r.Title, r.Summary(), r.counts(), r.Results, append([]Exception{}, r.Exceptions...)})
}
