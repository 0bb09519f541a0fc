package main

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

const secret = "s3cret-word"

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args           string
		code           int
		stdout, stderr string // what they have to hold; "" is empty
	}{
		{"-h", exitOK, "migrate up|down|status", ""},
		{"help", exitOK, "usage: demo", ""},
		{"verify -h", exitOK, "usage: demo", ""},
		{"version", exitOK, "demo ", ""},
		{"", exitFailed, "", "go run ./cmd/demo dev"},
		{"serve", exitFailed, "", "go run ./cmd/demo dev"},
		{"migrate up", exitFailed, "", "DATABASE_URL"},
		{"verify --json", exitFailed, "", "DATABASE_URL"},
		{"start", exitUsage, "", "usage: demo"},
		{"serve now", exitUsage, "", "usage: demo"},
		{"migrate", exitUsage, "", "usage: demo"},
		{"migrate sideways", exitUsage, "", "usage: demo"},
		{"verify --yaml", exitUsage, "", "usage: demo"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			code := run(t.Context(), strings.Fields(test.args), func(string) string { return "" }, &stdout, &stderr)
			if code != test.code || !holds(stdout.String(), test.stdout) || !holds(stderr.String(), test.stderr) {
				t.Errorf("exit status %d, want %d\nstdout: %s\nstderr: %s", code, test.code, &stdout, &stderr)
			}
		})
	}
}

func holds(text, want string) bool {
	return strings.Contains(text, want) && (want != "" || text == "")
}

// Whatever is wrong with the database, starting ends in bounded time with one
// line that says so, and the password is in none.
func TestStartFailures(t *testing.T) {
	t.Parallel()
	local := func(port string) string {
		return "postgres://app:" + secret + "@127.0.0.1:" + port + "/app?sslmode=require"
	}
	for _, test := range []struct {
		name        string
		url         func(t *testing.T) string
		line        string
		least, most time.Duration // with DB_STARTUP_TIMEOUT=3s
	}{
		{"no server", func(*testing.T) string { return local("1") }, "connection refused", 2 * time.Second, 6 * time.Second},
		{"no answer", func(t *testing.T) string { return local(silentServer(t)) }, "DB_STARTUP_TIMEOUT", 2 * time.Second, 6 * time.Second},
		{"wrong password", wrongPassword, "28P01", authenticationDelay, authenticationDelay + 3*time.Second},
		{"unknown database", unknownDatabase, "3D000", 0, 3 * time.Second},
		{"server without TLS", func(t *testing.T) string {
			return strings.Replace(standin.Start(t, standin.Options{}).URL(), "sslmode=disable", "sslmode=require", 1)
		}, "refused TLS", 0, 3 * time.Second},
		{"misspelt scheme", func(*testing.T) string { return strings.Replace(local("1"), "postgres", "posgres", 1) }, "DATABASE_URL: the scheme", 0, time.Second},
		{"no TLS asked for", func(*testing.T) string { return strings.Replace(local("1"), "require", "prefer", 1) }, "DATABASE_URL: sslmode", 0, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := test.url(t)
			started := time.Now()
			p := start(t, "", map[string]string{"DATABASE_URL": address, "HTTP_ADDR": "127.0.0.1:0", "DB_STARTUP_TIMEOUT": "3s"})
			code := p.wait(30 * time.Second)
			if took := time.Since(started); code != exitFailed || took < test.least || took > test.most {
				t.Errorf("exit status %d after %v, want %d after %v to %v", code, took, exitFailed, test.least, test.most)
			}
			output := p.stdout.String() + p.stderr.String()
			if errors := strings.Count(output, "demo: error: ") + strings.Count(output, "level=ERROR"); errors != 1 {
				t.Errorf("%d errors, want 1", errors)
			}
			_, line, _ := strings.Cut(output, "demo: error: ")
			if !strings.Contains(line, test.line) || strings.Count(line, "\n") != 1 {
				t.Errorf("the error is %q, want one line that has %q", line, test.line)
			}
			if password := passwordOf(address); strings.Contains(output, password) {
				t.Error("the password is in the output")
			}
		})
	}
}

func passwordOf(address string) string {
	if u, err := url.Parse(address); err == nil {
		if password, ok := u.User.Password(); ok {
			return password
		}
	}
	return secret
}

// silentServer accepts connections and never says a word.
func silentServer(t *testing.T) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port // the system's backlog accepts
}

func wrongPassword(t *testing.T) string {
	return change(t, func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), secret) })
}

func unknownDatabase(t *testing.T) string {
	return change(t, func(u *url.URL) { u.Path = "/missing" })
}

// change returns the URL of a private server with TLS and SCRAM, changed.
func change(t *testing.T, how func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(pgtest.Start(t, localpg.Options{}).URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	how(u)
	return u.String()
}

func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	address := "postgres://app@127.0.0.1:" + silentServer(t) + "/app?sslmode=require"
	p := start(t, "", map[string]string{"DATABASE_URL": address})
	p.within(10*time.Second, "the start to begin", func() bool { return strings.Contains(p.stderr.String(), "budget") })
	p.signal(syscall.SIGINT)
	if code := p.wait(5 * time.Second); code != exitInterrupted {
		t.Errorf("exit status %d", code)
	}
}

// dev finds Postgres, serves on it, keeps its data and stops it; a second one
// in the same folder says that the first runs.
func TestDev(t *testing.T) {
	t.Parallel()
	if _, err := localpg.FindBinaries(); err != nil && os.Getenv("CI") != "true" {
		t.Skipf("skipped: %v", err)
	}
	dir, err := os.MkdirTemp("", "demo-dev-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // for the account that Postgres runs as
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	env := map[string]string{"HTTP_ADDR": "127.0.0.1:0"}
	for range 2 {
		p := start(t, dir, env, "dev")
		p.awaitListening()
		if status := p.status("/ready"); status != 200 {
			t.Errorf("/ready: %d", status)
		}
		second := start(t, dir, env, "dev")
		if code := second.wait(30 * time.Second); code != exitFailed || strings.Count(second.stderr.String(), "\n") != 1 {
			t.Errorf("second dev: exit status %d, want one line:\n%s", code, second.stderr.String())
		}
		p.stop()
		if strings.Contains(p.stdout.String()+p.stderr.String(), "app:") {
			t.Error("the password is in the output")
		}
	}
	p := start(t, dir, env, "dev")
	p.awaitListening()
	kill(t, filepath.Join(dir, devDir, "postgres", "postmaster.pid"))
	if code := p.wait(15 * time.Second); code != exitFailed || !strings.Contains(p.stderr.String(), "demo: error: Postgres has ended") {
		t.Errorf("dev after its Postgres was killed: exit status %d", code)
	}
	p = start(t, dir, map[string]string{"APP_ENV": "production"}, "dev")
	if code := p.wait(5 * time.Second); code != exitFailed || !strings.Contains(p.stderr.String(), "APP_ENV") {
		t.Errorf("dev in production: exit status %d", code)
	}
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
