package generator

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"text/template/parse"

	"github.com/nullpool/nullpool/generator/teststack"
)

// uses is what a template refers to.
type uses struct {
	choices  map[string]bool // in {{if}}
	slots    map[string]bool
	settings bool
}

// read adds what a node and all below it refer to.
func (u *uses) read(s *Stack, node parse.Node) {
	walk(node, 0, func(node parse.Node, _ int) {
		var fields []string
		switch n := node.(type) {
		case *parse.FieldNode:
			fields = n.Ident
		case *parse.VariableNode:
			fields = n.Ident[1:]
		}
		if name, ok := slotName(node); ok {
			u.slots[name] = true
		}
		if len(fields) == 0 {
			return
		}
		u.settings = u.settings || fields[0] == settingsField
		for _, choice := range s.choices() {
			option, name, _ := strings.Cut(choice, "/")
			if fields[0] == camel(option) && (len(fields) == 1 || fields[1] == camel(name)) {
				u.choices[choice] = true
			}
		}
	})
}

// A dependence is a file of a layer, and the choices that decide whether a project
// has it and what is in it.
type dependence struct {
	layer   *layer
	source  source
	choices map[string]bool
}

// dependences returns those of all files of a stack.
func dependences(t *testing.T, s *Stack) (all []dependence) {
	t.Helper()
	for _, l := range s.layers {
		c, err := l.contents()
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range c.sources {
			u := &uses{map[string]bool{}, map[string]bool{}, false}
			u.read(s, file.path.Root)
			if file.body != nil {
				u.read(s, file.body.Root)
			}
			d := dependence{l, file, u.choices}
			d.dependOn(l)
			s.fill(u, d)
			all = append(all, d)
		}
	}
	return all
}

func (d dependence) dependOn(l *layer) {
	for _, either := range l.when {
		for _, choice := range either {
			d.choices[choice] = true
		}
	}
}

// fill adds what decides about slots and settings, until nothing is new.
func (s *Stack) fill(u *uses, d dependence) {
	for done := map[string]bool{}; len(done) < len(u.slots); {
		for _, slot := range slices.Sorted(maps.Keys(u.slots)) {
			done[slot] = true
			for _, l := range s.layers {
				if part := l.part(slot); part != nil {
					d.dependOn(l)
					u.read(s, part.Root)
				}
			}
		}
	}
	for _, l := range s.layers {
		if u.settings && len(l.settings) > 0 {
			d.dependOn(l)
		}
	}
}

// part returns the layer's part of a slot, or nil.
func (l *layer) part(slot string) *template.Template {
	c, err := l.contents()
	if err != nil || c.slots == nil {
		return nil
	}
	return c.slots.Lookup(slot)
}

// project returns choices as far as the file depends on them.
func (d dependence) project(choices map[string]bool) string {
	var taken []string
	for _, choice := range slices.Sorted(maps.Keys(d.choices)) {
		if choices[choice] {
			taken = append(taken, choice)
		}
	}
	return strings.Join(taken, " ")
}

// each calls do for every set of choices on which the file depends and which some
// valid project has, with the choices of such a project.
func (d dependence) each(s *Stack, do func(projected string, choices map[string]bool)) {
	seen, vary := map[string]bool{}, s.bound(d.choices)
	for choices := range s.solutions(nil, func(choice string) bool { return vary[choice] }) {
		if projected := d.project(choices); !seen[projected] {
			seen[projected] = true
			do(projected, choices)
		}
	}
}

// bound returns choices, and those that relations tie to them.
func (s *Stack) bound(choices map[string]bool) map[string]bool {
	all := maps.Clone(choices)
	for grown := true; grown; {
		grown = false
		for _, option := range s.Options {
			for _, choice := range option.Choices {
				tied := append([]string{option.Name + "/" + choice.Name}, slices.Concat(choice.Requires, choice.Conflicts)...)
				if len(tied) > 1 && slices.ContainsFunc(tied, func(name string) bool { return all[name] }) {
					before := len(all)
					for _, name := range tied {
						all[name] = true
					}
					grown = grown || len(all) > before
				}
			}
		}
	}
	return all
}

// planOf returns the plan of a project with these choices.
func planOf(s *Stack, name string, choices map[string]bool) *Plan {
	p := &Plan{Version: testVersion, Stack: s, Answers: s.answersOf(name, choices).WithDefaults(s)}
	for _, l := range s.layers {
		if l.active(choices) {
			p.layers = append(p.layers, l)
		}
	}
	return p
}

// A fileProof has every distinct file that a stack can render, by layer, name and
// the choices that it depends on.
type fileProof struct {
	stack       *Stack
	dependences []dependence
	rendered    map[string]File
	distinct    int
}

func proofKey(l *layer, file source, projected string) string {
	return l.name + " " + file.name + " " + projected
}

// proveFiles renders, formats and parses every distinct file once. A file sees no
// choice, no layer's part and no setting on which it does not depend: one that
// looks for another fails.
func proveFiles(t *testing.T, s *Stack) *fileProof {
	t.Helper()
	proof := &fileProof{s, dependences(t, s), map[string]File{}, 0}
	checked := map[[sha256.Size]byte][]byte{}
	for _, d := range proof.dependences {
		kind := s.viewType(func(choice string) bool { return d.choices[choice] })
		d.each(s, func(projected string, choices map[string]bool) {
			if !d.layer.active(choices) {
				return
			}
			p := planOf(s, "my-app", choices)
			seen := slices.DeleteFunc(slices.Clone(p.layers), func(l *layer) bool { return !d.sees(l) })
			view, err := p.view(kind, seen)
			if err != nil {
				t.Fatal(err)
			}
			file, err := d.source.execute(view)
			if err != nil {
				t.Errorf("%s with %q: %v", d.source.name, projected, err)
				return
			}
			sum := sha256.Sum256(append([]byte(file.Path+"\x00"), file.Data...))
			if _, ok := checked[sum]; !ok {
				if err := file.check(); err != nil {
					t.Errorf("%s of layer %s with %q: %v", file.Path, d.layer.name, projected, err)
				}
				checked[sum] = file.Data
			}
			file.Data = checked[sum]
			proof.rendered[proofKey(d.layer, d.source, projected)] = file
		})
	}
	proof.distinct = len(checked)
	return proof
}

// sees reports whether the file depends on whether the layer is there.
func (d dependence) sees(l *layer) bool {
	for _, either := range l.when {
		for _, choice := range either {
			if !d.choices[choice] {
				return false
			}
		}
	}
	return true
}

// proveLocks puts every distinct lock together, and parses what can be.
func proveLocks(t *testing.T, s *Stack) {
	t.Helper()
	d := dependence{choices: map[string]bool{}}
	for _, l := range s.layers {
		if l.lock != nil {
			d.dependOn(l)
		}
	}
	d.each(s, func(projected string, choices map[string]bool) {
		for _, file := range planOf(s, "my-app", choices).lockFiles() {
			if err := file.check(); err != nil {
				t.Errorf("%s with %q: %v", file.Path, projected, err)
			}
		}
	})
}

var goldenName = regexp.MustCompile(`\bdemo\b`)

// TestFiles proves every file that any project can have. With -v it shows which
// choices each of them depends on.
func TestFiles(t *testing.T) {
	t.Parallel()
	stacks, err := Load(teststack.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(stacks, realStacks(t)...) {
		proof := proveFiles(t, s)
		proveLocks(t, s)
		for _, d := range proof.dependences {
			t.Logf("%-60s %s", path.Join(d.layer.folder, d.source.name), strings.Join(slices.Sorted(maps.Keys(d.choices)), " "))
		}
		for _, file := range proof.rendered {
			// The goldens are called demo; a template that says so was not filled in.
			if at := goldenName.FindIndex(file.Data); at != nil {
				t.Errorf("%s:%d: says demo in a project called my-app", file.Path, 1+bytes.Count(file.Data[:at[0]], []byte("\n")))
			}
		}
		t.Logf("stack %s: %d distinct files", s.Name, proof.distinct)
		t.Run(s.Name+"/python", func(t *testing.T) {
			t.Parallel()
			mustCompile(t, slices.Collect(maps.Values(proof.rendered)))
		})
	}
}

// TestFilesRefuse wants a file that looks at a choice it is not said to depend on to
// fail.
func TestFilesRefuse(t *testing.T) {
	t.Parallel()
	s := menuStack(t)
	all := dependences(t, s)
	i := slices.IndexFunc(all, func(d dependence) bool { return d.source.name == "serve.sh.tmpl" })
	for _, d := range all[i : i+1] { // which panics where there is none
		if got := fmt.Sprint(slices.Sorted(maps.Keys(d.choices))); got != "[side/ice-cream]" {
			t.Errorf("serve.sh depends on %s", got)
		}
		blind := s.viewType(func(string) bool { return false })
		view, err := planOf(s, "supper", map[string]bool{"main/fish": true}).view(blind, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.source.execute(view); err == nil {
			t.Error("a choice that the file was not to see was seen")
		}
	}
}
