package generator

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/imports"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// goldens returns the folders of the goldens: each that holds an answers file
// is one, and these answers make it.
func goldens(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../golden/*/" + AnswersPath)
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for i, file := range files {
		files[i] = filepath.Dir(file)
	}
	return files
}

// goldenTree renders what the golden should be.
func goldenTree(t *testing.T, dir string) Tree {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, AnswersPath))
	if err != nil {
		t.Fatal(err)
	}
	given, stack, err := ReadAnswers(data)
	if err != nil || stack != "go" {
		t.Fatalf("read answers: stack %q, error %v", stack, err)
	}
	return generate(t, goStack(t), given)
}

// TestGoldens compares whole trees: a file that is missing, extra, different or
// of another mode fails it.
func TestGoldens(t *testing.T) {
	t.Parallel()
	for _, dir := range goldens(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			tree := goldenTree(t, dir)
			if *update {
				rewrite(t, tree, dir)
			}
			got, want := snapshot(t, dir), snapshot(t, written(t, tree))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("not what is rendered; if that is meant, run go test ./generator -run 'TestGoldens$' -update\n"+
					"(-rendered +golden):\n%s", diff)
			}
		})
	}
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

// TestGoldensPass vets each golden and runs its own tests, as its owner would.
func TestGoldensPass(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	// What these tests find depends on it, and go test remembers what was asked.
	for _, name := range []string{"CI", "PATH", "TEST_DATABASE_URL"} {
		_ = os.Getenv(name)
	}
	for _, dir := range goldens(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			goTool(t, dir, nil, "vet", "./...")
			goTool(t, dir, nil, "test", "./...")
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
	for _, dir := range goldens(t) {
		for _, file := range goldenTree(t, dir) {
			if filepath.Ext(file.Path) != ".go" {
				continue
			}
			data, err := imports.Process(filepath.Join(dir, filepath.FromSlash(file.Path)), file.Data, nil)
			if err != nil {
				t.Error(fmt.Errorf("imports of %s: %w", file.Path, err))
			} else if diff := cmp.Diff(string(file.Data), string(data)); diff != "" {
				t.Errorf("imports of %s (-want +got):\n%s", file.Path, diff)
			}
		}
	}
}
