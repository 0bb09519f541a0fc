package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nullpool/nullpool/generator"
	"github.com/nullpool/nullpool/templates"
)

// BenchmarkNew times the compiled program, in turn with this one writing the same
// files and nothing more: "x-writing" is how many times as long it takes.
func BenchmarkNew(b *testing.B) {
	program, err := exec.LookPath("nullpool")
	if err != nil {
		b.Fatal(err)
	}
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
	var took, writing time.Duration
	for b.Loop() {
		dir := b.TempDir()
		started := time.Now()
		command := exec.CommandContext(context.Background(), program, "new", "demo", "--yes", "--dir", filepath.Join(dir, "new"))
		if out, err := command.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		took += time.Since(started)
		started = time.Now()
		for _, file := range tree {
			path := filepath.Join(dir, "written", file.Path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(path, file.Data, file.Mode); err != nil {
				b.Fatal(err)
			}
		}
		writing += time.Since(started)
	}
	b.ReportMetric(0, "ns/op") // of the two together: of no use
	b.ReportMetric(took.Seconds()*1e3/float64(b.N), "ms/new")
	b.ReportMetric(took.Seconds()/writing.Seconds(), "x-writing")
}
