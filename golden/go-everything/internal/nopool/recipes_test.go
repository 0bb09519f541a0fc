package nopool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
)

// tx is a session as a pgx.Tx, for what wants one: WithTx of sqlc, InsertTx of river. Begin
// makes a savepoint. The session ends by its own Commit, or that of its handler.
type tx struct {
	*nopool.Session
	points    *int   // how many savepoints were made
	savepoint string // "" for the session's own transaction
	closed    bool
}

func asTx(s *nopool.Session) pgx.Tx { return &tx{Session: s, points: new(int)} }

func (t *tx) Begin(ctx context.Context) (pgx.Tx, error) {
	*t.points++
	inner := &tx{Session: t.Session, points: t.points, savepoint: fmt.Sprintf("point_%d", *t.points)}
	_, err := t.Exec(ctx, "savepoint "+inner.savepoint)
	return inner, err
}

func (t *tx) Commit(ctx context.Context) error   { return t.end(ctx, "release savepoint ") }
func (t *tx) Rollback(ctx context.Context) error { return t.end(ctx, "rollback to savepoint ") }

func (t *tx) end(ctx context.Context, how string) error {
	switch {
	case t.savepoint == "":
		return errors.New("the session ends with its own Commit or Rollback")
	case t.closed:
		return pgx.ErrTxClosed
	}
	t.closed = true
	_, err := t.Exec(ctx, how+t.savepoint)
	return err
}

func (t *tx) Prepare(context.Context, string, string) (*pgconn.StatementDescription, error) {
	return nil, errors.ErrUnsupported // a pooler's connection has other clients later
}

func (t *tx) LargeObjects() pgx.LargeObjects { panic(errors.ErrUnsupported) }
func (t *tx) Conn() *pgx.Conn                { return nil }

func TestSessionAsTx(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		outer := asTx(s)
		failure := errors.New("failure")
		insert := func(n int, then error) func(pgx.Tx) error {
			return func(inner pgx.Tx) error {
				_, err := inner.Exec(ctx, "insert into t values ($1)", n)
				return errors.Join(err, then)
			}
		}
		must(t, pgx.BeginFunc(ctx, outer, insert(1, nil)))
		if err := pgx.BeginFunc(ctx, outer, insert(2, failure)); !errors.Is(err, failure) {
			t.Errorf("%v, want its own error", err)
		}
		if err := pgx.BeginFunc(ctx, outer, insert(1, nil)); err == nil {
			t.Error("a duplicate was stored")
		}
		must(t, pgx.BeginFunc(ctx, outer, func(inner pgx.Tx) error {
			must(t, insert(3, nil)(inner))
			_ = pgx.BeginFunc(ctx, inner, insert(4, failure))
			return nil
		}))
		if outer.Commit(ctx) == nil || outer.Rollback(ctx) == nil {
			t.Error("the session can be ended as a pgx.Tx")
		}
		return nil
	}))
	if n := count(t, db); n != 2 {
		t.Errorf("%d rows, want 1 and 3", n)
	}
}

// TestListen has one connection that listens, beside the sessions: it takes a place of the
// pooler for good, so MaxSessions is one less.
func TestListen(t *testing.T) {
	t.Parallel()
	db, url := open(t, func(c *config) { c.MaxSessions-- })
	connector, err := connect.Parse(url, connect.Options{AllowPlaintext: true, AllowPlainAuth: true})
	must(t, err)
	config, err := connector.Config() // a new one for each attempt, which the breaker counts
	must(t, err)
	listener, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	defer listener.Close(context.Background())
	_, err = listener.Exec(t.Context(), "listen news")
	must(t, err)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "notify news, 'of today'") // is sent with COMMIT
		return err
	}))
	news, err := listener.WaitForNotification(t.Context())
	if must(t, err); news.Payload != "of today" {
		t.Errorf("heard %q", news.Payload)
	}
}

// traced is a connector whose connections tell a tracer what they do. It must not keep the
// arguments, nor the connection.
type traced struct {
	nopool.Connector
	tracer pgx.QueryTracer
}

func (c traced) Config() (*pgx.ConnConfig, error) {
	config, err := c.Connector.Config()
	if err == nil {
		config.Tracer = c.tracer
	}
	return config, err
}

// spans is a tracer that notes when which statement began and ended.
type spans struct {
	mu   sync.Mutex
	seen []string
}

type spanKey struct{}

func (s *spans) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, spanKey{}, data.SQL)
}

func (s *spans) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf("%s: %s %t", ctx.Value(spanKey{}), data.CommandTag, data.Err == nil))
}

func TestTracing(t *testing.T) {
	t.Parallel()
	var tracer spans
	_, url := open(t, nil)
	db := on(t, url, func(c *config) { c.tracer = &tracer })
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		return errors.Join(err, s.QueryRow(ctx, "select $1::int", 2).Scan(new(int)))
	}))
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	if want := []string{"select 1: SELECT 1 true", "select $1::int: SELECT 1 true", "commit: COMMIT true"}; !slices.Equal(tracer.seen, want) {
		t.Errorf("seen %q, want %q", tracer.seen, want)
	}
}
