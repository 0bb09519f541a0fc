package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

func readme(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The table of options follows from the stacks, like everything else about them.
func TestReadmeOptions(t *testing.T) {
	t.Parallel()
	stacks, err := generator.Load(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, stack := range stacks {
		table.WriteString("| option | choices | |\n|---|---|---|\n")
		for _, option := range stack.Options {
			choices := "text"
			if defaults := option.Defaults("NAME"); option.IsText() && defaults != nil {
				choices = "text, or `" + defaults[0] + "`"
			} else if !option.IsText() {
				choices = "`" + strings.Join(option.ChoiceNames(), "`, `") + "`"
			}
			fmt.Fprintf(&table, "| `%s` | %s | %s |\n", flagName(option), choices, option.Help)
		}
	}
	if !strings.Contains(readme(t), table.String()) {
		t.Errorf("the README's table of options should be:\n%s", &table)
	}
}

// The tables have every flag of new.
func TestReadmeFlags(t *testing.T) {
	t.Parallel()
	text := readme(t)
	for _, match := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+) `).FindAllStringSubmatch(output(t, nil, "new", "--help"), -1) {
		if match[1] != "help" && !regexp.MustCompile("--"+match[1]+"\\b[^-]").MatchString(text) {
			t.Errorf("--%s is not in the README", match[1])
		}
	}
}

// The transcript shows what one sees, up to where times and ids come in.
func TestReadmeTranscript(t *testing.T) {
	text := readme(t)
	t.Chdir(t.TempDir())
	a, out, errs := newTestApp(nil)
	a.version = "devel"
	if status := a.run(t.Context(), []string{"new", "demo", "--yes"}); status != exitDone {
		t.Fatalf("exit status %d: %s", status, errs)
	}
	want := "$ go run ./cmd/nullpool new demo --yes\n" + out.String() + errs.String()
	if !strings.Contains(text, want) {
		t.Errorf("the README's transcript should have:\n%s", want)
	}
}

var escape = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|[78])`)

// The dialogue is what a terminal shows, line by line, and fits into 80 columns.
func TestReadmeDialogue(t *testing.T) {
	t.Parallel()
	_, dialogue, _ := strings.Cut(readme(t), "$ nullpool new\n")
	dialogue, _, _ = strings.Cut(dialogue, "```")

	s := startSession(t, "new")
	s.line("Project name:", "shop\r")
	s.line("Module path:", "\r")
	s.keys("Database provider:", "\r")
	s.keys("Extras:", "\r")
	s.keys("What now:", "\r")
	s.expect("The same without questions:")
	s.expect("\r\n\r\n  nullpool new shop")
	s.exit(0)
	shown := strings.Split(strings.ReplaceAll(escape.ReplaceAllString(s.text(), ""), "\r", ""), "\n")
	for _, line := range shown {
		if utf8.RuneCountInString(line) > 80 && !strings.HasPrefix(line, "  nullpool new") {
			t.Errorf("wider than 80 columns: %q", line)
		}
	}
	next := 0
	for line := range strings.SplitSeq(dialogue, "\n") {
		at := slices.IndexFunc(shown[next:], func(s string) bool { return strings.TrimRight(s, " ") == line })
		if at < 0 {
			t.Fatalf("the README shows %q; the terminal showed\n%s", line, strings.Join(shown, "\n"))
		}
		next += at + 1
	}
}
