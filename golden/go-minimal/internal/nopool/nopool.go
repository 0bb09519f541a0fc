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
// Read this file first, then session.go, ending.go and rows.go (what a caller uses), values.go
// (how arguments travel), opening.go and slots.go (how a session gets its connection), flight.go
// (how BEGIN travels) and connection.go (how the connection ends). db.go (what a DB is set up with,
// and counts) and errors.go can be read on their own.
package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Open checks cfg and returns a DB. It does not touch the network: the first
// session does. Its error is an ErrConfiguration.
func Open(cfg Config) (*DB, error) {
	if cfg.Connector == nil || cfg.MaxSessions < 1 || cfg.SessionWait <= 0 || cfg.ConnectTimeout <= 0 ||
		cfg.StatementTimeout < time.Millisecond || cfg.MaxWaiting < 0 || min(cfg.LockTimeout, cfg.IdleInTransactionTimeout) < 0 ||
		max(cfg.StatementTimeout, cfg.LockTimeout, cfg.IdleInTransactionTimeout).Milliseconds() > math.MaxInt32 {
		return nil, fmt.Errorf("%w: Connector must be set, MaxSessions be at least 1, SessionWait and ConnectTimeout positive, "+
			"StatementTimeout at least 1ms, nothing negative, and no timeout of the server above 2^31 ms", ErrConfiguration)
	}
	db := &DB{config: cfg, slots: newSlots(cfg.MaxSessions, cfg.MaxWaiting), log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))}
	db.life, db.abort = context.WithCancelCause(context.Background())
	return db, nil
}

// Session returns a session that opens its connection at its first use, so one that is never used
// costs nothing. The caller must end it with Commit or Rollback. ctx does not bound the session: it
// goes with its log lines, and when it carries another one (WithSession), that one's settings are
// made before those of opts, and while it is open, the first use fails with ErrNested.
func (db *DB) Session(ctx context.Context, opts TxOptions) *Session {
	s := &Session{db: db, opts: opts, ctx: ctx, said: ErrSessionDone}
	if outer := s.outer(); outer != nil {
		s.opts.Settings = slices.Concat(outer.opts.Settings, opts.Settings)
	}
	s.life, s.cancel = context.WithCancelCause(db.life)
	return s
}

// Run calls fn with a session of its own: committed when fn returns nil, rolled
// back when it returns an error, panics, or ctx has ended by then; closed in
// every case. It is the way to use the database outside a request. It returns
// fn's error, ctx's or Commit's, fn's own Commit included.
func (db *DB) Run(ctx context.Context, opts TxOptions, fn func(ctx context.Context, s *Session) error) error {
	s := db.Session(ctx, opts)
	defer s.Rollback(ctx) // does nothing once Commit has ended the session
	if err := fn(WithSession(ctx, s), s); err != nil {
		return err
	}
	if late := ctx.Err(); late != nil {
		return s.Undo(ctx, late)
	}
	return s.Commit(ctx)
}

// RunWithRetry is Run that runs the whole of fn again, at most three times in all, when the server
// reports a serialization failure (40001) or a deadlock (40P01), after pauses of at most 50 and 100
// ms. fn must have no effect outside its session. Every other error is returned at once, and so is
// what comes after a Commit of fn's own: after BEGIN nothing else is safe to repeat.
func (db *DB) RunWithRetry(ctx context.Context, opts TxOptions, fn func(ctx context.Context, s *Session) error) error {
	for attempt := 1; ; attempt++ {
		stands := false // what fn has committed, or may have
		err := db.Run(ctx, opts, func(ctx context.Context, s *Session) error {
			err := fn(ctx, s)
			stands = err != nil && s.Undo(ctx, ErrSessionDone) != ErrSessionDone
			return err
		})
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if attempt == 3 || stands || !ok || (pgErr.Code != "40001" && pgErr.Code != "40P01") ||
			pause(ctx, time.Duration(attempt)*50*time.Millisecond, nil) != nil {
			return err
		}
	}
}

// LoadTypes asks the server for types that only it knows, such as enums, composites and arrays
// of them, by name ("mood", "_mood"). All sessions that begin afterwards know them, at no round
// trip: it is for the service's start. It replaces what was loaded before.
func (db *DB) LoadTypes(ctx context.Context, names ...string) error {
	s := db.Session(ctx, TxOptions{ReadOnly: true})
	defer s.Rollback(ctx)
	return s.use(ctx, nil, func(ctx context.Context, conn *connection) error {
		types, err := conn.pgx.LoadTypes(ctx, names)
		if err != nil {
			return err
		}
		for _, t := range types {
			if _, ok := t.Codec.(*pgtype.EnumCodec); ok { // which keeps what it has read, for one connection alone
				t.Codec = pgtype.TextCodec{}
			}
		}
		db.loaded.Store(&types)
		return nil
	})
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
