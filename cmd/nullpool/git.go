package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/progress"
)

// firstCommit makes the project's first commit, in a repository that it makes unless
// the folder has one. A machine without git, or a git without an identity, is no
// reason to have no project: what could not be done is a note.
func (a *app) firstCommit(ctx context.Context, p *project) (notes []string) {
	line := progress.Start(a.err, "committing "+p.dir)
	defer line.End()
	if _, err := exec.LookPath("git"); err != nil {
		return []string{"there is no git on this machine: nothing was committed"}
	}
	// What the user ignores everywhere, such as *.example, is part of the project all the same; what was there, such as
	// .DS_Store, is not.
	add := []string{"add", "--force", "--"}
	for _, file := range p.tree {
		add = append(add, file.Path)
	}
	commands := [][]string{add, {"commit", "--quiet", "--message", "Begin with nullpool " + p.plan.Version}}
	if _, err := os.Stat(filepath.Join(p.dir, ".git")); err != nil {
		commands = append([][]string{{"init", "--quiet"}}, commands...)
	}
	for _, args := range commands {
		command := exec.CommandContext(ctx, "git", args...)
		command.Dir, command.Env = p.dir, ownRepository(os.Environ())
		if output, err := command.CombinedOutput(); err != nil {
			reason, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
			if bytes.Contains(output, []byte("ident")) { // "empty ident name", "unable to auto-detect email address (… identity …)"
				reason = "git does not know who you are: git config --global user.name and user.email, then git commit"
			}
			if reason == "" {
				reason = err.Error()
			}
			return []string{fmt.Sprintf("git %s: %s", args[0], reason)}
		}
	}
	return nil
}

// ownRepository takes out of an environment what a git hook has there, which would
// make git work on the hook's repository instead of the project's.
func ownRepository(environment []string) []string {
	return slices.DeleteFunc(environment, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains([]string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"}, name)
	})
}
