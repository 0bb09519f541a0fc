package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nullpool/nullpool/generator"
)

// readAnswers reads the answers file, if there is one, and returns the stack that it
// names, or "".
func readAnswers(ctx context.Context, a *app, path string) (answers generator.Answers, stack string, err error) {
	if path == "" {
		return generator.Answers{}, "", nil
	}
	data, err := readFile(ctx, a.in, path)
	if err == nil {
		answers, stack, err = generator.ReadAnswers(data)
	}
	if err != nil && !errors.Is(err, errInterrupted) {
		err = &usageError{fmt.Errorf("read answers %q: %w", path, err)}
		err = &hintedError{err, []string{`try {"name": "demo"}; ` + a.program + " list shows what else can be answered"}}
	}
	return answers, stack, err
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
