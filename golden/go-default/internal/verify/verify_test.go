package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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
	lifecycleParts, configurationParts, furtherParts, pressureParts, httpParts,
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
	exceptions []Exception
}{records: map[string]record{}}

// T is a test that remembers what it failed with, for the report.
type T struct {
	*testing.T
	mu    sync.Mutex
	notes []string
}

func (t *T) note(format string, args ...any) {
	where := ""
	if _, file, line, ok := runtime.Caller(2); ok {
		where = fmt.Sprintf("%s:%d: ", filepath.Base(file), line)
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
	t.note("%s", fmt.Sprint(args...))
	t.T.Skip(args...)
}

// Skipf is Skip with a format.
func (t *T) Skipf(format string, args ...any) {
	t.Helper()
	t.note(format, args...)
	t.T.Skipf(format, args...)
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
		r := record{StatusPassed, ""}
		switch {
		case t.Failed():
			r.status = StatusFailed
		case t.Skipped():
			r.status = StatusNotRun
		}
		if panicked := recover(); panicked != nil {
			r.status = StatusFailed
			mine.note("panic: %v", panicked)
			defer panic(panicked)
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
	r := NewReport("self-verification by go test of "+filepath.Base(modulePath()), "not asked for")
	outcomes.Lock()
	defer outcomes.Unlock()
	r.Exceptions = outcomes.exceptions
	for _, rule := range Rules {
		status, names, details := StatusPassed, []string{}, []string{}
		for _, p := range parts {
			if p.rule != rule.ID {
				continue
			}
			out, ran := outcomes.records[p.rule+p.name]
			if !ran {
				out = record{StatusNotRun, "not asked for"}
			}
			names = append(names, p.name)
			if out.status != StatusPassed {
				details = append(details, fmt.Sprintf("%s: %s", p.name, out.detail))
			}
			if out.status == StatusFailed || status == StatusPassed {
				status = out.status
			}
		}
		switch {
		case len(names) == 0:
			r.Set(rule.ID, StatusNotRun, "no check yet")
		case status == StatusPassed:
			r.Set(rule.ID, status, strings.Join(names, ", "))
		default:
			r.Set(rule.ID, status, strings.Join(details, "\n"))
		}
	}
	return r
}

// printReport ends `go test -v` with the report.
func printReport() {
	if testing.Verbose() && len(outcomes.records) > 0 {
		_ = report().WriteText(os.Stdout)
	}
}
