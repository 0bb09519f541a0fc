package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/prompt"
	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/generator/teststack"
)

// output runs a command line that must succeed and returns its stdout.
func output(t *testing.T, p prompt.Prompter, args ...string) string {
	t.Helper()
	a, out, errs := newTestApp(p)
	if status := a.run(t.Context(), args); status != exitDone {
		t.Fatalf("%q: exit status %d: %s%s", args, status, out, errs)
	}
	return out.String()
}

// TestOneDeclaration holds the faces of an option against its declaration in
// stack.json: flag, prompt, key of the answers file, list and help, completion.
// TestReadmeOptions does the same for the README's table.
func TestOneDeclaration(t *testing.T) {
	t.Parallel()
	stacks, err := generator.Load(teststack.Files)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]generator.Option{}
	var prompts []string
	for _, option := range append([]generator.Option{generator.StackOption(stacks)}, stacks[0].Options...) {
		declared[option.Name] = option
		mustShow(t, option)
		if option.IsQuestion() {
			prompts = append(prompts, option.Name+" "+strings.Join(option.Defaults("shop"), ","))
		}
	}

	var plan projectDocument
	if err := json.Unmarshal([]byte(output(t, nil, "new", "shop", "--yes", "--plan", "--json", "--dir", t.TempDir())), &plan); err != nil {
		t.Fatal(err)
	}
	read, stack, err := generator.ReadAnswers(plan.Answers)
	if err != nil {
		t.Fatal(err)
	}
	read["stack"] = generator.Answer{Values: []string{stack}}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(declared)), slices.Sorted(maps.Keys(read))); diff != "" {
		t.Errorf("keys of the answers file (-declared +written):\n%s", diff)
	}

	person := &scripted{answers: map[string][]string{"name": {"shop"}}}
	output(t, person, "new", "--plan", "--dir", t.TempDir())
	if diff := cmp.Diff(prompts, person.asked); diff != "" {
		t.Errorf("prompts (-declared +asked):\n%s", diff)
	}
}

// mustShow wants an option in the list, in the help of new, and in completion.
func mustShow(t *testing.T, option generator.Option) {
	t.Helper()
	list, help := output(t, nil, "list"), output(t, nil, "new", "--help")
	mustContain(t, "list", list, flagName(option), describe(option))
	if option.Name != generator.NameOption {
		mustContain(t, "help", help, flagName(option)+" ", describe(option))
	}
	if option.Without != "" {
		mustContain(t, "help", help, "--"+option.Without+" ")
	}
	if option.Help == "" || option.Prompt == "" {
		t.Errorf("%s: no help or no prompt", option.Name)
	}
	for _, choice := range option.Choices {
		mustContain(t, "list", list, choice.Name, choice.Help)
		completed := output(t, nil, "__complete", "new", "--"+option.Name, "")
		mustContain(t, "completion of "+option.Name, completed, choice.Name+"\t"+choice.Help)
	}
}

func mustContain(t *testing.T, where, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s: %q is missing in\n%s", where, part, text)
		}
	}
}

// TestDocuments makes a document of each kind and holds its fields, and those that
// such documents can have, against the README's table.
func TestDocuments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	documents := []struct {
		kinds string // as the README's table has them
		into  []any
		args  [][]string
	}{
		{"`plan`, `result`", []any{&projectDocument{}, &projectDocument{}}, [][]string{
			{"new", "demo", "--yes", "--plan", "--dir", dir},
			{"new", "demo", "--yes", "--dir", dir},
		}},
		{"`diff`", []any{&diffDocument{}}, [][]string{{"new", "demo", "--yes", "--plan", "--diff", "--dir", dir}}},
		{"`error`", []any{&errorDocument{}}, [][]string{{"new", "Demo", "--yes", "--dir", dir}}},
		{"`list`", []any{&listDocument{}}, [][]string{{"list"}}},
		{"`version`, `help`", []any{&versionDocument{}, &helpDocument{}}, [][]string{{"version"}, {"new", "--help"}}},
	}
	for _, document := range documents {
		fields := map[string]bool{}
		for i, args := range document.args {
			a, out, errs := newTestApp(nil)
			a.run(t.Context(), append(args, "--json"))
			decoder := json.NewDecoder(out)
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(document.into[i]); err != nil || decoder.More() || errs.Len() > 0 {
				t.Errorf("%q: %v, stderr %q", args, err, errs)
			}
			kind := reflect.ValueOf(document.into[i]).Elem().FieldByName("Kind").String()
			if !strings.Contains(document.kinds, "`"+kind+"`") {
				t.Errorf("%q: a document of kind %q", args, kind)
			}
			jsonFields(reflect.TypeOf(document.into[i]), fields)
		}
		delete(fields, "kind")
		_, row, _ := strings.Cut(readme(t), "\n| "+document.kinds+" | ")
		row, _, _ = strings.Cut(row, "\n")
		told := map[string]bool{}
		for _, match := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row, -1) {
			told[match[1]] = true
		}
		if diff := cmp.Diff(fields, told); diff != "" {
			t.Errorf("%s: fields (-documents +README):\n%s", document.kinds, diff)
		}
	}
}

// jsonFields adds the names of all fields that a document of the type has.
func jsonFields(in reflect.Type, fields map[string]bool) {
	for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
		in = in.Elem()
	}
	if in.Kind() != reflect.Struct {
		return
	}
	for field := range in.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			fields[name] = true
			jsonFields(field.Type, fields)
		}
	}
}
