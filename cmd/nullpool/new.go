package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
)

const defaultStack = "go"

// newOptions is what the command line of new says.
type newOptions struct {
	app         *app
	answersPath string
	stackName   string // "" where none is given
	stack       *generator.Stack
	given       generator.Answers // from flags and the answers file, later from prompts
	asked       bool              // a person has answered something

	dir    string
	yes    bool
	plan   bool
	diff   bool // with plan: against what is in dir
	git    bool
	verify bool
}

func newNewCmd(a *app, stacks []*generator.Stack, runF func(context.Context, *newOptions) error) *cobra.Command {
	opts := &newOptions{app: a}
	var flags []optionFlag
	cmd := &cobra.Command{
		Use:   "new [NAME]",
		Short: "Render a new project",
		Long: `Render a new project into ./NAME.

An answer comes from its flag, else from the answers file, else from a prompt,
else it is the default. The project records its answers in ` + generator.AnswersPath + `.`,
		Example: `  nullpool new demo --yes
  nullpool new demo --module example.com/demo --provider postgres --without notes
  nullpool new other --answers demo/` + generator.AnswersPath,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.read(cmd, args, stacks, flags); err != nil {
				return err
			}
			return runF(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVar(&opts.dir, "dir", "", "the folder to write to (default ./NAME)")
	cmd.Flags().StringVar(&opts.answersPath, "answers", "", "a JSON or YAML file with answers, as in "+generator.AnswersPath+"; - is standard input")
	cmd.Flags().BoolVarP(&opts.yes, "yes", "y", false, "take defaults instead of asking")
	cmd.Flags().BoolVar(&opts.plan, "plan", false, "show what would be written, and write nothing")
	cmd.Flags().BoolVar(&opts.diff, "diff", false, "with --plan: show how the project would differ from what is in its folder")
	cmd.Flags().BoolVar(&opts.git, "git", false, "make a git repository and the first commit")
	cmd.Flags().BoolVar(&opts.verify, "verify", false, "build the project, run its tests and show their report")
	cmd.Flags().StringVar(&a.prompts, "prompts", promptsFull, "how to ask: "+promptsFull+", or "+promptsPlain+" (numbered lines)")
	completeNew(cmd)
	if len(stacks) > 1 {
		cmd.Flags().StringVar(&opts.stackName, "stack", "", "the kind of project (default "+defaultStack+")")
	}
	flags = registerOptions(cmd, stacks)
	return cmd
}

// read takes the stack and the answers from the answers file, the argument and the
// flags.
func (opts *newOptions) read(cmd *cobra.Command, args []string, stacks []*generator.Stack, flags []optionFlag) error {
	err := opts.app.choosePrompts()
	if err == nil {
		err = nonEmpty(cmd, "dir", "answers")
	}
	if err == nil {
		opts.given, opts.stack, err = readAnswers(cmd.Context(), opts.app.in, stacks, opts.answersPath, opts.stackName)
	}
	if err != nil {
		return err
	}
	if len(args) == 1 {
		opts.given[generator.NameOption] = generator.Answer{Values: args, Origin: generator.FromFlag}
	}
	return applyFlags(cmd, flags, opts.stack, opts.given)
}

// runNew asks for what is missing, generates, and writes or shows the project.
func runNew(ctx context.Context, opts *newOptions) error {
	if opts.diff && !opts.plan {
		return &usageError{errors.New("--diff: only with --plan, which writes nothing")}
	}
	if err := opts.askOpen(ctx); err != nil {
		return opts.interrupted(err)
	}
	plan, tree, err := opts.generate()
	if err != nil {
		return err
	}
	if opts.plan {
		return opts.app.showPlan(plan, tree, opts.target(plan.Answers), opts.diff)
	}
	if opts.asked {
		if plan, tree, err = review(ctx, opts, plan, tree); err != nil {
			return opts.interrupted(err)
		}
	}
	return opts.interrupted(opts.write(ctx, plan, tree))
}

// write writes the project, does what the flags ask to do with it, and prints
// the result.
func (opts *newOptions) write(ctx context.Context, plan *generator.Plan, tree generator.Tree) error {
	dir := opts.target(plan.Answers)
	shown := opts.app.showProgress("writing " + dir)
	err := generator.Write(ctx, tree, dir)
	shown.end()
	if err != nil {
		failure := &hintedError{err, []string{"nothing was written; choose another folder with --dir"}}
		if opts.asked {
			failure.hints = append(failure.hints, "your answers: "+opts.commandLine(opts.given))
		}
		return failure
	}
	var notes []string
	if opts.git {
		shown := opts.app.showProgress("committing " + dir)
		if missing := commit(ctx, dir, plan.Version); missing != "" {
			notes = append(notes, missing)
		}
		shown.end()
	}
	var failure error
	if opts.verify {
		failure = opts.app.verify(ctx, plan, dir)
	}
	if failure == nil && ctx.Err() != nil {
		failure = &interruptedError{message: fmt.Sprintf("interrupted; the project is in %q", dir)}
	}
	if failure != nil && opts.app.json {
		return failure // one document, and the error says where the project is
	}
	if err := opts.showResult(plan, tree, dir, notes); err != nil {
		return fmt.Errorf("the project is in %q, but the result could not be printed: %w", dir, err)
	}
	return failure
}

func (opts *newOptions) generate() (*generator.Plan, generator.Tree, error) {
	plan, err := generator.NewPlan(opts.stack, opts.given, opts.app.version)
	if err != nil {
		return nil, nil, err
	}
	tree, err := generator.Generate(plan)
	return plan, tree, err
}

// target returns the folder that a project of these answers goes to, or "" where
// they have no name yet.
func (opts *newOptions) target(answers generator.Answers) string {
	if opts.dir == "" {
		return answers.Name()
	}
	return filepath.Clean(opts.dir)
}

// checkTarget returns what is in the way of a project of these answers, as far as
// can be told.
func (opts *newOptions) checkTarget(answers generator.Answers) error {
	dir := opts.target(answers)
	if dir == "" || opts.diff {
		return nil
	}
	return generator.CheckTarget(dir)
}

// interrupted adds the command that gives the answers so far to an interruption
// before anything was written, so that nothing typed is lost.
func (opts *newOptions) interrupted(err error) error {
	_, written := errors.AsType[*interruptedError](err)
	if err == nil || written || exitStatus(err) != exitInterrupted {
		return err
	}
	stopped := &interruptedError{message: errInterrupted.Error()}
	if len(opts.given) > 0 {
		stopped.command = opts.commandLine(opts.given)
	}
	return stopped
}
