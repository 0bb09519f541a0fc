package templates_test

import (
	"fmt"
	"regexp"
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
	at := slices.IndexFunc(stacks, func(s *generator.Stack) bool { return s.Default })
	if at < 0 {
		t.Fatal("no default")
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

// A project without an extra has no word of it. Postgres has words of its own that begin with verify, and
// NP12 looks at a compose file that the owner may add.
func TestNoTrace(t *testing.T) {
	t.Parallel()
	for without, words := range map[string]string{
		"docker": `(?i)docker|\bcompose\b`,
		"verify": `\bNP\d\d\b|(?i)\bverify\b(-\w+)?|\bverification\b|stand-?in\b`,
	} {
		given := generator.Answers{
			generator.NameOption: {Values: []string{"demo"}, Origin: generator.FromFlag},
			"with":               {Values: slices.DeleteFunc([]string{"docker", "notes", "verify"}, func(extra string) bool { return extra == without }), Origin: generator.FromFlag},
		}
		stack := load(t)[slices.IndexFunc(load(t), func(s *generator.Stack) bool { return s.Name == "go" })]
		plan, err := generator.NewPlan(stack, given.WithDefaults(stack), "devel")
		if err != nil {
			t.Fatal(err)
		}
		tree, err := generator.Generate(plan)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range tree {
			for _, word := range regexp.MustCompile(words).FindAllString(string(f.Data), -1) {
				added := word == "compose" && (f.Path == "docs/verification.md" || f.Path == "internal/verify/configuration_test.go")
				if !added && word != "verify-full" && word != "verify-ca" && !strings.HasSuffix(f.Path, ".sum") {
					t.Errorf("without %s, %s has %q", without, f.Path, word)
				}
			}
		}
	}
}
