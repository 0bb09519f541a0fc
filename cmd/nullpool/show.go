package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/aymanbagabas/go-udiff"

	"github.com/nullpool/nullpool/generator"
)

func (a *app) showPlan(p *project, diff bool) error {
	err := generator.CheckTarget(p.dir)
	way, full := errors.AsType[*generator.InTheWayError](err)
	if diff && (err == nil || full && len(way.Names) > 0) {
		return a.showDiff(p)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.projectDocument("plan", p, nil)
	}
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	size := 0
	for _, file := range p.tree {
		fmt.Fprintf(table, "%04o\t%d\t%s\t%s\n", file.Mode, len(file.Data), filepath.Join(p.dir, file.Path), file.Layer)
		size += len(file.Data)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.err, "%d files, %d bytes; nothing was written\n", len(p.tree), size)
	return err
}

// showDiff prints how the project would differ from what is in its folder, as a unified
// diff: what is there and would be gone is not in it, since nothing is deleted.
func (a *app) showDiff(p *project) error {
	changed := 0
	var text strings.Builder
	for _, file := range p.tree {
		path := filepath.Join(p.dir, file.Path)
		before, err := os.ReadFile(path)
		old := filepath.ToSlash(path)
		if errors.Is(err, fs.ErrNotExist) {
			old, err = os.DevNull, nil
		}
		if err != nil {
			return err
		}
		if diff := udiff.Unified(old, filepath.ToSlash(path), string(before), string(file.Data)); diff != "" {
			text.WriteString(diff)
			changed++
		}
	}
	if a.json {
		return a.document(diffDocument{Kind: "diff", Dir: p.dir, Changed: changed, Same: len(p.tree) - changed, Diff: text.String()})
	}
	if _, err := io.WriteString(a.out, text.String()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.err, "%d of %d files differ; nothing was written\n", changed, len(p.tree))
	return err
}

// showResult prints the project's folder and, for people, what can be done next:
// again, unless it is "", is the command that gives the same answers.
func (a *app) showResult(p *project, notes []string, again string) error {
	if a.json {
		return a.projectDocument("result", p, notes)
	}
	if _, err := fmt.Fprintln(a.out, p.dir); err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintf(a.err, "nullpool: note: %s\n", note)
	}
	fmt.Fprintf(a.err, "\n%d files written. Next:\n\n", len(p.tree))
	if p.dir != "." && !a.captured {
		fmt.Fprintf(a.err, "  cd %s\n", quote(p.dir))
	}
	for _, command := range p.next() {
		fmt.Fprintf(a.err, "  %s\n", command)
	}
	if again != "" {
		fmt.Fprintf(a.err, "\nThe same without questions:\n\n  %s\n", again)
	}
	return nil
}
