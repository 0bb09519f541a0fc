package generator

import (
	"fmt"
)

// Generate renders the plan's layers, formats what they give, checks it, and
// returns the whole project. Nothing is written. An error is a mistake in the
// templates: the answers were checked with the plan.
func Generate(p *Plan) (Tree, error) {
	tree, err := render(p)
	if err != nil {
		return nil, err
	}
	return tree, tree.check()
}

func render(p *Plan) (Tree, error) {
	all := func(string) bool { return true }
	view, err := p.view(p.Stack.viewType(all), p.layers)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, l := range p.layers {
		c, err := l.contents()
		if err != nil {
			return nil, err
		}
		for _, s := range c.sources {
			file, err := s.execute(view)
			if err != nil {
				return nil, fmt.Errorf("render layer %q: %w", l.name, err)
			}
			file.Layer = l.name
			files = append(files, file)
		}
	}
	if !p.unlocked {
		files = append(files, p.lockFiles()...)
	}
	answers, err := p.AnswersFile()
	if err != nil {
		return nil, err
	}
	files = append(files, File{Path: AnswersPath, Mode: 0o644, Data: answers, Layer: "answers"})
	return newTree(files)
}
