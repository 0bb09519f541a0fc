package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/prompt"
	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

// start returns the app of this process.
func start(in, out, errs *os.File) *app {
	a := &app{in: in, out: out, err: errs, templates: templates.Files}
	a.version, a.program = identity()
	if term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(errs.Fd())) { // stdout is for the result alone
		a.captured = !term.IsTerminal(int(out.Fd()))
		a.full = &prompt.Full{In: in, Out: errs}
		a.plain = &prompt.Plain{In: in, Out: errs}
		if kind := os.Getenv("TERM"); kind == "dumb" || kind == "" && runtime.GOOS != "windows" { // it does not answer where its cursor is, and survey would wait forever
			a.full = a.plain
		}
		if ciSystem() == "" {
			a.prompter = a.full
		}
	}
	return a
}

// ciVariables are those by which CI systems say that they run a program, with nobody
// watching. Some lend it a terminal all the same.
var ciVariables = []string{"CI", "TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID"}

// ciSystem returns the one of ciVariables that is set, or "".
func ciSystem() string {
	for _, name := range ciVariables {
		if value := os.Getenv(name); value != "" && value != "0" && !strings.EqualFold(value, "false") {
			return name
		}
	}
	return ""
}

// runProcess executes the process's command line and returns the exit status.
func (a *app) runProcess() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return a.run(ctx, os.Args[1:])
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
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: a.program},
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
	}
	version := newVersionCmd(a)
	asked := cmd.Flags().Bool("version", false, version.Short)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *asked {
			return version.RunE(version, args)
		}
		return cmd.Help()
	}
	cmd.SetFlagErrorFunc(suggestFlag)
	cmd.SetOut(a.out)
	cmd.SetErr(a.err)
	cmd.SetHelpFunc(a.helpWith(cmd.HelpFunc()))
	cmd.PersistentFlags().BoolVar(&a.json, "json", false, "make stdout one JSON document, errors included")
	cmd.AddCommand(newNewCmd(a, stacks, runNew), newListCmd(a, stacks), version)
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

// suggestFlag adds to an error about an unknown flag the one that may have been meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	hint := cmd.CommandPath() + " --help"
	if near := generator.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		hint = "did you mean --" + near + "? All of them: " + hint
	}
	return &hintedError{err, []string{hint}}
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

// identity returns the version that the program was built from, "devel" where the
// build does not tell, and what starts it again.
func identity() (version, program string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	executable, _ := os.Executable() // without it, or the folder, what was typed must do
	folder, _ := os.Getwd()
	program = programWords(executable, os.Args[0], folder, info.Main)
	if released(info.Main) {
		return info.Main.Version, program
	}
	return "devel", program
}
