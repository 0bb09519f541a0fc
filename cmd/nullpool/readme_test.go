package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	for i, stack := range stacks {
		var table strings.Builder
		if len(stacks) > 1 {
			fmt.Fprintf(&table, "`--stack %s`%s: %s\n\n", stack.Name, []string{", the default", ""}[min(i, 1)], stack.Title)
		}
		table.WriteString("| option | choices | |\n|---|---|---|\n")
		for _, option := range stack.Options {
			choices := "text"
			if defaults := option.Defaults("NAME"); option.IsText() && defaults != nil {
				choices = "text, or `" + defaults[0] + "`"
			} else if !option.IsText() {
				choices = "`" + strings.Join(option.ChoiceNames(), "`, `") + "`"
			}
			for _, choice := range option.Choices {
				if option.Many && !choice.Default {
					choices = strings.Replace(choices, "`"+choice.Name+"`", "`"+choice.Name+"` (not by default)", 1)
				}
			}
			fmt.Fprintf(&table, "| `%s` | %s | %s |\n", flagName(option), choices, option.Help)
		}
		if !strings.Contains(readme(t), table.String()) {
			t.Errorf("the README's table of options should be:\n%s", &table)
		}
	}
}

// The tables have every flag of new.
func TestReadmeFlags(t *testing.T) {
	t.Parallel()
	a, out, _ := newTestApp(nil)
	a.templates = templates.Files
	a.run(t.Context(), []string{"new", "--help"})
	text := readme(t)
	for _, match := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+) `).FindAllStringSubmatch(out.String(), -1) {
		if match[1] != "help" && !regexp.MustCompile("--"+match[1]+"\\b[^-]").MatchString(text) {
			t.Errorf("--%s is not in the README", match[1])
		}
	}
}

// What one does first with a clone comes first: a project, in a folder that git
// leaves alone, and the tests. TestGoRun runs the one, and this is the other.
func TestReadmeBegins(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)\n```.*?\n(.*?)\n```\n").FindAllStringSubmatch(readme(t), 2)
	first := make([]string, 0, 2)
	for _, block := range blocks {
		first = append(first, block[1])
	}
	if diff := cmp.Diff([]string{firstCommand, "go test -timeout 30m ./..."}, first); diff != "" {
		t.Errorf("the README's first two blocks (-want +got):\n%s", diff)
	}
	ignored, err := os.ReadFile("../../.gitignore")
	if err != nil || !strings.Contains("\n"+string(ignored), "\n/demo/\n") {
		t.Errorf(".gitignore has no /demo/: %q, %v", ignored, err)
	}
}
