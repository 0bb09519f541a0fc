package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// finishTimeout bounds COMMIT and ROLLBACK, which run to their end even when
// the caller has gone away.
const finishTimeout = 5 * time.Second

// Session is one connection and one transaction, from its first use to Commit
// or Rollback. It is for one goroutine; a second one gets ErrSessionBusy. Its
// methods have the signatures of pgx, so code written for a pgx.Tx, and what
// sqlc generates, runs on it. Its first statement travels with BEGIN, unless it
// is several commands in one string or its arguments begin with an option of pgx:
// those come a round trip later.
type Session struct {
	db   *DB
	opts TxOptions
	ctx  context.Context // of log lines only

	life   context.Context // ends with the session and cancels what is in flight
	cancel context.CancelCauseFunc

	holding atomic.Bool // a slot, from the first use to the end

	mu    sync.Mutex // held during each call, by TryLock: nothing queues for it
	conn  *pgx.Conn  // nil before the first use
	lease *lease     // nil before the first use
	rows  *rows      // open rows, nil if none
	done  bool
	err   error // the last failure, for the log
}

// Exec runs a statement and returns its command tag.
func (s *Session) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if err := s.enter(); err != nil {
		return tag, err
	}
	defer s.mu.Unlock()
	ctx, stop := s.bind(ctx)
	defer stop()
	if s.conn == nil && fitsFlight(sql, args) {
		rows, err := s.query(ctx, sql, args)
		if err != nil {
			return tag, s.failed(err)
		}
		rows.Close()
		return rows.CommandTag(), s.failed(rows.Err())
	}
	if err = s.begin(ctx); err == nil {
		tag, err = s.conn.Exec(ctx, sql, args...)
	}
	return tag, s.failed(err)
}

// Query runs a statement and returns its rows, which must be closed or read to
// their end before the session is used again. As in pgx, an error of the
// statement may come from rows.Err instead.
func (s *Session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	ctx, stop := s.bind(ctx)
	inner, err := s.query(ctx, sql, args)
	if err != nil {
		stop()
		return nil, s.failed(err)
	}
	s.rows = &rows{Rows: inner, session: s, stop: stop}
	return s.rows, nil
}

func (s *Session) query(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	if s.conn == nil && fitsFlight(sql, args) {
		first, err := encode(sql, args)
		if err != nil {
			return nil, err
		}
		f, err := s.open(ctx, first)
		if err != nil {
			return nil, err
		}
		return f.land(s.conn)
	}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	return s.conn.Query(ctx, sql, args...)
}

// QueryRow runs a statement of one row. Errors come from Scan, pgx.ErrNoRows
// when there is no row.
func (s *Session) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := s.Query(ctx, sql, args...)
	return row{rows, err}
}

// SendBatch runs the statements of b in one round trip. As a session's first
// use it costs one more, since BEGIN goes ahead.
func (s *Session) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := s.enter(); err != nil {
		return failedBatch{err}
	}
	defer s.mu.Unlock()
	if err := s.begin(ctx); err != nil {
		return failedBatch{s.failed(err)}
	}
	ctx, stop := s.bind(ctx)
	s.rows = &rows{session: s, stop: stop}
	return &batchResults{s.conn.SendBatch(ctx, b), s.rows}
}

// CopyFrom streams rows into a table with COPY and returns their number. As a
// session's first use it costs one more round trip, since BEGIN goes ahead.
func (s *Session) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	if err := s.begin(ctx); err != nil {
		return 0, s.failed(err)
	}
	ctx, stop := s.bind(ctx)
	defer stop()
	n, err := s.conn.CopyFrom(ctx, table, columns, source)
	return n, s.failed(err)
}

// Commit ends the session. When it returns nil the server has acknowledged the
// COMMIT, or the session was never used. ErrOutcomeUnknown means that nobody
// can tell; with any other error nothing was persisted, unless a statement of the
// caller ended the transaction, which is ErrNoTransaction. It runs to its end even
// when ctx is cancelled. A session that is in use stays open: roll it back.
func (s *Session) Commit(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.conn == nil {
		s.end(unused)
		return nil
	}
	if !s.conn.IsClosed() && s.conn.PgConn().TxStatus() == 'I' { // a COMMIT now would be acknowledged and mean nothing
		s.failed(ErrNoTransaction)
		s.end(rolledBack)
		return ErrNoTransaction
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	// Asked before, since pgx calls a connection that is lost after COMMIT was
	// sent "closed" and "safe to retry" too.
	unsent, how := s.conn.IsClosed(), aborted
	tag, err := s.conn.Exec(ctx, "commit")
	switch {
	case err == nil && tag.String() == "COMMIT":
		s.end(committed)
		return nil
	case err == nil:
		err, how = ErrRolledBack, rolledBack
	case !connectionLost(err): // the server refused and rolled back
		how = rolledBack
	case unsent || s.opts.ReadOnly:
		err = &sessionError{ErrUnavailable, err}
	default:
		err = &sessionError{ErrOutcomeUnknown, err}
		s.db.count(func(total *Snapshot) { total.CommitUnknown++ })
	}
	s.failed(err)
	s.end(how)
	return err
}

// Rollback ends the session with nothing persisted; after the session's end it
// does nothing. It runs to its end even when ctx is cancelled. What another
// goroutine has in flight on the session is cancelled. Its error says only that
// ROLLBACK was not acknowledged: the server rolls back all the same when the
// connection closes.
func (s *Session) Rollback(ctx context.Context) error {
	if !s.mu.TryLock() {
		s.cancel(ErrSessionDone)
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	switch {
	case s.done:
		return nil
	case s.conn == nil:
		s.end(unused)
		return nil
	case s.rows != nil: // reading them to their end could take for ever
		s.cancel(ErrSessionDone)
		s.rows.finish()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	_, err := s.conn.Exec(ctx, "rollback")
	if err != nil {
		s.end(aborted)
		return fmt.Errorf("roll back: %w", err)
	}
	s.end(rolledBack)
	return nil
}

// enter admits one caller at a time, to a session that has not ended.
func (s *Session) enter() error {
	if !s.mu.TryLock() {
		return ErrSessionBusy
	}
	err := error(nil)
	switch {
	case s.done:
		err = ErrSessionDone
	case s.rows != nil:
		err = ErrSessionBusy
	case s.lease != nil && s.conn == nil: // opening has failed, and its slot is gone
		err = cmp.Or(s.err, ErrSessionDone)
	}
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

// bind ties ctx to the session's life.
func (s *Session) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	return ctx, func() { stop(); cancel(nil) }
}

// failed remembers err for the session's last log line, and returns it. A
// connection that was lost, which pgx reports in many ways, is ErrUnavailable.
func (s *Session) failed(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrSessionBusy), errors.Is(err, ErrSessionDone):
		return err
	case s.conn != nil && s.conn.IsClosed() && !hasMeaning(err):
		err = &sessionError{ErrUnavailable, err}
	}
	s.err = err
	return err
}

// hasMeaning reports whether err says itself why a connection is closed: the
// server did, this package did, or the caller's context has ended.
func hasMeaning(err error) bool {
	return errors.As(err, new(*pgconn.PgError)) || errors.As(err, new(*sessionError)) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// fitsFlight reports whether a statement can travel with BEGIN: several
// commands in one string need the simple protocol, and options of pgx among the
// arguments need its ordinary path. Both cost one more round trip.
func fitsFlight(sql string, args []any) bool {
	if len(args) == 0 {
		return !strings.Contains(strings.TrimRight(sql, "; \t\r\n"), ";")
	}
	switch args[0].(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
		return false
	}
	return true
}
