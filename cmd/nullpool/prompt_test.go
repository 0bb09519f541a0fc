package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
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
	program, err := exec.LookPath("nullpool") // testscript.Main put it there
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, dir: t.TempDir()}
	s.command = exec.CommandContext(t.Context(), program, args...)
	s.command.Dir = s.dir
	s.screen, err = pty.StartWithSize(s.command, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	t.Cleanup(func() { _ = s.screen.Close() })
	go s.read()
	return s
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

func TestPromptAsksWhatIsOpen(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new")
	s.line("Project name:", "My App\r")
	s.expect("want at most 63") // refused on the spot, and asked again
	s.line("Project name:", "shop\r")
	s.expect("Module path:")
	s.line("(example.com/shop)", "\r")       // the default follows the name
	s.keys("Database provider:", "\x1b[B\r") // down
	s.keys("Extras:", " \r")                 // the first, docker, is taken away
	s.expect("provider    postgres")         // the review
	s.keys("What now:", "\r")
	s.expect("files written")
	s.expect("nullpool new shop --module example.com/shop --provider postgres --with notes")
	s.exit(0)

	data, err := os.ReadFile(filepath.Join(s.dir, "shop", ".nullpool.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"module": "example.com/shop"`, `"provider": "postgres"`, `"with": ["notes"]`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("answers are %s, want %s", data, want)
		}
	}
}

func TestPromptLeavesOutWhatIsGiven(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "shop", "--provider", "postgres", "--without", "docker")
	s.line("Module path:", "\r")
	s.keys("What now:", "\r")
	s.expect("files written")
	s.exit(0)
}

// The review lets every answer be changed, shows the files, and can be left.
func TestPromptReview(t *testing.T) {
	t.Parallel()
	const down = "\x1b[B"
	s := startSession(t, "new", "--prompts", "full", "--without", "docker", "--provider", "supabase")
	s.line("Project name:", "shop\r")
	s.line("Module path:", "\r")
	s.expect("files for shop:")
	s.keys("What now:", down+"\r")
	s.expect("cmd/shop/main.go")
	s.keys("What now:", down+down+"\r") // change name
	s.line("Project name:", "store\r")
	s.expect("files for store:")
	s.keys("What now:", down+down+down+down+"\r") // change provider
	s.keys("Database provider:", down+"\r")
	s.expect("provider    postgres")
	s.keys("What now:", down+down+down+down+down+"\r") // change with
	s.keys("Extras:", " \r")                           // docker again
	s.expect("docker, notes")
	s.keys("What now:", "\r")
	s.expect("--provider postgres --with docker,notes")
	s.exit(0)
	if _, err := os.Stat(filepath.Join(s.dir, "store", "Dockerfile")); err != nil {
		t.Error(err)
	}
}

func TestPromptReviewCancelled(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{"\x1b[A\r", "\x03"} { // up, from the first to the last: cancel
		s := startSession(t, "new", "shop", "--provider", "postgres", "--with", "")
		s.line("Module path:", "\r")
		s.keys("What now:", keys)
		s.expect("nullpool: error: interrupted; nothing was written")
		s.expect("nullpool new shop --module example.com/shop --provider postgres --with ''")
		s.exit(exitInterrupted)
		s.mustBeEmpty()
	}
}

// Numbered lines need no cursor: not one escape sequence is sent.
func TestPromptPlain(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "--prompts", "plain")
	s.keys("Answer: ", "Shop!\r")
	s.expect("Not accepted: ")
	s.keys("Answer: ", "shop\r")
	s.keys("Answer (empty for example.com/shop): ", "\r")
	s.expect("1. supabase (default)")
	s.keys("Number (empty for the default): ", "7\r")
	s.expect(`"7" is none of the numbers`)
	s.keys("Number (empty for the default): ", "2\r")
	s.keys("0 for none): ", "2\r")
	s.expect("provider    postgres")
	s.keys("Number (empty for the default): ", "write it\r")
	s.expect("files written")
	s.exit(0)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if bytes.Contains(s.shown.Bytes(), []byte("\x1b")) {
		t.Errorf("an escape sequence in\n%q", s.shown.String())
	}
}

func TestPromptPlainEnds(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{"\x03", "\x04"} { // Ctrl-C, Ctrl-D
		s := startSession(t, "new", "--prompts", "plain")
		s.keys("Answer: ", "shop\r")
		s.keys("Answer (empty for example.com/shop): ", keys)
		s.expect("nullpool: error: interrupted; nothing was written")
		s.expect("nullpool new shop")
		s.exit(exitInterrupted)
		s.mustBeEmpty()
	}
}

// A terminal that changes its size, and one whose owner wants no colours.
func TestPromptTerminals(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	s := startSession(t, "new", "--provider", "postgres", "--with", "")
	s.line("Project name:", "shop\r")
	if err := pty.Setsize(s.screen, &pty.Winsize{Rows: 10, Cols: 40}); err != nil {
		t.Fatal(err)
	}
	s.line("Module path:", "\r")
	s.keys("What now:", "\r")
	s.expect("files written")
	s.exit(0)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*[1-9][0-9;]*m`).FindString(s.shown.String()); colour != "" {
		t.Errorf("a colour, %q, in\n%q", colour, s.shown.String())
	}
}

func TestPromptComesAfterRefusals(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "Shop")
	s.expect(`nullpool: error: name "Shop"`)
	s.exit(2)
	s.mustBeEmpty()
}

func TestPromptInterrupted(t *testing.T) {
	t.Parallel()
	steps := []struct {
		question string
		press    func(s *session, question, keys string)
		answer   string
	}{
		{"Project name:", (*session).line, "shop\r"},
		{"Module path:", (*session).line, "\r"},
		{"Database provider:", (*session).keys, "\r"},
		{"Extras:", (*session).keys, "\r"},
	}
	for last, step := range steps {
		t.Run(step.question, func(t *testing.T) {
			t.Parallel()
			s := startSession(t, "new")
			for _, earlier := range steps[:last] {
				earlier.press(s, earlier.question, earlier.answer)
			}
			step.press(s, step.question, "\x03")
			s.expect("nullpool: error: interrupted; nothing was written")
			if last > 0 {
				s.expect("nullpool: hint: your answers so far: nullpool new shop")
			}
			s.exit(exitInterrupted)
			s.mustBeEmpty()
		})
	}
}

// A signal reaches the program while it waits at a prompt, too.
func TestPromptTerminated(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new")
	s.expect("Project name:")
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.expect("nullpool: error: interrupted; nothing was written")
	s.exit(exitInterrupted)
	s.mustBeEmpty()
}

// An interrupted context stops the write as well, with the same exit status.
func TestWriteInterrupted(t *testing.T) {
	t.Parallel()
	a, _, errs := newTestApp(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "demo")
	if status := a.run(ctx, []string{"new", "demo", "--yes", "--dir", dir}); status != exitInterrupted {
		t.Errorf("exit status %d: %s", status, errs)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}
