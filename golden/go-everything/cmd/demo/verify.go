package main

import (
	"context"
	"errors"
	"flag"
	"io"

	"example.com/demo/internal/config"
	"example.com/demo/internal/verify"
)

// verify prints the report of the live checks, and fails when one of them does,
// or with --strict when one warns.
func (a app) verify(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON, strict := flags.Bool("json", false, ""), flags.Bool("strict", false, "")
	if flags.Parse(args) != nil || flags.NArg() > 0 {
		return errUsage
	}
	cfg, err := config.Load(a.environ)
	if err != nil {
		return err
	}
	result := verify.Live(ctx, cfg, newLogger(a.stderr, cfg))
	if *strict {
		result.Strict()
	}
	if err := result.Write(a.stdout, *asJSON); err != nil {
		return err
	}
	if result.Failed() {
		return errors.New("a check failed")
	}
	return ctx.Err()
}
