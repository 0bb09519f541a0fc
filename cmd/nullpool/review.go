package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/nullpool/nullpool/generator"
)

// What can be done at the review, beside changing an answer.
const (
	reviewWrite  = "write it"
	reviewFiles  = "show the files"
	reviewCancel = "cancel"
	changePrefix = "change "
)

// review shows all answers and lets them be changed until the project is to be
// written. It returns the plan and the tree then, or errInterrupted.
func review(ctx context.Context, opts *newOptions, plan *generator.Plan, tree generator.Tree) (*generator.Plan, generator.Tree, error) {
	for {
		if err := opts.showAnswers(plan, len(tree)); err != nil {
			return nil, nil, err
		}
		chosen, err := opts.app.prompter.Ask(ctx, question{Option: reviewOption(opts.stack), Defaults: []string{reviewWrite}})
		if err != nil {
			return nil, nil, err
		}
		switch what := chosen[0]; what {
		case reviewWrite:
			return plan, tree, nil
		case reviewCancel:
			return nil, nil, errInterrupted
		case reviewFiles:
			for _, file := range tree {
				fmt.Fprintf(opts.app.err, "%7d  %s\n", len(file.Data), file.Path)
			}
		default:
			option, _ := opts.stack.Option(strings.TrimPrefix(what, changePrefix))
			if err := opts.ask(ctx, option, plan.Answers[option.Name].Values); err != nil {
				return nil, nil, err
			}
			if plan, tree, err = opts.generate(); err != nil {
				return nil, nil, err
			}
		}
	}
}

// showAnswers prints all answers on one screen, and where they came from.
func (opts *newOptions) showAnswers(plan *generator.Plan, files int) error {
	table := tabwriter.NewWriter(opts.app.err, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\n%d files for %s:\n\n", files, quote(opts.target(plan.Answers)))
	for _, option := range opts.stack.Options {
		answer := plan.Answers[option.Name]
		value := strings.Join(answer.Values, ", ")
		if value == "" {
			value = "none"
		}
		fmt.Fprintf(table, "  %s\t%s\t(%s)\n", option.Name, value, answer.Origin)
	}
	return table.Flush()
}

func reviewOption(stack *generator.Stack) generator.Option {
	review := generator.Option{Name: "review", Prompt: "What now", Choices: []generator.Choice{
		{Name: reviewWrite}, {Name: reviewFiles, Help: "their names and sizes in bytes"},
	}}
	for _, option := range stack.Options {
		if option.IsQuestion() {
			review.Choices = append(review.Choices, generator.Choice{Name: changePrefix + option.Name, Help: option.Help})
		}
	}
	review.Choices = append(review.Choices, generator.Choice{Name: reviewCancel, Help: "write nothing"})
	return review
}
