package generator_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mutation is a small edit of the rendered project of the kind that people make,
// and what the project's own verification must say about it.
type mutation struct {
	name  string
	fails string // the rules that must fail
	also  string // rules that may fail as well, since the edit breaks their promise too
	edits []edit
}

// static are the rules whose checks read the source, apart from what else they have.
var static = []string{"NP03", "NP14", "NP15"}

// onlySource reports whether the checks that a mutation is about read the source
// alone, and so need not be compiled with it. What changes the engine has to run.
func (m mutation) onlySource() bool {
	for rule := range strings.FieldsSeq(m.fails) {
		if !slices.Contains(static, rule) {
			return false
		}
	}
	return strings.Contains(m.fails, "NP15") || !strings.HasPrefix(m.edits[0].file, "internal/nopool") && !strings.HasPrefix(m.edits[0].file, "internal/connect")
}

// checks is the pattern of the tests to run.
func (m mutation) checks(whole bool) string {
	if whole && !m.onlySource() {
		return "TestVerify"
	}
	var patterns []string
	if m.onlySource() {
		for _, rule := range static {
			patterns = append(patterns, "TestVerify/"+rule+"/source")
		}
		return strings.Join(patterns, "|")
	}
	for rule := range strings.FieldsSeq(m.fails) {
		patterns = append(patterns, "TestVerify/"+rule)
	}
	return strings.Join(patterns, "|")
}

var failed = regexp.MustCompile(`(?m)^ +--- FAIL: TestVerify/(NP\d\d) `)

// judge says what is wrong with what the verification printed, "" if nothing is.
func (m mutation) judge(output string) string {
	if strings.Contains(output, "does not compile") {
		return "does not compile:\n" + output
	}
	if !strings.Contains(output, "\nareas ") {
		return "the run was broken off:\n" + output
	}
	got := map[string]bool{}
	for _, match := range failed.FindAllStringSubmatch(output, -1) {
		got[match[1]] = true
	}
	var wrong []string
	for rule := range strings.FieldsSeq(m.fails) {
		if !got[rule] {
			wrong = append(wrong, rule+" did not notice")
		}
		delete(got, rule)
	}
	for rule := range got {
		if !strings.Contains(m.also, rule) {
			wrong = append(wrong, rule+" failed as well")
		}
	}
	slices.Sort(wrong)
	return strings.Join(wrong, ", ")
}

// TestMutationsApply wants the text of each mutation's edits to be in the project,
// so that who changes the templates learns at once which of them have to follow.
func TestMutationsApply(t *testing.T) {
	t.Parallel()
	dir := copyOfGolden(t)
	for _, m := range mutations {
		undo, err := applyAll(dir, m.edits)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMutations wants every mutation to fail the checks of the rules it breaks, and a
// static one no other. It takes about ten minutes on two cores, so it runs where
// MUTATIONS asks for it: with "ci" one in forty, others each day, run the whole report,
// where no rule may fail that the mutation does not name; any other text runs those
// whose name has it, after "all" with the whole report.
func TestMutations(t *testing.T) {
	wantTwoForEachRule(t)
	filter := os.Getenv("MUTATIONS")
	if filter == "" {
		t.Skip("to run it: MUTATIONS=ci go test -timeout 30m -run 'TestMutations$' -v ./generator")
	}
	name, all := strings.CutPrefix(filter, "all")
	name = strings.TrimSpace(name)
	queue := make(chan func(mutant), len(mutations))
	for i, m := range mutations {
		if filter == "ci" || strings.Contains(m.name, name) {
			whole := all || filter == "ci" && i%40 == time.Now().YearDay()%40
			queue <- func(project mutant) { project.try(t, m, whole) }
		}
	}
	t.Logf("%d mutations, %d to run", len(mutations), len(queue))
	close(queue)
	var workers sync.WaitGroup
	for range 3 * runtime.GOMAXPROCS(0) { // the checks wait more than they compute, above all those that fail
		project := mutant{dir: copyOfGolden(t), untouched: filepath.Join(t.TempDir(), "verify.test")}
		if out, err := project.compile(t, project.untouched); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		workers.Go(func() {
			for run := range queue {
				run(project)
			}
		})
	}
	workers.Wait()
}

func wantTwoForEachRule(t *testing.T) {
	t.Helper()
	for n := 1; n <= 31; n++ {
		rule, found := fmt.Sprintf("NP%02d", n), 0
		for _, m := range mutations {
			if strings.Contains(m.fails, rule) {
				found++
			}
		}
		if found < 2 {
			t.Errorf("%s has %d mutations, want at least 2", rule, found)
		}
	}
}

// mutant is a copy of the rendered project in which mutations are made and undone.
type mutant struct {
	dir       string
	untouched string // its verification, compiled before any mutation
}

// try makes one mutation, runs its checks, and undoes it.
func (p mutant) try(t *testing.T, m mutation, whole bool) {
	t.Helper()
	started := time.Now()
	undo, err := applyAll(p.dir, m.edits)
	defer func() {
		if err := undo(); err != nil {
			t.Errorf("%s: undo: %v", m.name, err)
		}
	}()
	if err != nil {
		t.Errorf("%s: %v", m.name, err)
		return
	}
	binary := p.untouched
	if !m.onlySource() {
		binary = filepath.Join(filepath.Dir(p.untouched), "mutated.test")
		if out, err := p.compile(t, binary); err != nil {
			t.Errorf("%s: does not compile: %v\n%s", m.name, err, out)
			return
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.v", "-test.timeout=5m", "-test.run="+m.checks(whole))
	run.Dir = filepath.Join(p.dir, "internal", "verify")
	out, _ := run.CombinedOutput() // the failures say it
	if wrong := m.judge(string(out)); wrong != "" {
		t.Errorf("%s: %s", m.name, wrong)
	}
	t.Logf("%-75s %v", m.name, time.Since(started).Round(100*time.Millisecond))
}

func (p mutant) compile(t *testing.T, binary string) (string, error) {
	t.Helper()
	const quick = "-gcflags=example.com/demo/...=-N -l" // the compiler's time is most of a mutation's
	return goIn(t, p.dir, "test", "-c", quick, "-ldflags=-w", "-vet=off", "-o", binary, "./internal/verify")
}

// TestCachedReport adds a pooled package after a green run that Go has cached,
// and wants the next run to see it.
func TestCachedReport(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs the go command")
	}
	dir := copyOfGolden(t)
	for _, want := range []string{"", "(cached)"} {
		if out, err := goIn(t, dir, "test", "-run="+sourceChecks, "./internal/verify"); err != nil || !strings.Contains(out, want) {
			t.Fatalf("want %q: %v\n%s", cmp.Or(want, "ok"), err, out)
		}
	}
	if _, err := applyAll(dir, []edit{{reports, "", pooledPackage}}); err != nil {
		t.Fatal(err)
	}
	if out, err := goIn(t, dir, "test", "-run="+sourceChecks, "./internal/verify"); err == nil || !strings.Contains(out, "NP14") {
		t.Errorf("a pool was added and not seen: %v\n%s", err, out)
	}
}

const sourceChecks = "TestVerify/NP(03|14|15)/source"
