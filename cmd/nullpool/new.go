package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
)

const defaultStack = "go"

// newOptions is what the command line of new says.
type newOptions struct {
	app   *app
	stack *generator.Stack
	given generator.Answers // from flags and the answers file, later from prompts
	dir   string
	yes   bool
	plan  bool
	diff  bool // with plan: against what is in dir

	git    bool
	verify bool
	asked  bool // a person has answered something
}

func newNewCmd(a *app, stacks []*generator.Stack, runF func(context.Context, *newOptions) error) *cobra.Command {
	opts := &newOptions{app: a}
	var flags []optionFlag
	var answersPath, stackName string
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
			err := a.choosePrompts()
			if err == nil {
				err = nonEmpty(cmd, "dir", "answers")
			}
			if err != nil {
				return err
			}
			opts.given, opts.stack, err = readAnswers(cmd.Context(), a.in, stacks, answersPath, stackName)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				opts.given[generator.NameOption] = generator.Answer{Values: args, Origin: generator.FromFlag}
			}
			if err := applyFlags(cmd, flags, opts.stack, opts.given); err != nil {
				return err
			}
			return runF(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVar(&opts.dir, "dir", "", "the folder to write to (default ./NAME)")
	cmd.Flags().StringVar(&answersPath, "answers", "", "a JSON or YAML file with answers, as in "+generator.AnswersPath+"; - is standard input")
	cmd.Flags().BoolVarP(&opts.yes, "yes", "y", false, "take defaults instead of asking")
	cmd.Flags().BoolVar(&opts.plan, "plan", false, "show what would be written, and write nothing")
	cmd.Flags().BoolVar(&opts.diff, "diff", false, "with --plan: show how the project would differ from what is in its folder")
	cmd.Flags().BoolVar(&opts.git, "git", false, "make a git repository and the first commit")
	cmd.Flags().BoolVar(&opts.verify, "verify", false, "build the project and run its tests")
	cmd.Flags().StringVar(&a.prompts, "prompts", promptsFull, "how to ask: "+promptsFull+", or "+promptsPlain+" (numbered lines)")
	completeNew(cmd)
	if len(stacks) > 1 {
		cmd.Flags().StringVar(&stackName, "stack", "", "the kind of project (default "+defaultStack+")")
	}
	flags = registerOptions(cmd, stacks)
	return cmd
}

// nonEmpty refuses these flags where they are given without a value, as by a
// script whose variable is unset: what would be taken instead is not what it meant.
func nonEmpty(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return &usageError{fmt.Errorf("--%s \"\": empty", name)}
		}
	}
	return nil
}

// readAnswers reads the answers file, if there is one, and finds the stack that
// the command line or else the file names.
func readAnswers(ctx context.Context, in io.Reader, stacks []*generator.Stack, path, stackName string) (generator.Answers, *generator.Stack, error) {
	answers := generator.Answers{}
	fileStack := ""
	if path != "" {
		data, err := readFile(ctx, in, path)
		if err == nil {
			answers, fileStack, err = generator.ReadAnswers(data)
		}
		if errors.Is(err, errInterrupted) {
			return nil, nil, err
		}
		if err != nil {
			err = &usageError{fmt.Errorf("read answers %q: %w", path, err)}
			return nil, nil, &hintedError{err, []string{`try {"name": "demo"}; nullpool list shows what else can be answered`}}
		}
	}
	for _, name := range []string{stackName, fileStack, defaultStack} {
		if name == "" {
			continue
		}
		i := slices.IndexFunc(stacks, func(s *generator.Stack) bool { return s.Name == name })
		if i < 0 {
			return nil, nil, &usageError{fmt.Errorf("stack %q: no such stack", name)}
		}
		return answers, stacks[i], nil
	}
	panic("unreachable: the default stack has a name")
}

// mostAnswers bounds what is read as answers, in bytes.
const mostAnswers = 1 << 20

// readFile reads a file, or standard input for "-". Either may be a pipe that says
// nothing for long, and must not keep an interruption waiting.
func readFile(ctx context.Context, in io.Reader, path string) ([]byte, error) {
	type reading struct {
		data []byte
		err  error
	}
	readings := make(chan reading, 1)
	go func() {
		data, err := readAll(in, path)
		readings <- reading{data, err}
	}()
	select {
	case r := <-readings:
		return r.data, r.err
	case <-ctx.Done():
		return nil, errInterrupted
	}
}

func readAll(in io.Reader, path string) ([]byte, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // it was only read
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, mostAnswers+1))
	if err == nil && len(data) > mostAnswers {
		err = fmt.Errorf("larger than %d bytes", mostAnswers)
	}
	return data, err
}

// runNew completes the answers, generates, and writes or shows the project.
func runNew(ctx context.Context, opts *newOptions) error {
	if opts.diff && !opts.plan {
		return &usageError{errors.New("--diff: only with --plan, which writes nothing")}
	}
	if err := complete(ctx, opts); err != nil {
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

// complete asks what is open. Where nobody can be asked, an open question is an
// error, unless --yes leaves it to the defaults.
func complete(ctx context.Context, opts *newOptions) error {
	if opts.yes {
		return nil
	}
	var open []generator.Option
	for _, option := range opts.stack.Options {
		if _, ok := opts.given[option.Name]; !ok && option.IsQuestion() {
			open = append(open, option)
		}
	}
	if len(open) == 0 {
		return nil
	}
	wrong := errors.Join(opts.stack.Check(opts.given), opts.stack.CheckRelations(opts.given))
	if opts.app.prompter == nil || opts.app.json { // a document is for a program
		return errors.Join(wrong, missing(opts, open))
	}
	if wrong == nil {
		wrong = opts.checkTarget(opts.given)
	}
	if wrong != nil {
		return wrong // before the first question, not after the last
	}
	for _, option := range open {
		if err := opts.ask(ctx, option, option.Defaults(opts.given.Name())); err != nil {
			return err
		}
	}
	return nil
}

// ask asks for one option and keeps the answer. An answer that does not go with
// those given before is refused at the question.
func (opts *newOptions) ask(ctx context.Context, option generator.Option, defaults []string) error {
	values, err := opts.app.prompter.Ask(ctx, question{
		Option:   option,
		Defaults: defaults,
		Check: func(values []string) error {
			if err := opts.stack.Check(generator.Answers{option.Name: {Values: values}}); err != nil {
				return offer(err)
			}
			so := maps.Clone(opts.given)
			so[option.Name] = generator.Answer{Values: values}
			if err := opts.stack.CheckRelations(so); err != nil || option.Name != generator.NameOption {
				return err
			}
			return opts.checkTarget(so)
		},
	})
	if err != nil {
		return err
	}
	opts.given[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
	opts.asked = true
	return nil
}

// offer adds to an error what can be answered instead, where that is known.
func offer(err error) error {
	if answer, ok := errors.AsType[*generator.AnswerError](err); ok && answer.Better != "" {
		return fmt.Errorf("%w; try %s", err, answer.Better)
	}
	return err
}

// missing returns the error that lists the open questions and a command that
// answers them.
func missing(opts *newOptions, open []generator.Option) error {
	flags := make([]string, len(open))
	answers := maps.Clone(opts.given)
	for i, option := range open {
		flags[i] = flagName(option)
		if option.Example != "" {
			answers[option.Name] = generator.Answer{Values: []string{option.Example}}
		}
	}
	return &missingError{flags: flags, command: opts.commandLine(answers.WithDefaults(opts.stack))}
}
