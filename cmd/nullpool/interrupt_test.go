package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An interrupted context stops the write as well, with the same exit status.
func TestWriteInterrupted(t *testing.T) {
	t.Parallel()
	a, _, errs := newTestApp(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "demo")
	if status := a.run(ctx, []string{"new", "demo", "--yes", "--dir", dir}); status != exitInterrupted {
		t.Errorf("exit status %d: %s", status, errs)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// A signal at any moment leaves the whole project or nothing. This is about many
// files, as the real stack has.
func TestWriteTerminated(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("nullpool-real")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := exec.CommandContext(t.Context(), program, "new", "demo", "--yes", "--plan", "--dir", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.Count(string(plan), "\n")
	for i := range 16 {
		dir := t.TempDir()
		command := exec.CommandContext(t.Context(), program, "new", "demo", "--yes", "--dir", filepath.Join(dir, "a", "demo"))
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 8 * time.Millisecond)
		_ = command.Process.Signal([]os.Signal{syscall.SIGTERM, os.Interrupt}[i%2]) // it may be done
		err := command.Wait()
		files := 0
		_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, _ error) error {
			if !entry.IsDir() {
				files++
			}
			return nil
		})
		entries, _ := os.ReadDir(dir)
		if len(entries) != min(files, 1) || files != 0 && files != whole {
			t.Errorf("signal %d (%v) left %d files of %d, in %v", i, err, files, whole, entries)
		}
	}
}
