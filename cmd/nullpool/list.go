package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
)

func newListCmd(a *app, stacks []*generator.Stack) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List stacks, their options and choices",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return runList(a, stacks) },
	}
}

func runList(a *app, stacks []*generator.Stack) error {
	if a.json {
		return a.document(listDocument{Kind: "list", Stacks: stacks})
	}
	var out strings.Builder
	if stack := generator.StackOption(stacks); stack.IsQuestion() {
		fmt.Fprintf(&out, "%-17s %s\n\n", flagName(stack), describe(stack))
	}
	for i, stack := range stacks {
		if i > 0 {
			fmt.Fprintln(&out)
		}
		fmt.Fprintf(&out, "%s: %s\n", stack.Name, stack.Title)
		for _, option := range stack.Options {
			fmt.Fprintf(&out, "\n  %-15s %s\n", flagName(option), describe(option))
			for _, choice := range option.Choices {
				fmt.Fprintf(&out, "    %-13s %s\n", choice.Name, choice.Help)
			}
		}
	}
	_, err := io.WriteString(a.out, out.String())
	return err
}
