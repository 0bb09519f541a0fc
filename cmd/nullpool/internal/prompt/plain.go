package prompt

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Plain asks with numbered lines and reads lines: for screen readers, and for
// terminals that cannot move the cursor.
type Plain struct {
	In  io.Reader
	Out io.Writer

	lines chan string // nil until the first question
}

// Ask implements Prompter.
func (p *Plain) Ask(ctx context.Context, q Question) ([]string, error) {
	if p.lines == nil {
		p.lines = make(chan string)
		go func() {
			defer close(p.lines)
			for scanner := bufio.NewScanner(p.In); scanner.Scan(); {
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
				return nil, ErrInterrupted // Ctrl-D
			}
			line = strings.TrimSpace(text)
		case <-ctx.Done():
			return nil, ErrInterrupted
		}
		if line == "?" {
			fmt.Fprintln(p.Out, q.Help)
			continue
		}
		if line == back && q.Back {
			return nil, ErrBack
		}
		values, err := q.parse(line)
		if err == nil {
			err = q.accept(values)
		}
		if err == nil {
			return values, nil
		}
		fmt.Fprintf(p.Out, "Not accepted: %v\n", err)
	}
}

func (p *Plain) show(q Question) {
	fmt.Fprintf(p.Out, "\n%s", q.Text)
	if q.Help != "" {
		fmt.Fprintf(p.Out, ": %s", q.Help)
	}
	fmt.Fprintln(p.Out)
	if q.Back {
		fmt.Fprintln(p.Out, "  < for the question before")
	}
	for i, choice := range q.Choices {
		mark := ""
		if q.isDefault(choice.Name) {
			mark = " (default)"
		}
		fmt.Fprintf(p.Out, "  %d. %s%s", i+1, choice.Name, mark)
		if choice.Help != "" {
			fmt.Fprintf(p.Out, ": %s", choice.Help)
		}
		fmt.Fprintln(p.Out)
	}
	switch {
	case q.isText() && len(q.Defaults) > 0:
		fmt.Fprintf(p.Out, "Answer (empty for %s): ", q.Defaults[0])
	case q.isText():
		fmt.Fprint(p.Out, "Answer: ")
	case q.Many:
		fmt.Fprint(p.Out, "Numbers, with commas (empty for the default, 0 for none): ")
	default:
		fmt.Fprint(p.Out, "Number (empty for the default): ")
	}
}

// parse reads an answer: text, or numbers and names of choices.
func (q Question) parse(line string) ([]string, error) {
	switch {
	case line == "" && len(q.Defaults) > 0:
		return q.Defaults, nil
	case q.isText():
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
func (q Question) numbered(word string) (choice string, ok bool) {
	if n, err := strconv.Atoi(word); err == nil && n >= 1 && n <= len(q.Choices) {
		return q.Choices[n-1].Name, true
	}
	return word, slices.Contains(q.names(), word)
}
