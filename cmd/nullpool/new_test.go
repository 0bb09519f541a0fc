package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/prompt"
	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/generator/teststack"
)

// newTestApp returns an app on made-up stacks.
func newTestApp(p prompt.Prompter) (a *app, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	a = &app{out: out, err: errs, templates: teststack.Files}
	a.program, a.version, a.prompter = "nullpool", "v1.2.3", p
	return a, out, errs
}

// given returns the answers that a command line of new gives.
func given(t *testing.T, line string) (generator.Answers, error) {
	t.Helper()
	a, _, _ := newTestApp(nil)
	stacks, err := generator.Load(a.templates)
	if err != nil {
		t.Fatal(err)
	}
	var answers generator.Answers
	cmd := newNewCmd(a, stacks, func(_ context.Context, r *request) error {
		answers = r.given
		return nil
	})
	cmd.SetArgs(strings.Fields(line))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return answers, cmd.Execute()
}

func TestNewCommandLine(t *testing.T) {
	t.Parallel()
	flag := func(values ...string) generator.Answer {
		return generator.Answer{Values: values, Origin: generator.FromFlag}
	}
	tests := map[string]generator.Answers{
		"":                                 {},
		"demo":                             {"name": flag("demo")},
		"--cookbook c --main m":            {"cookbook": flag("c"), "main": flag("m")},
		"--side rice,sauce":                {"side": flag("rice", "sauce")},
		"--side rice --side sauce":         {"side": flag("rice", "sauce")},
		"--no rice":                        {"side": {Values: []string{}, Origin: generator.FromFlag}},
		"--no ice-cream":                   {"side": flag("rice")},
		"--no sauce,ice-cream":             {"side": flag("rice")},
		"--side ice-cream,rice --no=sauce": {"side": flag("ice-cream", "rice")},
	}
	for line, want := range tests {
		answers, err := given(t, line)
		if err != nil {
			t.Errorf("new %s: %v", line, err)
		}
		if diff := cmp.Diff(want, answers); diff != "" {
			t.Errorf("new %s (-want +got):\n%s", line, diff)
		}
	}
}

// A scripted prompter answers from a map and notes what it was asked.
type scripted struct {
	answers map[string][]string
	asked   []string
	err     error
}

func (s *scripted) Ask(_ context.Context, q prompt.Question) ([]string, error) {
	s.asked = append(s.asked, q.Name+" "+strings.Join(q.Defaults, ","))
	if answer, ok := s.answers[q.Name]; ok {
		return answer, s.err
	}
	return q.Defaults, s.err
}

func TestNewAsks(t *testing.T) {
	t.Parallel()
	person := &scripted{answers: map[string][]string{"name": {"shop"}}}
	a, out, errs := newTestApp(person)
	if status := a.run(t.Context(), []string{"new", "--plan", "--dir", t.TempDir()}); status != exitDone {
		t.Fatalf("exit status %d: %s", status, errs)
	}
	want := []string{"stack menu", "name ", "cookbook example.com/shop", "table-cloth linen for shop", "main fish", "side rice"}
	if diff := cmp.Diff(want, person.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if !strings.Contains(out.String(), "dishes/shop.txt") {
		t.Errorf("plan is %s", out)
	}
}

// Prompts share stdout with the document, so --json asks nothing.
func TestNewDoesNotAskForADocument(t *testing.T) {
	t.Parallel()
	person := &scripted{}
	a, out, _ := newTestApp(person)
	status := a.run(t.Context(), []string{"new", "--json"})
	if status != exitUsage || len(person.asked) > 0 || !strings.Contains(out.String(), `"exit_code": 2`) {
		t.Errorf("exit status %d, asked %q, document %s", status, person.asked, out)
	}
}

func TestNewPromptFails(t *testing.T) {
	t.Parallel()
	a, _, errs := newTestApp(&scripted{err: errors.New("the line went dead")})
	if status := a.run(t.Context(), []string{"new"}); status != exitFailed {
		t.Errorf("exit status %d", status)
	}
	if want := "nullpool: error: the line went dead\n"; errs.String() != want {
		t.Errorf("stderr %q, want %q", errs, want)
	}
}

// A crashing prompter is a bug.
type crashing struct{}

func (crashing) Ask(context.Context, prompt.Question) ([]string, error) { panic("no such thing") }

// A bug is a failure, not the user's command line, and says where it is.
func TestNewCrashes(t *testing.T) {
	t.Parallel()
	a, _, errs := newTestApp(crashing{})
	status := a.run(t.Context(), []string{"new"})
	if status != exitFailed || !strings.HasPrefix(errs.String(), "nullpool: error: a bug in nullpool: no such thing\n") || !strings.Contains(errs.String(), "new_test.go") {
		t.Errorf("exit status %d: %s", status, errs)
	}
}

// A checking prompter gives each of its answers to the question's check, and takes
// the first that passes.
type checking struct {
	answers map[string][]string
	refused []string
}

func (c *checking) Ask(_ context.Context, q prompt.Question) ([]string, error) {
	for _, answer := range c.answers[q.Name] {
		values := strings.Split(answer, ",")
		err := q.Check(values)
		if err == nil {
			return values, nil
		}
		c.refused = append(c.refused, q.Name+" "+answer+": "+err.Error())
	}
	return q.Defaults, nil
}

// Choices that do not go together are refused at the later question; those given
// by flags before the first.
func TestNewExplainsConflictsAtTheQuestion(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		flags   []string
		answers map[string][]string
		refused []string
		error   string
	}{
		"conflict": {
			answers: map[string][]string{"main": {"roast"}, "side": {"ice-cream", "sauce"}},
			refused: []string{`side ice-cream: main "roast": does not go with --side ice-cream`},
		},
		"needs": {
			answers: map[string][]string{"main": {"fish"}, "side": {"sauce", "ice-cream"}},
			refused: []string{`side sauce: side "sauce": needs --main roast`},
		},
		"needed by a flag": {
			flags:   []string{"--side", "sauce"},
			answers: map[string][]string{"main": {"fish", "roast"}},
			refused: []string{`main fish: side "sauce": needs --main roast`},
		},
		"flags": {
			flags: []string{"--main", "roast", "--side", "ice-cream"},
			error: "nullpool: error: main \"roast\": does not go with --side ice-cream\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			person := &checking{answers: test.answers}
			a, _, errs := newTestApp(person)
			status := a.run(t.Context(), append([]string{"new", "supper", "--stack", "menu", "--plan", "--dir", t.TempDir()}, test.flags...))
			if want := test.error != ""; (status == exitUsage) != want || want && errs.String() != test.error {
				t.Errorf("exit status %d: %s", status, errs)
			}
			if diff := cmp.Diff(test.refused, person.refused); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
		})
	}
}
