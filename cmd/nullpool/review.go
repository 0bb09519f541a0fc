package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/prompt"
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
// written. It returns the project then, or errCancelled.
func review(ctx context.Context, r *request, p *project) (*project, error) {
	for {
		if err := showAnswers(r, p); err != nil {
			return nil, err
		}
		chosen, err := r.app.prompter.Ask(ctx, reviewQuestion(r))
		if err != nil {
			return nil, err
		}
		switch what := chosen[0]; what {
		case reviewWrite:
			return p, nil
		case reviewCancel:
			return nil, errCancelled
		case reviewFiles:
			for _, file := range p.tree {
				fmt.Fprintf(r.app.err, "%7d  %s\n", len(file.Data), file.Path)
			}
		default:
			if err := change(ctx, r, p, strings.TrimPrefix(what, changePrefix)); err != nil {
				return nil, err
			}
			if p, err = r.generate(); err != nil {
				return nil, err
			}
		}
	}
}

// change asks again, and for what another stack asks in addition.
func change(ctx context.Context, r *request, p *project, name string) error {
	if option, ok := r.stack.Option(name); ok {
		return askOption(ctx, r, option, p.plan.Answers[name].Values, false)
	}
	r.stackFrom = ""
	return askOpen(ctx, r)
}

// showAnswers prints all answers on one screen, and where they came from.
func showAnswers(r *request, p *project) error {
	table := tabwriter.NewWriter(r.app.err, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\n%d files for %s:\n\n", len(p.tree), quote(p.dir))
	if stack := generator.StackOption(r.stacks); stack.IsQuestion() {
		fmt.Fprintf(table, "  %s\t%s\t(%s)\n", stack.Name, r.stack.Name, r.stackFrom)
	}
	for _, option := range r.stack.Options {
		answer := p.plan.Answers[option.Name]
		value := strings.Join(answer.Values, ", ")
		if value == "" {
			value = "none"
		}
		fmt.Fprintf(table, "  %s\t%s\t(%s)\n", option.Name, value, answer.Origin)
	}
	return table.Flush()
}

func reviewQuestion(r *request) prompt.Question {
	choices := []prompt.Choice{{Name: reviewWrite}, {Name: reviewFiles, Help: "their names and sizes in bytes"}}
	for _, option := range slices.Concat([]generator.Option{generator.StackOption(r.stacks)}, r.stack.Options) {
		if option.IsQuestion() {
			choices = append(choices, prompt.Choice{Name: changePrefix + option.Name, Help: option.Help})
		}
	}
	choices = append(choices, prompt.Choice{Name: reviewCancel, Help: "write nothing"})
	return prompt.Question{Name: "review", Text: "What now", Choices: choices, Defaults: []string{reviewWrite}}
}
