package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// account returns the user and group that children run as, -1 for our own. Postgres and PgBouncer refuse to run as root.
func account() (uid, gid int) {
	if os.Getuid() == 0 {
		for _, name := range []string{"postgres", "nobody"} {
			if found, err := user.Lookup(name); err == nil {
				uid, _ = strconv.Atoi(found.Uid) // a number wherever there is a root
				gid, _ = strconv.Atoi(found.Gid)
				return uid, gid
			}
		}
	}
	return -1, -1
}

// own gives a file or folder to the account that children run as.
func own(path string) error {
	if uid, gid := account(); uid >= 0 {
		return os.Chown(path, uid, gid)
	}
	return nil
}

// WriteFile writes a file that children, and nobody else but root, can read.
func WriteFile(path string, data []byte) error {
	return errors.Join(os.WriteFile(path, data, 0o600), own(path))
}

// Process is a child of this program, to be ended with Stop or Kill. On Linux it also ends when this program is killed.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// StartProcess starts a program as an unprivileged user. Its output is appended to the file log, in English, which we
// read. It has a process group of its own, so that Ctrl-C on the terminal reaches us alone.
func StartProcess(log, name string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Process{cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), "LC_ALL=C")
	p.cmd.Dir = os.TempDir() // the account may have no access to our own
	p.cmd.SysProcAttr = childAttributes(account())
	started := make(chan error)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // Linux ends the child with the thread that started it, so that thread waits here
		err := p.cmd.Start()
		if started <- err; err == nil {
			_ = p.cmd.Wait() // the log tells how it ended
		}
	}()
	return p, <-started
}

// Done is closed when the process has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} { return p.done }

// Complaint returns the last fatal error in the process's log, else the log's last line.
func (p *Process) Complaint() string {
	log, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	for _, line := range slices.Backward(lines) {
		if _, fatal, found := strings.Cut(line, "FATAL"); found {
			return strings.TrimLeft(fatal, ": ")
		}
	}
	return lines[len(lines)-1]
}

// Stop interrupts the process and waits for its end. When ctx is done first, it kills the process and says so.
func (p *Process) Stop(ctx context.Context) error {
	if p.cmd.Process.Signal(os.Interrupt) != nil {
		p.Kill() // it has ended already, or this is Windows, which knows no interrupt
	}
	return p.wait(ctx)
}

func (p *Process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s was killed: %w", filepath.Base(p.cmd.Path), ctx.Err())
	}
}

// Kill ends the process at once, as a crash would, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.done
}
