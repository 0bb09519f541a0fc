package verify

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/demo/internal/pgtest"
)

// part is one check of a rule. A rule is passed when all its parts ran and passed.
type part struct {
	rule, name string
	run        func(t *T)
}

// parts are all checks of all rules. Each area has a file of its own.
var parts = slices.Concat(
	staticParts, poolTypeParts, engineParts, endParts, lifecycleParts, configurationParts, pressureParts, responseParts, migrationParts)

// outcomes collects what the parts found, and the owner's exceptions.
var outcomes = struct {
	sync.Mutex
	of         map[string]Result // by rule and name of the part
	skipped    string            // why a part was skipped: the same for all, a real server is missing
	exceptions []Exception
}{of: map[string]Result{}}

// T is a test that remembers what it failed with, for the report.
type T struct {
	*testing.T
	rule  string
	mu    sync.Mutex
	notes []string
}

// note keeps a line for the report, with the place in the part where it was found: the first one in the file of an area.
func (t *T) note(text string) {
	var callers [20]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for frame, more := frames.Next(); more; frame, more = frames.Next() {
		name := filepath.Base(frame.File)
		if strings.HasSuffix(name, "_test.go") && !slices.Contains([]string{"harness_test.go", "service_test.go", "program_test.go"}, name) {
			text = fmt.Sprintf("%s:%d: %s", name, frame.Line, text)
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, text)
}

// Errorf fails the part and goes on.
func (t *T) Errorf(format string, args ...any) {
	t.Helper()
	t.note(fmt.Sprintf(format, args...))
	t.T.Errorf(format, args...)
}

// failIf fails the part when something is wrong.
func (t *T) failIf(wrong bool, format string, args ...any) {
	t.Helper()
	if wrong {
		t.Errorf(format, args...)
	}
}

// wantErr wants an error of a kind, or none for nil.
func (t *T) wantErr(want, got error, format string, args ...any) {
	t.Helper()
	t.failIf(!errors.Is(got, want), "%s: want %v, got %v", fmt.Sprintf(format, args...), want, got)
}

// Fatal fails the part and ends it. It is for the part's own goroutine.
func (t *T) Fatal(args ...any) {
	t.Helper()
	t.note(fmt.Sprint(args...))
	t.T.Fatal(args...)
}

// need ends the part on an error.
func (t *T) need(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Fatalf is Fatal with a format.
func (t *T) Fatalf(format string, args ...any) {
	t.Helper()
	t.Fatal(fmt.Sprintf(format, args...))
}

// Skip leaves the part not run, for the reason given.
func (t *T) Skip(args ...any) {
	t.Helper()
	outcomes.Lock()
	outcomes.skipped = fmt.Sprint(args...)
	outcomes.Unlock()
	t.T.Skip(args...)
}

// TestVerify runs the checks of every rule, each as a subtest of its number: `go test -run TestVerify/NP04
// ./internal/verify` runs one of them.
func TestVerify(t *testing.T) {
	walkSource(t)
	for _, rule := range Rules {
		t.Run(rule.ID, func(t *testing.T) {
			t.Parallel()
			for _, p := range parts {
				if p.rule == rule.ID {
					t.Run(p.name, func(t *testing.T) { p.try(&T{T: t, rule: rule.ID}) })
				}
			}
			if t.Failed() {
				t.Errorf("%s %s\n%s", rule.ID, rule.Title, Result{rule, StatusFailed, ""}.advice())
			}
		})
	}
}

// try runs a part and keeps its outcome.
func (p part) try(t *T) {
	defer func() {
		if panicked := recover(); panicked != nil { // it must not take the report with it
			t.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
		r := Result{Status: StatusPassed, Detail: strings.Join(t.notes, "\n")}
		switch {
		case t.Failed():
			r.Status = StatusFailed
		case t.Skipped():
			r.Status = StatusNotRun
		}
		outcomes.Lock()
		defer outcomes.Unlock()
		outcomes.of[p.rule+p.name] = r
	}()
	p.run(t)
}

// report puts the outcomes of the parts together.
func report() Report {
	outcomes.Lock()
	defer outcomes.Unlock()
	r := NewReport("self-verification of demo by its tests\n"+outcomes.skipped, "not asked for")
	r.Exceptions = append(r.Exceptions, outcomes.exceptions...)
	for _, rule := range Rules {
		if status, detail := ofRule(rule.ID); detail != "" {
			r.Set(rule.ID, status, detail)
		}
	}
	return r
}

// ofRule says what became of a rule: passed when all its parts were, failed when one did, else not run. The detail names
// the parts, and is empty when one of them was not asked for.
func ofRule(id string) (Status, string) {
	names := map[Status][]string{}
	var failures []string
	for _, p := range parts {
		if p.rule != id {
			continue
		}
		out, ran := outcomes.of[p.rule+p.name]
		if !ran {
			return StatusNotRun, ""
		}
		names[out.Status] = append(names[out.Status], p.name)
		if out.Status == StatusFailed {
			failures = append(failures, p.name+": "+out.Detail)
		}
	}
	switch {
	case len(failures) > 0:
		return StatusFailed, strings.Join(failures, "\n")
	case len(names[StatusNotRun]) > 0:
		return StatusNotRun, "needs a real server: " + strings.Join(names[StatusNotRun], "; ")
	}
	return StatusPassed, strings.Join(names[StatusPassed], "; ")
}

var reportFile = flag.String("report", "", "write the report to this file: JSON, JUnit's XML, Markdown or text, by its extension")

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))) // most parts wait most of the time
	}
	code := pgtest.Main(m)
	if err := printReport(); err != nil {
		fmt.Fprintln(os.Stderr, "write the report:", err)
		code = 1
	}
	os.Exit(code)
}

// printReport ends `go test -v` with the report, and writes it where -report says.
func printReport() error {
	if len(outcomes.of) == 0 {
		return nil
	}
	if testing.Verbose() {
		_ = report().Write(os.Stdout, "text", false)
	}
	if *reportFile == "" {
		return nil
	}
	file, err := os.Create(*reportFile)
	if err != nil {
		return err
	}
	format, ok := map[string]string{".json": "json", ".xml": "junit", ".md": "markdown"}[filepath.Ext(*reportFile)]
	if !ok {
		format = "text"
	}
	return errors.Join(report().Write(file, format, false), file.Close())
}
