package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// running is the program while it runs, in this process.
type running struct {
	t     *testing.T
	log   logBuffer
	stop  context.CancelFunc // as a signal does
	ended chan struct{}
	code  int
	base  string // of its URLs, once it listens
}

// start runs a command with these settings and no others, until the test ends.
func start(t *testing.T, line string, environ ...string) *running {
	t.Helper()
	environ = append([]string{
		"HTTP_ADDR=127.0.0.1:0", "APP_ENV=local", "DB_ALLOW_PLAIN_AUTH=true",
		"LOG_FORMAT=text",
	}, environ...)
	ctx, stop := context.WithCancel(context.Background())
	p := &running{t: t, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.code = run(ctx, strings.Fields(line), environ, &p.log, &p.log)
	}()
	t.Cleanup(func() { stop(); <-p.ended })
	return p
}

// within polls until the condition holds.
func (p *running) within(limit time.Duration, what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited %v for %s; its last words: %s", limit, what, p.log.tail())
		}
	}
}

var listening = regexp.MustCompile(`listening.* addr=(\S+)`)

// serving waits until it listens.
func (p *running) serving() *running {
	p.t.Helper()
	p.within(time.Minute, "the service to listen", func() bool {
		found := listening.FindStringSubmatch(p.log.String())
		if found != nil {
			p.base = "http://" + found[1]
		}
		select {
		case <-p.ended:
			p.t.Fatalf("it ended with exit status %d: %s", p.code, p.log.tail())
		default:
		}
		return found != nil
	})
	return p
}

// wantEnd wants it to end by itself, or because it was stopped, with that exit
// status and a text in its output.
func (p *running) wantEnd(code int, text string) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Fatalf("still running: %s", p.log.tail())
	}
	if p.code != code || !strings.Contains(p.log.String(), text) {
		p.t.Errorf("exit status %d, want %d and %q: %s", p.code, code, text, p.log.tail())
	}
}

// status returns the status of a GET, 0 if there was no answer.
func (p *running) status(path string) int {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(p.base + path)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) tail() string {
	text := b.String()
	return text[max(0, len(text)-500):]
}

// A start that waits for its database can be interrupted.
func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // whose backlog accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p := start(t, "serve", "DATABASE_URL=postgres://app@"+silent.Addr().String()+"/app?sslmode=require")
	p.within(10*time.Second, "the start to begin", func() bool { return strings.Contains(p.log.String(), "budget") })
	p.stop()
	p.wantEnd(exitInterrupted, "demo: interrupted")
}

// A start with a user without its project ends at once, and says what to do.
func TestWrongUser(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "migrate status"} {
		pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse {
			return standin.Fatal("XX000", "(ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)")
		}})
		p := start(t, command, "DATABASE_URL="+pooler.URL())
		p.wantEnd(exitFailed, "postgres.PROJECTREF")
		if n := pooler.Stats().Dials; n != 1 {
			t.Errorf("%s: %d dials", command, n)
		}
	}
}

// A request that does not end in time is cut short, and the exit status says so.
func TestStopWithStuckRequest(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select 1" { // of readiness
			close(asked)
			r.Hang = true
		}
		return r
	}})
	p := start(t, "serve", "DATABASE_URL="+pooler.URL(), "SHUTDOWN_TIMEOUT=100ms").serving()
	go p.status("/ready")
	<-asked
	p.stop()
	p.wantEnd(exitFailed, "requests were cut short")
}

// Postgres goes away and comes back: the service says so meanwhile, and recovers by
// itself. So does a start that found none.
func TestDatabaseRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, localpg.Options{})
	p := start(t, "serve", "DATABASE_URL="+server.URL("postgres"), "DB_CONNECT_TIMEOUT=2s").serving()
	ready := func(status int) func() bool { return func() bool { return p.status("/ready") == status } }
	p.within(20*time.Second, "the service to work", ready(http.StatusOK))
	server.Kill()
	p.within(20*time.Second, "the service to say that it does not", ready(http.StatusServiceUnavailable))
	if status := p.status("/health"); status != http.StatusOK {
		t.Errorf("/health: %d", status)
	}
	late := start(t, "serve", "DATABASE_URL="+server.URL("postgres"))
	late.within(20*time.Second, "an attempt", func() bool { return strings.Contains(late.log.String(), "not ready") })
	pgtest.Start(t, server.Options)
	p.within(20*time.Second, "the service to recover", ready(http.StatusOK))
	late.serving().stop()
	late.wantEnd(exitOK, "stopped")
}

// dev finds Postgres, serves on it, keeps its data and stops it; a second one in the
// same folder says that the first runs.
func TestDev(t *testing.T) {
	pgtest.Server(t) // without a Postgres on this machine it skips the test
	dir, err := os.MkdirTemp("", "demo dev ")
	if err == nil {
		err = os.Chmod(dir, 0o711) // for the account that Postgres runs as
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Chdir(dir)
	for range 2 {
		p := start(t, "dev").serving()
		if status := p.status("/ready"); status != http.StatusOK {
			t.Errorf("/ready: %d", status)
		}
		second := start(t, "dev")
		if second.wantEnd(exitFailed, "demo: error: "); strings.Count(second.log.String(), "\n") != 1 {
			t.Errorf("want one line of a second dev: %s", second.log.tail())
		}
		p.stop()
		if p.wantEnd(exitOK, "stopped"); strings.Contains(p.log.String(), "app:") {
			t.Error("the password is in the output")
		}
	}
	p := start(t, "dev").serving()
	kill(t, filepath.Join(devDir, "postgres", "postmaster.pid"))
	p.wantEnd(exitFailed, "demo: error: Postgres has ended")
	start(t, "dev", "APP_ENV=production").wantEnd(exitFailed, "APP_ENV")
}

// kill ends the process whose number is the first line of a file.
func kill(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if process, err := os.FindProcess(pid); err != nil || process.Kill() != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}
