package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestPromptAsksWhatIsOpen(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new")
	s.line("Project name:", "My App\r")
	s.expect("want at most 63") // refused on the spot, and asked again
	s.expect("try my-app")
	s.line("Project name:", "shop\r")
	s.expect("Module path:")
	s.line("(example.com/shop)", "\r") // the default follows the name
	s.expect("  whose Postgres the settings are written for")
	s.expect("Supabase through Supavisor in session mode (default)")
	s.press("\x1b[B\r")              // down
	s.keys("docker", " \r")          // the first, docker, is taken away
	s.expect("provider    postgres") // the review
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
	if strings.Contains(s.text(), "\x1b") {
		t.Errorf("an escape sequence in\n%q", s.text())
	}
}

// A terminal that cannot move its cursor is asked with numbered lines by itself.
func TestPromptDumbTerminal(t *testing.T) {
	t.Parallel()
	s := newSession(t, "new")
	s.command.Env = append(s.command.Env, "TERM=dumb")
	s.start()
	s.keys("Answer: ", "\x03")
	s.exit(exitInterrupted)
}

func TestPromptPlainEnds(t *testing.T) {
	t.Parallel()
	steps := []struct{ question, answer string }{
		{"Answer: ", "shop\r"},
		{"Answer (empty for example.com/shop): ", "\r"},
		{"Number (empty for the default): ", "\r"},
		{"0 for none): ", "0\r"},
		{"Number (empty for the default): ", "3\r"}, // the review: change name
		{"Answer (empty for shop): ", "store\r"},
		{"Number (empty for the default): ", ""},
	}
	for last, step := range steps {
		for name, key := range map[string]string{"Ctrl-C": "\x03", "Ctrl-D": "\x04"} {
			t.Run(fmt.Sprintf("%s at question %d", name, last+1), func(t *testing.T) {
				t.Parallel()
				s := startSession(t, "new", "--prompts", "plain")
				for _, earlier := range steps[:last] {
					s.keys(earlier.question, earlier.answer)
				}
				s.keys(step.question, key)
				s.expect("nullpool: error: interrupted; nothing was written")
				if last > 0 {
					s.expect("nullpool: hint: your answers so far: nullpool new s")
				}
				s.exit(exitInterrupted)
				s.mustBeEmpty()
			})
		}
	}
}

// A terminal that changes its size, and one whose owner wants no colours.
func TestPromptTerminals(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	s := startSession(t, "new", "--provider", "postgres", "--with", "")
	s.line("Project name:", "shop\r")
	s.resize(10, 40)
	s.line("Module path:", "\r")
	s.expect("What now:")
	s.resize(30, 100) // while a list is on the screen
	s.press("\r")
	s.expect("files written")
	s.exit(0)
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*[1-9][0-9;]*m`).FindString(s.text()); colour != "" {
		t.Errorf("a colour, %q, in\n%q", colour, s.text())
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
		{"What now:", (*session).keys, "\x1b[B\x1b[B\r"}, // change name
		{"Project name:", (*session).line, "store\r"},
		{"What now:", (*session).keys, "\x1b[A\x1b[A\r"}, // change with
		{"Extras:", (*session).keys, " \r"},
		{"What now:", (*session).keys, ""},
	}
	for last, step := range steps {
		t.Run(fmt.Sprintf("question %d", last+1), func(t *testing.T) {
			t.Parallel()
			s := startSession(t, "new", "--git")
			for _, earlier := range steps[:last] {
				earlier.press(s, earlier.question, earlier.answer)
			}
			step.press(s, step.question, "\x03")
			s.expect("nullpool: error: interrupted; nothing was written")
			if last > 0 {
				s.expect("nullpool: hint: your answers so far: nullpool new s")
				s.expect(" --git")
			}
			s.exit(exitInterrupted)
			s.mustBeEmpty()
		})
	}
}

// stdout is for the result alone, so that cd $(nullpool new) works.
func TestPromptLeavesStdoutAlone(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"full", "plain"} {
		s := newSession(t, "new", "shop", "--provider", "postgres", "--with", "", "--prompts", mode)
		var out bytes.Buffer
		s.command.Stdout = &out
		s.start()
		if mode == "full" {
			s.line("Module path:", "\r")
			s.keys("What now:", "\r")
		} else {
			s.keys("Answer (empty for example.com/shop): ", "\r")
			s.keys("Number (empty for the default): ", "\r")
		}
		s.expect("files written")
		s.exit(0)
		if out.String() != "shop\n" {
			t.Errorf("%s: stdout is %q", mode, &out)
		}
	}
}

// What would be in the way is told before questions, or at the first one.
func TestPromptTargetInTheWay(t *testing.T) {
	t.Parallel()
	s := newSession(t, "new", "shop")
	if err := os.WriteFile(filepath.Join(s.dir, "shop"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.expect(`nullpool: error: target "shop": exists and is no folder`)
	s.exit(exitInTheWay)

	s = newSession(t, "new", "--prompts", "plain")
	if err := os.MkdirAll(filepath.Join(s.dir, "shop", "kept"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.keys("Answer: ", "shop\r")
	s.expect(`Not accepted: target "shop": not empty: kept`)
	s.keys("Answer: ", "\x03")
	s.exit(exitInterrupted)
}

// A line of progress says what takes long, makes room for output, and goes.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := newSession(t, "new", "demo", "--yes", "--verify")
	bin := filepath.Join(s.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nsleep 0.7\necho did $1\n[ $1 = build ] || kill -INT $PPID\nsleep 1\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s.command.Env = append(s.command.Env, "PATH="+bin+":/usr/bin:/bin")
	s.start()
	s.expect("go build ./... … 1s\r" + strings.Repeat(" ", progressWidth) + "\rdid build\r\n")
	s.expect("did test")
	s.expect(`nullpool: error: interrupted; the project is in "demo"`)
	s.exit(exitInterrupted)
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
