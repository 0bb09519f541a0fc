package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

// An app is what the commands share: where they read and write, and what they
// work with. Tests replace any of it.
type app struct {
	in        io.Reader
	out, err  io.Writer
	templates fs.FS
	version   string
	prompter  prompter // nil when nobody can be asked
	plain     prompter // in its place with --prompts plain
	prompts   string
	json      bool
	command   string // the one that was asked for, for hints
	parsed    bool   // the command line was understood; errors until then are the user's
}

// run executes a command line and returns the exit status.
func run(args []string, in, out, errs *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: in, out: out, err: errs, templates: templates.Files, version: buildVersion()}
	if isTerminal(in) && isTerminal(errs) { // stdout is for the result alone
		a.prompter = &surveyPrompter{in: in, out: errs}
		a.plain = &plainPrompter{in: in, out: errs}
		if os.Getenv("TERM") == "dumb" { // it does not answer where its cursor is, and survey would wait forever
			a.prompter = a.plain
		}
	}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) (status int) {
	defer func() {
		if crash := recover(); crash != nil { // left alone, it would exit with 2, for wrong usage
			status = a.report(fmt.Errorf("a bug in nullpool: %v", crash))
			_, _ = a.err.Write(debug.Stack())
		}
	}()
	stacks, err := generator.Load(a.templates)
	if err != nil {
		return a.report(err)
	}
	root := newRootCmd(a, stacks)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	a.command = cmd.CommandPath()
	if !a.parsed {
		err = &usageError{err}
		a.json = a.json || slices.Contains(args, "--json") // which may come after what was wrong
	}
	return a.report(err)
}

func newRootCmd(a *app, stacks []*generator.Stack) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "nullpool",
		Short:         "Render services that open one Postgres connection per session",
		Args:          noSuchCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if a.json && cmd.HasParent() && cmd.Parent().Name() == "completion" {
				return errors.New("--json: completions are a script, and no document")
			}
			a.parsed = true
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetOut(a.out)
	cmd.SetErr(a.err)
	cmd.SetHelpFunc(a.helpWith(cmd.HelpFunc()))
	cmd.PersistentFlags().BoolVar(&a.json, "json", false, "make stdout one JSON document, errors included")
	cmd.AddCommand(newNewCmd(a, stacks, runNew), newListCmd(a, stacks), newVersionCmd(a))
	cmd.InitDefaultCompletionCmd()
	for _, command := range cmd.Commands() {
		if command.RunE == nil { // completion by itself: cobra takes any shell for a reason to help
			command.Args, command.RunE = noSuchCommand, cmd.RunE
		}
	}
	refuseUnknownTopics(cmd)
	return cmd
}

// helpWith returns help, except that with --json the help is a document.
func (a *app) helpWith(help func(*cobra.Command, []string)) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		if !a.json {
			help(cmd, args)
			return
		}
		text := cmp.Or(strings.TrimSpace(cmd.Long), cmd.Short)
		_ = a.document(helpDocument{Kind: "help", Text: text + "\n\n" + cmd.UsageString()})
	}
}

// refuseUnknownTopics makes help on an unknown command an error, which cobra takes
// for help on everything.
func refuseUnknownTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	command, _, err := root.Find([]string{"help"})
	must(err)
	help := command.Run
	command.RunE = func(cmd *cobra.Command, topic []string) error {
		if _, rest, err := root.Find(topic); err != nil || len(rest) > 0 {
			return &usageError{noSuchCommand(root, topic)}
		}
		help(cmd, topic)
		return nil
	}
}

// noSuchCommand refuses arguments where only a command can follow, and names the
// command that may have been meant.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("command %q: no such command", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return &hintedError{err, []string{"did you mean " + cmd.CommandPath() + " " + near[0] + "?"}}
	}
	return err
}

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.document(versionDocument{Kind: "version", Version: a.version})
			}
			_, err := fmt.Fprintln(a.out, a.version)
			return err
		},
	}
}

// buildVersion returns the version of the module the program was built from, or
// "devel" where the build does not tell.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
