package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nullpool/nullpool/generator/teststack"
)

// TestMain gives the tests two programs: nullpool works on made-up stacks, so that
// no choice of a real one shows in its tests, and nullpool-real is the real one.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"nullpool": func() {
			a := start(os.Stdin, os.Stdout, os.Stderr)
			a.templates = teststack.Files
			os.Exit(a.runProcess())
		},
		"nullpool-real": main,
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			program, err := exec.LookPath("nullpool") // for scripts that change PATH
			env.Setenv("NULLPOOL", program)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": cmdStatus,
		},
	})
}

// cmdStatus runs a program and wants an exit status, which exec does not tell:
//
//	status 3 nullpool new demo --yes
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
