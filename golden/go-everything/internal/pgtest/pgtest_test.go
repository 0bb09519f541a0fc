package pgtest_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func connect(t *testing.T, url string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	conn, err := pgx.Connect(ctx, url)
	if err == nil {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

func TestDatabasesAreSeparateAndOwned(t *testing.T) {
	t.Parallel()
	one, two := pgtest.Database(t), pgtest.Database(t)
	for _, url := range []string{one, two} { // the same table in both: they are not one database
		conn, err := connect(t, url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "create table public.item (id int)"); err != nil {
			t.Fatal(err)
		}
	}
	if n := pgtest.Connections(t, one); n != 1 {
		t.Errorf("counted %d connections, want 1", n)
	}
}

func TestConnectionsAreEncryptedAndVerified(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip("says nothing about a server that is not ours")
	}
	url := pgtest.Database(t)
	conn, err := connect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	var encrypted, superuser bool
	err = conn.QueryRow(t.Context(), `select ssl, current_setting('is_superuser')::bool
		from pg_stat_ssl where pid = pg_backend_pid()`).Scan(&encrypted, &superuser)
	if err != nil || !encrypted || superuser {
		t.Errorf("encrypted %v, superuser %v, error %v", encrypted, superuser, err)
	}
	plain := url[:strings.Index(url, "?")] + "?sslmode=disable"
	if _, err := connect(t, plain); err == nil {
		t.Error("the server took a plaintext connection")
	}
}

func TestPgBouncerKeepsBackends(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	url := pgtest.PgBouncer(t, direct, pgtest.PgBouncerOptions{PoolSize: 1})
	pids := map[int]bool{}
	for range 3 {
		conn, err := connect(t, url)
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		if err := conn.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
		conn.Close(t.Context())
	}
	if len(pids) != 1 {
		t.Errorf("%d backends served 3 sessions, want 1", len(pids))
	}
	if n := pgtest.Connections(t, url); n != 1 {
		t.Errorf("counted %d connections, want the pooler's one", n)
	}
}

func TestPgBouncerIsFull(t *testing.T) {
	t.Parallel()
	url := pgtest.PgBouncer(t, pgtest.Database(t),
		pgtest.PgBouncerOptions{PoolSize: 1, MaxClientConn: 2})
	for range 2 { // the second of them is let in, and waits for the first with its first statement
		if _, err := connect(t, url); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := connect(t, url); err == nil || !strings.Contains(err.Error(), "no more connections allowed") {
		t.Errorf("third client: %v", err)
	}
}

func TestStartAgainOnTheSamePort(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, localpg.Options{})
	if err := server.CreateDatabase(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	url := server.URL("kept")
	server.Kill()
	if _, err := connect(t, url); err == nil {
		t.Fatal("connected to a killed server")
	}
	if again := pgtest.Start(t, server.Options); again.URL("kept") != url {
		t.Error("the URL changed")
	}
	if _, err := connect(t, url); err != nil {
		t.Error(err)
	}
}
