// Package nopool gives each unit of work a Postgres connection of its own and
// closes it when the work ends. It is made for databases behind a session-mode
// pooler (Supabase's Supavisor, PgBouncer), where the pooler is the pool and a
// second pool in the client holds connections that other processes then lack.
//
// A session is one connection and one transaction:
//
//	first query   → slot → dial → BEGIN, timeouts and the query in one flight
//	Commit        → COMMIT acknowledged; Finish does not wait for that after a read
//	afterwards    → Terminate → the server's close is seen → the slot is free
//
// Read this file first, then session.go and rows.go (what a caller uses), open.go
// and slots.go (how a session gets its connection), flight.go (how BEGIN travels)
// and connection.go (how the connection ends). errors.go and events.go can be read
// on their own.
package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Config says where the database is and how much of it may be used. SessionWait and
// ConnectTimeout must be positive, StatementTimeout at least 1 ms. The server counts
// in whole milliseconds: a LockTimeout or IdleInTransactionTimeout below one sets no
// limit.
type Config struct {
	Connector   Connector // see package connect
	MaxSessions int       // connections that may exist at any instant, at least 1
	MaxWaiting  int       // sessions that may queue for a slot; 0 refuses at once

	SessionWait    time.Duration // the longest wait for a slot
	ConnectTimeout time.Duration // from the first dial to the answer to BEGIN, retries included

	StatementTimeout         time.Duration // per statement, enforced by the server
	LockTimeout              time.Duration // per lock wait, enforced by the server
	IdleInTransactionTimeout time.Duration // between statements, enforced by the server

	Logger *slog.Logger // session events; nil discards them
}

// Connector knows how to reach the database.
type Connector interface {
	// Config returns a configuration that names one host, for the caller to change,
	// or an error when no connection should be made now, which goes to Refused like
	// any other.
	Config() (*pgx.ConnConfig, error)
	// Refused is told why a connection could not be opened, and returns what that
	// means: ErrPoolerFull, ErrUnavailable or ErrConfiguration.
	Refused(err error) error
}

// DB opens sessions. It holds no connection of its own.
type DB struct {
	config Config
	slots  *slots
	totals struct {
		sync.Mutex
		Snapshot
	}

	life  context.Context // ends when Close gives up waiting, and every session's life with it
	abort context.CancelCauseFunc
}

// Open checks cfg and returns a DB. It does not touch the network: the first
// session does. Its error is an ErrConfiguration.
func Open(cfg Config) (*DB, error) {
	if cfg.Connector == nil || cfg.MaxSessions < 1 || cfg.SessionWait <= 0 || cfg.ConnectTimeout <= 0 ||
		cfg.StatementTimeout < time.Millisecond || min(cfg.MaxWaiting, int(cfg.LockTimeout), int(cfg.IdleInTransactionTimeout)) < 0 {
		return nil, fmt.Errorf("%w: Connector must be set, MaxSessions be at least 1, SessionWait and ConnectTimeout positive, "+
			"StatementTimeout at least 1ms, and nothing negative", ErrConfiguration)
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	db := &DB{config: cfg, slots: newSlots(cfg.MaxSessions, cfg.MaxWaiting)}
	db.life, db.abort = context.WithCancelCause(context.Background())
	return db, nil
}

// TxOptions are the properties of a session's transaction. The zero value has the
// server's defaults: read write and read committed, unless role or database say
// otherwise.
type TxOptions struct {
	ReadOnly  bool
	Isolation pgx.TxIsoLevel // "" leaves it to the server
	Settings  []Setting      // made in this order, after the timeouts

	// WaitForCommit makes Finish, and so the response of a request, wait for COMMIT
	// where it would not: in a read-only session below serializable. That is for what
	// such a session can do all the same: NOTIFY, pg_logical_emit_message, advisory
	// locks, LISTEN, large objects (Postgres 15 and older), SET without LOCAL, what a
	// function does on another server, and a transaction that a statement has begun.
	WaitForCommit bool
}

// Setting is a parameter of the server for one transaction, as by SET LOCAL. It
// travels with BEGIN, at no round trip of its own. The role is one of them
// (Name "role"), and so are those that row-level security policies read, such as
// Supabase's "request.jwt.claims". A setting that the server refuses makes the
// session's opening fail with ErrConfiguration.
type Setting struct{ Name, Value string }

// Session returns a session that opens its connection at its first use, so one
// that is never used costs nothing. The caller must end it with Commit or
// Rollback. ctx does not bound the session: it goes with its log lines, and when
// it carries an open session (WithSession), the first use fails with ErrNested.
func (db *DB) Session(ctx context.Context, opts TxOptions) *Session {
	s := &Session{db: db, opts: opts, ctx: ctx}
	s.life, s.cancel = context.WithCancelCause(db.life)
	return s
}

// Run calls fn with a session of its own: committed when fn returns nil, rolled
// back when it returns an error, panics, or ctx has ended by then; closed in
// every case. It is the way to use the database outside a request. It returns
// fn's error, ctx's or Commit's.
func (db *DB) Run(ctx context.Context, opts TxOptions, fn func(ctx context.Context, s *Session) error) error {
	s := db.Session(ctx, opts)
	defer s.Rollback(ctx) // does nothing once Commit has ended the session
	if err := cmp.Or(fn(WithSession(ctx, s), s), ctx.Err()); err != nil {
		return err
	}
	return s.Commit(ctx)
}

// RunWithRetry is Run that runs the whole of fn again, at most three times in
// all, when the server reports a serialization failure (40001) or a deadlock
// (40P01), after pauses of at most 50 and 100 ms. fn must have no effect outside its
// session. Every other error is returned at once: after BEGIN nothing else is safe
// to repeat.
func (db *DB) RunWithRetry(ctx context.Context, opts TxOptions, fn func(ctx context.Context, s *Session) error) error {
	for attempt := 1; ; attempt++ {
		err := db.Run(ctx, opts, fn)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if attempt == 3 || !ok || (pgErr.Code != "40001" && pgErr.Code != "40P01") ||
			pause(ctx, time.Duration(attempt)*50*time.Millisecond, nil) != nil {
			return err
		}
	}
}

type sessionKey struct{}

// WithSession returns a context for work on behalf of s: a second session of the
// same DB that is made with it fails with ErrNested while s holds a connection.
// Otherwise callers that each hold one connection and wait for a second could
// wait for each other until SessionWait ends.
func WithSession(ctx context.Context, s *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// Close makes the first use of a session fail with ErrClosed, and waits until those
// that have a connection have ended and the server has closed it. When ctx ends
// first, it cancels the rest and waits at most 6 s more. It returns nil when no
// connection is left, else an error that wraps ctx's.
func (db *DB) Close(ctx context.Context) error {
	idle := db.slots.close()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	db.abort(ErrClosed)
	select {
	case <-idle:
		return nil
	case <-time.After(closeTimeout + time.Second):
		return fmt.Errorf("close database: %d sessions still open: %w", db.Snapshot().InUse, context.Cause(ctx))
	}
}

// pause waits for a random time up to limit ("full jitter", so that clients refused
// together do not return together), for sooner, or until ctx ends, with its cause.
func pause(ctx context.Context, limit time.Duration, sooner <-chan struct{}) error {
	select {
	case <-time.After(rand.N(limit)):
		return nil
	case <-sooner:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
