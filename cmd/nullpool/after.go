package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nullpool/nullpool/generator"
)

// commit makes the project's first commit, in a repository that it makes unless
// the folder has one or lies in one. A machine without git, or a git without an
// identity, is no reason to have no project: what is missing is said, as text.
func commit(ctx context.Context, dir, version string) (missing string) {
	if _, err := exec.LookPath("git"); err != nil {
		return "there is no git on this machine: nothing was committed"
	}
	commands := [][]string{{"add", "--all", "."}, {"commit", "--quiet", "--message", "Begin with nullpool " + version}}
	if _, err := os.Stat(filepath.Join(dir, ".git")); err != nil {
		commands = append([][]string{{"init", "--quiet"}}, commands...)
	}
	for _, args := range commands {
		command := exec.CommandContext(ctx, "git", args...)
		command.Dir = dir
		if output, err := command.CombinedOutput(); err != nil {
			reason, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
			if bytes.Contains(output, []byte("ident")) { // "empty ident name", "unable to auto-detect email address (… identity …)"
				reason = "git does not know who you are: git config --global user.name and user.email, then git commit"
			}
			return fmt.Sprintf("git %s: %s", args[0], reason)
		}
	}
	return ""
}

// verify builds the project and runs its tests, whose output is for people.
func (a *app) verify(ctx context.Context, plan *generator.Plan, dir string) error {
	for _, args := range plan.Verify() {
		fmt.Fprintf(a.err, "\n%s\n", strings.Join(args, " "))
		command := exec.CommandContext(ctx, args[0], args[1:]...)
		command.Dir, command.Stdout, command.Stderr = dir, a.err, a.err
		if err := command.Run(); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("the project is in %q, but its tests were interrupted", dir)
			}
			return fmt.Errorf("the project is in %q, but %s: %w", dir, strings.Join(args, " "), err)
		}
	}
	return nil
}
