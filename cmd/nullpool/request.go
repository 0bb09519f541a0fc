package main

import (
	"path/filepath"
	"strings"

	"github.com/nullpool/nullpool/generator"
)

// A request is what a command line of new asks for.
type request struct {
	app       *app
	stacks    []*generator.Stack // the default first
	stack     *generator.Stack   // the default as long as none is decided for
	stackFrom generator.Origin   // "" so long
	given     generator.Answers  // from flags and the answers file, later from prompts
	asked     bool               // a person has answered something

	// read returns what flags and the answers file say, as answers to a stack's questions.
	read func(stack *generator.Stack) (generator.Answers, error)

	dir    string
	yes    bool
	plan   bool
	diff   bool // with plan: against what is in dir
	git    bool
	verify bool
}

// take makes a stack the request's. What a person has answered is kept as far as the
// stack takes it.
func (r *request) take(stack *generator.Stack) error {
	given, err := r.read(stack)
	for name, answer := range r.given {
		if _, ok := given[name]; !ok && answer.Origin == generator.FromPrompt && stack.Validate(generator.Answers{name: answer}) == nil {
			given[name] = answer
		}
	}
	r.stack, r.given = stack, given
	return err
}

// canAsk reports whether somebody is there to answer. A document is for a program.
func (r *request) canAsk() bool { return r.app.prompter != nil && !r.app.json }

// open returns the questions that have no answer yet.
func (r *request) open() (open []generator.Option) {
	if r.stackFrom == "" {
		open = append(open, generator.StackOption(r.stacks))
	}
	for _, option := range r.stack.Options {
		if _, ok := r.given[option.Name]; !ok && option.IsQuestion() {
			open = append(open, option)
		}
	}
	return open
}

// check returns what is wrong with some answers, or else in the way of their project,
// as far as can be told.
func (r *request) check(answers generator.Answers) error {
	if err := r.stack.Validate(answers); err != nil {
		return err
	}
	dir := r.target(answers)
	if dir == "" || r.diff {
		return nil
	}
	return generator.CheckTarget(dir)
}

// A project is what a request comes to: what is to be written, and where.
type project struct {
	plan *generator.Plan
	tree generator.Tree
	dir  string
}

func (r *request) generate() (*project, error) {
	plan, err := generator.NewPlan(r.stack, r.given, r.app.version)
	if err != nil {
		return nil, err
	}
	tree, err := generator.Generate(plan)
	return &project{plan, tree, r.target(plan.Answers)}, err
}

// target returns the folder that a project of these answers goes to, or "" where
// they have no name yet.
func (r *request) target(answers generator.Answers) string {
	if r.dir == "" {
		return answers.Name()
	}
	dir := filepath.Clean(r.dir)
	if strings.HasPrefix(dir, "-") { // which cd would take for a flag
		dir = "./" + dir
	}
	return dir
}
