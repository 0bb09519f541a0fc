package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// A session is the program on a terminal of its own.
type session struct {
	t       *testing.T
	dir     string
	command *exec.Cmd
	screen  *os.File // our end of the terminal

	mutex sync.Mutex
	shown bytes.Buffer
	seen  int // how much of shown was waited for
}

// startSession runs the program in an empty folder on a pseudo-terminal.
func startSession(t *testing.T, args ...string) *session {
	t.Helper()
	s := newSession(t, args...)
	s.start()
	return s
}

// newSession returns a session that is still to be started.
func newSession(t *testing.T, args ...string) *session {
	t.Helper()
	return newSessionOf(t, "nullpool", args...)
}

// newSessionOf returns a session of one of the programs that TestMain has made.
func newSessionOf(t *testing.T, name string, args ...string) *session {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, dir: t.TempDir(), command: exec.CommandContext(t.Context(), program, args...)}
	s.command.Dir = s.dir
	s.command.Env = append(os.Environ(), "TERM=xterm") // where the tests run, it may be dumb
	for _, name := range ciVariables {
		s.command.Env = append(s.command.Env, name+"=")
	}
	return s
}

// start starts the session's command on a pseudo-terminal of 80 columns.
func (s *session) start() {
	s.t.Helper()
	var err error
	s.screen, err = pty.StartWithSize(s.command, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil && os.Getenv("CI") == "true" { // there all prompts are tried
		s.t.Fatal(err)
	}
	if err != nil {
		s.t.Skipf("no terminal to be had: %v", err)
	}
	s.t.Cleanup(func() { _ = s.screen.Close() })
	go s.read()
}

// resize gives the terminal another size.
func (s *session) resize(rows, columns uint16) {
	s.t.Helper()
	if err := pty.Setsize(s.screen, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		s.t.Fatal(err)
	}
}

// text returns all that was shown.
func (s *session) text() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.shown.String()
}

// read keeps what the program shows.
func (s *session) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := s.screen.Read(buffer)
		if err != nil {
			return
		}
		s.mutex.Lock()
		s.shown.Write(buffer[:n])
		s.mutex.Unlock()
	}
}

// line waits for a question and types a line. Before survey reads one it asks
// the terminal twice where the cursor is, for the size and for the place, and
// without the answers it waits forever. It keeps keys that come before the
// answer, and loses those that come too soon after it.
func (s *session) line(question, keys string) {
	s.t.Helper()
	const query, answer = "\x1b[6n", "\x1b[1;1R"
	s.expect(question)
	s.expect(query)
	s.press(answer)
	s.expect(query)
	s.press(keys + answer)
}

// keys waits for a list and presses keys.
func (s *session) keys(question, keys string) {
	s.t.Helper()
	s.expect(question)
	s.press(keys)
}

// expect waits until the program shows text that was not waited for before.
func (s *session) expect(text string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mutex.Lock()
		at := strings.Index(s.shown.String()[s.seen:], text)
		if at >= 0 {
			s.seen += at + len(text)
		}
		s.mutex.Unlock()
		if at >= 0 {
			return
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.t.Fatalf("never shows %q after\n%s", text, s.shown.String())
}

func (s *session) press(keys string) {
	s.t.Helper()
	if _, err := s.screen.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// exit waits for the program to end and wants this exit status.
func (s *session) exit(want int) {
	s.t.Helper()
	err := s.command.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		s.t.Fatal(err)
	} else if got := s.command.ProcessState.ExitCode(); got != want {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.t.Errorf("exit status %d (%v), want %d after\n%s", got, exit, want, s.shown.String())
	}
}

func (s *session) mustBeEmpty() {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) > 0 {
		s.t.Errorf("left behind: %v, %v", entries, err)
	}
}
