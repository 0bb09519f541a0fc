package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/progress"
	"github.com/nullpool/nullpool/generator"
)

func newNewCmd(a *app, stacks []*generator.Stack, run func(context.Context, *request) error) *cobra.Command {
	r := &request{app: a, stacks: stacks}
	cmd := &cobra.Command{
		Use:   "new [NAME]",
		Short: "Render a new project",
		Long: `Render a new project into ./NAME.

An answer comes from its flag, else from the answers file, else from a prompt,
else it is the default. The project records its answers in ` + generator.AnswersPath + `.`,
		Example: fmt.Sprintf("  %[1]s new demo --yes\n  %[1]s new demo --yes --plan --diff\n  %[1]s new other --answers demo/%[2]s",
			a.program, generator.AnswersPath),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := registerFlags(cmd, r)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := flags.read(cmd, args, r); err != nil {
			return err
		}
		return run(cmd.Context(), r)
	}
	return cmd
}

// runNew makes what is asked for. An interruption before anything was written
// comes with the command that gives the answers so far, so that nothing typed is
// lost.
func runNew(ctx context.Context, r *request) error {
	err := makeProject(ctx, r)
	if errors.Is(err, errCancelled) {
		_, err = fmt.Fprintf(r.app.err, "\nNothing was written. The same without questions:\n\n  %s\n", r.commandLine(r.given))
		return err
	}
	if _, written := errors.AsType[*interruptedError](err); err == nil || written || exitStatus(err) != exitInterrupted {
		return err
	}
	stopped := &interruptedError{message: errInterrupted.Error()}
	if len(r.given) > 0 {
		stopped.command = r.commandLine(r.given)
	}
	return stopped
}

// makeProject asks for what is missing, generates, and writes or shows the project.
func makeProject(ctx context.Context, r *request) error {
	if err := askOpen(ctx, r); err != nil {
		return err
	}
	p, err := r.generate()
	if err != nil {
		return err
	}
	if r.plan {
		return r.app.showPlan(p, r.diff)
	}
	if r.asked {
		if p, err = review(ctx, r, p); err != nil {
			return err
		}
	}
	return writeProject(ctx, r, p)
}

// writeProject writes the project, does what the flags ask to do with it, and
// prints the result.
func writeProject(ctx context.Context, r *request, p *project) error {
	again := ""
	if r.asked {
		again = r.commandLine(p.plan.Answers)
	}
	line := progress.Start(r.app.err, "writing "+p.dir)
	err := generator.Write(ctx, p.tree, p.dir)
	line.End()
	if err != nil {
		hints := []string{"nothing was written; choose another folder with --dir"}
		if again != "" {
			hints = append(hints, "your answers: "+again)
		}
		return &hintedError{err, hints}
	}
	var notes []string
	if r.git {
		notes = r.app.firstCommit(ctx, p)
	}
	var failure error
	if r.verify {
		failure = r.app.verify(ctx, p)
	}
	if failure == nil && ctx.Err() != nil {
		failure = &interruptedError{message: fmt.Sprintf("interrupted; the project is in %q", p.dir)}
	}
	if failure != nil && r.app.json {
		return failure // one document, and the error says where the project is
	}
	if err := r.app.showResult(p, notes, again); err != nil {
		return fmt.Errorf("the project is in %q, but the result could not be printed: %w", p.dir, err)
	}
	return failure
}
