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
	"strings"
	"sync"
	"testing"
)

// part is one check of a rule. A rule is passed when all its parts ran and
// passed.
type part struct {
	rule string
	name string
	run  func(t *T)
}

// parts are all checks of all rules. Each area has a file of its own.
var parts = slices.Concat(
	staticParts, poolTypeParts, migrationParts, oneEngineParts, sessionParts,
	lifecycleParts, configurationParts, furtherParts, readParts, pressureParts, httpParts,
)

// record is what became of a part.
type record struct {
	status Status
	detail string
}

// outcomes collects what the parts found, and the owner's exceptions.
var outcomes = struct {
	sync.Mutex
	records    map[string]record // by rule and name
	skipped    string            // why a part was skipped: the same for all, a real server is missing
	exceptions []Exception
}{records: map[string]record{}}

// T is a test that remembers what it failed with, for the report.
type T struct {
	*testing.T
	mu    sync.Mutex
	notes []string
}

// note keeps a line for the report, with the place in the part where it was
// found: the first one outside of what all parts share.
func (t *T) note(format string, args ...any) {
	var callers [20]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	where := ""
	for frame, more := frames.Next(); more && where == ""; frame, more = frames.Next() {
		switch name := filepath.Base(frame.File); {
		case name == "bench_test.go" || name == "program_test.go" || !strings.HasSuffix(name, "_test.go"):
		default:
			where = fmt.Sprintf("%s:%d: ", name, frame.Line)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, where+fmt.Sprintf(format, args...))
}

// Errorf fails the part and goes on.
func (t *T) Errorf(format string, args ...any) {
	t.Helper()
	t.note(format, args...)
	t.T.Errorf(format, args...)
}

// Error is Errorf of its arguments.
func (t *T) Error(args ...any) {
	t.Helper()
	t.note("%s", fmt.Sprint(args...))
	t.T.Error(args...)
}

// Fatalf fails the part and ends it. It is for the part's own goroutine.
func (t *T) Fatalf(format string, args ...any) {
	t.Helper()
	t.note(format, args...)
	t.T.Fatalf(format, args...)
}

// Fatal is Fatalf of its arguments.
func (t *T) Fatal(args ...any) {
	t.Helper()
	t.note("%s", fmt.Sprint(args...))
	t.T.Fatal(args...)
}

// Skip leaves the part not run, for the reason given.
func (t *T) Skip(args ...any) {
	t.Helper()
	outcomes.Lock()
	outcomes.skipped = fmt.Sprint(args...)
	outcomes.Unlock()
	t.T.Skip(args...)
}

// Skipf is Skip with a format.
func (t *T) Skipf(format string, args ...any) {
	t.Helper()
	t.Skip(fmt.Sprintf(format, args...))
}

// TestVerify runs the check of every rule, each as a subtest of its number:
// `go test -run TestVerify/NP04 ./internal/verify` runs one of them.
func TestVerify(t *testing.T) {
	walkSource(t, moduleDir(t))
	for _, rule := range Rules {
		t.Run(rule.ID, func(t *testing.T) {
			t.Parallel()
			for _, p := range parts {
				if p.rule == rule.ID {
					t.Run(p.name, func(t *testing.T) { runPart(t, p) })
				}
			}
		})
	}
}

func runPart(t *testing.T, p part) {
	mine := &T{T: t}
	defer func() {
		if panicked := recover(); panicked != nil { // it must not take the report with it
			mine.note("panic: %v", panicked)
			t.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
		r := record{StatusPassed, ""}
		switch {
		case t.Failed():
			r.status = StatusFailed
		case t.Skipped():
			r.status = StatusNotRun
		}
		r.detail = strings.Join(mine.notes, "\n")
		outcomes.Lock()
		defer outcomes.Unlock()
		outcomes.records[p.rule+p.name] = r
	}()
	p.run(mine)
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

// ofRule says what became of a rule: passed when all its parts were, failed
// when one did, else not run. The detail names the parts.
func ofRule(id string) (Status, string) {
	names := map[Status][]string{}
	var failures []string
	for _, p := range parts {
		if p.rule != id {
			continue
		}
		out, ran := outcomes.records[p.rule+p.name]
		if !ran {
			return StatusNotRun, "" // not asked for
		}
		names[out.status] = append(names[out.status], p.name)
		if out.status == StatusFailed {
			failures = append(failures, p.name+": "+out.detail)
		}
	}
	switch {
	case len(failures) > 0:
		return StatusFailed, strings.Join(failures, "\n")
	case len(names[StatusNotRun]) > 0:
		return StatusNotRun, "needs a real server: " + strings.Join(names[StatusNotRun], "; ")
	case len(names[StatusPassed]) == 0:
		return StatusNotRun, "no check yet"
	}
	return StatusPassed, strings.Join(names[StatusPassed], "; ")
}

var reportFile = flag.String("report", "", "write the report to this file: JSON, JUnit's XML, Markdown or text, by its extension")

// printReport ends `go test -v` with the report, and writes it where -report says.
func printReport() error {
	if len(outcomes.records) == 0 {
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
