// Package pgtest has what the tests of several packages need: a real Postgres, a real PgBouncer, a relay that counts
// connections, and a log to read. Nothing but tests imports it.
package pgtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.org/team/tiny-shop/internal/localpg"
)

// appName tells this package's own connections from those of the code under test.
const appName = "pgtest"

var (
	home      string // the temporary folder of all tests of a package, "" without Main
	life, end = context.WithCancel(context.Background())
	servers   sync.WaitGroup // that run
	shared    = sync.OnceValues(func() (*localpg.Server, error) {
		return launch(localpg.Options{Dir: filepath.Join(home, "cluster")})
	})
)

// Main runs a package's tests: func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }. They have a temporary folder of
// their own, and nothing of it is left at their end or after Ctrl-C.
func Main(m *testing.M) int {
	var err error
	if home, err = os.MkdirTemp("", "tiny-shop-test-"); err == nil { // the account that servers run as must pass through it
		err = errors.Join(os.Chmod(home, 0o711), os.Setenv("TMPDIR", home), os.Setenv("TMP", home)) // the latter for Windows
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupts
		cleanUp()
		os.Exit(130)
	}()
	defer cleanUp()
	return m.Run()
}

// cleanUp ends what the tests have started and removes their folder, where a process that ends may still write.
func cleanUp() {
	end()
	servers.Wait()
	for begun := time.Now(); os.RemoveAll(home) != nil && time.Since(begun) < 10*time.Second; {
		time.Sleep(50 * time.Millisecond)
	}
}

// launch starts a server that ends with the tests.
func launch(opts localpg.Options) (*localpg.Server, error) {
	server, err := localpg.Start(life, opts)
	if errors.Is(err, localpg.ErrNotFound) {
		err = fmt.Errorf("%w; or name a server in TEST_DATABASE_URL", err)
	}
	if err == nil {
		servers.Go(func() { <-life.Done(); server.Stop() })
	}
	return server, err
}

// Database returns the URL of a new, empty database, dropped when the test ends. It lives on the server that
// TEST_DATABASE_URL names (a URL whose user may create databases), else on Server. Without either the test is skipped,
// or fails where CI=true.
func Database(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	var address, owner string
	if os.Getenv("TEST_DATABASE_URL") == "" {
		address, owner = Server(t).URL(name), " owner app"
	} else {
		address = acceptable(t, adminURL(t, name))
	}
	execute(t, "create database "+name+owner+" template template0")
	t.Cleanup(func() { execute(t, "drop database "+name+" with (force)") })
	return address
}

// Server returns the throwaway server that the package's tests share, with TLS and SCRAM, where the user of URL is no
// superuser. The first test to need it starts it.
func Server(t testing.TB) *localpg.Server {
	t.Helper()
	if home == "" { // nobody would stop it
		t.Fatal("pgtest: this package needs func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }")
	}
	server, err := shared()
	need(t, err)
	return server
}

// adminURL returns the address of a database for a user who may make databases. The database "" is one that is always there.
func adminURL(t testing.TB, database string) string {
	t.Helper()
	external := os.Getenv("TEST_DATABASE_URL")
	if external == "" {
		return Server(t).AdminURL(database)
	}
	u := parse(t, external)
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

// parse never fails with the URL's own text, which may hold a password.
func parse(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		t.Fatal("pgtest: TEST_DATABASE_URL is no postgres:// URL that names a host")
	}
	return u
}

// Admin connects to the database of a URL from Database or PgBouncer as a superuser, past any pooler. With
// TEST_DATABASE_URL it connects as that user. The connection is closed when the test ends.
func Admin(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	conn := connect(t, strings.TrimPrefix(parse(t, databaseURL).Path, "/"))
	t.Cleanup(func() { conn.Close(bounded()) })
	return conn
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
	lacking := errors.Is(err, localpg.ErrNotFound) || errors.Is(err, exec.ErrNotFound)
	if lacking && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// bounded returns a context for one step; no step of a healthy machine takes this long.
func bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	context.AfterFunc(ctx, cancel) // time frees it
	return ctx
}

// Relay passes connections on to a server and counts them as the server does: from the client's connect to the server's
// own close.
type Relay struct {
	Total, Open, Peak atomic.Int32
	target            string
}

// NewRelay returns the URL of a database through a new relay, which ends with the test.
func NewRelay(t testing.TB, databaseURL string) (string, *Relay) {
	t.Helper()
	u := parse(t, databaseURL)
	r := &Relay{target: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "5432"))}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	need(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed with the test
			}
			go r.pass(client)
		}
	}()
	if u.Hostname() != "127.0.0.1" { // whose certificate need not name this machine
		u.RawQuery = strings.Replace(u.RawQuery, "sslmode=verify-full", "sslmode=verify-ca", 1)
	}
	u.Host = listener.Addr().String()
	return u.String(), r
}

func (r *Relay) pass(client net.Conn) {
	r.Total.Add(1)
	now := r.Open.Add(1)
	for peak := r.Peak.Load(); now > peak && !r.Peak.CompareAndSwap(peak, now); {
		peak = r.Peak.Load()
	}
	defer client.Close()
	defer r.Open.Add(-1) // before the client can know
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server) // until the server closes
}

// acceptable returns a URL of the same database that the code under test accepts: plaintext is for this machine alone, so
// a server that speaks nothing else, such as the container beside a CI job, is reached through a relay here.
func acceptable(t testing.TB, databaseURL string) string {
	t.Helper()
	u := parse(t, databaseURL)
	query := u.Query()
	if slices.Contains([]string{"require", "verify-ca", "verify-full"}, query.Get("sslmode")) {
		return databaseURL
	}
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	address, _ := NewRelay(t, u.String())
	return address
}
