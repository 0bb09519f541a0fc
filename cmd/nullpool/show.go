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

func (a *app) showPlan(plan *generator.Plan, tree generator.Tree, dir string, diff bool) error {
	err := generator.CheckTarget(dir)
	way, full := errors.AsType[*generator.InTheWayError](err)
	if diff && (err == nil || full && len(way.Names) > 0) {
		return a.showDiff(tree, dir)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.projectDocument("plan", plan, tree, dir, nil)
	}
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	size := 0
	for _, file := range tree {
		fmt.Fprintf(table, "%04o\t%d\t%s\t%s\n", file.Mode, len(file.Data), filepath.Join(dir, file.Path), file.Layer)
		size += len(file.Data)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.err, "%d files, %d bytes; nothing was written\n", len(tree), size)
	return err
}

// showDiff prints how the project would differ from what is in dir, as a unified
// diff: what is there and would be gone is not in it, since nothing is deleted.
func (a *app) showDiff(tree generator.Tree, dir string) error {
	changed := 0
	var text strings.Builder
	for _, file := range tree {
		path := filepath.Join(dir, file.Path)
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
		return a.document(diffDocument{Kind: "diff", Dir: dir, Changed: changed, Same: len(tree) - changed, Diff: text.String()})
	}
	if _, err := io.WriteString(a.out, text.String()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.err, "%d of %d files differ; nothing was written\n", changed, len(tree))
	return err
}

func (opts *newOptions) showResult(plan *generator.Plan, tree generator.Tree, dir string, notes []string) error {
	a := opts.app
	if a.json {
		return a.projectDocument("result", plan, tree, dir, notes)
	}
	if _, err := fmt.Fprintln(a.out, dir); err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintf(a.err, "nullpool: note: %s\n", note)
	}
	fmt.Fprintf(a.err, "\n%d files written. Next:\n\n", len(tree))
	if dir != "." {
		fmt.Fprintf(a.err, "  cd %s\n", quote(dir))
	}
	for _, command := range plan.Next() {
		fmt.Fprintf(a.err, "  %s\n", command)
	}
	if opts.asked {
		fmt.Fprintf(a.err, "\nThe same without questions:\n\n  %s\n", opts.commandLine(plan.Answers))
	}
	return nil
}

func (a *app) projectDocument(kind string, plan *generator.Plan, tree generator.Tree, dir string, notes []string) error {
	answers, err := plan.AnswersFile()
	if err != nil {
		return err
	}
	document := projectDocument{Kind: kind, Dir: dir, Answers: answers, Next: plan.Next(), Notes: notes}
	for _, file := range tree {
		document.Files = append(document.Files, fileDocument{
			Path: file.Path, Mode: fmt.Sprintf("%04o", file.Mode), Size: len(file.Data), Layer: file.Layer,
		})
	}
	return a.document(document)
}
