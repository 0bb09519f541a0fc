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

// part is one check of a rule, or of several that look at the same. A rule is passed when all its parts ran and passed.
type part struct {
	rules, name string
	run         func(t *T)
}

// parts are all checks of all rules. Each area has a file of its own.
var parts = slices.Concat(
	staticParts, engineParts, endParts, lifecycleParts, configurationParts, pressureParts, slotParts, responseParts, migrationParts)

// outcome is the report, as far as it goes.
var outcome = struct {
	sync.Mutex
	Report
	begun   bool
	skipped string // why a part was skipped: the same for all, a real server is missing
}{Report: NewReport("self-verification of demo by its tests\nwhere it says source, of your own code; all else is about the engine, the middleware and the program", "not asked for")}

// T is a test that remembers what it failed with, for the report.
type T struct {
	*testing.T
	rule  string
	mu    sync.Mutex
	notes []string
	over  bool // the part was given up
}

// note keeps a line for the report. It ends the goroutine of a part that was given up: its test is over.
func (t *T) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		runtime.Goexit()
	}
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
	for _, rule := range Rules {
		t.Run(rule.ID, func(t *testing.T) {
			t.Parallel()
			found, all := map[Status][]string{}, true // what the parts found
			for _, p := range parts {
				if strings.Contains(p.rules, rule.ID) {
					ran := false
					t.Run(p.name, func(t *testing.T) { ran = true; p.try(&T{T: t, rule: rule.ID}, found) })
					all = all && ran // else it was not asked for
				}
			}
			if t.Failed() {
				t.Errorf("%s %s\n%s", rule.ID, rule.Title, rule.advice())
			}
			if all {
				conclude(rule.ID, found)
			}
		})
	}
}

// patience is how long a part may take. One that hangs must not take the report with it.
const patience = 2 * time.Minute

// try runs a part and adds what it found.
func (p part) try(t *T, found map[Status][]string) {
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
	status := StatusPassed
	if t.Failed() {
		status = StatusFailed
	} else if t.Skipped() {
		status = StatusNotRun
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	found[status] = append(found[status], strings.TrimSuffix(p.name+": "+strings.Join(t.notes, "\n"), ": "))
}

// conclude says what became of a rule: failed when a part did, passed when all were, else not run. It names the parts.
func conclude(id string, found map[Status][]string) {
	outcome.Lock()
	defer outcome.Unlock()
	switch failed, missing := found[StatusFailed], found[StatusNotRun]; {
	case failed != nil:
		outcome.Set(id, StatusFailed, strings.Join(failed, "\n"))
	case missing != nil:
		outcome.Set(id, StatusNotRun, "needs a real server: "+strings.Join(missing, "; "))
	default:
		outcome.Set(id, StatusPassed, strings.Join(found[StatusPassed], "; "))
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))) // most parts wait most of the time
	}
	code := pgtest.Main(m)
	if outcome.begun && testing.Verbose() {
		outcome.Title += outcome.skipped
		_ = outcome.Write(os.Stdout, false)
	}
	os.Exit(code)
}
