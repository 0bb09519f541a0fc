package generator

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// covering returns choices for complete projects that together have every choice
// alone, every two choices that can come together, and every choice with every
// extra left out, and every layer, such as one for three choices: the default, the
// smallest, everything, and what is still needed.
func covering(s *Stack) []map[string]bool {
	none, all := map[string]bool{}, map[string]bool{}
	for _, option := range s.Options {
		for i, choice := range option.Choices {
			if option.Many {
				none[option.Name+"/"+choice.Name] = false
			}
			if option.Many || i == len(option.Choices)-1 {
				all[option.Name+"/"+choice.Name] = true
			}
		}
	}
	rows := []map[string]bool{s.asFarAsPossible(nil), s.asFarAsPossible(none), s.asFarAsPossible(all)}
	for _, choice := range s.choices() {
		alone := maps.Clone(none)
		alone[choice] = true
		rows = append(rows, s.asFarAsPossible(alone))
	}
	for _, l := range s.layers {
		if !slices.ContainsFunc(rows, l.active) {
			rows = append(rows, s.asFarAsPossible(l.wanted()))
		}
	}
	return append(rows, s.pairsLeft(rows)...)
}

// asFarAsPossible returns valid choices that are as wanted says, but for what does
// not go with what comes before it.
func (s *Stack) asFarAsPossible(wanted map[string]bool) map[string]bool {
	fixed := map[string]bool{}
	row, _ := s.complete(fixed)
	for _, choice := range s.choices() {
		taken, ok := wanted[choice]
		if !ok {
			continue
		}
		fixed[choice] = taken
		if next, ok := s.complete(fixed); ok {
			row = maps.Clone(next)
		} else {
			delete(fixed, choice)
		}
	}
	return maps.Clone(row)
}

// A pair is two choices, each taken or left out.
type pair [2]struct {
	choice string
	taken  bool
}

func (p pair) in(row map[string]bool) bool {
	return row[p[0].choice] == p[0].taken && row[p[1].choice] == p[1].taken
}

// pairsLeft returns projects with the pairs that are in none of the rows.
func (s *Stack) pairsLeft(rows []map[string]bool) (more []map[string]bool) {
	var left []pair
	for p := range s.allPairs {
		if !slices.ContainsFunc(rows, p.in) {
			left = append(left, p)
		}
	}
	for len(left) > 0 {
		fixed, row := map[string]bool{}, map[string]bool(nil)
		for _, p := range left {
			with := maps.Clone(fixed)
			with[p[0].choice], with[p[1].choice] = p[0].taken, p[1].taken
			agrees := true
			for choice, taken := range fixed {
				agrees = agrees && with[choice] == taken
			}
			if next, ok := s.complete(with); agrees && ok {
				fixed, row = with, maps.Clone(next)
			}
		}
		if row == nil {
			return more // the pairs left never come together
		}
		more = append(more, row)
		left = slices.DeleteFunc(left, func(p pair) bool { return p.in(row) })
	}
	return more
}

// allPairs yields every two choices of different options, or extras, in which one
// may be left out.
func (s *Stack) allPairs(yield func(pair) bool) {
	names := s.choices()
	for i, a := range names {
		for _, b := range names[:i] {
			for _, taken := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
				p := pair{{a, taken[0]}, {b, taken[1]}}
				if !yield(p) {
					return
				}
			}
		}
	}
}

// projects returns the plans of a covering set of complete projects of a name, or of all that
// are valid where MATRIX=all asks for these.
func projects(t *testing.T, s *Stack, name string) (plans []*Plan) {
	t.Helper()
	rows := covering(s)
	if os.Getenv("MATRIX") == "all" {
		rows = nil
		for choices := range s.solutions(nil, func(string) bool { return true }) {
			rows = append(rows, maps.Clone(choices))
		}
	}
	seen := map[string]bool{}
	for _, row := range rows {
		plan, err := NewPlan(s, s.answersOf(name, row), testVersion)
		if err != nil {
			t.Fatalf("%v: %v", row, err)
		}
		if choices := strings.Join(plan.active(), " "); !seen[choices] {
			seen[choices] = true
			plans = append(plans, plan)
		}
	}
	return plans
}

// TestProjects renders complete projects: all of their files are those that
// TestFiles has proven, so none depends on a choice that its template does not show.
func TestProjects(t *testing.T) {
	t.Parallel()
	for _, s := range append(realStacks(t), menuStack(t)) {
		mustBeProven(t, s, proveFiles(t, s))
	}
}

func mustBeProven(t *testing.T, s *Stack, proof *fileProof) {
	t.Helper()
	for _, plan := range projects(t, s, "my-app") {
		tree, err := Generate(plan)
		if err != nil {
			t.Errorf("%v: %v", plan.active(), err)
			continue
		}
		files := map[string]File{}
		for _, file := range tree {
			files[file.Path] = file
		}
		choices := map[string]bool{}
		for _, name := range plan.active() {
			choices[name] = true
		}
		proven := 0
		for _, d := range proof.dependences {
			if !d.layer.active(choices) {
				continue
			}
			want, ok := proof.rendered[proofKey(d.layer, d.source, d.project(choices))]
			got := files[want.Path]
			if !ok || want.Mode != got.Mode || !bytes.Equal(want.Data, got.Data) {
				t.Errorf("%v: %s is not what was proven (-proven +project):\n%s", plan.active(), d.source.name, cmp.Diff(want, got))
			}
			proven++
		}
		mustRequireImports(t, plan, tree)
		if made := len(files) - proven; made < 1 || made > 3 { // the answers, and perhaps go.mod and go.sum
			t.Errorf("%v: %d files that no layer has", plan.active(), made)
		}
	}
}

// mustRequireImports wants go.mod to have the module of all that is imported.
func mustRequireImports(t *testing.T, plan *Plan, tree Tree) {
	t.Helper()
	required := map[string]string{}
	for _, l := range plan.layers {
		if l.lock != nil {
			maps.Copy(required, l.lock.versions)
		}
	}
	for _, f := range tree {
		imported := map[string]bool{}
		if path.Ext(f.Path) != ".go" || len(required) == 0 {
			continue
		}
		if err := addImports(imported, f, plan.self()); err != nil {
			t.Fatal(err)
		}
		for name := range imported {
			module := name
			for module != "." && required[module] == "" {
				module = path.Dir(module)
			}
			if module == "." {
				t.Errorf("%s of layer %s imports %s, which the project does not require: go generate ./... says what to add", f.Path, f.Layer, name)
			}
		}
	}
}

// TestProgramsBuild builds and checks every distinct program of a covering set of
// projects, with the tools of its language.
func TestProgramsBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	t.Parallel()
	for _, s := range realStacks(t) {
		t.Run(s.Name, func(t *testing.T) {
			programs, all := map[string]bool{}, 0
			for _, plan := range projects(t, s, "demo") { // as the goldens are called, which have compiled the same packages
				tree, err := Generate(plan)
				if err != nil {
					t.Fatal(err)
				}
				all++
				if program := languageOf(t, s).program(tree); !programs[program] {
					programs[program] = true
					t.Run(strings.ReplaceAll(strings.Join(plan.active(), ","), "/", "="), func(t *testing.T) {
						languageOf(t, s).build(t, tree)
					})
				}
			}
			t.Logf("%d programs of %d projects", len(programs), all)
		})
	}
}

// A layer for three choices is in a project that is built, though every two of these
// come together elsewhere.
func TestCoveringHasLayers(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"s/base/x": {}}
	options := make([]string, 0, 3)
	for _, option := range []string{"a", "b", "c"} {
		options = append(options, fmt.Sprintf(`{"name": %q, "choices": [{"name": "x"}, {"name": "y"}, {"name": "z"}]}`, option))
		for _, choice := range []string{"x", "y", "z"} {
			files["s/options/"+option+"/"+choice+"/"+option] = &fstest.MapFile{}
			for _, other := range []string{"x", "y", "z"} {
				files["s/pairs/a."+choice+"+b."+other+"+c.y/three"] = &fstest.MapFile{}
			}
		}
	}
	files["s/stack.json"] = &fstest.MapFile{Data: []byte(`{"options": [{"name": "name"}, ` + strings.Join(options, ", ") + `]}`)}
	stacks, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range stacks[0].layers {
		if !slices.ContainsFunc(covering(stacks[0]), l.active) {
			t.Errorf("layer %s is in no project", l.name)
		}
	}
}
