package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Formats are the names that Write takes.
var Formats = []string{"text", "json", "junit", "markdown"}

// Write writes the report in one of Formats. All of them hold the same: the title,
// each rule with its area, its outcome and what was seen, for those that failed or
// warned also why the rule exists and what to do, the owner's exceptions and the
// summary. colour is for text on a terminal. The error is w's, or that of an
// unknown format.
func (r Report) Write(w io.Writer, format string, colour bool) error {
	switch format {
	case "text":
		_, err := io.WriteString(w, r.text(colour))
		return err
	case "json":
		return r.json(w)
	case "junit":
		return r.junit(w)
	case "markdown":
		_, err := io.WriteString(w, r.markdown())
		return err
	}
	return fmt.Errorf("unknown format %q: use one of %s", format, strings.Join(Formats, ", "))
}

// bad reports whether a rule needs somebody's attention.
func (x Result) bad() bool { return x.Status == StatusFailed || x.Status == StatusWarned }

const (
	columns = 80
	indent  = "                 " // under a rule's title
)

// colours are ANSI's (ECMA-48, SGR) for each status.
var colours = map[Status]string{StatusPassed: "32", StatusWarned: "33", StatusFailed: "31", StatusNotRun: "2"}

// text is the report for people, at most 80 columns wide.
func (r Report) text(colour bool) string {
	var b strings.Builder
	for line := range strings.Lines(r.Title) {
		b.WriteString(wrap(line, "") + "\n")
	}
	for _, area := range append(slices.Clone(Areas), further) {
		b.WriteString("\n" + area + "\n")
		for _, x := range r.Results {
			if x.Area == area {
				x.text(&b, colour)
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
	return b.String()
}

// text adds one rule: its line, then the detail, and where it needs attention why
// the rule exists and what to do.
func (x Result) text(b *strings.Builder, colour bool) {
	status := fmt.Sprintf("%-7s", x.Status)
	if colour {
		status = "\x1b[" + colours[x.Status] + "m" + status + "\x1b[0m"
	}
	fmt.Fprintf(b, "  %s  %s  %s\n", x.ID, status, x.Title)
	for line := range strings.Lines(x.Detail) {
		b.WriteString(wrap(line, indent) + "\n")
	}
	if x.bad() {
		b.WriteString(wrap("why: "+x.Why, indent) + "\n" + wrap("do: "+x.Do, indent) + "\n")
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

// json is one document; docs/verification.md says what is in it.
func (r Report) json(w io.Writer) error {
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

// What follows is the XML that CI systems read: a suite for each area, a case for
// each rule. There is no standard; this is what Jenkins, GitLab and GitHub's
// actions take.
type (
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		Failure   *junitMessage `xml:"failure"`
		Skipped   *junitMessage `xml:"skipped"`
		Output    string        `xml:"system-out,omitempty"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
		Output   string      `xml:"system-out,omitempty"`
	}
)

func (r Report) junit(w io.Writer) error {
	document := struct {
		XMLName xml.Name     `xml:"testsuites"`
		Name    string       `xml:"name,attr"`
		Suites  []junitSuite `xml:"testsuite"`
	}{Name: r.Title}
	for _, area := range append(slices.Clone(Areas), further) {
		s := junitSuite{Name: area}
		for _, x := range r.Results {
			if x.Area == area {
				s.add(x)
			}
		}
		document.Suites = append(document.Suites, s)
	}
	last := &document.Suites[len(document.Suites)-1].Output
	for _, e := range r.Exceptions {
		*last += fmt.Sprintf("allowed by the owner: %s %s %s\n", e.Rule, e.Where, e.Reason)
	}
	*last += r.Summary()
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(document); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// add adds a rule. A warning is a case that passed, with its text as output.
func (s *junitSuite) add(x Result) {
	c := junitCase{Name: x.ID + " " + x.Title, ClassName: x.Area, Output: x.Detail}
	advice := fmt.Sprintf("%s\nwhy: %s\ndo: %s", x.Detail, x.Why, x.Do)
	switch x.Status {
	case StatusFailed:
		s.Failures++
		c.Failure, c.Output = &junitMessage{string(x.Status), advice}, ""
	case StatusNotRun:
		s.Skipped++
		c.Skipped, c.Output = &junitMessage{Message: x.Detail}, ""
	case StatusWarned:
		c.Output = string(x.Status) + ": " + advice
	case StatusPassed:
	}
	s.Tests++
	s.Cases = append(s.Cases, c)
}

// markdown is fit to be pasted into a pull request: what needs attention first,
// and all of it in a table that is folded.
func (r Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n%s\n\n", cell(r.Title), r.Summary())
	for _, x := range r.Results {
		if x.bad() {
			fmt.Fprintf(&b, "- **%s %s** %s: %s<br>why: %s<br>do: %s\n", x.ID, x.Status, x.Title, cell(x.Detail), x.Why, x.Do)
		}
	}
	b.WriteString("\n<details><summary>All rules</summary>\n\n| rule | | promise | seen |\n|---|---|---|---|\n")
	for _, area := range append(slices.Clone(Areas), further) {
		fmt.Fprintf(&b, "| | | **%s** | |\n", area)
		for _, x := range r.Results {
			if x.Area == area {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", x.ID, x.Status, x.Title, cell(x.Detail))
			}
		}
	}
	b.WriteString("\n</details>\n")
	for _, e := range r.Exceptions {
		fmt.Fprintf(&b, "\nAllowed by the owner: %s `%s` %s\n", e.Rule, e.Where, cell(e.Reason))
	}
	return b.String()
}

// cell makes text fit for one cell of a table. What it quotes must not be taken for Markdown or HTML.
func cell(text string) string {
	return strings.NewReplacer("\n", "<br>", "|", "\\|", "<", "&lt;", "`", "\\`", "*", "\\*", "_", "\\_").Replace(strings.TrimSpace(text))
}
