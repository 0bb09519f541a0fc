package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
)

// Status says how a rule's check ended.
type Status string

// A warning counts as passed, unless Strict was called. A check that could not run never does.
const (
	StatusPassed Status = "passed"
	StatusWarned Status = "warned"
	StatusFailed Status = "failed"
	StatusNotRun Status = "not run"
)

// Result is one rule with what its check found.
type Result struct {
	Rule
	Status Status `json:"status"`
	// Detail is what was seen, what failed, or why the check did not run. It holds no secret: it is meant to be shown.
	Detail string `json:"detail,omitempty"`
}

// elsewhere is the Detail of what cannot be seen from where the report is made, and so is not counted.
const elsewhere = "cannot be seen here"

// advice is what there is to say of a rule that does not hold.
func (r Rule) advice() string { return "why: " + r.Why + "\ndo: " + r.Do }

// Exception is a finding that the owner of the code has allowed by a comment of the form `//verify:allow NP15 reason`.
type Exception struct {
	Rule   string `json:"rule"`
	Where  string `json:"where"` // file:line, relative to the module
	Reason string `json:"reason"`
}

// Report is the outcome of a self-verification: every rule, in order.
type Report struct {
	Title      string      `json:"title"`
	Results    []Result    `json:"rules"`
	Exceptions []Exception `json:"exceptions"`
}

// NewReport returns a report in which no rule has run yet, for the reason given.
func NewReport(title, reason string) Report {
	r := Report{Title: title, Exceptions: []Exception{}}
	for _, rule := range Rules {
		r.Results = append(r.Results, Result{Rule: rule, Status: StatusNotRun, Detail: reason})
	}
	return r
}

// Set records the outcome of one rule. An unknown number is a mistake in this package, so it panics.
func (r *Report) Set(id string, status Status, detail string) {
	i := slices.IndexFunc(r.Results, func(x Result) bool { return x.ID == id })
	r.Results[i] = Result{Rule: r.Results[i].Rule, Status: status, Detail: detail}
}

// Strict makes failures of all warnings.
func (r *Report) Strict() {
	for i := range r.Results {
		if r.Results[i].Status == StatusWarned {
			r.Results[i].Status = StatusFailed
		}
	}
}

// Failed reports whether any check failed. A rule that was not run does not count as failed.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Results, func(x Result) bool { return x.Status == StatusFailed })
}

// tally is how many passed of those that can be seen from where the report is made.
type tally struct {
	Passed int `json:"passed"`
	Total  int `json:"total"`
}

// counts is the last line of the report, as numbers.
type counts struct {
	Areas     tally `json:"areas"` // all of whose rules can be seen
	Checks    tally `json:"checks"`
	Further   tally `json:"further"`
	Warned    int   `json:"warned"` // of those passed
	NotRun    int   `json:"not_run"`
	Elsewhere int   `json:"elsewhere"` // of those not run, what cannot be seen from here
}

func (r Report) counts() (c counts) {
	all, areas := map[string]int{}, map[string]tally{}
	statuses := map[Status]int{}
	for _, x := range r.Results {
		statuses[x.Status]++
		all[x.Area]++
		if seen := areas[x.Area]; x.Detail == elsewhere {
			c.Elsewhere++
		} else if x.Status == StatusPassed || x.Status == StatusWarned {
			areas[x.Area] = tally{seen.Passed + 1, seen.Total + 1}
		} else {
			areas[x.Area] = tally{seen.Passed, seen.Total + 1}
		}
	}
	c.Warned, c.NotRun, c.Further = statuses[StatusWarned], statuses[StatusNotRun], areas[further]
	delete(areas, further)
	for area, seen := range areas {
		c.Checks = tally{c.Checks.Passed + seen.Passed, c.Checks.Total + seen.Total}
		if seen.Total == all[area] {
			c.Areas.Total++
			c.Areas.Passed += seen.Passed / seen.Total // 1 or 0
		}
	}
	return c
}

// Summary is the last line of the report, such as "areas 6/6, checks 15/15, further 16/16", and how many warned or were
// not run.
func (r Report) Summary() string {
	c := r.counts()
	line := fmt.Sprintf("areas %d/%d, checks %d/%d, further %d/%d",
		c.Areas.Passed, c.Areas.Total, c.Checks.Passed, c.Checks.Total, c.Further.Passed, c.Further.Total)
	if c.Warned > 0 {
		line += fmt.Sprintf(", %d warned", c.Warned)
	}
	if n := c.NotRun - c.Elsewhere; n > 0 {
		line += fmt.Sprintf(", %d not run", n)
	}
	if c.Elsewhere > 0 {
		line += fmt.Sprintf("; %d are for the tests to see", c.Elsewhere)
	}
	return line
}

// Write writes the report, as text for people or as the JSON that docs/verification.md describes. Both hold the same: the
// title, each rule with its area, its outcome and what was seen, for those that failed or warned also why the rule exists
// and what to do, the owner's exceptions and the summary.
func (r Report) Write(w io.Writer, asJSON bool) (err error) {
	out := r.text()
	if asJSON {
		out, err = json.MarshalIndent(struct {
			Summary string `json:"summary"`
			Counts  counts `json:"counts"`
			Report
		}{r.Summary(), r.counts(), r}, "", "  ")
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", out)
	}
	return err
}

// text is at most 80 columns wide.
func (r Report) text() []byte {
	const indent = "                 " // under a rule's title
	out, area := []byte(wrap("", r.Title)), ""
	for _, x := range r.Results {
		if x.Area != area { // rules of an area follow one another
			area = x.Area
			out = fmt.Appendf(out, "\n%s\n", area)
		}
		out = fmt.Appendf(out, "  %s  %-7s  %s\n%s", x.ID, x.Status, x.Title, wrap(indent, x.Detail))
		if x.Status == StatusFailed || x.Status == StatusWarned {
			out = append(out, wrap(indent, x.advice())...)
		}
	}
	for _, e := range r.Exceptions {
		out = fmt.Appendf(out, "\nallowed by the owner: %s at %s\n%s", e.Rule, e.Where, wrap(indent, e.Reason))
	}
	return fmt.Appendf(out, "\n%s", r.Summary())
}

// wide is what fits on a line of the report beside its indentation: whole words, or a part of one that is wider.
var wide = regexp.MustCompile(`(\S.{0,62})(?:\s+|$)|(\S{63})`)

// wrap breaks text into lines, each with its indentation.
func wrap(indent, text string) string { return wide.ReplaceAllString(text, indent+"$1$2\n") }
