package main

import (
	"encoding/json"
	"fmt"

	"github.com/nullpool/nullpool/generator"
)

// The documents of --json. Kind tells them apart.
type (
	errorDocument struct {
		Kind     string    `json:"kind"` // "error"
		Errors   []problem `json:"errors"`
		ExitCode int       `json:"exit_code"`
	}
	problem struct {
		Message string   `json:"message"`
		Option  string   `json:"option,omitempty"` // the option an answer was wrong for
		Hints   []string `json:"hints,omitempty"`  // what to try
	}
	// projectDocument is the plan and the result of new.
	projectDocument struct {
		Kind    string          `json:"kind"` // "plan" or "result"
		Dir     string          `json:"dir"`
		Answers json.RawMessage `json:"answers"`
		Files   []fileDocument  `json:"files"`
		Next    []string        `json:"next"`
		Notes   []string        `json:"notes,omitempty"` // what of --git could not be done
	}
	// diffDocument is the plan of new with --diff.
	diffDocument struct {
		Kind    string `json:"kind"` // "diff"
		Dir     string `json:"dir"`
		Changed int    `json:"changed"` // files that are new or differ
		Same    int    `json:"same"`
		Diff    string `json:"diff"` // unified
	}
	fileDocument struct {
		Path  string `json:"path"`
		Mode  string `json:"mode"`
		Size  int    `json:"size"`
		Layer string `json:"layer"`
	}
	versionDocument struct {
		Kind    string `json:"kind"` // "version"
		Version string `json:"version"`
	}
	helpDocument struct {
		Kind string `json:"kind"` // "help"
		Text string `json:"text"`
	}
	listDocument struct {
		Kind   string             `json:"kind"` // "list"
		Stacks []*generator.Stack `json:"stacks"`
	}
)

func (a *app) document(value any) error {
	encoder := json.NewEncoder(a.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func (a *app) projectDocument(kind string, p *project, notes []string) error {
	answers, err := p.plan.AnswersFile()
	if err != nil {
		return err
	}
	document := projectDocument{Kind: kind, Dir: p.dir, Answers: answers, Next: p.next(), Notes: notes}
	for _, file := range p.tree {
		document.Files = append(document.Files, fileDocument{
			Path: file.Path, Mode: fmt.Sprintf("%04o", file.Mode), Size: len(file.Data), Layer: file.Layer,
		})
	}
	return a.document(document)
}
