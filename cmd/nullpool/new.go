package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/aymanbagabas/go-udiff"
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
			switch a.prompts {
			case promptsFull:
			case promptsPlain:
				a.prompter = a.plain
			default:
				return &usageError{fmt.Errorf("--prompts %q: want %s or %s", a.prompts, promptsFull, promptsPlain)}
			}
			var err error
			opts.given, opts.stack, err = readAnswers(a.in, stacks, answersPath, stackName)
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
	completePrompts(cmd)
	if len(stacks) > 1 {
		cmd.Flags().StringVar(&stackName, "stack", "", "the kind of project (default "+defaultStack+")")
	}
	flags = registerOptions(cmd, stacks)
	return cmd
}

// readAnswers reads the answers file, if there is one, and finds the stack that
// the command line or else the file names.
func readAnswers(in io.Reader, stacks []*generator.Stack, path, stackName string) (generator.Answers, *generator.Stack, error) {
	answers := generator.Answers{}
	fileStack := ""
	if path != "" {
		data, err := readFile(in, path)
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

// mostAnswers bounds what is read from standard input, in bytes.
const mostAnswers = 1 << 20

// readFile reads a file, or standard input for "-".
func readFile(in io.Reader, path string) ([]byte, error) {
	if path != "-" {
		return os.ReadFile(path)
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
		return opts.app.showPlan(plan, tree, opts.target(plan), opts.diff)
	}
	if opts.asked {
		if plan, tree, err = review(ctx, opts, plan, tree); err != nil {
			return opts.interrupted(err)
		}
	}
	return opts.write(ctx, plan, tree)
}

// write writes the project, does what the flags ask to do with it, and prints
// the result.
func (opts *newOptions) write(ctx context.Context, plan *generator.Plan, tree generator.Tree) error {
	dir := opts.target(plan)
	if err := generator.Write(ctx, tree, dir); err != nil {
		return err
	}
	var notes []string
	if opts.git {
		if missing := commit(ctx, dir, plan.Version); missing != "" {
			notes = append(notes, missing)
		}
	}
	var failure error
	if opts.verify {
		failure = opts.app.verify(ctx, plan, dir)
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

// target returns the folder that the project goes to.
func (opts *newOptions) target(plan *generator.Plan) string {
	if opts.dir == "" {
		return plan.Answers.Name()
	}
	return filepath.Clean(opts.dir)
}

// interrupted adds the command that gives the answers so far to an interruption,
// so that nothing typed is lost.
func (opts *newOptions) interrupted(err error) error {
	if opts.asked && errors.Is(err, errInterrupted) {
		return &interruptedError{err, commandLine(opts.stack, opts.given, opts.dir)}
	}
	return err
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
				return err
			}
			so := maps.Clone(opts.given)
			so[option.Name] = generator.Answer{Values: values}
			return opts.stack.CheckConflicts(so)
		},
	})
	if err != nil {
		return err
	}
	opts.given[option.Name] = generator.Answer{Values: values, Origin: generator.FromPrompt}
	opts.asked = true
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

func (a *app) showPlan(plan *generator.Plan, tree generator.Tree, dir string, diff bool) error {
	if diff {
		return a.showDiff(tree, dir)
	}
	if err := generator.CheckTarget(dir); err != nil {
		return err
	}
	if a.json {
		return a.projectDocument("plan", plan, tree, dir, nil)
	}
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	size := 0
	for _, file := range tree {
		fmt.Fprintf(table, "%04o\t%d\t%s\t%s\n", file.Mode, len(file.Data), filepath.Join(dir, file.Path), file.Layer)
		size += len(file.Data)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.err, "%d files, %d bytes; nothing was written\n", len(tree), size)
	return err
}

// showDiff prints how the project would differ from what is in dir, as a unified
// diff: what is there and would be gone is not in it, since nothing is deleted.
func (a *app) showDiff(tree generator.Tree, dir string) error {
	changed := 0
	var text strings.Builder
	for _, file := range tree {
		path := filepath.Join(dir, file.Path)
		before, err := os.ReadFile(path)
		old := filepath.ToSlash(path)
		if errors.Is(err, fs.ErrNotExist) {
			old, err = os.DevNull, nil
		}
		if err != nil {
			return err
		}
		if diff := udiff.Unified(old, filepath.ToSlash(path), string(before), string(file.Data)); diff != "" {
			text.WriteString(diff)
			changed++
		}
	}
	if a.json {
		return a.document(diffDocument{Kind: "diff", Dir: dir, Changed: changed, Same: len(tree) - changed, Diff: text.String()})
	}
	if _, err := io.WriteString(a.out, text.String()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.err, "%d of %d files differ; nothing was written\n", changed, len(tree))
	return err
}

func (opts *newOptions) showResult(plan *generator.Plan, tree generator.Tree, dir string, notes []string) error {
	a := opts.app
	if a.json {
		return a.projectDocument("result", plan, tree, dir, notes)
	}
	if _, err := fmt.Fprintln(a.out, dir); err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintf(a.err, "nullpool: note: %s\n", note)
	}
	fmt.Fprintf(a.err, "\n%d files written. Next:\n\n  cd %s\n", len(tree), quote(dir))
	for _, command := range plan.Next() {
		fmt.Fprintf(a.err, "  %s\n", command)
	}
	if opts.asked {
		fmt.Fprintf(a.err, "\nThe same without questions:\n\n  %s\n", commandLine(opts.stack, plan.Answers, opts.dir))
	}
	return nil
}

func (a *app) projectDocument(kind string, plan *generator.Plan, tree generator.Tree, dir string, notes []string) error {
	answers, err := plan.AnswersFile()
	if err != nil {
		return err
	}
	document := projectDocument{Kind: kind, Dir: dir, Answers: answers, Next: plan.Next(), Notes: notes}
	for _, file := range tree {
		document.Files = append(document.Files, fileDocument{
			Path: file.Path, Mode: fmt.Sprintf("%04o", file.Mode), Size: len(file.Data), Layer: file.Layer,
		})
	}
	return a.document(document)
}
