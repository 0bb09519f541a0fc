package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/prompt"
	"github.com/nullpool/nullpool/generator"
)

// The exit statuses. They are documented and stay as they are.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // the command line or an answer
	exitInTheWay    = 3 // what is in the target
	exitInterrupted = 130
)

// errInterrupted is a Ctrl-C, or another signal to end, before the project is there.
var errInterrupted = errors.New("interrupted; nothing was written")

// errCancelled is the choice to write nothing, which is no failure.
var errCancelled = errors.New("cancelled")

// An interruptedError says what an interruption left behind.
type interruptedError struct {
	message string
	command string // one that gives the answers so far again, or ""
}

func (e *interruptedError) Error() string { return e.message }
func (e *interruptedError) Unwrap() error { return errInterrupted }

// A hintedError is an error that something can be done about.
type hintedError struct {
	error
	hints []string
}

func (e *hintedError) Unwrap() error { return e.error }

// A usageError is a command line that was not understood.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// A missingError is all questions that nobody answered and nobody can be asked.
type missingError struct {
	why     string // nobody can be asked
	flags   []string
	command string // one that answers them all
}

func (e *missingError) Error() string {
	return e.why + ", and no answer to: " + strings.Join(e.flags, ", ")
}

func exitStatus(err error) int {
	switch {
	case errors.Is(err, errInterrupted), errors.Is(err, prompt.ErrInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case is[*generator.InTheWayError](err):
		return exitInTheWay
	case is[*generator.AnswerError](err), is[*usageError](err), is[*missingError](err):
		return exitUsage
	}
	return exitFailed
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// report tells the user about err, one line for each thing that is wrong, and
// returns the exit status for it.
func (a *app) report(err error) int {
	document := errorDocument{Kind: "error", ExitCode: exitStatus(err)}
	for _, err := range flatten(err) {
		p := problem{Message: err.Error(), Hints: a.hints(err)}
		if answer, ok := errors.AsType[*generator.AnswerError](err); ok {
			p.Option = answer.Option
		}
		document.Errors = append(document.Errors, p)
	}
	if a.json {
		if a.document(document) != nil {
			return exitFailed
		}
		return document.ExitCode
	}
	for _, p := range document.Errors {
		fmt.Fprintf(a.err, "nullpool: error: %s\n", printable(p.Message))
		for _, hint := range p.Hints {
			fmt.Fprintf(a.err, "nullpool: hint: %s\n", printable(hint))
		}
	}
	return document.ExitCode
}

// printable escapes what would move a terminal's cursor or change its colours: an
// answer may come from somebody else's file.
func printable(text string) string {
	var out strings.Builder
	for _, r := range strings.ToValidUTF8(text, "\ufffd") {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
		} else {
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return out.String()
}

// flatten returns the errors that were joined into err.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, flatten(err)...)
	}
	return all
}

// hints returns what to try instead.
func (a *app) hints(err error) []string {
	if stopped, ok := errors.AsType[*interruptedError](err); ok {
		if stopped.command == "" {
			return nil
		}
		return []string{"your answers so far: " + stopped.command}
	}
	if missing, ok := errors.AsType[*missingError](err); ok {
		return []string{missing.command, "or add --yes to take the defaults"}
	}
	if way, ok := errors.AsType[*generator.InTheWayError](err); ok {
		if len(way.Names) == 0 {
			return []string{"choose another folder with --dir"}
		}
		return []string{fmt.Sprintf("choose another folder with --dir, or make room in %q", way.Dir)}
	}
	if hinted, ok := errors.AsType[*hintedError](err); ok {
		return hinted.hints
	}
	if is[*usageError](err) {
		return []string{a.command + " --help"}
	}
	if answer, ok := errors.AsType[*generator.AnswerError](err); ok {
		return a.answerHints(answer)
	}
	return nil
}

// answerHints returns what to answer instead.
func (a *app) answerHints(err *generator.AnswerError) []string {
	switch {
	case len(err.Among) > 0 && err.Better != "":
		return []string{fmt.Sprintf("did you mean %q? All of them: %s", err.Better, strings.Join(err.Among, ", "))}
	case len(err.Among) > 0:
		return []string{"choose from " + strings.Join(err.Among, ", ")}
	case err.Better == "":
		return nil
	case err.Option == generator.NameOption && isPath(err.Value):
		return []string{fmt.Sprintf("try %s new %s --dir %s", a.program, err.Better, quote(err.Value))}
	case err.Option == generator.NameOption:
		return []string{"try " + a.program + " new " + err.Better}
	}
	return []string{fmt.Sprintf("try --%s %s", err.Option, err.Better)}
}

// isPath reports whether a name was meant for a folder, one that can be printed.
func isPath(name string) bool {
	return (name == "." || name == ".." || strings.ContainsAny(name, `/\`)) && strconv.Quote(name) == `"`+strings.ReplaceAll(name, `\`, `\\`)+`"`
}
