package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

func newTestApp(p prompter) (a *app, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	return &app{out: out, err: errs, templates: templates.Files, version: "v1.2.3", prompter: p}, out, errs
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
	cmd := newNewCmd(a, stacks, func(_ context.Context, opts *newOptions) error {
		answers = opts.given
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
		"":                              {},
		"demo":                          {"name": flag("demo")},
		"--module m --provider p":       {"module": flag("m"), "provider": flag("p")},
		"--with docker,notes":           {"with": flag("docker", "notes")},
		"--with docker --with notes":    {"with": flag("docker", "notes")},
		"--without docker":              {"with": flag("notes")},
		"--without docker,notes":        {"with": {Values: []string{}, Origin: generator.FromFlag}},
		"--with docker --without=notes": {"with": flag("docker")},
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

func (s *scripted) Ask(_ context.Context, q question) ([]string, error) {
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
	want := []string{"name ", "module example.com/shop", "provider supabase", "with docker,notes"}
	if diff := cmp.Diff(want, person.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if !strings.Contains(out.String(), "cmd/shop/main.go") {
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

func (crashing) Ask(context.Context, question) ([]string, error) { panic("no such thing") }

// A bug is a failure, not the user's command line, and says where it is.
func TestNewCrashes(t *testing.T) {
	t.Parallel()
	a, _, errs := newTestApp(crashing{})
	status := a.run(t.Context(), []string{"new"})
	if status != exitFailed || !strings.HasPrefix(errs.String(), "nullpool: error: a bug in nullpool: no such thing\n") || !strings.Contains(errs.String(), "new_test.go") {
		t.Errorf("exit status %d: %s", status, errs)
	}
}

// A second stack brings its flags, and --stack to choose it, without a line of
// Go.
func TestNewWithAnotherStack(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{}
	for _, stack := range []string{"go", "menu"} {
		files[stack+"/stack.json"] = &fstest.MapFile{Data: []byte(`{
			"title": "A ` + stack + `", "next": [], "options": [
				{"name": "name", "format": "project-name"},
				{"name": "` + stack + `-drink", "choices": [{"name": "water"}, {"name": "tea"}]}
			]}`)}
		files[stack+"/base/drink.txt.tmpl"] = &fstest.MapFile{Data: []byte(stack + "\n{{- slot \"drink\" .}}\n")}
		for _, drink := range []string{"water", "tea"} {
			files[stack+"/options/"+stack+"-drink/"+drink+"/slots.tmpl"] = &fstest.MapFile{
				Data: []byte(`{{define "drink"}}` + "\n" + drink + "\n{{end}}"),
			}
		}
	}
	a, out, errs := newTestApp(nil)
	a.templates = files
	status := a.run(t.Context(), []string{
		"new", "supper", "--stack", "menu", "--menu-drink", "tea", "--plan", "--json", "--dir", t.TempDir(),
	})
	if status != exitDone || !strings.Contains(out.String(), `"menu-drink": "tea"`) {
		t.Errorf("exit status %d, stdout %s, stderr %s", status, out, errs)
	}
	out.Reset()
	if status := a.run(t.Context(), []string{"new", "supper", "--yes", "--menu-drink", "tea"}); status != exitUsage {
		t.Errorf("a flag of another stack: exit status %d, stderr %s", status, errs)
	}
}

// A checking prompter gives each of its answers to the question's check, and takes
// the first that passes.
type checking struct {
	answers map[string][]string
	refused []string
}

func (c *checking) Ask(_ context.Context, q question) ([]string, error) {
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
	files := fstest.MapFS{"go/stack.json": {Data: []byte(`{
		"title": "A dinner", "next": [], "options": [
			{"name": "name", "format": "project-name"},
			{"name": "main", "choices": [{"name": "fish"}, {"name": "roast", "conflicts": ["side/ice-cream"]}]},
			{"name": "side", "many": true, "choices": [{"name": "ice-cream"}, {"name": "gravy", "requires": ["main/roast"]}]}
		]}`)}}
	for _, choice := range []string{"main/fish", "main/roast", "side/ice-cream", "side/gravy"} {
		files["go/options/"+choice+"/"+strings.ReplaceAll(choice, "/", "-")+".txt"] = &fstest.MapFile{Data: []byte("it\n")}
	}
	files["go/base/plate.txt"] = &fstest.MapFile{Data: []byte("a plate\n")}
	tests := map[string]struct {
		flags   []string
		answers map[string][]string
		refused []string
		error   string
	}{
		"conflict": {
			answers: map[string][]string{"main": {"roast"}, "side": {"ice-cream", "gravy"}},
			refused: []string{`side ice-cream: main "roast": does not go with --side ice-cream`},
		},
		"needs": {
			answers: map[string][]string{"main": {"fish"}, "side": {"gravy", "ice-cream"}},
			refused: []string{`side gravy: side "gravy": needs --main roast`},
		},
		"needed by a flag": {
			flags:   []string{"--side", "gravy"},
			answers: map[string][]string{"main": {"fish", "roast"}},
			refused: []string{`main fish: side "gravy": needs --main roast`},
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
			a.templates = files
			status := a.run(t.Context(), append([]string{"new", "supper", "--plan", "--dir", t.TempDir()}, test.flags...))
			if want := test.error != ""; (status == exitUsage) != want || want && errs.String() != test.error {
				t.Errorf("exit status %d: %s", status, errs)
			}
			if diff := cmp.Diff(test.refused, person.refused); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
		})
	}
}
