package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
)

// newFlags is what the command line of new says, but for what its request holds.
type newFlags struct {
	stacks      []*generator.Stack
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

// noChoice is what a flag that takes many choices takes for none of them.
const noChoice = "none"

// registerFlags declares the flags of new. What needs no reading goes into r.
func registerFlags(cmd *cobra.Command, stacks []*generator.Stack, r *request) *newFlags {
	f := &newFlags{stacks: stacks}
	cmd.Flags().StringVar(&r.dir, "dir", "", "the folder to write to (default ./NAME)")
	cmd.Flags().StringVar(&f.answersPath, "answers", "", "a JSON or YAML file with answers, as in "+generator.AnswersPath+"; - is standard input")
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "take defaults instead of asking")
	cmd.Flags().BoolVar(&r.plan, "plan", false, "show what would be written, and write nothing")
	cmd.Flags().BoolVar(&r.diff, "diff", false, "with --plan: show how the project would differ from what is in its folder")
	cmd.Flags().BoolVar(&r.git, "git", false, "make a git repository and the first commit")
	cmd.Flags().BoolVar(&r.verify, "verify", false, "build the project, run its tests and show their report")
	cmd.Flags().StringVar(&f.prompts, "prompts", promptsFull, "how to ask: "+promptsFull+", or "+promptsPlain+" (numbered lines)")
	if len(stacks) > 1 {
		cmd.Flags().StringVar(&f.stackName, "stack", "", "the kind of project (default "+r.app.stack+")")
	}
	prompts := []cobra.Completion{promptsFull, promptsPlain}
	must(cmd.RegisterFlagCompletionFunc("prompts", cobra.FixedCompletions(prompts, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.MarkFlagDirname("dir"))
	must(cmd.MarkFlagFilename("answers", "json", "yaml", "yml"))
	f.options = registerOptions(cmd, stacks)
	return f
}

// read completes the request with the stack and the answers from the answers file,
// the argument and the flags.
func (f *newFlags) read(cmd *cobra.Command, args []string, r *request) error {
	err := f.check(cmd, r)
	if err == nil {
		r.given, r.stack, err = readAnswers(cmd.Context(), r.app, f.stacks, f.answersFile(args, r), f.stackName)
	}
	if err != nil {
		return err
	}
	if len(args) == 1 {
		r.given[generator.NameOption] = generator.Answer{Values: args, Origin: generator.FromFlag}
	}
	return applyFlags(cmd, f.options, r.stack, r.given)
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

// An optionFlag is the flag that a stack's options declare: the flag that
// answers one, or the one that takes choices away from it.
type optionFlag struct {
	option  string
	name    string
	without bool
	value   func() []string
}

// registerOptions declares the flags of all stacks' options. Stacks share a flag
// where they share an option's name.
func registerOptions(cmd *cobra.Command, stacks []*generator.Stack) []optionFlag {
	var flags []optionFlag
	for _, stack := range stacks {
		for _, option := range stack.Options {
			if option.Name == generator.NameOption || cmd.Flags().Lookup(option.Name) != nil {
				continue
			}
			flags = append(flags, registerAnswer(cmd, option))
			if option.Without != "" {
				usage := fmt.Sprintf("leave out of --%s: %s", option.Name, strings.Join(option.ChoiceNames(), ", "))
				value := cmd.Flags().StringSlice(option.Without, nil, usage)
				completeChoices(cmd, option.Without, option)
				flags = append(flags, optionFlag{option.Name, option.Without, true, func() []string { return *value }})
			}
		}
	}
	return flags
}

// registerAnswer declares the flag that answers the option. Its default is left
// to the generator, so that a given default can be told from none given.
func registerAnswer(cmd *cobra.Command, option generator.Option) optionFlag {
	flag := optionFlag{option: option.Name, name: option.Name}
	usage := describe(option)
	if !option.IsText() {
		usage = fmt.Sprintf("%s: %s", usage, strings.Join(option.ChoiceNames(), ", "))
		defer completeChoices(cmd, option.Name, option)
	}
	if option.Many {
		values := cmd.Flags().StringSlice(option.Name, nil, usage)
		flag.value = func() []string { return *values }
		return flag
	}
	value := cmd.Flags().String(option.Name, "", usage)
	flag.value = func() []string { return []string{*value} }
	return flag
}

// completeChoices completes the flag with the option's choices: where it takes
// many, behind those that are there already.
func completeChoices(cmd *cobra.Command, flag string, option generator.Option) {
	complete := func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		before := ""
		if option.Many {
			before = typed[:strings.LastIndex(typed, ",")+1]
		}
		var completions []cobra.Completion
		for _, choice := range option.Choices {
			if !slices.Contains(strings.Split(before, ","), choice.Name) {
				completions = append(completions, cobra.CompletionWithDesc(before+choice.Name, choice.Help))
			}
		}
		return completions, cobra.ShellCompDirectiveNoFileComp
	}
	must(cmd.RegisterFlagCompletionFunc(flag, complete))
}

// must is for what fails only where a flag was not declared before.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// applyFlags adds the answers that the command line gives. They are stronger
// than the given ones.
func applyFlags(cmd *cobra.Command, flags []optionFlag, stack *generator.Stack, given generator.Answers) error {
	for _, flag := range flags {
		if !cmd.Flags().Changed(flag.name) {
			continue
		}
		option, ok := stack.Option(flag.option)
		if !ok {
			return &usageError{fmt.Errorf("stack %q has no --%s", stack.Name, flag.name)}
		}
		values := flag.value()
		switch {
		case option.Many && len(values) == 0:
			err := &usageError{fmt.Errorf("--%s \"\": empty", flag.name)}
			return &hintedError{err, []string{fmt.Sprintf("--%s %s takes no choice", flag.name, noChoice)}}
		case option.Many && slices.Equal(values, []string{noChoice}):
			values = []string{}
		}
		if flag.without {
			var err error
			if values, err = subtract(stack, option, values, given); err != nil {
				return err
			}
		}
		given[option.Name] = generator.Answer{Values: values, Origin: generator.FromFlag}
	}
	return nil
}

// subtract returns what is left of an option's answer, or of its default, when
// the unwanted choices are taken away.
func subtract(stack *generator.Stack, option generator.Option, unwanted []string, given generator.Answers) ([]string, error) {
	strange := slices.DeleteFunc(slices.Clone(unwanted), func(name string) bool { return slices.Contains(option.ChoiceNames(), name) })
	if err := stack.Validate(generator.Answers{option.Name: {Values: strange}}); err != nil {
		return nil, err
	}
	answer, ok := given[option.Name]
	if !ok {
		answer.Values = option.Defaults("")
	}
	left := []string{}
	for _, value := range answer.Values {
		if !slices.Contains(unwanted, value) {
			left = append(left, value)
		} else if answer.Origin == generator.FromFlag {
			return nil, &usageError{fmt.Errorf("%s %q: both asked for and left out", option.Name, value)}
		}
	}
	return left, nil
}

// describe returns the option's help with its default.
func describe(o generator.Option) string {
	if defaults := o.Defaults("NAME"); defaults != nil {
		return fmt.Sprintf("%s (default %s)", o.Help, strings.Join(defaults, ","))
	}
	return o.Help
}
