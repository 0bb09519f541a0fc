package main

import (
	"io"
	"io/fs"

	"github.com/nullpool/nullpool/cmd/nullpool/internal/prompt"
)

// An app is what the commands share: where they read and write, and what they
// work with. Tests replace any of it.
type app struct {
	in        io.Reader
	out, err  io.Writer
	templates fs.FS
	program   string // what starts this program in the reader's shell
	version   string
	prompter  prompt.Prompter // nil when nobody can be asked
	full      prompt.Prompter // in its place with --prompts full, also where a CI system lends a terminal
	plain     prompt.Prompter // in its place with --prompts plain
	captured  bool            // somebody at a terminal has stdout go elsewhere, as in cd "$(nullpool new)"
	json      bool
	command   string // the one that was asked for, for hints
	parsed    bool   // the command line was understood; errors until then are the user's
}
