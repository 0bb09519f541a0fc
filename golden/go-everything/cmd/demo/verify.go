package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"slices"

	"example.com/demo/internal/config"
	"example.com/demo/internal/verify"
)

// verify prints the report of the live checks, and fails when one of them does,
// or with --strict when one warns.
func (a app) verify(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	format := flags.String("format", "text", "")
	flags.BoolFunc("json", "", func(string) error { return flags.Set("format", "json") })
	strict := flags.Bool("strict", false, "")
	if flags.Parse(args) != nil || flags.NArg() > 0 || !slices.Contains(verify.Formats, *format) {
		return errUsage
	}
	cfg, err := config.Load(a.getenv)
	if err != nil {
		return err
	}
	result := verify.Live(ctx, cfg, newLogger(a.stderr, cfg))
	if *strict {
		result.Strict()
	}
	if err := result.Write(a.stdout, *format, a.colour()); err != nil {
		return err
	}
	if result.Failed() {
		return errors.New("a check failed")
	}
	return ctx.Err()
}

// colour reports whether stdout is a terminal whose owner minds no colours: see
// no-color.org.
func (a app) colour() bool {
	file, ok := a.stdout.(*os.File)
	if !ok || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
