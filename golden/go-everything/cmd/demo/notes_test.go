package main

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/pgtest"
)

// What needs a table and requests that use it is tested with the notes.

// migrated returns the URL of a database with the project's own schema.
func migrated(t *testing.T, databaseURL string) string {
	t.Helper()
	p := start(t, "", map[string]string{"DATABASE_URL": databaseURL, "APP_ENV": "local", "DB_ALLOW_PLAIN_AUTH": "true"}, "migrate", "up")
	if code := p.wait(60 * time.Second); code != exitOK {
		t.Fatalf("migrate: exit status %d", code)
	}
	return databaseURL
}

func TestMigrateAndVerify(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DATABASE_URL": pgtest.Database(t), "APP_ENV": "local", "DB_ALLOW_PLAIN_AUTH": "true"}
	for _, test := range []struct{ args, stdout string }{
		{"migrate up", "up   00001_"},
		{"migrate status", "applied"},
		{"verify", "areas "},
		{"verify --json", `"summary"`},
		{"migrate down", "down "},
	} {
		p := start(t, "", env, strings.Fields(test.args)...)
		if code := p.wait(60 * time.Second); code != exitOK || !strings.Contains(p.stdout.String(), test.stdout) {
			t.Errorf("%s: exit status %d", test.args, code)
		}
	}
}

// An interrupted migration does not go on at the server, where it would hold its
// locks.
func TestInterruptedMigration(t *testing.T) {
	t.Parallel()
	databaseURL := migrated(t, pgtest.Database(t))
	tx, err := pgtest.Admin(t, databaseURL).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table notes"); err != nil {
		t.Fatal(err)
	}
	p := start(t, "", map[string]string{"DATABASE_URL": databaseURL, "APP_ENV": "local", "DB_ALLOW_PLAIN_AUTH": "true"}, "migrate", "down")
	p.within(10*time.Second, "the migration to wait for the lock", func() bool {
		var waiting bool
		row := tx.QueryRow(t.Context(), "select exists (select from pg_locks where not granted and relation = 'notes'::regclass)")
		return row.Scan(&waiting) == nil && waiting
	})
	p.signal(syscall.SIGINT)
	if code := p.wait(4 * time.Second); code != exitInterrupted {
		t.Errorf("exit status %d", code)
	}
	// Its lock_timeout of 5s would end it too, but not this soon.
	p.within(2*time.Second, "its connection to end", func() bool { return pgtest.Connections(t, databaseURL) == 0 })
}

// SIGTERM while requests run: they are answered, what was answered with success
// is stored and nothing else, and no connection is left.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	url := migrated(t, pgtest.Database(t))
	p := serve(t, url, nil)
	var created atomic.Int64
	var clients sync.WaitGroup
	stopping := make(chan struct{})
	for range 8 {
		clients.Go(func() {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
			for {
				response, err := client.Post(p.base+"/notes", "application/json", strings.NewReader(`{"title":"t","body":"b"}`))
				if err != nil {
					if isOpen(stopping) {
						t.Errorf("while serving: %v", err)
					}
					return // it listens no more
				}
				response.Body.Close()
				if response.StatusCode != http.StatusCreated {
					t.Errorf("status %d", response.StatusCode)
					return
				}
				created.Add(1)
			}
		})
	}
	p.within(30*time.Second, "some notes", func() bool { return created.Load() > 20 })
	close(stopping)
	p.stop()
	clients.Wait()
	// A request that was taken and then dropped would be stored, but not counted.
	var stored int64
	if err := pgtest.Admin(t, url).QueryRow(t.Context(), "select count(*) from notes").Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if stored != created.Load() {
		t.Errorf("%d notes were acknowledged, %d are stored", created.Load(), stored)
	}
	if n := pgtest.Connections(t, url); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

func isOpen(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return false
	default:
		return true
	}
}

// A request that does not end in time is cut short, with its statement at the
// server, and the exit status says so.
func TestStopWithStuckRequest(t *testing.T) {
	t.Parallel()
	url := migrated(t, pgtest.Database(t))
	p := serve(t, url, map[string]string{"SHUTDOWN_TIMEOUT": "500ms", "DB_LOCK_TIMEOUT": "30s"})
	tx, err := pgtest.Admin(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table notes"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() { defer close(answered); p.status("/notes") }()
	p.within(10*time.Second, "the request to wait", func() bool { return pgtest.Connections(t, url) == 1 })
	p.signal(syscall.SIGTERM)
	if code := p.wait(8 * time.Second); code != exitFailed || !strings.Contains(p.stderr.String(), "cut short") {
		t.Errorf("exit status %d", code)
	}
	<-answered
	p.within(2*time.Second, "its connection to end", func() bool { return pgtest.Connections(t, url) == 0 })
}

// Postgres goes away and comes back: the service says so meanwhile, and
// recovers by itself.
func TestDatabaseRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, localpg.Options{})
	if err := server.CreateDatabase(t.Context(), "demo"); err != nil {
		t.Fatal(err)
	}
	p := serve(t, migrated(t, server.URL("demo")), map[string]string{"DB_CONNECT_TIMEOUT": "2s"})
	check := func(notes, ready int) func() bool {
		return func() bool {
			if status := p.status("/health"); status != http.StatusOK {
				t.Errorf("/health: %d", status)
			}
			return p.status("/notes") == notes && p.status("/ready") == ready
		}
	}
	p.within(10*time.Second, "the service to work", check(http.StatusOK, http.StatusOK))
	server.Kill()
	p.within(20*time.Second, "the service to say that it does not", check(http.StatusServiceUnavailable, http.StatusServiceUnavailable))
	pgtest.Start(t, server.Options)
	p.within(20*time.Second, "the service to recover", check(http.StatusOK, http.StatusOK))
	p.stop()
}
