// Package pgtest gives tests a real Postgres and a real PgBouncer. It is for tests alone.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
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
	admins sync.Map // host:port of each server and pooler started here → URL of a superuser behind it
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
	admin := os.Getenv("TEST_DATABASE_URL")
	at := func(database string) string { return withPath(t, admin, database) }
	if admin == "" {
		server := sharedServer(t)
		admin, at, owner = server.AdminURL("postgres"), server.URL, " owner app"
	}
	execute(t, admin, "create database "+name+owner+" template template0")
	t.Cleanup(func() { execute(t, admin, "drop database "+name+" with (force)") })
	return at(name)
}

// sharedServer starts the package's server when the first test asks for it.
func sharedServer(t testing.TB) *localpg.Server {
	t.Helper()
	if !inMain { // nobody would stop it
		t.Fatal("pgtest: this package needs func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }")
	}
	shared.once.Do(func() {
		if shared.dir, shared.err = tempDir(); shared.err == nil {
			shared.server, shared.err = start(localpg.Options{Dir: filepath.Join(shared.dir, "cluster")})
		}
	})
	need(t, shared.err)
	return shared.server
}

// Start runs a server for this test alone, stopped when the test ends: one that is wrong on purpose, or that the test
// stops and, with Start(t, server.Options), starts again on the same port. An empty Dir is a temporary folder.
func Start(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(testDir(t), "cluster")
	}
	server, err := start(opts)
	need(t, err)
	t.Cleanup(func() { _ = server.Stop(bounded()) })
	return server
}

func start(opts localpg.Options) (*localpg.Server, error) {
	server, err := localpg.Start(context.Background(), opts)
	if err == nil {
		u, _ := url.Parse(server.AdminURL("postgres"))
		admins.Store(u.Host, u.String())
	}
	return server, err
}

// Admin connects to the database of a URL from this package as a superuser, past any pooler. With TEST_DATABASE_URL it
// connects as that user. The connection is closed when the test ends.
func Admin(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("pgtest: the database's URL is malformed")
	}
	if admin, ok := admins.Load(u.Host); ok {
		databaseURL = withPath(t, admin.(string), strings.TrimPrefix(u.Path, "/"))
	}
	conn := connect(t, databaseURL)
	t.Cleanup(func() { conn.Close(bounded()) })
	return conn
}

// Connections returns how many clients the server counts in the database of a URL from this package, those of Admin
// and Connections left out.
func Connections(t testing.TB, databaseURL string) (n int) {
	t.Helper()
	conn := Admin(t, databaseURL)
	defer conn.Close(bounded())
	err := conn.QueryRow(bounded(), `select count(*) from pg_stat_activity where datname = current_database()
		and backend_type = 'client backend' and application_name <> $1`, appName).Scan(&n)
	if err != nil {
		t.Fatalf("count connections: %v", err)
	}
	return n
}

func connect(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal("pgtest: TEST_DATABASE_URL is malformed") // the error might quote a password
	}
	config.RuntimeParams["application_name"] = appName
	conn, err := pgx.ConnectConfig(bounded(), config)
	if err != nil {
		t.Fatalf("connect for the test's own use: %v", err)
	}
	return conn
}

func execute(t testing.TB, databaseURL, sql string) {
	t.Helper()
	conn := connect(t, databaseURL)
	defer conn.Close(bounded())
	if _, err := conn.Exec(bounded(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func withPath(t testing.TB, base, database string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		t.Fatal("pgtest: TEST_DATABASE_URL is no postgres:// URL")
	}
	u.Path = "/" + database
	return u.String()
}

// need ends the test on an error, by skipping it if all it lacks is a Postgres.
func need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, localpg.ErrNotFound) {
		lacking(t, err.Error()+" and set TEST_DATABASE_URL")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lacking skips the test for want of a program, but not in CI, where everything must have run.
func lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// tempDir makes a folder which the unprivileged account that servers run as can pass through; t.TempDir is not.
func tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
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
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	time.AfterFunc(31*time.Second, cancel)
	return ctx
}
