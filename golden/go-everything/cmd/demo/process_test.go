package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/demo/internal/pgtest"
)

// program is the binary under test: signals and exit statuses are those of a
// process, so the tests run one.
var program string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "demo.exe") // the ending that Windows wants
	build := exec.Command("go", "build", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return exitFailed
	}
	return pgtest.Main(m)
}

// process is a running program with what it has printed so far.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr buffer
	exited         chan struct{}
	base           string // of its URLs, once it listens
}

// start runs the program with these settings and no others, in dir or here.
func start(t *testing.T, dir string, env map[string]string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, &p.stdout, &p.stderr
	p.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "EMBEDDED_PG=" + os.Getenv("EMBEDDED_PG"),
		"LOG_FORMAT=text",
	}
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit status is looked at instead
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// serve starts the service on a database and returns once it listens.
func serve(t *testing.T, databaseURL string, more map[string]string) *process {
	t.Helper()
	env := map[string]string{
		"DATABASE_URL": databaseURL, "HTTP_ADDR": "127.0.0.1:0", "APP_ENV": "local",
		"DB_ALLOW_PLAIN_AUTH": "true", "DB_MAX_SESSIONS": "4",
	}
	maps.Copy(env, more)
	p := start(t, "", env)
	p.awaitListening()
	return p
}

var listening = regexp.MustCompile(`msg=listening addr=(\S+)`)

func (p *process) awaitListening() {
	p.t.Helper()
	p.within(60*time.Second, "the service to listen", func() bool {
		if found := listening.FindStringSubmatch(p.stderr.String()); found != nil {
			p.base = "http://" + strings.Replace(found[1], "[::]", "127.0.0.1", 1)
		}
		return p.base != "" || p.hasExited()
	})
	if p.base == "" {
		p.t.Fatal("the service exited")
	}
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// wait returns the exit status, which has to come within the limit.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(limit):
		p.t.Fatalf("still running after %v", limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// within polls until the condition holds.
func (p *process) within(limit time.Duration, what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// status returns the status of a GET, 0 if there was no answer.
func (p *process) status(path string) int {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// stop ends the service as its platform would, and wants it to end well.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(30 * time.Second); code != exitOK {
		p.t.Errorf("exit status %d after SIGTERM", code)
	}
}

// buffer is a bytes.Buffer that may be read while a process writes to it.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
