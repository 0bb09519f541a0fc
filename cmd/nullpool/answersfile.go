package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/nullpool/nullpool/generator"
)

// readAnswers reads the answers file, if there is one, and finds the stack that
// the command line or else the file names.
func readAnswers(ctx context.Context, a *app, stacks []*generator.Stack, path, stackName string) (generator.Answers, *generator.Stack, error) {
	answers := generator.Answers{}
	fileStack := ""
	if path != "" {
		data, err := readFile(ctx, a.in, path)
		if err == nil {
			answers, fileStack, err = generator.ReadAnswers(data)
		}
		if errors.Is(err, errInterrupted) {
			return nil, nil, err
		}
		if err != nil {
			err = &usageError{fmt.Errorf("read answers %q: %w", path, err)}
			return nil, nil, &hintedError{err, []string{`try {"name": "demo"}; ` + a.program + " list shows what else can be answered"}}
		}
	}
	name := cmp.Or(stackName, fileStack, a.stack)
	i := slices.IndexFunc(stacks, func(s *generator.Stack) bool { return s.Name == name })
	if i < 0 {
		err := &usageError{fmt.Errorf("stack %q: no such stack", name)}
		return nil, nil, &hintedError{err, []string{a.program + " list shows all stacks"}}
	}
	return answers, stacks[i], nil
}

// mostAnswers bounds what is read as answers, in bytes.
const mostAnswers = 1 << 20

// readFile reads a file, or standard input for "-". Either may be a pipe that says
// nothing for long, and must not keep an interruption waiting.
func readFile(ctx context.Context, in io.Reader, path string) ([]byte, error) {
	type reading struct {
		data []byte
		err  error
	}
	readings := make(chan reading, 1)
	go func() {
		data, err := readAll(in, path)
		readings <- reading{data, err}
	}()
	select {
	case r := <-readings:
		return r.data, r.err
	case <-ctx.Done():
		return nil, errInterrupted
	}
}

func readAll(in io.Reader, path string) ([]byte, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // it was only read
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, mostAnswers+1))
	if err == nil && len(data) > mostAnswers {
		err = fmt.Errorf("larger than %d bytes", mostAnswers)
	}
	return data, err
}
