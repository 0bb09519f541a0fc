package verify

import (
	"embed"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// Formats are the names that Write takes.
var Formats = []string{"text", "json", "junit", "markdown"}

// pages are templates, one for each format but JSON: text of at most 80 columns,
// the XML that Jenkins, GitLab and GitHub's actions take (there is no standard),
// and Markdown fit to be pasted into a pull request. Actions are in double brackets,
// which mean nothing in any of them.
//
//go:embed formats
var pages embed.FS

// Write writes the report in one of Formats. All of them hold the same: the title,
// each rule with its area, its outcome and what was seen, for those that failed or
// warned also why the rule exists and what to do, the owner's exceptions and the
// summary. colour is for text on a terminal. The error is w's, or that of an
// unknown format.
func (r Report) Write(w io.Writer, format string, colour bool) error {
	if !slices.Contains(Formats, format) {
		return fmt.Errorf("unknown format %q: use one of %s", format, strings.Join(Formats, ", "))
	}
	if format == "json" { // docs/verification.md says what is in it
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Summary string `json:"summary"`
			Counts  counts `json:"counts"`
			Report
		}{r.Summary(), r.counts(), r})
	}
	status := func(s Status) string { return fmt.Sprintf("%-7s", s) }
	if colour {
		status = func(s Status) string { return fmt.Sprintf("\x1b[%sm%-7s\x1b[0m", colours[s], s) }
	}
	functions := template.FuncMap{"wrap": wrap, "xml": escapeXML, "escape": markdown.Replace, "status": status}
	page, err := template.New(format).Delims("[[", "]]").Funcs(functions).ParseFS(pages, "formats/"+format)
	if err != nil {
		return err
	}
	return page.Execute(w, r)
}

// colours are ANSI's (ECMA-48, SGR) for each status.
var colours = map[Status]string{StatusPassed: "32", StatusWarned: "33", StatusFailed: "31", StatusNotRun: "2"}

// wide is what fits on a line of the report beside its indentation: whole words,
// or a part of one that is wider than that.
var wide = regexp.MustCompile(`(\S.{0,62})(?:\s+|$)|(\S{63})`)

// wrap breaks text into lines, each with its indentation.
func wrap(indent, text string) string {
	return wide.ReplaceAllString(text, indent+"$1$2\n")
}

func escapeXML(text string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(text))
	return b.String(), err
}

// markdown makes text fit for one cell of a table. What it quotes must not be taken for Markdown or HTML.
var markdown = strings.NewReplacer("\n", "<br>", "|", "\\|", "<", "&lt;", "`", "\\`", "*", "\\*", "_", "\\_")
