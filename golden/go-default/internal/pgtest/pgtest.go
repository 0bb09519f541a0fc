// Package pgtest gives tests a real Postgres and a real PgBouncer. It is for tests alone.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/localpg"
)

// appName tells this package's own connections from those of the code under test.
const appName = "pgtest"

var (
	inMain bool
	shared struct {
		once   sync.Once
		dir    string
		server *localpg.Server
		err    error
	}
)

// Main runs a package's tests, then stops the server that they shared: os.Exit(pgtest.Main(m)) in TestMain.
func Main(m *testing.M) int {
	inMain = true
	code := m.Run()
	if shared.server != nil {
		_ = shared.server.Stop(bounded())
	}
	os.RemoveAll(shared.dir)
	return code
}

// Database returns the URL of a new, empty database, dropped when the test ends. It lives on the server that
// TEST_DATABASE_URL names (a URL whose user may create databases), else on a throwaway server with TLS and SCRAM, where
// its user is no superuser. Without either the test is skipped, or fails where CI=true.
func Database(t testing.TB) string {
	t.Helper()
	name, owner := "test_"+strings.ToLower(rand.Text()), ""
	address := adminURL(t, name)
	if shared.server != nil {
		address, owner = shared.server.URL(name), " owner app"
	} else {
		address = nearby(t, address)
	}
	execute(t, "create database "+name+owner+" template template0")
	t.Cleanup(func() { execute(t, "drop database "+name+" with (force)") })
	return address
}

// adminURL returns the address of a database for who makes databases, on the server that the package's tests share. The
// first test to need that server starts it. The database "" is one that is always there.
func adminURL(t testing.TB, database string) string {
	t.Helper()
	if external := os.Getenv("TEST_DATABASE_URL"); external != "" {
		u, err := url.Parse(external)
		if err != nil || u.Host == "" { // the error might quote a password
			t.Fatal("pgtest: TEST_DATABASE_URL is no postgres:// URL")
		}
		if database != "" {
			u.Path = "/" + database
		}
		return u.String()
	}
	if !inMain { // nobody would stop it
		t.Fatal("pgtest: this package needs func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }")
	}
	shared.once.Do(func() {
		if shared.dir, shared.err = tempDir(); shared.err == nil {
			shared.server, shared.err = localpg.Start(context.Background(), localpg.Options{Dir: filepath.Join(shared.dir, "cluster")})
		}
		if errors.Is(shared.err, localpg.ErrNotFound) {
			shared.err = fmt.Errorf("%w; or name a server in TEST_DATABASE_URL", shared.err)
		}
	})
	need(t, shared.err)
	return shared.server.AdminURL(database)
}

// Start runs a server for this test alone, stopped when the test ends: one that is wrong on purpose, or that the test
// stops and, with Start(t, server.Options), starts again on the same port. An empty Dir is a temporary folder.
func Start(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(testDir(t), "cluster")
	}
	server, err := localpg.Start(context.Background(), opts)
	need(t, err)
	t.Cleanup(func() { _ = server.Stop(bounded()) })
	return server
}

// Admin connects to the database of a URL from Database or PgBouncer as a superuser, past any pooler. With
// TEST_DATABASE_URL it connects as that user. The connection is closed when the test ends.
func Admin(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("pgtest: the database's URL is malformed")
	}
	conn := connect(t, strings.TrimPrefix(u.Path, "/"))
	t.Cleanup(func() { conn.Close(bounded()) })
	return conn
}

// Connections returns how many clients the server counts in the database of a URL from Database or PgBouncer, those of
// Admin and Connections left out.
func Connections(t testing.TB, databaseURL string) (n int) {
	t.Helper()
	conn := Admin(t, databaseURL)
	defer conn.Close(bounded())
	err := conn.QueryRow(bounded(), `select count(*) from pg_stat_activity where datname = current_database()
		and backend_type = 'client backend' and application_name <> $1`, appName).Scan(&n)
	need(t, err)
	return n
}

func connect(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(adminURL(t, database))
	if err != nil {
		t.Fatal("pgtest: TEST_DATABASE_URL is malformed") // the error might quote a password
	}
	config.RuntimeParams["application_name"] = appName
	conn, err := pgx.ConnectConfig(bounded(), config)
	need(t, err)
	return conn
}

func execute(t testing.TB, sql string) {
	t.Helper()
	conn := connect(t, "")
	defer conn.Close(bounded())
	_, err := conn.Exec(bounded(), sql)
	need(t, err)
}

// need ends the test on an error, by skipping it if all it lacks is a program, but not in CI, where everything must run.
func need(t testing.TB, err error) {
	t.Helper()
	lacking := errors.Is(err, localpg.ErrNotFound) || errors.Is(err, errNoPgBouncer)
	if lacking && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tempDir makes a folder which the unprivileged account that servers run as can pass through; t.TempDir is not.
func tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "pgtest-")
	return dir, errors.Join(err, os.Chmod(dir, 0o711))
}

func testDir(t testing.TB) string {
	t.Helper()
	dir, err := tempDir()
	need(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// bounded returns a context for one step; no step of a healthy machine takes this long.
func bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	context.AfterFunc(ctx, cancel) // time frees it
	return ctx
}
