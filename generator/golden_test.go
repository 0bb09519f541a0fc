package generator

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/imports"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// missingFile lists, in a golden that holds only what differs from the default, the
// default's files that it has not.
const missingFile = "MISSING"

// A golden is a folder that holds an answers file, and what these answers make.
type golden struct {
	dir   string
	whole bool // the whole project, and not only what differs from the default
	plan  *Plan
	tree  Tree
	plain Tree // the default project of the same texts
}

// goldens returns all of them.
func goldens(t *testing.T) (all []golden) {
	t.Helper()
	files, err := filepath.Glob("../golden/*/" + AnswersPath)
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	stacks := realStacks(t)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		given, name, err := ReadAnswers(data)
		i := slices.IndexFunc(stacks, func(s *Stack) bool { return s.Name == name })
		if err != nil || i < 0 {
			t.Fatalf("%s: stack %q, error %v", file, name, err)
		}
		all = append(all, newGolden(t, stacks[i], filepath.Dir(file), given))
	}
	return all
}

func newGolden(t *testing.T, s *Stack, dir string, given Answers) golden {
	t.Helper()
	plan, err := NewPlan(s, given, testVersion)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	texts := Answers{}
	for _, option := range s.Options {
		if option.IsText() {
			texts[option.Name] = plan.Answers[option.Name]
		}
	}
	g := golden{dir, filepath.Base(dir) == s.Name+"-default", plan, generate(t, s, given), generate(t, s, texts)}
	for _, f := range g.plain { // which a golden that holds only what differs has not
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		g.whole = g.whole || err == nil && bytes.Equal(data, f.Data)
	}
	return g
}

// files returns what the golden's folder should hold.
func (g golden) files() Tree {
	if g.whole {
		return g.tree
	}
	var differs Tree
	var missing strings.Builder
	for _, f := range g.tree {
		if plain := file(g.plain, f.Path); f.Path == AnswersPath || plain.Mode != f.Mode || !bytes.Equal(plain.Data, f.Data) {
			differs = append(differs, f)
		}
	}
	for _, f := range g.plain {
		if file(g.tree, f.Path).Path == "" {
			missing.WriteString(f.Path + "\n")
		}
	}
	if missing.Len() > 0 {
		differs = append(differs, File{Path: missingFile, Mode: 0o644, Data: []byte(missing.String())})
	}
	return differs
}

// TestGoldens compares all files of all goldens: one that is missing, extra,
// different or of another mode fails it.
func TestGoldens(t *testing.T) {
	t.Parallel()
	all := goldens(t)
	mustCover(t, all)
	for _, g := range all {
		t.Run(filepath.Base(g.dir), func(t *testing.T) {
			t.Parallel()
			if *update {
				rewrite(t, g.files(), g.dir)
			}
			if diff := g.compare(t); diff != "" {
				t.Errorf("not what is rendered; if that is meant, run go test ./generator -run 'TestGoldens$' -update\n"+
					"(-rendered +golden):\n%s", diff)
			}
		})
	}
}

func (g golden) compare(t *testing.T) string {
	t.Helper()
	return cmp.Diff(snapshot(t, written(t, g.files())), snapshot(t, g.dir))
}

// rewrite puts the tree in the place of a golden.
func rewrite(t *testing.T, tree Tree, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), tree, dir); err != nil {
		t.Fatal(err)
	}
}

// mustCover wants the whole goldens to be the default, one without extras, and
// everything (all extras, and of each question the last choice), and every choice in
// a golden.
func mustCover(t *testing.T, all []golden) {
	t.Helper()
	shown, found := map[string]bool{}, map[string][]string{}
	for _, g := range all {
		found[filepath.Base(g.dir)] = g.plan.active()
		for _, choice := range g.plan.active() {
			shown[g.plan.Stack.Name+" "+choice] = true
		}
	}
	for _, s := range realStacks(t) {
		rows := covering(s)
		mustAnswer(t, s.Name+"-default", found, planOf(s, "demo", rows[0]).active())
		mustAnswer(t, s.Name+"-everything", found, planOf(s, "demo", rows[2]).active())
		without := slices.DeleteFunc(slices.Clone(found[s.Name+"-minimal"]), func(choice string) bool {
			name, _, _ := strings.Cut(choice, "/")
			option, _ := s.Option(name)
			return option.Many
		})
		mustAnswer(t, s.Name+"-minimal", found, without)
		for _, choice := range s.choices() {
			if _, name, _ := strings.Cut(choice, "/"); !shown[s.Name+" "+choice] {
				t.Fatalf("no golden shows %s: write golden/%s-%s/%s, and -update", choice, s.Name, name, AnswersPath)
			}
		}
	}
}

func mustAnswer(t *testing.T, name string, found map[string][]string, want []string) {
	t.Helper()
	if got, ok := found[name]; !ok || !slices.Equal(got, want) {
		t.Fatalf("golden/%s/%s: change its answers to %q, and -update; they are %q", name, AnswersPath, want, got)
	}
}

// TestGoldenDiffers holds a golden of differences, of a made-up stack, to be as
// strict as a whole one.
func TestGoldenDiffers(t *testing.T) {
	t.Parallel()
	given := answers("name=supper", "main=roast", "side=sauce")
	for name, spoil := range map[string]func(dir string) error{
		"":        func(string) error { return nil },
		"missing": func(dir string) error { return os.Remove(filepath.Join(dir, "sauce", "recipe.go")) },
		"extra": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "plain.txt"), []byte("as it is\n"), 0o644)
		},
		"different": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "shopping.txt"), []byte("a fish\n"), 0o644)
		},
		"mode": func(dir string) error { return os.Chmod(filepath.Join(dir, "shopping.txt"), 0o755) },
		"there": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, missingFile), []byte("plain.txt\n"), 0o644)
		},
	} {
		g := newGolden(t, menuStack(t), filepath.Join(t.TempDir(), "menu"), given)
		rewrite(t, g.files(), g.dir)
		if err := spoil(g.dir); err != nil {
			t.Fatal(err)
		}
		if diff := g.compare(t); (diff == "") != (name == "") {
			t.Errorf("%s: difference %q", name, diff)
		}
		var held []string
		for _, f := range g.files() {
			held = append(held, f.Path)
		}
		if want := []string{AnswersPath, "dishes/supper.txt", "sauce/recipe.go", "shopping.txt", "stove.txt", missingFile}; !slices.Equal(held, want) {
			t.Errorf("the golden holds %q, want %q", held, want)
		}
	}
}

// TestGoldensPass checks each whole golden and runs its own tests, as its owner would,
// but for the tests of everything: those of the engine take minutes, and are CI's.
func TestGoldensPass(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	// What these tests find depends on it, and go test remembers what was asked.
	for _, name := range []string{"CI", "PATH", "TEST_DATABASE_URL"} {
		_ = os.Getenv(name)
	}
	for _, g := range goldens(t) {
		if !g.whole {
			continue
		}
		t.Run(filepath.Base(g.dir), func(t *testing.T) {
			languageOf(t, g.plan.Stack).pass(t, g.dir, !strings.HasSuffix(g.dir, "-everything"))
		})
	}
}

// TestGoldensAreWhole finds files that a golden's own .gitignore would keep out
// of this repository.
func TestGoldensAreWhole(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), "git", "status", "--porcelain", "--ignored", "../golden")
	out, err := command.CombinedOutput()
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("no checkout to look at: %v: %s", err, out)
	}
	if err != nil {
		t.Skipf("no checkout to look at: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "!!") {
			t.Errorf("ignored by git, so no part of the golden: %s", strings.TrimSpace(line[2:]))
		}
	}
}

// TestGoldenImports holds the goldens against imports in full mode, which also
// finds what is missing or not used. It may look into the module cache here.
func TestGoldenImports(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, g := range goldens(t) {
		for _, file := range g.tree {
			if filepath.Ext(file.Path) != ".go" || seen[string(file.Data)] {
				continue
			}
			seen[string(file.Data)] = true
			data, err := imports.Process(filepath.Join(g.dir, filepath.FromSlash(file.Path)), file.Data, nil)
			if err != nil {
				t.Error(fmt.Errorf("imports of %s: %w", file.Path, err))
			} else if diff := cmp.Diff(string(file.Data), string(data)); diff != "" {
				t.Errorf("imports of %s (-want +got):\n%s", file.Path, diff)
			}
		}
	}
}
