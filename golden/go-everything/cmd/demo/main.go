// Command demo is the service and the tools that belong to it.
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

	"example.com/demo/internal/config"
	"example.com/demo/internal/connect"
	"example.com/demo/internal/migrate"
	"example.com/demo/migrations"
)

const usage = `usage: demo [command]

  serve                   answer HTTP requests (the default)
  dev                     serve on a private Postgres of this machine
  migrate up|down|status  apply all migrations, take the last one back, list them
  verify                  check what the service guarantees against its database
    --strict              fail on warnings too
    --json                as JSON, which docs/verification.md describes
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

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr)) }

// run is the whole program with nothing global in it: it returns the exit
// status. Results go to stdout, logs and errors to stderr.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(received)
	go func() { // the first signal ends ctx, the second the process, whatever that is waiting for
		<-received
		cancel()
		<-received
		os.Exit(exitInterrupted)
	}()
	err := app{getenv, stdout, stderr}.dispatch(ctx, args)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "demo: interrupted")
		return exitInterrupted
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "demo: error: %s: %q\n%s", err, strings.Join(args, " "), usage)
		return exitUsage
	}
	text := strings.ReplaceAll(err.Error(), "\n\t", " ") // drivers break their errors into several lines
	if advice := connect.Advice(err); advice != "" {
		text += ": " + advice
	}
	for line := range strings.Lines(text) { // one for each problem with the settings
		fmt.Fprintln(stderr, "demo: error:", strings.TrimSpace(line))
	}
	if connect.IsAuthentication(err) {
		// Restarted over and over, the process would have its address blocked:
		// Supavisor allows ten refused passwords in 150 s.
		time.Sleep(authenticationDelay)
	}
	return exitFailed
}

const authenticationDelay = 3 * time.Second

// app is what the commands share.
type app struct {
	getenv         func(string) string
	stdout, stderr io.Writer
}

func (a app) dispatch(ctx context.Context, args []string) error {
	help := func(arg string) bool { return slices.Contains([]string{"-h", "-help", "--help", "help"}, arg) }
	switch line := strings.Join(args, " "); {
	case slices.ContainsFunc(args, help):
		fmt.Fprint(a.stdout, usage)
		return nil
	case line == "", line == "serve":
		return a.serve(ctx)
	case line == "dev":
		return a.dev(ctx)
	case args[0] == "verify":
		return a.verify(ctx, args[1:])
	case line == "version":
		return a.version()
	case args[0] == "migrate" && len(args) == 2 && slices.Contains(migrate.Commands, args[1]):
		return a.migrate(ctx, args[1])
	}
	return errUsage
}

func (a app) migrate(ctx context.Context, command string) error {
	cfg, err := config.Load(a.getenv)
	if err != nil {
		return err
	}
	return migrate.Run(ctx, migrate.Options{
		Connector:      cfg.Migrations,
		FS:             migrations.FS,
		Out:            a.stdout,
		ConnectTimeout: cfg.DB.ConnectTimeout,
		AllowPooler:    cfg.MigrationAllowPooler,
	}, command)
}

// version prints the program's name, the version or commit it was built from,
// and that of Go.
func (a app) version() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("not built by the go command, so the version is unknown")
	}
	fmt.Fprintf(a.stdout, "demo %s (%s)\n", info.Main.Version, info.GoVersion)
	return nil
}
