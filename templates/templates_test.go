package templates_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

// load returns the stacks. That every requires and conflicts names a choice, and
// every choice has its folder, is for Load to say.
func load(t *testing.T) []*generator.Stack {
	t.Helper()
	stacks, err := generator.Load(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	return stacks
}

// Every option is a question that explains itself and its choices in lines of 80
// columns: those of list, of the two kinds of prompts, and of the review.
func TestQuestions(t *testing.T) {
	t.Parallel()
	for _, stack := range load(t) {
		mustBeSaid(t, stack.Name, stack.Title)
		for _, option := range stack.Options {
			name := stack.Name + " " + option.Name
			mustBeSaid(t, name, option.Prompt, option.Help)
			help := option.Help
			if defaults := option.Defaults("NAME"); defaults != nil {
				help += " (default " + strings.Join(defaults, ",") + ")"
			}
			mustFit(t, name,
				fmt.Sprintf("  %-15s %s", "--"+option.Name, help),
				"? "+option.Prompt+":  [Use arrows to move, space to select, type to filter]",
				option.Prompt+": "+option.Help,
				"> change "+option.Name+" - "+option.Help,
			)
			for _, choice := range option.Choices {
				mustBeSaid(t, name+"/"+choice.Name, choice.Help)
				mustFit(t, name+"/"+choice.Name,
					fmt.Sprintf("    %-13s %s", choice.Name, choice.Help),
					fmt.Sprintf("> [x]  %s - %s", choice.Name, choice.Help),
					fmt.Sprintf("  10. %s (default): %s", choice.Name, choice.Help),
				)
			}
		}
	}
}

func mustBeSaid(t *testing.T, what string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.TrimSpace(text) == "" || strings.Contains(text, "\n") {
			t.Errorf("%s: %q is no line that explains it", what, text)
		}
	}
}

func mustFit(t *testing.T, what string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if utf8.RuneCountInString(line) > 80 {
			t.Errorf("%s: wider than 80 columns: %q", what, line)
		}
	}
}

// Whoever has no opinion but a name gets a project.
func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, stack := range load(t) {
		given := generator.Answers{generator.NameOption: {Values: []string{"demo"}, Origin: generator.FromFlag}}
		for name, answer := range given.WithDefaults(stack) {
			answer.Origin = generator.FromFlag // whose text is checked
			given[name] = answer
		}
		if err := stack.Validate(given); err != nil {
			t.Errorf("%s: %v", stack.Name, err)
		}
		if _, err := generator.NewPlan(stack, given, "devel"); err != nil {
			t.Errorf("%s: %v", stack.Name, err)
		}
	}
}

// The stack go asks what it always asked, in the same order, whatever is asked
// between.
func TestOptionsOfGo(t *testing.T) {
	t.Parallel()
	stacks := load(t)
	at := slices.IndexFunc(stacks, func(s *generator.Stack) bool { return s.Name == templates.Default })
	if at < 0 {
		t.Fatalf("no stack %q", templates.Default)
	}
	want := []string{"name", "module", "router", "db", "migrations", "provider", "with"}
	var got []string
	for _, option := range stacks[at].Options {
		if slices.Contains(want, option.Name) {
			got = append(got, option.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("options %q, want %q", got, want)
	}
}
