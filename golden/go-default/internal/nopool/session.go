package nopool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// finishTimeout bounds COMMIT and ROLLBACK, which run to their end even when
// the caller has gone away.
const finishTimeout = 5 * time.Second

// Session is one connection and one transaction, from its first use to Commit
// or Rollback. It is for one goroutine; a second one gets ErrSessionBusy. Its
// methods have the signatures of pgx, so code written for a pgx.Tx, and what
// sqlc generates, runs on it. Its first statement travels with BEGIN, unless it
// is several commands in one string or its arguments begin with an option of pgx:
// those come a round trip later, as do SendBatch and CopyFrom.
type Session struct {
	db   *DB
	opts TxOptions
	ctx  context.Context // for log lines, and to find a session around this one

	life   context.Context // ends with the session, which cancels what is in flight
	cancel context.CancelCauseFunc

	holding atomic.Bool // it has a slot, or waits for the next one between two attempts

	mu    sync.Mutex // held during each call, by TryLock: nothing queues for it
	conn  *pgx.Conn  // nil before the first use
	lease *lease     // of conn
	rows  *rows      // open rows, nil if none
	done  bool
	err   error // the last failure, for the log

	refusal error // why it could not be opened, which every later use is told
}

// Exec runs a statement, or several in one string without arguments, and returns
// the command tag of the last.
func (s *Session) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if !fitsFlight(sql, args) {
		err = s.use(ctx, func(ctx context.Context) error {
			tag, err = s.conn.Exec(ctx, sql, args...)
			return err
		})
		return tag, err
	}
	rows, err := s.Query(ctx, sql, args...)
	if err != nil {
		return tag, err
	}
	rows.Close()
	return rows.CommandTag(), rows.Err()
}

// CopyFrom streams rows into a table with COPY and returns their number.
func (s *Session) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (n int64, err error) {
	err = s.use(ctx, func(ctx context.Context) error {
		n, err = s.conn.CopyFrom(ctx, table, columns, source)
		return err
	})
	return n, err
}

// use opens the session if need be and runs what is complete when run returns, as
// opposed to a query whose rows stay open.
func (s *Session) use(ctx context.Context, run func(ctx context.Context) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	ctx, stop := s.bind(ctx)
	defer stop()
	if err := s.begin(ctx); err != nil {
		return s.failed(err)
	}
	return s.failed(run(ctx))
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
	r := &rows{session: s, stop: stop}
	var err error
	if s.conn == nil && fitsFlight(sql, args) {
		err = s.first(ctx, r, sql, args)
	} else if err = s.begin(ctx); err == nil {
		r.Rows, err = s.conn.Query(ctx, sql, args...)
	}
	if err != nil {
		stop()
		return nil, s.failed(err)
	}
	s.rows = r
	return r, nil
}

// first opens the session with the statement whose rows are r.
func (s *Session) first(ctx context.Context, r *rows, sql string, args []any) error {
	first := &statement{sql: sql}
	if err := first.Build(pgtype.NewMap(), nil, args); err != nil {
		return err // before anything is dialled
	}
	flight, err := s.open(ctx, first)
	if err != nil {
		return err
	}
	result, err := flight.GetResults()
	if err != nil {
		_ = flight.Close() // the session stays open
		return err
	}
	r.Rows, r.flight = pgx.RowsFromResultReader(s.conn.TypeMap(), result.(*pgconn.ResultReader)), flight
	return nil
}

// QueryRow runs a statement and returns its first row. All errors come from Scan:
// pgx.ErrNoRows when there is no row.
func (s *Session) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := s.Query(ctx, sql, args...)
	return row{rows, err}
}

// SendBatch runs the statements of b in one round trip. The session is busy until
// the results are closed; errors come from them.
func (s *Session) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := s.enter(); err != nil {
		return failedBatch{err}
	}
	defer s.mu.Unlock()
	ctx, stop := s.bind(ctx)
	if err := s.begin(ctx); err != nil {
		stop()
		return failedBatch{s.failed(err)}
	}
	s.rows = &rows{session: s, stop: stop, batch: s.conn.SendBatch(ctx, b)}
	return batch{s.rows.batch, s.rows}
}

// begin opens a session whose first use cannot travel with BEGIN.
func (s *Session) begin(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	flight, err := s.open(ctx, nil)
	if err != nil {
		return err
	}
	return flight.Close()
}

// Commit ends the session. When it returns nil the server has acknowledged the
// COMMIT, or the session was never used. ErrOutcomeUnknown means that nobody
// can tell; with any other error nothing was persisted, unless a statement of the
// caller ended the transaction, which is ErrNoTransaction. It runs to its end even
// when ctx is cancelled. A session that is in use stays open: roll it back.
func (s *Session) Commit(ctx context.Context) (err error) {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	how := committed
	if s.conn != nil {
		how, err = s.commit(ctx)
	}
	_ = s.failed(err)
	s.end(how)
	return err
}

func (s *Session) commit(ctx context.Context) (outcome, error) {
	// Asked before, since pgx calls a connection that is lost after COMMIT was
	// sent "closed" and "safe to retry" too.
	unsent := s.conn.IsClosed()
	if !unsent && s.conn.PgConn().TxStatus() == 'I' { // a COMMIT now would be acknowledged and mean nothing
		return rolledBack, ErrNoTransaction
	}
	tag, err := s.say(ctx, "commit")
	switch {
	case err == nil && tag.String() == "COMMIT":
		return committed, nil
	case err == nil:
		return rolledBack, ErrRolledBack
	case !connectionLost(err): // the server refused and rolled back
		return rolledBack, err
	case unsent || s.opts.ReadOnly:
		return aborted, &sessionError{ErrUnavailable, err}
	}
	s.db.count(func(total *Snapshot) { total.CommitUnknown++ })
	return aborted, &sessionError{ErrOutcomeUnknown, err}
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
		s.end(rolledBack)
		return nil
	case s.rows != nil: // reading them to their end could take for ever
		s.cancel(ErrSessionDone)
		s.rows.finish()
	}
	if _, err := s.say(ctx, "rollback"); err != nil {
		s.end(aborted)
		return fmt.Errorf("roll back: %w", err)
	}
	s.end(rolledBack)
	return nil
}

// say sends COMMIT or ROLLBACK, even when the caller has gone away.
func (s *Session) say(ctx context.Context, last string) (pgconn.CommandTag, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	return s.conn.Exec(ctx, last)
}

// enter admits one caller at a time, to a session that has not ended.
func (s *Session) enter() error {
	if !s.mu.TryLock() {
		return ErrSessionBusy
	}
	var err error
	switch {
	case s.done:
		err = ErrSessionDone
	case s.rows != nil:
		err = ErrSessionBusy
	case s.refusal != nil:
		err = s.refusal
	default:
		return nil
	}
	s.mu.Unlock()
	return err
}

// bind ties ctx to the session's life.
func (s *Session) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	return ctx, func() { stop(); cancel(nil) }
}

// failed remembers err for the session's last log line, and returns it. A
// connection that was lost, which pgx reports in many ways, is ErrUnavailable,
// unless err says itself why the connection is closed.
func (s *Session) failed(err error) error {
	if err == nil || s.done || errors.Is(err, ErrSessionBusy) || errors.Is(err, ErrSessionDone) {
		return err
	}
	hasMeaning := errors.As(err, new(*pgconn.PgError)) || errors.As(err, new(*sessionError)) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	if s.conn != nil && s.conn.IsClosed() && !hasMeaning {
		err = &sessionError{ErrUnavailable, err}
	}
	s.err = err
	return err
}
