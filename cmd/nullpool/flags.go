package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
)

// newFlags is what the command line of new says, but for what its request holds.
type newFlags struct {
	answersPath string
	stackName   string // "" where none is given
	prompts     string
	options     []optionFlag
}

// The values of --prompts.
const (
	promptsFull  = "full"
	promptsPlain = "plain"
)

// registerFlags declares the flags of new. What needs no reading goes into r.
func registerFlags(cmd *cobra.Command, r *request) *newFlags {
	f := &newFlags{}
	cmd.Flags().StringVar(&r.dir, "dir", "", "the folder to write to (default ./NAME)")
	cmd.Flags().StringVar(&f.answersPath, "answers", "", "a JSON or YAML file with answers, as in "+generator.AnswersPath+"; - is standard input")
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "take defaults instead of asking")
	cmd.Flags().BoolVar(&r.plan, "plan", false, "show what would be written, and write nothing")
	cmd.Flags().BoolVar(&r.diff, "diff", false, "with --plan: show how the project would differ from what is in its folder")
	cmd.Flags().BoolVar(&r.git, "git", false, "make a git repository and the first commit")
	cmd.Flags().BoolVar(&r.verify, "verify", false, "build the project, run its tests and show their report")
	cmd.Flags().StringVar(&f.prompts, "prompts", promptsFull, "how to ask: "+promptsFull+", or "+promptsPlain+" (numbered lines)")
	if stack := generator.StackOption(r.stacks); stack.IsQuestion() {
		cmd.Flags().StringVar(&f.stackName, stack.Name, "", usage(stack))
		completeChoices(cmd, stack.Name, func() []generator.Option { return []generator.Option{stack} })
	}
	prompts := []cobra.Completion{promptsFull, promptsPlain}
	must(cmd.RegisterFlagCompletionFunc("prompts", cobra.FixedCompletions(prompts, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.MarkFlagDirname("dir"))
	must(cmd.MarkFlagFilename("answers", "json", "yaml", "yml"))
	f.options = registerOptions(cmd, r.stacks, &f.stackName)
	return f
}

// read completes the request with the stack and the answers from the answers file,
// the argument and the flags.
func (f *newFlags) read(cmd *cobra.Command, args []string, r *request) error {
	if err := f.check(cmd, r); err != nil {
		return err
	}
	answers, fileStack, err := readAnswers(cmd.Context(), r.app, f.answersFile(args, r))
	if err != nil {
		return err
	}
	if len(args) == 1 {
		answers[generator.NameOption] = generator.Answer{Values: args, Origin: generator.FromFlag}
	}
	r.read = func(stack *generator.Stack) (generator.Answers, error) {
		given := maps.Clone(answers)
		for _, option := range stack.Options {
			if answer := given[option.Name]; option.Many && slices.Equal(answer.Values, []string{noChoice}) {
				given[option.Name] = generator.Answer{Values: []string{}, Origin: answer.Origin}
			}
		}
		return given, applyFlags(cmd, f.options, r.stacks, stack, given)
	}
	stack, from, err := f.chosen(fileStack, r)
	if err != nil {
		return err
	}
	r.stackFrom = from
	if err := r.take(stack); err != nil && (from != "" || !r.canAsk()) { // else another stack may do
		return err
	}
	return nil
}

// chosen returns the stack that the flag names, or else the answers file, and "" with the
// default where it is still to be asked for.
func (f *newFlags) chosen(inFile string, r *request) (*generator.Stack, generator.Origin, error) {
	name, from := f.stackName, generator.FromFlag
	if name == "" {
		name, from = inFile, generator.FromFile
	}
	option := generator.StackOption(r.stacks)
	names := option.ChoiceNames()
	switch i := slices.Index(names, name); {
	case i >= 0:
		return r.stacks[i], from, nil
	case name != "":
		near := generator.Nearest(name, names)
		return nil, "", &generator.AnswerError{Option: option.Name, Value: name, Reason: "no such choice", Better: near, Among: names}
	case r.yes || !option.IsQuestion():
		return r.stacks[0], generator.FromDefault, nil
	}
	return r.stacks[0], "", nil
}

// answersFile returns the path of the answers to read, "" for none. What is compared
// with a project has that project's answers, unless others are named.
func (f *newFlags) answersFile(args []string, r *request) string {
	if f.answersPath != "" || !r.diff {
		return f.answersPath
	}
	own := filepath.Join(cmp.Or(r.dir, strings.Join(args, "")), generator.AnswersPath)
	if _, err := os.Stat(own); err != nil {
		return ""
	}
	return own
}

// check refuses what cannot be meant, such as a flag without a value from a script
// whose variable is unset, and takes the prompter that is asked for.
func (f *newFlags) check(cmd *cobra.Command, r *request) error {
	for _, name := range []string{"dir", "answers"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return &usageError{fmt.Errorf("--%s \"\": empty", name)}
		}
	}
	if r.diff && !r.plan {
		return &usageError{errors.New("--diff: only with --plan, which writes nothing")}
	}
	switch f.prompts {
	case promptsFull:
		if cmd.Flags().Changed("prompts") {
			r.app.prompter = r.app.full
		}
	case promptsPlain:
		r.app.prompter = r.app.plain
	default:
		return &usageError{fmt.Errorf("--prompts %q: want %s or %s", f.prompts, promptsFull, promptsPlain)}
	}
	return nil
}
