package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
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
	if !slices.Contains(Formats, format) {
		return fmt.Errorf("unknown format %q: use one of %s", format, strings.Join(Formats, ", "))
	}
	var b strings.Builder
	switch format {
	case "text":
		r.text(&b, colour)
	case "json": // docs/verification.md says what is in it
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		_ = e.Encode(struct { // texts and numbers, which never fail
			Summary string `json:"summary"`
			Counts  counts `json:"counts"`
			Report
		}{r.Summary(), r.counts(), r})
	case "junit":
		r.junit(&b)
	case "markdown":
		r.markdown(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// colours are ANSI's (ECMA-48, SGR) for each status.
var colours = map[Status]string{StatusPassed: "32", StatusWarned: "33", StatusFailed: "31", StatusNotRun: "2"}

// text is the report for people, at most 80 columns wide.
func (r Report) text(b *strings.Builder, colour bool) {
	const indent = "                 " // under a rule's title
	b.WriteString(wrap("", r.Title))
	for _, a := range r.Areas() {
		fmt.Fprintf(b, "\n%s\n", a.Name)
		for _, x := range a.Results {
			status := fmt.Sprintf("%-7s", x.Status)
			if colour {
				status = "\x1b[" + colours[x.Status] + "m" + status + "\x1b[0m"
			}
			fmt.Fprintf(b, "  %s  %s  %s\n%s%s", x.ID, status, x.Title, wrap(indent, x.Detail), wrap(indent, x.Advice()))
		}
	}
	if len(r.Exceptions) > 0 {
		b.WriteString("\nallowed by the owner\n")
	}
	for _, e := range r.Exceptions {
		fmt.Fprintf(b, "  %s  %s\n%s", e.Rule, e.Where, wrap(indent, e.Reason))
	}
	fmt.Fprintf(b, "\n%s\n", r.Summary())
}

// wide is what fits on a line of the report beside its indentation: whole words,
// or a part of one that is wider than that.
var wide = regexp.MustCompile(`(\S.{0,62})(?:\s+|$)|(\S{63})`)

// wrap breaks text into lines, each with its indentation.
func wrap(indent, text string) string { return wide.ReplaceAllString(text, indent+"$1$2\n") }

// junit is the XML that CI systems read: a suite for each area, a case for each
// rule. There is no standard; this is what Jenkins, GitLab and GitHub's actions
// take. A warning is a case that passed, with its text as output.
func (r Report) junit(b *strings.Builder) {
	fmt.Fprintf(b, "%s<testsuites name=\"%s\">\n", xml.Header, escaped(r.Title))
	for _, a := range r.Areas() {
		fmt.Fprintf(b, "  <testsuite name=\"%s\" tests=\"%d\" failures=\"%d\" skipped=\"%d\">\n",
			a.Name, len(a.Results), a.Count(StatusFailed), a.Count(StatusNotRun))
		for _, x := range a.Results {
			outcome := "<system-out>%s</system-out>"
			switch x.Status {
			case StatusWarned:
				outcome = "<system-out>warned: %s</system-out>"
			case StatusFailed:
				outcome = "<failure message=\"failed\">%s</failure>"
			case StatusNotRun:
				outcome = "<skipped message=\"%s\"></skipped>"
			case StatusPassed:
			}
			text := strings.TrimSpace(x.Detail + "\n" + x.Advice())
			fmt.Fprintf(b, "    <testcase name=\"%s %s\" classname=\"%s\">"+outcome+"</testcase>\n",
				x.ID, escaped(x.Title), a.Name, escaped(text))
		}
		if a.Name == further { // the last one
			r.junitNotes(b)
		}
		b.WriteString("  </testsuite>\n")
	}
	b.WriteString("</testsuites>\n")
}

// junitNotes closes the last suite with what belongs to no rule.
func (r Report) junitNotes(b *strings.Builder) {
	b.WriteString("    <system-out>")
	for _, e := range r.Exceptions {
		fmt.Fprintf(b, "allowed by the owner: %s %s %s\n", e.Rule, escaped(e.Where), escaped(e.Reason))
	}
	b.WriteString(r.Summary() + "</system-out>\n")
}

// escaped makes text fit for an attribute or an element.
func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a builder takes everything
	return b.String()
}

// markdown is fit to be pasted into a pull request: what needs attention first,
// and all of it in a table that is folded.
func (r Report) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "**%s**\n\n%s\n\n", cell.Replace(r.Title), r.Summary())
	for _, x := range r.Results {
		if x.Advice() != "" {
			fmt.Fprintf(b, "- **%s %s** %s: %s\n", x.ID, x.Status, x.Title, cell.Replace(x.Detail+"\n"+x.Advice()))
		}
	}
	b.WriteString("\n<details><summary>All rules</summary>\n\n| rule | | promise | seen |\n|---|---|---|---|\n")
	for _, a := range r.Areas() {
		fmt.Fprintf(b, "| | | **%s** | |\n", a.Name)
		for _, x := range a.Results {
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", x.ID, x.Status, x.Title, cell.Replace(x.Detail))
		}
	}
	b.WriteString("\n</details>\n")
	for _, e := range r.Exceptions {
		fmt.Fprintf(b, "\nAllowed by the owner: %s `%s` %s\n", e.Rule, e.Where, cell.Replace(e.Reason))
	}
}

// cell makes text fit for one cell of a table. What it quotes must not be taken for Markdown or HTML.
var cell = strings.NewReplacer("\n", "<br>", "|", "\\|", "<", "&lt;", "`", "\\`", "*", "\\*", "_", "\\_")
