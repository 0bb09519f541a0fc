package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/progress"
)

// patience is how long a command may take to end after an interruption.
const patience = 10 * time.Second

// verify builds the project, runs its tests and shows their report. What these
// commands print is for people, and goes to stderr.
func (a *app) verify(ctx context.Context, p *project) error {
	for _, args := range p.plan.Verify() {
		line := strings.Join(args, " ")
		fmt.Fprintf(a.err, "\n%s\n", line)
		shown := progress.Start(a.err, line)
		command := exec.CommandContext(ctx, args[0], args[1:]...)
		command.Dir, command.Stdout, command.Stderr = p.dir, shown, shown
		if p.outsideWorkspace() {
			command.Env, line = append(os.Environ(), "GOWORK=off"), "GOWORK=off "+line
		}
		// Killed, it would leave behind what it has started.
		command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
		command.WaitDelay = patience
		err := command.Run()
		shown.End()
		if err != nil && interruptedSoon(ctx) {
			return &interruptedError{message: fmt.Sprintf("interrupted; the project is in %q", p.dir)}
		}
		if err != nil {
			err = fmt.Errorf("the project is in %q, but %s: %w", p.dir, line, err)
			return &hintedError{err, []string{fmt.Sprintf("cd %s && %s", quote(p.dir), line)}}
		}
	}
	return nil
}

// interruptedSoon reports whether ctx ends within a moment: a Ctrl-C reaches the
// command, too, whose end may be seen first.
func interruptedSoon(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(200 * time.Millisecond):
		return false
	}
}
