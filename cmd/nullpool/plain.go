package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The values of --prompts.
const (
	promptsFull  = "full"
	promptsPlain = "plain"
)

// choosePrompts takes the prompter that --prompts asks for.
func (a *app) choosePrompts() error {
	switch a.prompts {
	case promptsFull:
	case promptsPlain:
		a.prompter = a.plain
	default:
		return &usageError{fmt.Errorf("--prompts %q: want %s or %s", a.prompts, promptsFull, promptsPlain)}
	}
	return nil
}

// A plainPrompter asks with numbered lines and reads lines: for screen readers,
// and for terminals that cannot move the cursor.
type plainPrompter struct {
	in    io.Reader
	out   io.Writer
	lines chan string // nil until the first question
}

func (p *plainPrompter) Ask(ctx context.Context, q question) ([]string, error) {
	if p.lines == nil {
		p.lines = make(chan string)
		go func() {
			defer close(p.lines)
			for scanner := bufio.NewScanner(p.in); scanner.Scan(); {
				p.lines <- scanner.Text()
			}
		}()
	}
	for {
		p.show(q)
		var line string
		select {
		case text, ok := <-p.lines:
			if !ok {
				return nil, errInterrupted // Ctrl-D
			}
			line = strings.TrimSpace(text)
		case <-ctx.Done():
			return nil, errInterrupted
		}
		if line == "?" {
			fmt.Fprintln(p.out, q.Help)
			continue
		}
		values, err := parseLine(q, line)
		if err == nil && q.Check != nil {
			err = q.Check(values)
		}
		if err == nil {
			return values, nil
		}
		fmt.Fprintf(p.out, "Not accepted: %v\n", err)
	}
}

func (p *plainPrompter) show(q question) {
	fmt.Fprintf(p.out, "\n%s", q.Prompt)
	if q.Help != "" {
		fmt.Fprintf(p.out, ": %s", q.Help)
	}
	fmt.Fprintln(p.out)
	for i, choice := range q.Choices {
		mark := ""
		if slices.Contains(q.Defaults, choice.Name) {
			mark = " (default)"
		}
		fmt.Fprintf(p.out, "  %d. %s%s", i+1, choice.Name, mark)
		if choice.Help != "" {
			fmt.Fprintf(p.out, ": %s", choice.Help)
		}
		fmt.Fprintln(p.out)
	}
	switch {
	case q.IsText() && len(q.Defaults) > 0:
		fmt.Fprintf(p.out, "Answer (empty for %s): ", q.Defaults[0])
	case q.IsText():
		fmt.Fprint(p.out, "Answer: ")
	case q.Many:
		fmt.Fprint(p.out, "Numbers, with commas (empty for the default, 0 for none): ")
	default:
		fmt.Fprint(p.out, "Number (empty for the default): ")
	}
}

// parseLine reads an answer: text, or numbers and names of choices.
func parseLine(q question, line string) ([]string, error) {
	switch {
	case line == "" && len(q.Defaults) > 0:
		return q.Defaults, nil
	case q.IsText():
		return []string{line}, nil
	case line == "0" && q.Many, line == "" && q.Many:
		return []string{}, nil
	}
	words := []string{line}
	if q.Many {
		words = strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ' ' })
	}
	values := make([]string, len(words))
	for i, word := range words {
		choice, ok := q.numbered(word)
		if !ok {
			return nil, fmt.Errorf("%q is none of the numbers", word)
		}
		values[i] = choice
	}
	return values, nil
}

// numbered returns the choice that a number, counted from 1, or a name stands for.
func (q question) numbered(word string) (choice string, ok bool) {
	if n, err := strconv.Atoi(word); err == nil && n >= 1 && n <= len(q.Choices) {
		return q.Choices[n-1].Name, true
	}
	return word, slices.Contains(q.ChoiceNames(), word)
}
