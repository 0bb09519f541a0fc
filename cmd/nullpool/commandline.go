package main

import (
	"cmp"
	"strings"

	"github.com/nullpool/nullpool/generator"
)

// commandLine returns a command that gives these answers and does what this one
// was asked to do, to be pasted into a shell.
func (r *request) commandLine(answers generator.Answers) string {
	words := []string{r.app.program, "new"}
	if name := answers.Name(); name != "" {
		words = append(words, quote(name))
	}
	if len(r.stacks) > 1 && r.stackFrom != "" {
		words = append(words, "--stack", r.stack.Name)
	}
	if r.dir != "" {
		words = append(words, "--dir", quote(r.dir))
	}
	for _, option := range r.stack.Options {
		answer, ok := answers[option.Name]
		if ok && option.IsQuestion() && option.Name != generator.NameOption {
			value := strings.Join(answer.Values, ",")
			if option.Many {
				value = cmp.Or(value, noChoice)
			}
			words = append(words, "--"+option.Name, quote(value))
		}
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"--yes", r.yes}, {"--plan", r.plan}, {"--diff", r.diff}, {"--git", r.git}, {"--verify", r.verify}, {"--json", r.app.json}} {
		if flag.set {
			words = append(words, flag.name)
		}
	}
	return strings.Join(words, " ")
}

// flagName returns how the option is given on a command line.
func flagName(o generator.Option) string {
	if o.Name == generator.NameOption {
		return strings.ToUpper(o.Name)
	}
	return "--" + o.Name
}
