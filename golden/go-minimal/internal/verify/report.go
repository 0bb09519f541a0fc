package verify

import (
	"fmt"
	"slices"
)

// Status says what became of a rule's check.
type Status string

// The ends of a check. A warning counts as passed, unless the report is strict. A
// check that could not run is never counted as passed.
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

// Strict makes failures of all warnings.
func (r *Report) Strict() {
	for i := range r.Results {
		if r.Results[i].Status == StatusWarned {
			r.Results[i].Status = StatusFailed
		}
	}
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
	Warned  int   `json:"warned"` // of those passed
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
		case StatusWarned:
			c.Warned++
			kind.Passed++
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
// "areas 6/6, checks 15/15, further 16/16", and how many warned or were not run.
func (r Report) Summary() string {
	c := r.counts()
	line := fmt.Sprintf("areas %v, checks %v, further %v", c.Areas, c.Checks, c.Further)
	if c.Warned > 0 {
		line += fmt.Sprintf(", %d warned", c.Warned)
	}
	if c.NotRun > 0 {
		line += fmt.Sprintf(", %d not run", c.NotRun)
	}
	return line
}
