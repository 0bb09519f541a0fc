package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

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
