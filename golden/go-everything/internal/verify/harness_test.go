package verify

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/demo/internal/pgtest"
)

// part is one check of a rule. A rule is passed when all its parts ran and passed.
type part struct {
	rule, name string
	run        func(t *T)
}

// parts are all checks of all rules. Each area has a file of its own.
var parts = slices.Concat(
	staticParts, engineParts, endParts, lifecycleParts, configurationParts, pressureParts, responseParts, readParts, migrationParts)

// outcome is the report, as far as it goes.
var outcome = struct {
	sync.Mutex
	Report
	begun   bool
	skipped string // why a part was skipped: the same for all, a real server is missing
}{Report: NewReport("self-verification of demo by its tests", "not asked for")}

// T is a test that remembers what it failed with, for the report.
type T struct {
	*testing.T
	rule  string
	mu    sync.Mutex
	notes []string
}

// note keeps a line for the report.
func (t *T) note(text string) {
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

// Skip leaves the part not run, for the reason given.
func (t *T) Skip(args ...any) {
	t.Helper()
	outcome.Lock()
	outcome.skipped = "\n" + fmt.Sprint(args...)
	outcome.Unlock()
	t.T.Skip(args...)
}

// TestVerify runs the checks of every rule, each as a subtest of its number: `go test -run TestVerify/NP04
// ./internal/verify` runs one of them.
func TestVerify(t *testing.T) {
	walkSource(t)
	outcome.begun = true
	onStandin.wrong, onPostgres.wrong = nil, nil // of an earlier run, as by -count
	for _, rule := range Rules {
		t.Run(rule.ID, func(t *testing.T) {
			t.Parallel()
			var found []Result // of the parts, by their names
			all := true
			for _, p := range parts {
				if before := len(found); p.rule == rule.ID {
					t.Run(p.name, func(t *testing.T) { p.try(&T{T: t, rule: rule.ID}, &found) })
					all = all && len(found) > before
				}
			}
			if t.Failed() {
				t.Errorf("%s %s\n%s", rule.ID, rule.Title, Result{rule, StatusFailed, ""}.advice())
			}
			if all { // else some were not asked for
				conclude(rule.ID, found)
			}
		})
	}
}

// patience is how long a part may take. One that hangs must not take the report with it.
const patience = 2 * time.Minute

// try runs a part and adds what it found.
func (p part) try(t *T, found *[]Result) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if panicked := recover(); panicked != nil {
				t.Errorf("panic: %v\n%s", panicked, debug.Stack())
			}
		}()
		p.run(t)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("it hangs: not done after %v", patience)
	}
	t.mu.Lock()
	r := Result{Rule{Title: p.name}, StatusPassed, strings.Join(t.notes, "\n")}
	t.mu.Unlock()
	switch {
	case t.Failed():
		r.Status = StatusFailed
	case t.Skipped():
		r.Status = StatusNotRun
	}
	*found = append(*found, r)
}

// conclude says what became of a rule: failed when a part did, passed when all were, else not run. It names the parts.
func conclude(id string, found []Result) {
	outcome.Lock()
	defer outcome.Unlock()
	for _, status := range []Status{StatusFailed, StatusNotRun, StatusPassed} {
		var names []string
		for _, x := range found {
			if x.Status == status {
				names = append(names, strings.TrimSuffix(x.Title+": "+x.Detail, ": "))
			}
		}
		if separator := "; "; len(names) > 0 {
			if status == StatusFailed {
				separator = "\n"
			}
			prefix := map[Status]string{StatusNotRun: "needs a real server: "}[status]
			outcome.Set(id, status, prefix+strings.Join(names, separator))
			return
		}
	}
}

var reportFile = flag.String("report", "", "write the report to this file, as JSON")

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
	report := outcome.Report
	report.Title += outcome.skipped
	if outcome.begun && testing.Verbose() {
		_ = report.Write(os.Stdout, false)
	}
	if !outcome.begun || *reportFile == "" {
		return nil
	}
	file, err := os.Create(*reportFile)
	if err != nil {
		return err
	}
	return errors.Join(report.Write(file, true), file.Close())
}
