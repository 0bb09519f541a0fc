package main

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// command runs the program with these settings and no others.
func command(t *testing.T, line string, environ ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), strings.Fields(line), environ, &out, &errs)
	return code, out.String(), errs.String()
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line           string
		code           int
		stdout, stderr string // what they have to hold; "" is empty
	}{
		{"help", exitOK, "usage: tiny-shop", ""},
		{"version", exitOK, "tiny-shop ", ""},
		{"", exitFailed, "", "go run ./cmd/tiny-shop dev"},
		{"migrate up", exitFailed, "", "DATABASE_URL"},
		{"serve now", exitUsage, "", "usage: tiny-shop"},
		{"migrate sideways", exitUsage, "", "usage: tiny-shop"},
		{"migrate up postgres://u:secret@h/db", exitUsage, "", "command\nusage: tiny-shop"}, // says nothing of it
	} {
		code, stdout, stderr := command(t, test.line)
		if code != test.code || !holds(stdout, test.stdout) || !holds(stderr, test.stderr) {
			t.Errorf("%q: exit status %d, want %d\nstdout: %s\nstderr: %s", test.line, code, test.code, stdout, stderr)
		}
	}
}

func holds(text, want string) bool { return strings.Contains(text, want) && (want != "" || text == "") }

// The commands that use a database and end, on one that is empty. All migrations go up, down and up again.
func TestCommands(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	admin := pgtest.Admin(t, url)
	must := func(line string) string {
		code, stdout, stderr := command(t, line, "DATABASE_URL="+url, "APP_ENV=local", "DB_ALLOW_PLAIN_AUTH=true")
		if code != exitOK || stdout == "" {
			t.Fatalf("%s: exit status %d\nstdout: %s\nstderr: %s", line, code, stdout, stderr)
		}
		return stdout
	}
	tables := func() (names string) {
		err := admin.QueryRow(t.Context(), `select concat(string_agg(tablename, ' ' order by tablename)) from pg_tables
			where schemaname = 'public' and tablename <> 'goose_db_version'`).Scan(&names)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for _, line := range []string{"migrate up", "migrate status"} {
		must(line)
	}
	full := tables()
	for strings.Contains(must("migrate down"), "down") {
	}
	if left := tables(); left != "" {
		t.Errorf("left behind by down: %s", left)
	}
	must("migrate up")
	if got := tables(); got != full {
		t.Errorf("after up, down, up: %s, want %s", got, full)
	}
}

// No request shows from outside which setting bounds it, unless one of yours is
// slow: so this looks at what the parts were given.
func TestSettingsReachTheServer(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load([]string{"DATABASE_URL=postgres://u:p@db.example.com/d?sslmode=require", "REQUEST_TIMEOUT=77s", "HTTP_MAX_BODY=4711", "HTTP_ADDR=127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newService(cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.api.RequestTimeout != 77*time.Second || s.api.MaxBody != 4711 {
		t.Errorf("requests may take %v and have %d bytes", s.api.RequestTimeout, s.api.MaxBody)
	}
	if min(s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.IdleTimeout) <= 0 {
		t.Errorf("timeouts of the HTTP server: header %v, read %v, idle %v", s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.IdleTimeout)
	}
	serving := make(chan net.Listener, 1)
	s.http.BaseContext = func(l net.Listener) context.Context { serving <- l; return context.Background() }
	if err := s.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.http.Close()
	if _, plain := (<-serving).(*net.TCPListener); plain {
		t.Error("a client that takes nothing of its response is waited for")
	}
}
