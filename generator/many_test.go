package generator

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// manyChoices is a made-up stack of 12 options with 110,592 combinations. Its
// README depends on every choice, and its program on a third of them.
func manyChoices() fstest.MapFS {
	files := fstest.MapFS{}
	add := func(name, text string) { files["many/"+name] = &fstest.MapFile{Data: []byte(text)} }
	options := []string{
		`{"name": "name", "format": "project-name"}`,
		`{"name": "module", "format": "go-module", "default": "example.com/NAME"}`,
	}
	for i := range 10 {
		count, more := 3, ""
		switch {
		case i == 9:
			count, more = 6, `"many": true, `
		case i >= 3:
			count = 2
		}
		option := fmt.Sprintf("option-%c", 'a'+i)
		var choices []string
		for j := range count {
			choice := fmt.Sprintf("choice-%d", j)
			relation := ""
			if i == 9 && j == 5 {
				relation = `, "uses": ["both"]`
			}
			choices = append(choices, fmt.Sprintf(`{"name": %q%s}`, choice, relation))
			folder := "options/" + option + "/" + choice + "/"
			add(folder+fmt.Sprintf("%s/%s.go.tmpl", option, choice), "package option\n\n// {{.Name}}\n")
			parts := fmt.Sprintf("{{define \"readme\"}}\n%s is %s in {{.Name}}\n{{end}}\n", option, choice)
			if i < 4 {
				parts += fmt.Sprintf("{{define \"program\"}}\n\tprintln(\"%s %s\")\n{{end}}\n", option, choice)
			}
			add(folder+slotsFile, parts)
		}
		options = append(options, fmt.Sprintf(`{"name": %q, %s"choices": [%s]}`, option, more, strings.Join(choices, ", ")))
	}
	add("stack.json", `{"title": "Many", "options": [`+strings.Join(options, ", ")+`]}`)
	add("base/README.md.tmpl", "# {{.Name}}\n{{- slot \"readme\" .}}\n")
	add("base/main.go.tmpl", "package main\n\nfunc main() {\n{{- slot \"program\" .}}\n}\n")
	add("base/settings.json", `[{"name": "ADDR", "group": "rest", "help": "where", "default": ":1", "bound": "any"}]`)
	add("base/.env.tmpl", "{{range .Settings.All}}{{.Env}}{{end}}\n")
	add("options/option-a/choice-1/settings.json", `[{"name": "MORE", "group": "rest", "help": "what", "default": "x", "bound": "any"}]`)
	add("shared/both/shared.txt", "shared\n")
	add("pairs/option-a.choice-0+option-j.choice-0/pair.txt", "pair\n")
	return files
}

// TestManyChoices loads and proves a stack with 110,592 combinations, in a process
// of its own whose work can be told from that of other tests: at most 20 seconds of
// one processor.
func TestManyChoices(t *testing.T) {
	if os.Getenv("MANY_CHOICES") == "" {
		if testing.Short() {
			t.Skip("takes long")
		}
		t.Parallel()
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestManyChoices$", "-test.v")
		command.Env = append(os.Environ(), "MANY_CHOICES=1")
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		took := command.ProcessState.UserTime() + command.ProcessState.SystemTime()
		if t.Logf("%v of a processor", took); took > 20*time.Second {
			t.Errorf("took %v of a processor\n%s", took, out)
		}
		return
	}
	stacks, err := Load(manyChoices())
	if err != nil {
		t.Fatal(err)
	}
	combinations := 0
	for range stacks[0].solutions(nil, func(string) bool { return true }) {
		combinations++
	}
	proof := proveFiles(t, stacks[0])
	mustBeProven(t, stacks[0], proof)
	if t.Logf("%d combinations, %d distinct files", combinations, proof.distinct); combinations < 100_000 || proof.distinct < combinations {
		t.Error("want at least 100,000 combinations, and as many files")
	}
}
