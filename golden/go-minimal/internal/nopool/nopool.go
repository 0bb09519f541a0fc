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
// Read this file first, then session.go, ending.go, rows.go and config.go (what a caller uses),
// values.go (how arguments travel), opening.go and slots.go (how a session gets its connection),
// flight.go (how BEGIN travels) and connection.go (how the connection ends). errors.go and
// events.go can be read on their own.
package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// DB opens sessions. It holds no connection of its own.
type DB struct{ engine }

// Open checks cfg and returns a DB. It does not touch the network: the first
// session does. Its error is an ErrConfiguration.
func Open(cfg Config) (*DB, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	log := cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	db := &DB{engine: engine{config: cfg, slots: newSlots(cfg.MaxSessions, cfg.MaxWaiting), log: log}}
	db.life, db.abort = context.WithCancelCause(context.Background())
	return db, nil
}

// Session returns a session that opens its connection at its first use, so one that is never used
// costs nothing. The caller must end it with Commit or Rollback. ctx does not bound the session: it
// goes with its log lines, and when it carries another one (WithSession), that one's settings are
// made before those of opts, and while it is open, the first use fails with ErrNested.
func (db *DB) Session(ctx context.Context, opts TxOptions) *Session {
	s := &Session{db: &db.engine, opts: opts, ctx: ctx, said: ErrSessionDone}
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

// Snapshot returns the DB's state and totals.
func (db *DB) Snapshot() (now Snapshot) {
	db.count(func(total *Snapshot) { now = *total })
	now.MaxSessions, now.InUse, now.Waiting = db.config.MaxSessions, int(db.slots.inUse.Load()), int(db.slots.waiting.Load())
	return now
}
