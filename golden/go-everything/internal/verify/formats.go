package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Formats are the names that Write takes.
var Formats = []string{"text", "json", "junit", "markdown"}

// Write writes the report in one of Formats. All of them hold the same: the title, each rule with its area, its outcome
// and what was seen, for those that failed or warned also why the rule exists and what to do, the owner's exceptions and
// the summary. colour is for text on a terminal. The error is w's, or that of an unknown format.
func (r Report) Write(w io.Writer, format string, colour bool) (err error) {
	var out []byte
	switch format {
	case "text":
		out = r.text(colour)
	case "json": // docs/verification.md says what is in it
		out, err = json.MarshalIndent(struct {
			Summary string `json:"summary"`
			Counts  counts `json:"counts"`
			Report
		}{r.Summary(), r.counts(), r}, "", "  ")
	case "junit":
		out, err = xml.MarshalIndent(r.suite(), "", "  ")
	case "markdown":
		out = r.markdown()
	default:
		err = fmt.Errorf("unknown format %q: use one of %s", format, strings.Join(Formats, ", "))
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", out)
	}
	return err
}

// colours are ANSI's (ECMA-48, SGR) for each status.
var colours = map[Status]string{StatusPassed: "32", StatusWarned: "33", StatusFailed: "31", StatusNotRun: "2"}

// text is the report for people, at most 80 columns wide.
func (r Report) text(colour bool) []byte {
	const indent = "                 " // under a rule's title
	out, area := []byte(wrap("", r.Title)), ""
	for _, x := range r.Results {
		if x.Area != area { // rules of an area follow one another
			area = x.Area
			out = fmt.Appendf(out, "\n%s\n", area)
		}
		status := fmt.Sprintf("%-7s", x.Status)
		if colour {
			status = "\x1b[" + colours[x.Status] + "m" + status + "\x1b[0m"
		}
		out = fmt.Appendf(out, "  %s  %s  %s\n%s%s", x.ID, status, x.Title, wrap(indent, x.Detail), wrap(indent, x.advice()))
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

// markdown is fit to be pasted into a pull request: what needs attention first, and all of it folded, as text, of which
// nothing is taken for Markdown or HTML.
func (r Report) markdown() []byte {
	out := fmt.Appendf(nil, "**%s**\n\n", r.Summary())
	for _, x := range r.Results {
		if x.advice() != "" {
			out = fmt.Appendf(out, "- %s %s: %s\n", x.ID, x.Status, x.Title)
		}
	}
	return fmt.Appendf(out, "\n<details><summary>All rules</summary>\n\n```text\n%s\n```\n\n</details>", r.text(false))
}

// junitSuite is the XML that CI systems read, with a case for each rule. There is no standard; this is what Jenkins,
// GitLab and GitHub's actions take.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
	Output   string      `xml:"system-out"` // what belongs to no rule
}

type junitCase struct {
	Name    string `xml:"name,attr"`
	Area    string `xml:"classname,attr"`
	Failure string `xml:"failure,omitempty"`
	Skipped string `xml:"skipped,omitempty"`
	Output  string `xml:"system-out,omitempty"`
}

func (r Report) suite() junitSuite {
	s := junitSuite{Name: r.Title, Tests: len(r.Results), Failures: r.count(StatusFailed), Skipped: r.count(StatusNotRun)}
	for _, x := range r.Results {
		c := junitCase{Name: x.ID + " " + x.Title, Area: x.Area}
		outcome := strings.TrimSpace(fmt.Sprintf("%s: %s\n%s", x.Status, x.Detail, x.advice()))
		switch x.Status {
		case StatusFailed:
			c.Failure = outcome
		case StatusNotRun:
			c.Skipped = outcome
		default: // a warning is a case that passed
			c.Output = outcome
		}
		s.Cases = append(s.Cases, c)
	}
	for _, e := range r.Exceptions {
		s.Output += fmt.Sprintf("allowed by the owner: %s %s %s\n", e.Rule, e.Where, e.Reason)
	}
	s.Output += r.Summary()
	return s
}
