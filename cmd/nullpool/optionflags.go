package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
)

// noChoice is what a flag or a key that takes many choices takes for none of them.
const noChoice = "none"

// An optionFlag is the flag that a stack's options declare: the flag that
// answers one, or the one that takes choices away from it.
type optionFlag struct {
	option  string
	name    string
	without bool
	value   func() []string
}

// registerOptions declares the flags of all stacks' options. Stacks share a flag
// where they share an option's name; it is completed for the one that is named.
func registerOptions(cmd *cobra.Command, stacks []*generator.Stack, stackName *string) (flags []optionFlag) {
	for _, stack := range stacks {
		for _, option := range stack.Options {
			if option.Name == generator.NameOption || cmd.Flags().Lookup(option.Name) != nil {
				continue
			}
			faces := func() []generator.Option { return optionsOf(stacks, *stackName, option.Name) }
			flags = append(flags, registerAnswer(cmd, option, usageByStack(stacks, option.Name, usage)))
			completeChoices(cmd, option.Name, faces)
			if option.Without != "" {
				value := cmd.Flags().StringSlice(option.Without, nil, usageByStack(stacks, option.Name, func(o generator.Option) string {
					return fmt.Sprintf("leave out of --%s: %s", o.Name, strings.Join(o.ChoiceNames(), ", "))
				}))
				completeChoices(cmd, option.Without, faces)
				flags = append(flags, optionFlag{option.Name, option.Without, true, func() []string { return *value }})
			}
		}
	}
	return flags
}

// registerAnswer declares the flag that answers the option. Its default is left
// to the generator, so that a given default can be told from none given.
func registerAnswer(cmd *cobra.Command, option generator.Option, usage string) optionFlag {
	flag := optionFlag{option: option.Name, name: option.Name}
	if option.Many {
		values := cmd.Flags().StringSlice(option.Name, nil, usage)
		flag.value = func() []string { return *values }
		return flag
	}
	value := cmd.Flags().String(option.Name, "", usage)
	flag.value = func() []string { return []string{*value} }
	return flag
}

// optionsOf returns the option of a name as the stacks declare it, or only that which
// is named, if it is one.
func optionsOf(stacks []*generator.Stack, stackName, name string) (options []generator.Option) {
	for _, s := range stacks {
		if option, ok := s.Option(name); ok && (stackName == "" || stackName == s.Name) {
			options = append(options, option)
		}
	}
	return options
}

// usageByStack explains a flag for an option: once for all stacks if they all have it and
// mean the same, else for each.
func usageByStack(stacks []*generator.Stack, name string, explain func(generator.Option) string) string {
	var texts []string
	by := map[string][]string{} // the stacks, by text
	for _, s := range stacks {
		if option, ok := s.Option(name); ok {
			text := explain(option)
			if by[text] == nil {
				texts = append(texts, text)
			}
			by[text] = append(by[text], s.Name)
		}
	}
	if len(by[texts[0]]) == len(stacks) {
		return texts[0]
	}
	for i, text := range texts {
		texts[i] = strings.Join(by[text], ", ") + ": " + text
	}
	return strings.Join(texts, "; ")
}

// usage explains the flag that answers an option.
func usage(o generator.Option) string {
	if o.IsText() {
		return describe(o)
	}
	return describe(o) + ": " + strings.Join(o.ChoiceNames(), ", ")
}

// completeChoices completes the flag with the choices of an option, as one or another
// stack has it: where it takes many, behind those that are there already.
func completeChoices(cmd *cobra.Command, flag string, faces func() []generator.Option) {
	complete := func(_ *cobra.Command, _ []string, typed string) (completions []cobra.Completion, _ cobra.ShellCompDirective) {
		for _, option := range faces() {
			before := ""
			if option.Many {
				before = typed[:strings.LastIndex(typed, ",")+1]
			}
			for _, choice := range option.Choices {
				completion := cobra.CompletionWithDesc(before+choice.Name, choice.Help)
				if !slices.Contains(strings.Split(before, ","), choice.Name) && !slices.Contains(completions, completion) {
					completions = append(completions, completion)
				}
			}
		}
		return completions, cobra.ShellCompDirectiveNoFileComp
	}
	must(cmd.RegisterFlagCompletionFunc(flag, complete))
}

// applyFlags adds the answers that the command line gives. They are stronger
// than the given ones.
func applyFlags(cmd *cobra.Command, flags []optionFlag, stacks []*generator.Stack, stack *generator.Stack, given generator.Answers) error {
	for _, flag := range flags {
		if !cmd.Flags().Changed(flag.name) {
			continue
		}
		option, ok := stack.Option(flag.option)
		if !ok {
			var have []string
			for _, s := range stacks {
				if _, ok := s.Option(flag.option); ok {
					have = append(have, "--stack "+s.Name)
				}
			}
			err := &usageError{fmt.Errorf("stack %q has no --%s", stack.Name, flag.name)}
			return &hintedError{err, []string{fmt.Sprintf("--%s goes with %s", flag.name, strings.Join(have, ", "))}}
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

// must is for what fails only where a flag was not declared before.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
