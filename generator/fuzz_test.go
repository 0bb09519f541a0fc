package generator

import (
	"bytes"
	"errors"
	"go/scanner"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// The reference is a project of two words that nothing else contains: what differs
// from it in another project comes from that one's name and module.
const (
	referenceName   = "zqname"
	referenceModule = "zq.example/zqmodule"
)

// FuzzNew gives any name, module and choices. Each is refused with a reason, or
// makes a project whose files are well-formed (Generate parses Go, YAML, JSON and
// go.mod), with paths that stay within it, in which the two texts appear only as
// data.
func FuzzNew(f *testing.F) {
	stacks := realStacks(f)
	f.Add("demo", "example.com/demo", "supabase", "docker,notes")
	f.Add("a", "a", "postgres", "")
	f.Add("../x", "../../etc/passwd", "supabase", "docker")
	f.Add("con", "example.com/nul", "postgres", "notes")
	f.Add("x{{.Module}}", "example.com/{{.Name}}", "supabase", "notes")
	f.Add("demo\"; drop table notes; --", "example.com/`x`", "postgres", "docker,docker")
	f.Add("\xef\xbb\xbfdemo", "example.com/\xff", "supabase\r\n", "docker\x00")
	f.Add(strings.Repeat("a", 63), strings.Repeat("a/", 200)+"a", "supabase", "docker,notes")
	f.Add("Demo", "EXAMPLE.com/Demo", "Supabase", "Docker")
	f.Add("cmd", "golang.org/x/net", "postgres", "notes")
	f.Add("readme", "example.com/vendor/x", "postgres", "notes")
	f.Add("i", "example.com/~x", "postgres", "notes")
	f.Add("true", "null", "postgres", "notes")
	f.Add("null", "example.com/null", "postgres", "docker")
	f.Add("no", "example.com/~/0x1F", "postgres", "")
	f.Add("a", "`$(x)`", "{{.Name}}", "../docker")
	f.Add("x\r\n", "\"", "'", "\xff")
	references := map[string]Tree{}
	f.Fuzz(func(t *testing.T, name, module, provider, with string) {
		extras := strings.FieldsFunc(with, func(r rune) bool { return r == ',' })
		for _, stack := range stacks {
			given := Answers{}
			for option, values := range map[string][]string{"name": {name}, "module": {module}, "provider": {provider}, "with": extras} {
				if _, ok := stack.Option(option); ok {
					given[option] = Answer{Values: values}
				}
			}
			mustBeRefusedOrData(t, stack, given, references)
		}
	})
}

func mustBeRefusedOrData(t *testing.T, stack *Stack, given Answers, references map[string]Tree) {
	t.Helper()
	plan, err := NewPlan(stack, given, testVersion)
	if err != nil {
		mustBeAnswerErrors(t, err)
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if line == "" || !utf8.ValidString(line) {
				t.Errorf("refused with %q", err)
			}
		}
		return
	}
	tree, err := Generate(plan)
	if err != nil {
		t.Fatalf("%v: %v", given, err)
	}
	choices := stack.Name + " " + strings.Join(plan.active(), ",")
	if references[choices] == nil {
		reference := maps.Clone(given)
		reference["name"] = Answer{Values: []string{referenceName}}
		if _, ok := given["module"]; ok {
			reference["module"] = Answer{Values: []string{referenceModule}}
		}
		references[choices] = generate(t, stack, reference)
	}
	fill := strings.NewReplacer(referenceModule, given.text("module"), referenceName, given.Name())
	reference := references[choices]
	if len(reference) != len(tree) {
		t.Fatalf("%d files, want %d", len(tree), len(reference))
	}
	files := map[string]File{}
	for _, file := range tree {
		files[file.Path] = file
	}
	for _, file := range reference {
		mustDifferInData(t, file, files[fill.Replace(file.Path)], fill)
	}
}

// mustDifferInData wants a file to be its reference with other data: byte for byte,
// but for the order and the alignment of Go files, whose tokens are compared.
func mustDifferInData(t *testing.T, reference, file File, fill *strings.Replacer) {
	t.Helper()
	if !filepath.IsLocal(filepath.FromSlash(file.Path)) {
		t.Errorf("path %q for %s", file.Path, reference.Path)
	}
	if path.Ext(file.Path) == ".go" {
		if diff := cmp.Diff(tokens(t, reference), tokens(t, file)); diff != "" {
			t.Errorf("%s (-reference +file):\n%s", file.Path, diff)
		}
		return
	}
	if want := fill.Replace(string(reference.Data)); want != string(file.Data) {
		t.Errorf("%s (-want +got):\n%s", file.Path, cmp.Diff(want, string(file.Data)))
	}
	switch path.Ext(file.Path) {
	case ".yaml", ".yml":
		if diff := cmp.Diff(shape(t, reference), shape(t, file)); diff != "" {
			t.Errorf("%s (-reference +file):\n%s", file.Path, diff)
		}
	case ".sql":
		mustBeSQL(t, file)
	case "":
		mustBeDockerfile(t, file)
	}
}

// tokens counts a Go file's tokens. Strings and comments, which hold data, count
// as what they are, and so do line ends.
func tokens(t *testing.T, file File) map[string]int {
	t.Helper()
	var s scanner.Scanner
	s.Init(token.NewFileSet().AddFile(file.Path, -1, len(file.Data)), file.Data, nil, scanner.ScanComments)
	counts := map[string]int{}
	for {
		_, kind, text := s.Scan()
		if kind == token.EOF {
			return counts
		}
		if kind == token.STRING || kind == token.COMMENT {
			text = ""
		}
		counts[kind.String()+" "+text]++
	}
}

// shape returns a YAML file's kinds and types of values, in order.
func shape(t *testing.T, file File) []string {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(file.Data, &document); err != nil {
		t.Fatalf("%s: %v", file.Path, err)
	}
	var all []string
	var walk func(node *yaml.Node)
	walk = func(node *yaml.Node) {
		all = append(all, node.ShortTag())
		for _, child := range node.Content {
			walk(child)
		}
	}
	walk(&document)
	return all
}

var instruction = regexp.MustCompile(`^(FROM|WORKDIR|COPY|RUN|USER|EXPOSE|ENV|ARG|CMD|ENTRYPOINT|LABEL|HEALTHCHECK)( \S+)+$`)

// mustBeDockerfile wants every line of a Dockerfile to be an instruction or a comment.
func mustBeDockerfile(t *testing.T, file File) {
	t.Helper()
	if path.Base(file.Path) != "Dockerfile" {
		return
	}
	text := strings.ReplaceAll(strings.TrimSpace(string(file.Data)), "\\\n", "")
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && line[0] != '#' && !instruction.MatchString(line) {
			t.Errorf("Dockerfile: %q", line)
		}
	}
}

// mustBeSQL wants a migration's statements to end, and its brackets and quotes to
// be in pairs.
func mustBeSQL(t *testing.T, file File) {
	t.Helper()
	sql := regexp.MustCompile(`(?m)--.*$`).ReplaceAll(file.Data, nil)
	if !bytes.HasSuffix(bytes.TrimSpace(sql), []byte(";")) || bytes.Count(sql, []byte("(")) != bytes.Count(sql, []byte(")")) ||
		bytes.Count(sql, []byte("'"))%2 != 0 || !bytes.Contains(file.Data, []byte("-- +goose Up\n")) {
		t.Errorf("%s: no SQL migration:\n%s", file.Path, file.Data)
	}
}

// FuzzTarget writes to any path below a folder in which there are a file, a folder,
// and symbolic links to a folder, to nowhere and out of it. Whatever comes of it,
// what was there is there afterwards; and a write that fails adds nothing.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"x", ".", "", "a/b/c", "./x/", "x//y", "file", "file/x", "FILE", "folder", "Folder", "folder/x", "folder/../x",
		"link", "link/x", "link/kept", "nowhere", "nowhere/x", "out", "out/x", "missing/../folder", "con", "aux.txt", "x.", "x ",
		".git", ".git/x", "folder/.git", "\xff", "\xef\xbb\xbfx", "x\r\n", "x\x00y", "-x", "~", "$(x)", `..\x`,
		strings.Repeat("x", 300), strings.Repeat("x/", 3000), "日本",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if !filepath.IsLocal(filepath.Join(".", target)) {
			return // the fuzzer's own disk is not to be written to
		}
		dir, outside := t.TempDir(), t.TempDir()
		mkdir(t, dir, "folder/kept")
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("theirs\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]string{"link": "folder", "nowhere": "missing", "out": outside} {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Skip(err)
			}
		}
		before, beforeOutside := snapshot(t, dir), snapshot(t, outside)
		checked := CheckTarget(filepath.Join(dir, target))
		err := Write(t.Context(), smallTree, filepath.Join(dir, target))
		after, afterOutside := snapshot(t, dir), snapshot(t, outside)
		if err != nil {
			if diff := cmp.Diff(before, after); diff != "" || len(afterOutside) > len(beforeOutside) {
				t.Errorf("%q failed with %v, and left (-before +after):\n%s%v", target, err, diff, afterOutside)
			}
			return
		}
		if _, inTheWay := errors.AsType[*InTheWayError](checked); inTheWay {
			t.Errorf("%q: written, though %v", target, checked)
		}
		for name, content := range before {
			if after[name] != content {
				t.Errorf("%q: %s was %q and is %q", target, name, content, after[name])
			}
		}
	})
}
