package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

// BenchmarkNew times the compiled program, in turn with a compiled Go program that
// holds the same files and only writes them: "x-writing" is how many times as long
// it takes, by the medians. The aim is 2; docs/performance.md says what it is.
func BenchmarkNew(b *testing.B) {
	program, err := exec.LookPath("nullpool-real")
	if err != nil {
		b.Fatal(err)
	}
	writer := buildWriter(b)
	var took, writing []time.Duration
	for b.Loop() {
		dir := b.TempDir()
		took = append(took, timed(b, program, "new", "demo", "--yes", "--dir", filepath.Join(dir, "new")))
		writing = append(writing, timed(b, writer, filepath.Join(dir, "written")))
	}
	b.ReportMetric(0, "ns/op") // of the two together: of no use
	b.ReportMetric(median(took).Seconds()*1e3, "ms/new")
	b.ReportMetric(median(took).Seconds()/median(writing).Seconds(), "x-writing")
}

// buildWriter returns a program that writes the default project's files into the
// folder that is its argument.
func buildWriter(b *testing.B) string {
	b.Helper()
	stacks, err := generator.Load(templates.Files)
	if err != nil {
		b.Fatal(err)
	}
	plan, err := generator.NewPlan(stacks[0], generator.Answers{"name": {Values: []string{"demo"}}}, "devel")
	if err != nil {
		b.Fatal(err)
	}
	tree, err := generator.Generate(plan)
	if err != nil {
		b.Fatal(err)
	}
	var source strings.Builder
	source.WriteString("package main\n\nimport (\n\t\"os\"\n\t\"path/filepath\"\n)\n\nfunc main() {\n")
	source.WriteString("\tfor _, file := range files {\n\t\tpath := filepath.Join(os.Args[1], file.path)\n")
	source.WriteString("\t\tif os.MkdirAll(filepath.Dir(path), 0o755) != nil || os.WriteFile(path, []byte(file.data), file.mode) != nil {\n")
	source.WriteString("\t\t\tos.Exit(1)\n\t\t}\n\t}\n}\n\n")
	source.WriteString("var files = []struct {\n\tpath, data string\n\tmode os.FileMode\n}{\n")
	for _, file := range tree {
		fmt.Fprintf(&source, "\t{%q, %q, %#o},\n", file.Path, file.Data, file.Mode)
	}
	source.WriteString("}\n")
	dir := b.TempDir()
	path := filepath.Join(dir, "main.go")
	if err := os.WriteFile(path, []byte(source.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(dir, "writer")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", program, path).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return program
}

func timed(b *testing.B, program string, args ...string) time.Duration {
	b.Helper()
	started := time.Now()
	if out, err := exec.CommandContext(b.Context(), program, args...).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return time.Since(started)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
