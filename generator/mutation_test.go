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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// mutation is a small edit of the rendered project of the kind that people make,
// and who must notice it: the project's own verification, by rule, its linter, or another test.
type mutation struct {
	name   string
	fails  string // the rules that must fail, where / names the check that is the first to notice
	source string // the rules that must fail where they read the source
	linter string // the linter that must complain
	test   string // the package and its test that must fail, where these cannot see it
	also   string // rules that may fail as well, since the edit breaks their promise too
	edits  []edit
}

// matches reports whether a mutation has a text in its name, or in who must notice it, as
// in "NP04", "source" or "linter errcheck".
func (m mutation) matches(text string) bool {
	for name, who := range map[string]string{"fails": m.fails, "source": m.source, "linter": m.linter, "test": m.test} {
		if who != "" && strings.Contains(name+" "+who, text) {
			return true
		}
	}
	return strings.Contains(m.name, text)
}

// flags are those of the test program that choose which checks run: all of them, those of
// the source, or those of the rules that must fail, where the first failure is enough.
func (m mutation) flags(whole bool) []string {
	flags := []string{"-test.v", "-test.timeout=5m"}
	if m.fails == "" {
		return append(flags, "-test.run=TestVerify/.*/source")
	}
	if whole {
		return append(flags, "-test.run=TestVerify")
	}
	var checks []string
	for check := range strings.FieldsSeq(m.fails) {
		checks = append(checks, "TestVerify/"+check)
	}
	for rule := range strings.FieldsSeq(m.source) {
		checks = append(checks, "TestVerify/"+rule+"/source")
	}
	if m.source == "" {
		flags = append(flags, "-test.skip=TestVerify/.*/source")
	}
	return append(flags, "-test.run="+strings.Join(checks, "|"), fmt.Sprintf("-test.failfast=%v", len(checks) == 1))
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
	for check := range strings.FieldsSeq(m.fails + " " + m.source) {
		rule, _, _ := strings.Cut(check, "/")
		if !got[rule] {
			wrong = append(wrong, rule+notNoticed)
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

const notNoticed = " did not notice"

// TestMutationsApply wants the text of each mutation's edits to be in the project, and
// the checks that it names, so that who changes the templates learns at once which of
// them have to follow.
func TestMutationsApply(t *testing.T) {
	t.Parallel()
	dir, checks := copyOfGolden(t), ""
	files, err := filepath.Glob(filepath.Join(dir, "internal/verify/*_test.go"))
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		checks, err = checks+string(text), cmp.Or(err, readErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutations {
		undo, err := applyAll(dir, m.edits)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		for rule := range strings.FieldsSeq(m.fails) {
			if _, check, named := strings.Cut(rule, "/"); named && !strings.Contains(checks, strconv.Quote(strings.ReplaceAll(check, "_", " "))) {
				t.Errorf("%s: there is no check %s", m.name, rule)
			}
		}
	}
}

// TestMutations wants every mutation to be noticed by those who must, and by no check of
// the source besides. It takes about ten minutes on two cores, so it runs where MUTATIONS
// asks for it: all with "ci"; any other text runs those that match it, after "all" with the
// whole report, where no rule may fail that the mutation does not name, and some take minutes.
// Those for the linter run where GOLANGCI_LINT names it.
func TestMutations(t *testing.T) {
	wantTwoForEachRule(t)
	filter := os.Getenv("MUTATIONS")
	if filter == "" {
		t.Skip("to run it: MUTATIONS=ci go test -timeout 30m -run 'TestMutations$' -v ./generator")
	}
	text, all := strings.CutPrefix(filter, "all")
	text = strings.TrimSpace(text)
	queue := make(chan func(mutant), len(mutations))
	for _, m := range mutations {
		if m.linter != "" && os.Getenv("GOLANGCI_LINT") == "" {
			continue
		}
		if filter == "ci" || m.matches(text) {
			queue <- func(project mutant) { project.try(t, m, all) }
		}
	}
	t.Logf("%d mutations, %d to run", len(mutations), len(queue))
	close(queue)
	untouched := untouchedVerification(t)
	var workers sync.WaitGroup
	for range 3 * runtime.GOMAXPROCS(0) { // the checks wait more than they compute, above all those that fail
		project := mutant{dir: copyOfGolden(t), untouched: untouched}
		workers.Go(func() {
			for run := range queue {
				run(project)
			}
		})
	}
	workers.Wait()
}

// untouchedVerification compiles the tests of the project as it is. They look at the
// source of the project that they are run in.
func untouchedVerification(t *testing.T) string {
	t.Helper()
	project := mutant{dir: copyOfGolden(t)}
	binary := filepath.Join(t.TempDir(), "verify.test")
	if out, err := project.compile(t, binary); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

func wantTwoForEachRule(t *testing.T) {
	t.Helper()
	for n := 1; n <= 31; n++ {
		rule, found := fmt.Sprintf("NP%02d", n), 0
		for _, m := range mutations {
			if strings.Contains(m.fails+m.source, rule) {
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
	untouched string // the verification of a project without a mutation
}

// try makes one mutation, sees who notices it, and undoes it.
func (p mutant) try(t *testing.T, m mutation, whole bool) {
	t.Helper()
	started := time.Now()
	undo, err := applyAll(p.dir, m.edits)
	defer func() {
		if err := undo(); err != nil {
			t.Errorf("%s: undo: %v", m.name, err)
		}
	}()
	var wrong string
	switch {
	case err != nil:
		wrong = err.Error()
	case m.linter != "":
		wrong = p.lint(t, m)
	case m.test != "":
		folder, name, _ := strings.Cut(m.test, " ")
		if out, _ := goIn(t, p.dir, "test", "-run="+name+"$", folder); !strings.Contains(out, "--- FAIL: "+name+" ") {
			wrong = out + name + notNoticed
		}
	default:
		wrong = p.verify(t, m, whole)
	}
	switch expected := slices.Contains(unnoticed, m.name); {
	case expected && wrong == "":
		t.Errorf("%s: is noticed, and so must not be among the unnoticed", m.name)
	case wrong != "" && (!expected || !strings.HasSuffix(wrong, notNoticed)):
		t.Errorf("%s: %s", m.name, wrong)
	}
	t.Logf("%-75s %v", m.name, time.Since(started).Round(100*time.Millisecond))
}

// verify runs the checks of the rules that must notice, and says what is wrong.
func (p mutant) verify(t *testing.T, m mutation, whole bool) string {
	t.Helper()
	binary := p.untouched
	if m.fails != "" {
		binary = filepath.Join(p.dir, "mutated.test")
		const quick = "-gcflags=example.com/demo/...=-N -l" // the compiler's time is most of a mutation's
		if out, err := p.compile(t, binary, quick); err != nil {
			return fmt.Sprintf("does not compile: %v\n%s", err, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, binary, m.flags(whole)...)
	run.Dir = filepath.Join(p.dir, "internal", "verify")
	out, _ := run.CombinedOutput() // the failures say it
	return m.judge(string(out))
}

// compile compiles the verification.
func (p mutant) compile(t *testing.T, binary string, flags ...string) (string, error) {
	t.Helper()
	args := append([]string{"test", "-c", "-ldflags=-w", "-vet=off", "-o", binary}, flags...)
	return goIn(t, p.dir, append(args, "./internal/verify")...)
}

// TestCachedReport adds a pooled package after a green run that Go has cached,
// and wants the next run to see it.
func TestCachedReport(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs the go command")
	}
	dir := copyOfGolden(t)
	for runs, cached := 0, false; !cached; runs++ { // the first are not while the copy is younger than two seconds
		out, err := goIn(t, dir, "test", "-run="+sourceChecks, "./internal/verify")
		if cached = strings.Contains(out, "(cached)"); err != nil || runs == 10 {
			t.Fatalf("want ok, and (cached) in the end: %v\n%s", err, out)
		}
	}
	if _, err := applyAll(dir, []edit{{reports, "", pooledPackage}}); err != nil {
		t.Fatal(err)
	}
	if out, err := goIn(t, dir, "test", "-run="+sourceChecks, "./internal/verify"); err == nil || !strings.Contains(out, "NP14") {
		t.Errorf("a pool was added and not seen: %v\n%s", err, out)
	}
}

const sourceChecks = "TestVerify/.*/source"
