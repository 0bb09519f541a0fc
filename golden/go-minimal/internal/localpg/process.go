package localpg

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
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

// Process is a child of this program. On Linux it also ends when this program is killed.
type Process struct {
	Done  <-chan struct{} // closed when it has ended, for whatever reason
	cmd   *exec.Cmd
	log   string
	begin int64 // of its own part of the log
}

// endTimeout is how long a process may take to end after the interrupt, before it is killed.
const endTimeout = 15 * time.Second

// StartProcess starts a program as an unprivileged user, and interrupts it when ctx is done. Its output is appended to
// the file log, in English, which we read. It has a process group of its own, so that Ctrl-C on the terminal reaches us
// alone.
func StartProcess(ctx context.Context, log, name string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	begin, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // Windows knows none, and waits to kill
	cmd.WaitDelay = endTimeout
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Dir = os.TempDir() // the account may have no access to our own
	cmd.SysProcAttr = childAttributes(account())
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // Linux ends the child with the thread that started it, so that thread waits here
		err := cmd.Start()
		if started <- err; err == nil {
			_ = cmd.Wait() // the log tells how it ended
		}
	}()
	return &Process{Done: done, cmd: cmd, log: log, begin: begin}, <-started
}

// Kill ends the process at once, as a crash would, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.Done
}

var (
	fatal = regexp.MustCompile(`(?s)^.*(FATAL|initdb: error)\W+`) // up to the last error that ends a program
	aside = regexp.MustCompile(`(?i)\n.*?(DETAIL|HINT): +`)       // how it goes on about that, on a line of its own
)

// Complaint returns the last fatal error in the process's output, in one line with its details, else the last line.
func (p *Process) Complaint() string {
	log, _ := os.ReadFile(p.log)
	text := strings.TrimSpace(string(log[min(p.begin, int64(len(log))):]))
	if at := fatal.FindStringIndex(text); at != nil {
		text, _, _ = strings.Cut(aside.ReplaceAllString(text[at[1]:], ": "), "\n")
	}
	return text[strings.LastIndex(text, "\n")+1:]
}
