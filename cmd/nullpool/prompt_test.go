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
	"unicode/utf8"

	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

func TestPromptAsksWhatIsOpen(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new")
	s.expect("Stack:")
	s.expect("A dinner (default)")
	s.press("\r")
	s.line("Dinner name:", "My App\r")
	s.expect("want at most 63") // refused on the spot, and asked again
	s.expect("try my-app")
	s.line("Dinner name:", "feast\r")
	s.expect("Cookbook:")
	s.line("(example.com/feast)", "\r") // the default follows the name
	s.line("(linen for feast)", "\r")
	s.expect("  what there is to eat")
	s.expect("of the day (default)")
	s.press("\x1b[B\r")              // down
	s.keys("a bowl of it", " \r")    // the first, rice, is taken away
	s.expect("main         roast  ") // the review
	s.keys("What now:", "\r")
	s.expect("files written")
	s.expect("nullpool new feast --stack menu --cookbook example.com/feast --table-cloth 'linen for feast' --main roast --side none")
	s.exit(0)

	data, err := os.ReadFile(filepath.Join(s.dir, "feast", ".nullpool.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"cookbook": "example.com/feast"`, `"main": "roast"`, `"side": []`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("answers are %s, want %s", data, want)
		}
	}
}

func TestPromptLeavesOutWhatIsGiven(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "feast", "--stack", "menu", "--main", "roast", "--no", "rice", "--table-cloth", "none")
	s.line("Cookbook:", "\r")
	s.keys("What now:", "\r")
	s.expect("files written")
	s.exit(0)
}

// A question can be left for the one before, which then offers the answer it had.
func TestPromptBack(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "--stack", "menu", "--prompts", "full", "--table-cloth", "none")
	s.line("Dinner name:", "fest\r")
	s.expect("  < for the question before")
	s.line("Cookbook:", "<\r")
	s.line("(fest)", "feast\r")
	s.line("(example.com/feast)", "example.com/other\r")
	s.keys("Main dish:", "\x1b[B\r")       // roast
	s.keys("Side dishes:", "\x1b[A \r")    // up, from the first to the last: back
	s.keys("Main dish:", "\x1b[A\x1b[A\r") // roast is under the cursor, the last is back
	s.line("(example.com/other)", "\r")
	s.keys("Main dish:", "\r")
	s.keys("Side dishes:", "\r")
	s.keys("What now:", "\r")
	s.expect("nullpool new feast --stack menu --cookbook example.com/other --table-cloth none --main roast --side rice")
	s.exit(0)

	s = startSession(t, "new", "--stack", "menu", "--prompts", "plain", "--table-cloth", "none", "--side", "none", "--main", "fish")
	s.keys("Answer: ", "<\r")
	s.expect("Not accepted: ") // there is none before
	s.keys("Answer: ", "fest\r")
	s.expect("  < for the question before")
	s.keys("Answer (empty for example.com/fest): ", "<\r")
	s.keys("Answer (empty for fest): ", "feast\r")
	s.keys("Answer (empty for example.com/feast): ", "\r")
	s.keys("Number (empty for the default): ", "write it\r")
	s.expect("files written")
	s.exit(0)
}

// The review lets every answer be changed, shows the files, and can be left.
func TestPromptReview(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "--stack", "menu", "--prompts", "full", "--no", "rice", "--main", "fish", "--table-cloth", "none")
	down := func(n int) string { return strings.Repeat("\x1b[B", n) + "\r" }
	s.line("Dinner name:", "feast\r")
	s.line("Cookbook:", "\r")
	s.expect("files for feast:")
	s.keys("What now:", down(1))
	s.expect("dishes/feast.txt")
	s.keys("What now:", down(3)) // change name
	s.line("Dinner name:", "picnic\r")
	s.expect("files for picnic:")
	s.keys("What now:", down(6)) // change main
	s.keys("Main dish:", down(1))
	s.expect("main         roast  ")
	s.keys("What now:", down(7))  // change side
	s.keys("Side dishes:", " \r") // rice again
	s.expect("side         rice  ")
	s.keys("What now:", "\r")
	s.expect("--main roast --side rice")
	s.exit(0)
	if _, err := os.Stat(filepath.Join(s.dir, "picnic", "rice.yaml")); err != nil {
		t.Error(err)
	}
}

func TestPromptReviewCancelled(t *testing.T) {
	t.Parallel()
	for _, end := range []struct {
		keys, says string
		status     int
	}{
		{"\x1b[A\r", "Nothing was written.", exitDone}, // up, from the first to the last: cancel
		{"\x03", "nullpool: error: interrupted; nothing was written", exitInterrupted},
	} {
		s := startSession(t, "new", "feast", "--stack", "menu", "--main", "roast", "--side", "none", "--table-cloth", "none")
		s.line("Cookbook:", "\r")
		s.keys("What now:", end.keys)
		s.expect(end.says)
		s.expect("nullpool new feast --stack menu --cookbook example.com/feast --table-cloth none --main roast --side none")
		s.exit(end.status)
		s.mustBeEmpty()
	}
}

// Numbered lines need no cursor: not one escape sequence is sent.
func TestPromptPlain(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "--prompts", "plain")
	s.expect("1. menu (default): A dinner")
	s.keys("Number (empty for the default): ", "\r")
	s.keys("Answer: ", "Feast!\r")
	s.expect("Not accepted: ")
	s.keys("Answer: ", "feast\r")
	s.keys("Answer (empty for example.com/feast): ", "\r")
	s.keys("Answer (empty for linen for feast): ", "\r")
	s.expect("1. fish (default)")
	s.keys("Number (empty for the default): ", "7\r")
	s.expect(`"7" is none of the numbers`)
	s.keys("Number (empty for the default): ", "2\r")
	s.keys("0 for none): ", "1, sauce\r")
	s.expect("main         roast  ")
	s.expect("side         rice, sauce  ")
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
	s.keys("Number (empty for the default): ", "\x03")
	s.exit(exitInterrupted)
}

func TestPromptPlainEnds(t *testing.T) {
	t.Parallel()
	steps := []struct{ question, answer string }{
		{"Number (empty for the default): ", "\r"}, // the stack
		{"Answer: ", "feast\r"},
		{"Answer (empty for example.com/feast): ", "\r"},
		{"Answer (empty for linen for feast): ", "\r"},
		{"Number (empty for the default): ", "\r"},
		{"0 for none): ", "0\r"},
		{"Number (empty for the default): ", "4\r"}, // the review: change name
		{"Answer (empty for feast): ", "fest\r"},
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
				if last > 1 {
					s.expect("nullpool: hint: your answers so far: nullpool new fe")
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
	s := startSession(t, "new", "--stack", "menu", "--main", "roast", "--side", "none", "--table-cloth", "none")
	s.line("Dinner name:", "feast\r")
	s.resize(10, 40)
	s.line("Cookbook:", "\r")
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
	s := startSession(t, "new", "Feast")
	s.expect(`nullpool: error: name "Feast"`)
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
		{"Stack:", (*session).keys, "\r"},
		{"Dinner name:", (*session).line, "feast\r"},
		{"Cookbook:", (*session).line, "\r"},
		{"Table cloth:", (*session).line, "\r"},
		{"Main dish:", (*session).keys, "\r"},
		{"Side dishes:", (*session).keys, "\r"},
		{"What now:", (*session).keys, "\x1b[B\x1b[B\x1b[B\r"}, // change name
		{"Dinner name:", (*session).line, "fest\r"},
		{"What now:", (*session).keys, "\x1b[A\x1b[A\r"}, // change side
		{"Side dishes:", (*session).keys, " \r"},
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
			if last > 1 {
				s.expect("nullpool: hint: your answers so far: nullpool new fe")
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
		s := newSession(t, "new", "feast", "--stack", "menu", "--main", "roast", "--side", "none", "--table-cloth", "none", "--prompts", mode)
		var out bytes.Buffer
		s.command.Stdout = &out
		s.start()
		if mode == "full" {
			s.line("Cookbook:", "\r")
			s.keys("What now:", "\r")
		} else {
			s.keys("Answer (empty for example.com/feast): ", "\r")
			s.keys("Number (empty for the default): ", "\r")
		}
		s.expect("files written")
		s.exit(0)
		if strings.Contains(s.text(), "cd feast") { // who captures the folder goes there
			t.Errorf("%s: advises to cd:\n%s", mode, s.text())
		}
		if out.String() != "feast\n" {
			t.Errorf("%s: stdout is %q", mode, &out)
		}
	}
}

// What would be in the way is told before questions, or at the first one.
func TestPromptTargetInTheWay(t *testing.T) {
	t.Parallel()
	s := newSession(t, "new", "feast")
	if err := os.WriteFile(filepath.Join(s.dir, "feast"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.expect(`nullpool: error: target "feast": exists and is no folder`)
	s.exit(exitInTheWay)

	s = newSession(t, "new", "--stack", "menu", "--prompts", "plain")
	if err := os.MkdirAll(filepath.Join(s.dir, "feast", "kept"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.keys("Answer: ", "feast\r")
	s.expect(`Not accepted: target "feast": not empty: kept`)
	s.keys("Answer: ", "\x03")
	s.exit(exitInterrupted)
}

// A CI system may lend a terminal, at which nobody sits.
func TestPromptNotInCI(t *testing.T) {
	t.Parallel()
	s := newSession(t, "new", "feast")
	s.command.Env = append(s.command.Env, "CI=true")
	s.start()
	s.expect("nullpool: error: CI is set, so nobody is asked, and no answer to: --stack, --cookbook")
	s.exit(exitUsage)
	s.mustBeEmpty()

	s = newSession(t, "new", "--stack", "menu", "--prompts", "full")
	s.command.Env = append(s.command.Env, "CI=true")
	s.start()
	s.line("Dinner name:", "\x03")
	s.exit(exitInterrupted)

	s = newSession(t, "new", "--json")
	s.start()
	s.expect("with --json nobody is asked")
	s.exit(exitUsage)
}

// A line of progress says what takes long, makes room for output, and goes.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := newSession(t, "new", "demo", "--yes", "--verify")
	bin := filepath.Join(s.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, then := range map[string]string{"cook": "", "taste": "kill -INT $PPID\n"} {
		script := "#!/bin/sh\nsleep 0.7\necho did " + name + "\n" + then + "sleep 1\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.command.Env = append(s.command.Env, "PATH="+bin+":/usr/bin:/bin")
	s.start()
	s.expect("cook demo … ") // and after how many seconds, once or twice
	s.expect("s\r" + strings.Repeat(" ", 79) + "\rdid cook\r\n")
	s.expect("did taste")
	s.expect(`nullpool: error: interrupted; the project is in "demo"`)
	s.exit(exitInterrupted)
}

// A signal reaches the program while it waits at a prompt, too.
func TestPromptTerminated(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new")
	s.expect("Stack:")
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.expect("nullpool: error: interrupted; nothing was written")
	s.exit(exitInterrupted)
	s.mustBeEmpty()
}

var escape = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|[78])`)

// Whatever the real stacks ask fits into 80 columns, up to the command that says the
// same.
func TestPromptFitsTheTerminal(t *testing.T) {
	t.Parallel()
	stacks, err := generator.Load(templates.Files)
	if err != nil {
		t.Fatal(err)
	}
	for i, stack := range stacks {
		s := newSessionOf(t, "nullpool-real", "new")
		s.start()
		if len(stacks) > 1 {
			s.keys("Stack:", strings.Repeat("\x1b[B", i)+"\r")
		}
		for _, option := range stack.Options {
			switch {
			case option.Name == generator.NameOption:
				s.line(option.Prompt+":", "shop\r")
			case option.IsText():
				s.line(option.Prompt+":", "\r")
			case option.IsQuestion():
				s.keys(option.Prompt+":", "\r")
			}
		}
		s.keys("What now:", "\r")
		s.expect("The same without questions:")
		s.expect("\r\n\r\n  nullpool-real new shop ")
		s.exit(0)
		shown := escape.ReplaceAllString(s.text(), "")
		for line := range strings.FieldsFuncSeq(shown, func(r rune) bool { return r == '\r' || r == '\n' }) {
			if utf8.RuneCountInString(line) > 80 && !strings.HasPrefix(line, "  nullpool-real new") {
				t.Errorf("wider than 80 columns: %q", line)
			}
		}
	}
}

// A change of the stack at the review keeps what the other stack takes, and asks for
// the rest.
func TestPromptChangesTheStack(t *testing.T) {
	t.Parallel()
	s := startSession(t, "new", "--prompts", "plain", "--stack", "menu")
	s.keys("Answer: ", "feast\r")
	s.keys("Answer (empty for example.com/feast): ", "\r")
	s.keys("Answer (empty for linen for feast): ", "\r")
	s.keys("Number (empty for the default): ", "\r")
	s.keys("0 for none): ", "0\r")
	s.expect("stack        menu               (flag)")
	s.keys("Number (empty for the default): ", "change stack\r")
	s.keys("Number (empty for the default): ", "snack\r")
	s.expect("what there is to drink")
	s.keys("Number (empty for the default): ", "tea\r")
	s.expect("name   feast  (prompt)")
	s.keys("Number (empty for the default): ", "write it\r")
	s.expect("nullpool new feast --stack snack --drink tea")
	s.exit(0)
	if _, err := os.Stat(filepath.Join(s.dir, "feast", "requirements.lock")); err != nil {
		t.Error(err)
	}
}
