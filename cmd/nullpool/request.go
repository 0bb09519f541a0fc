package main

import (
	"path/filepath"

	"github.com/nullpool/nullpool/generator"
)

// A request is what a command line of new asks for.
type request struct {
	app   *app
	stack *generator.Stack
	given generator.Answers // from flags and the answers file, later from prompts
	asked bool              // a person has answered something

	dir    string
	yes    bool
	plan   bool
	diff   bool // with plan: against what is in dir
	git    bool
	verify bool
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
	return filepath.Clean(r.dir)
}

// checkTarget returns what is in the way of a project of these answers, as far as
// can be told.
func (r *request) checkTarget(answers generator.Answers) error {
	dir := r.target(answers)
	if dir == "" || r.diff {
		return nil
	}
	return generator.CheckTarget(dir)
}
