package main

import (
	"context"
	"errors"
	"flag"
	"io"

	"example.com/demo/internal/verify"
)

// verify prints the report of the live checks, and fails when one of them does.
func (a app) verify(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "print the report as JSON")
	if flags.Parse(args) != nil || flags.NArg() > 0 {
		return errUsage
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	result := verify.Live(ctx, cfg, newLogger(a.stderr, cfg))
	write := result.WriteText
	if *asJSON {
		write = result.WriteJSON
	}
	if err := write(a.stdout); err != nil {
		return err
	}
	if result.Failed() {
		return errors.New("a check failed")
	}
	return ctx.Err()
}
