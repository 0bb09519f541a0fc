package verify

import (
	"fmt"
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
	// Detail is what was seen, what failed and where, or why the check did not run. It holds no secret: it is meant to
	// be shown.
	Detail string `json:"detail,omitempty"`
}

// advice says why the rule exists and what to do, if it failed or warned, else nothing.
func (x Result) advice() string {
	if x.Status != StatusFailed && x.Status != StatusWarned {
		return ""
	}
	return "why: " + x.Why + "\ndo: " + x.Do
}

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
	r.Results[i].Status, r.Results[i].Detail = status, detail
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
func (r Report) Failed() bool { return r.count(StatusFailed) > 0 }

// count returns how many rules ended that way.
func (r Report) count(status Status) (n int) {
	for _, x := range r.Results {
		if x.Status == status {
			n++
		}
	}
	return n
}

// tally is how many of a kind passed.
type tally struct {
	Passed int `json:"passed"`
	Total  int `json:"total"`
}

func (t *tally) add(passed bool) {
	t.Total++
	if passed {
		t.Passed++
	}
}

// counts is the last line of the report, as numbers.
type counts struct {
	Areas   tally `json:"areas"`
	Checks  tally `json:"checks"`
	Further tally `json:"further"`
	Warned  int   `json:"warned"` // of those passed
	NotRun  int   `json:"not_run"`
}

func (r Report) counts() counts {
	c := counts{Warned: r.count(StatusWarned), NotRun: r.count(StatusNotRun)}
	incomplete := map[string]bool{} // by area of the score
	for _, x := range r.Results {
		passed := x.Status == StatusPassed || x.Status == StatusWarned
		if x.Area == further {
			c.Further.add(passed)
			continue
		}
		c.Checks.add(passed)
		incomplete[x.Area] = incomplete[x.Area] || !passed
	}
	for _, lacking := range incomplete {
		c.Areas.add(!lacking)
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
	if c.NotRun > 0 {
		line += fmt.Sprintf(", %d not run", c.NotRun)
	}
	return line
}
