package main

import (
	"context"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nullpool/nullpool/generator"
)

// FuzzCommandLine gives new any two arguments. They are refused, in lines that a
// terminal can show, or the command that repeats the answers gives the same ones.
func FuzzCommandLine(f *testing.F) {
	for _, seed := range [][2]string{
		{"demo", "--yes"},
		{"--", "-x"},
		{"--cookbook", "it's $HOME"},
		{"--cookbook=a\nb", "\x1b[31m"},
		{"--dir", "../../etc"},
		{"--dir=it's", "--dir="},
		{"--side=rice", "--no=rice"},
		{"--side", `"rice","sa""uce"`},
		{"--side=\"", "x"},
		{"--main=\xff", "\xef\xbb\xbf"},
		{"--prompts", "fancy"},
		{"--plan=maybe", "--json"},
		{"-\x10", "--\x1b[31m"},
		{"con", "--cookbook=nul"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		for _, argument := range []string{first, second} {
			if strings.HasPrefix(argument, "--a") || strings.HasPrefix(argument, "-h") || strings.HasPrefix(argument, "--h") {
				return // reads files of the fuzzer's machine; is no answer
			}
		}
		r, err := parse(t, first, second)
		if err != nil {
			mustPrint(t, err)
			return
		}
		if r == nil {
			return // a command of cobra's
		}
		words := split(r.commandLine(r.given))
		again, err := parse(t, words[2:]...)
		if err != nil {
			t.Fatalf("%q, from %q and %q: %v", words, first, second, err)
		}
		if diff := cmp.Diff(r.given, again.given); diff != "" || r.dir != again.dir {
			t.Errorf("%q gives other answers (-before +after):\n%s", words, diff)
		}
	})
}

// parse returns what new makes of its arguments, and what is wrong with them.
func parse(t *testing.T, args ...string) (parsed *request, err error) {
	t.Helper()
	a, _, _ := newTestApp(nil)
	stacks, err := generator.Load(a.templates)
	if err != nil {
		t.Fatal(err)
	}
	cmd := newNewCmd(a, stacks, func(_ context.Context, r *request) error {
		parsed = r
		return r.stack.Validate(r.given)
	})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(a.out)
	cmd.SetErr(a.err)
	cmd.SetArgs(args)
	err = cmd.Execute()
	return parsed, err
}

// mustPrint wants an error to be reported in lines that change nothing else on a
// terminal.
func mustPrint(t *testing.T, err error) {
	t.Helper()
	a, _, errs := newTestApp(nil)
	a.report(err)
	for line := range strings.SplitSeq(strings.TrimSuffix(errs.String(), "\n"), "\n") {
		if !strings.HasPrefix(line, "nullpool: ") || strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) {
			t.Errorf("refused with %q", errs)
		}
	}
}

// split takes a command line apart as a POSIX shell does, as far as quote goes.
func split(line string) []string {
	var words []string
	var word strings.Builder
	quoted, escaped := false, false
	for _, c := range []byte(line) {
		switch {
		case escaped || quoted && c != '\'':
			word.WriteByte(c)
			escaped = false
		case c == '\'':
			quoted = !quoted
		case c == '\\':
			escaped = true
		case c == ' ':
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	return append(words, word.String())
}
