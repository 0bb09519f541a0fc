// Command tiny-shop is the service and the tools that belong to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/connect"
)

const usage = `usage: tiny-shop [command]

  serve                   answer HTTP requests (the default)
  dev                     serve on a private Postgres of this machine
  migrate up|down|status  apply all migrations, take the last one back, list them
  verify                  check what the service guarantees against its database
    --strict              fail on warnings too
    --format text|json|junit|markdown, or --json
  version                 print the version

Settings come from the environment; .env.example lists them.
`

// Exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// errUsage is an error of the command line.
var errUsage = errors.New("unknown or incomplete command")

// problems is a list of errors, printed one a line. Any other error is printed as
// one line.
type problems struct{ error }

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr)) }

// run is the whole program with nothing global in it: it returns the exit
// status. Results go to stdout, logs and errors to stderr.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal(ctx)
	defer stop()
	if slices.ContainsFunc(args, func(arg string) bool { return slices.Contains([]string{"-h", "-help", "--help", "help"}, arg) }) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	err := app{getenv, stdout, stderr}.dispatch(ctx, args)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "tiny-shop: interrupted")
		return exitInterrupted
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "tiny-shop: error: %s: %q\n%s", err, strings.Join(args, " "), usage)
		return exitUsage
	}
	report(stderr, err)
	if connect.IsAuthentication(err) {
		// Restarted over and over, the process would have its address blocked:
		// Supavisor allows ten refused passwords in 150 s.
		select {
		case <-time.After(authenticationDelay):
		case <-ctx.Done():
		}
	}
	return exitFailed
}

const authenticationDelay = 2 * time.Second

// untilSignal returns a context that the first SIGINT or SIGTERM ends. The
// second ends the process, whatever it is waiting for.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-received
		cancel()
		<-received
		os.Exit(exitInterrupted)
	}()
	return ctx, func() { signal.Stop(received); cancel() }
}

// report prints one line for an error, since drivers break theirs into several,
// or one for each of a list of problems.
func report(w io.Writer, err error) {
	lines := []string{err.Error()}
	if errors.As(err, new(problems)) {
		lines = strings.Split(err.Error(), "\n")
	}
	for _, line := range lines {
		fmt.Fprintln(w, "tiny-shop: error:", strings.Join(strings.Fields(line), " "))
	}
}

// app is what the commands share.
type app struct {
	getenv         func(string) string
	stdout, stderr io.Writer
}

func (a app) dispatch(ctx context.Context, args []string) error {
	command, rest := "serve", args
	if len(args) > 0 {
		command, rest = args[0], args[1:]
	}
	switch {
	case command == "serve" && len(rest) == 0:
		return a.serve(ctx)
	case command == "dev" && len(rest) == 0:
		return a.dev(ctx)
	case command == "migrate" && len(rest) == 1:
		return a.migrate(ctx, rest[0])
	case command == "verify":
		return a.verify(ctx, rest)
	case command == "version" && len(rest) == 0:
		fmt.Fprintln(a.stdout, version())
		return nil
	}
	return errUsage
}

func load(getenv func(string) string) (config.Config, error) {
	cfg, err := config.Load(getenv)
	if err != nil {
		return cfg, problems{err}
	}
	return cfg, nil
}

// version returns the program's name, the version or commit it was built from,
// and that of Go.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "tiny-shop (unknown version)"
	}
	return fmt.Sprintf("tiny-shop %s (%s)", info.Main.Version, info.GoVersion)
}
