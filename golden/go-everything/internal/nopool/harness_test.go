package nopool_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

// open returns a DB on a new database with the table t(n), and that database's
// URL. When the test ends it wants no connection left.
func open(t *testing.T, change func(*config)) (*nopool.DB, string) {
	t.Helper()
	url := pgtest.Database(t)
	return openAt(t, url, change), url
}

// config is what a test may change.
type config struct {
	nopool.Config
	connect.Options
	wrap   func(net.Conn) net.Conn // what pgx gets as its connection; nil changes nothing
	tracer pgx.QueryTracer
}

func openAt(t *testing.T, url string, change func(*config)) *nopool.DB {
	t.Helper()
	db := start(t, url, config{Config: nopool.Config{
		ConnectTimeout: 10 * time.Second, StatementTimeout: 10 * time.Second,
		LockTimeout: 5 * time.Second, IdleInTransactionTimeout: 10 * time.Second,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}}, change)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
		if n := pgtest.Connections(t, url); n != 0 {
			t.Errorf("%d connections left", n)
		}
	})
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "create table if not exists t (n int primary key)")
		return err
	}))
	return db
}

// on returns a DB on a stand-in pooler, or on whatever else answers at url.
func on(t testing.TB, url string, change func(*config)) *nopool.DB {
	t.Helper()
	db := start(t, url, config{Config: nopool.Config{ConnectTimeout: 5 * time.Second, StatementTimeout: 5 * time.Second}}, change)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

func start(t testing.TB, url string, c config, change func(*config)) *nopool.DB {
	t.Helper()
	c.MaxSessions, c.MaxWaiting, c.SessionWait = 4, 1000, 30*time.Second
	c.AllowPlaintext, c.AllowPlainAuth = true, true // TEST_DATABASE_URL may be plaintext
	if change != nil {
		change(&c)
	}
	connector, err := connect.Parse(url, c.Options)
	must(t, err)
	c.Connector = traced{wrapper{connector, c.wrap}, c.tracer}
	db, err := nopool.Open(c.Config)
	must(t, err)
	return db
}

// wrapper is a connector whose connections are wrapped once they are started.
type wrapper struct {
	nopool.Connector
	wrap func(net.Conn) net.Conn
}

func (w wrapper) Config() (*pgx.ConnConfig, error) {
	config, err := w.Connector.Config()
	if err != nil || w.wrap == nil {
		return config, err
	}
	after := config.AfterNetConnect
	config.AfterNetConnect = func(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		conn, err := after(ctx, config, conn)
		return w.wrap(conn), err
	}
	return config, nil
}

func insert(n int) func(context.Context, *nopool.Session) error {
	return func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "insert into t values ($1)", n)
		return err
	}
}

// count returns how many rows a new session sees.
func count(t *testing.T, db *nopool.DB) (n int) {
	t.Helper()
	must(t, db.Run(context.Background(), nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, s *nopool.Session) error {
		return s.QueryRow(ctx, "select count(*) from t").Scan(&n)
	}))
	return n
}

func selectOne(ctx context.Context, s *nopool.Session) error {
	_, err := s.Exec(ctx, "select 1")
	return err
}
