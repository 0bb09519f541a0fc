package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
)

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

// completeNew completes the flags that are no options.
func completeNew(cmd *cobra.Command) {
	prompts := []cobra.Completion{promptsFull, promptsPlain}
	must(cmd.RegisterFlagCompletionFunc("prompts", cobra.FixedCompletions(prompts, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.MarkFlagDirname("dir"))
	must(cmd.MarkFlagFilename("answers", "json", "yaml", "yml"))
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
		if flag.without {
			var err error
			if values, err = subtract(option, values, given); err != nil {
				return err
			}
		}
		given[option.Name] = generator.Answer{Values: values, Origin: generator.FromFlag}
	}
	return nil
}

// subtract returns what is left of an option's answer, or of its default, when
// the unwanted choices are taken away.
func subtract(option generator.Option, unwanted []string, given generator.Answers) ([]string, error) {
	if err := option.Check(unwanted); err != nil {
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

// commandLine returns a command that gives these answers and does what this one
// was asked to do, to be pasted into a shell.
func (opts *newOptions) commandLine(answers generator.Answers) string {
	words := []string{"nullpool", "new"}
	if name := answers.Name(); name != "" {
		words = append(words, quote(name))
	}
	if opts.stack.Name != defaultStack {
		words = append(words, "--stack", opts.stack.Name)
	}
	if opts.dir != "" {
		words = append(words, "--dir", quote(opts.dir))
	}
	for _, option := range opts.stack.Options {
		answer, ok := answers[option.Name]
		if ok && option.IsQuestion() && option.Name != generator.NameOption {
			words = append(words, "--"+option.Name, quote(strings.Join(answer.Values, ",")))
		}
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"--plan", opts.plan}, {"--diff", opts.diff}, {"--git", opts.git}, {"--verify", opts.verify}, {"--json", opts.app.json}} {
		if flag.set {
			words = append(words, flag.name)
		}
	}
	return strings.Join(words, " ")
}

// quote makes a word safe for a POSIX shell.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./,~+@:", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
