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

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// run is the whole program with nothing global in it: it returns the exit
// status. Results go to stdout, logs and errors to stderr.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	signalled, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	// stop comes first: once anything can react to a signal, a second one ends the process, whatever that waits for.
	context.AfterFunc(signalled, func() { stop(); cancel() })
	err := app{environ, stdout, stderr}.dispatch(ctx, args)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "demo: interrupted")
		return exitInterrupted
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "demo: error: %s\n%s", err, usage) // without the arguments: a URL can be among them
		return exitUsage
	}
	for line := range strings.Lines(connect.Explain(err)) { // one for each problem with the settings
		fmt.Fprintln(stderr, "demo: error:", strings.TrimSpace(line))
	}
	if connect.IsAuthentication(err) {
		// Restarted over and over, the process would have its address blocked:
		// Supavisor allows ten refused passwords in 150 s.
		time.Sleep(3 * time.Second)
	}
	return exitFailed
}

// app is what the commands share.
type app struct {
	environ        []string
	stdout, stderr io.Writer
}

func (a app) dispatch(ctx context.Context, args []string) error {
	help := func(arg string) bool { return slices.Contains([]string{"-h", "-help", "--help", "help"}, arg) }
	if len(args) == 0 {
		args = []string{"serve"}
	}
	line := strings.Join(args, " ")
	migrates := len(args) == 2 && args[0] == "migrate" && slices.Contains(migrate.Commands, args[1])
	switch {
	case slices.ContainsFunc(args, help):
		fmt.Fprint(a.stdout, usage)
		return nil
	case line == "dev":
		return a.dev(ctx)
	case line == "version":
		return a.version()
	case args[0] == "verify":
		return a.verify(ctx, args[1:])
	case !migrates && line != "serve":
		return errUsage
	}
	cfg, err := config.Load(a.environ)
	switch {
	case err != nil:
		return err
	case migrates:
		return a.migrate(ctx, cfg, args[1])
	}
	return a.serve(ctx, cfg)
}

func (a app) migrate(ctx context.Context, cfg config.Config, command string) error {
	return migrate.Run(ctx, migrate.Options{
		Connector:      cfg.Migrations,
		FS:             migrations.FS,
		Out:            a.stdout,
		ConnectTimeout: cfg.DB.ConnectTimeout,
		AllowPooler:    cfg.MigrationAllowPooler,
	}, command)
}

// version prints the program's name, the version or commit it was built from, and that of Go.
func (a app) version() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("not built by the go command, so the version is unknown")
	}
	fmt.Fprintf(a.stdout, "demo %s (%s)\n", info.Main.Version, info.GoVersion)
	return nil
}
