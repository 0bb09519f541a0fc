package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

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
			var err error
			opts.given, opts.stack, err = readAnswers(stacks, answersPath, stackName)
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
	cmd.Flags().StringVar(&answersPath, "answers", "", "a JSON file with answers, as in "+generator.AnswersPath)
	cmd.Flags().BoolVarP(&opts.yes, "yes", "y", false, "take defaults instead of asking")
	cmd.Flags().BoolVar(&opts.plan, "plan", false, "show what would be written, and write nothing")
	if len(stacks) > 1 {
		cmd.Flags().StringVar(&stackName, "stack", "", "the kind of project (default "+defaultStack+")")
	}
	flags = registerOptions(cmd, stacks)
	return cmd
}

// readAnswers reads the answers file, if there is one, and finds the stack that
// the command line or else the file names.
func readAnswers(stacks []*generator.Stack, path, stackName string) (generator.Answers, *generator.Stack, error) {
	answers := generator.Answers{}
	fileStack := ""
	if path != "" {
		data, err := os.ReadFile(path)
		if err == nil {
			answers, fileStack, err = generator.ReadAnswers(data)
		}
		if err != nil {
			return nil, nil, &usageError{fmt.Errorf("read answers %q: %w", path, err)}
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

// runNew completes the answers, generates, and writes or shows the project.
func runNew(ctx context.Context, opts *newOptions) error {
	if err := complete(ctx, opts); err != nil {
		return err
	}
	plan, err := generator.NewPlan(opts.stack, opts.given, opts.app.version)
	if err != nil {
		return err
	}
	tree, err := generator.Generate(plan)
	if err != nil {
		return err
	}
	dir := opts.dir
	if dir == "" {
		dir = plan.Answers.Name()
	}
	dir = filepath.Clean(dir)
	if opts.plan {
		if err := generator.CheckTarget(dir); err != nil {
			return err
		}
		return opts.app.showPlan(plan, tree, dir)
	}
	if err := generator.Write(ctx, tree, dir); err != nil {
		return err
	}
	return opts.app.showResult(plan, tree, dir)
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
	wrong := opts.stack.Check(opts.given)
	if opts.app.prompter == nil || opts.app.json { // a prompt would be on stdout, too
		return errors.Join(wrong, missing(opts, open))
	}
	if wrong != nil {
		return wrong
	}
	for _, option := range open {
		values, err := opts.app.prompter.Ask(ctx, question{
			Option:   option,
			Defaults: option.Defaults(opts.given.Name()),
			Check: func(values []string) error {
				return opts.stack.Check(generator.Answers{option.Name: {Values: values}})
			},
		})
		if err != nil {
			return err
		}
		opts.given[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
	}
	return nil
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
	return &missingError{flags: flags, command: commandLine(opts.stack, answers.WithDefaults(opts.stack), opts.dir)}
}

func (a *app) showPlan(plan *generator.Plan, tree generator.Tree, dir string) error {
	if a.json {
		return a.projectDocument("plan", plan, tree, dir)
	}
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, file := range tree {
		fmt.Fprintf(table, "%04o\t%d\t%s\t%s\n", file.Mode, len(file.Data), filepath.Join(dir, file.Path), file.Layer)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.err, "%d files; nothing was written\n", len(tree))
	return err
}

func (a *app) showResult(plan *generator.Plan, tree generator.Tree, dir string) error {
	if a.json {
		return a.projectDocument("result", plan, tree, dir)
	}
	if _, err := fmt.Fprintln(a.out, dir); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "\n%d files written. Next:\n\n  cd %s\n", len(tree), quote(dir))
	for _, command := range plan.Next() {
		fmt.Fprintf(a.err, "  %s\n", command)
	}
	return nil
}

func (a *app) projectDocument(kind string, plan *generator.Plan, tree generator.Tree, dir string) error {
	answers, err := plan.AnswersFile()
	if err != nil {
		return err
	}
	document := projectDocument{Kind: kind, Dir: dir, Answers: answers, Next: plan.Next()}
	for _, file := range tree {
		document.Files = append(document.Files, fileDocument{
			Path: file.Path, Mode: fmt.Sprintf("%04o", file.Mode), Size: len(file.Data), Layer: file.Layer,
		})
	}
	return a.document(document)
}
