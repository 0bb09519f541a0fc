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

// Exec runs a statement, or several in one string without arguments, and returns
// the command tag of the last.
func (s *Session) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if err := s.enter(); err != nil {
		return tag, err
	}
	defer s.mu.Unlock()
	ctx, stop := s.bind(ctx)
	defer stop()
	if s.conn == nil && fitsFlight(sql, args) {
		var rows pgx.Rows
		if rows, err = s.query(ctx, sql, args); err == nil {
			rows.Close()
			tag, err = rows.CommandTag(), rows.Err()
		}
	} else if err = s.begin(ctx); err == nil {
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
	if s.conn != nil || !fitsFlight(sql, args) {
		if err := s.begin(ctx); err != nil {
			return nil, err
		}
		return s.conn.Query(ctx, sql, args...)
	}
	first := &statement{sql: sql}
	if err := first.Build(pgtype.NewMap(), nil, args); err != nil {
		return nil, err // before anything is dialled
	}
	flight, err := s.open(ctx, first)
	if err != nil {
		return nil, err
	}
	result, err := flight.GetResults()
	if err != nil {
		flight.Close() // the session stays open
		return nil, err
	}
	return flightRows{pgx.RowsFromResultReader(s.conn.TypeMap(), result.(*pgconn.ResultReader)), flight}, nil
}

// QueryRow runs a statement of one row. Errors come from Scan, pgx.ErrNoRows
// when there is no row.
func (s *Session) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := s.Query(ctx, sql, args...)
	return row{rows, err}
}

// SendBatch runs the statements of b in one round trip.
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
	s.rows = &rows{session: s, stop: stop}
	return batch{s.conn.SendBatch(ctx, b), s.rows}
}

// CopyFrom streams rows into a table with COPY and returns their number.
func (s *Session) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (n int64, err error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	ctx, stop := s.bind(ctx)
	defer stop()
	if err = s.begin(ctx); err == nil {
		n, err = s.conn.CopyFrom(ctx, table, columns, source)
	}
	return n, s.failed(err)
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
	if _, err := s.conn.Exec(ctx, "rollback"); err != nil {
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
	var err error
	switch {
	case s.done:
		err = ErrSessionDone
	case s.rows != nil:
		err = ErrSessionBusy
	case s.lease != nil && s.conn == nil: // opening has failed, and its slot is gone
		err = cmp.Or(s.err, ErrSessionDone)
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
	if err == nil || errors.Is(err, ErrSessionBusy) || errors.Is(err, ErrSessionDone) {
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

// statement is one whose arguments are in their wire format.
type statement struct {
	sql string
	pgx.ExtendedQueryBuilder
}

// fitsFlight reports whether a statement can travel with BEGIN: several
// commands in one string need the simple protocol, and options of pgx among the
// arguments need its ordinary path.
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

// begin returns the statement that begins the transaction.
func (o TxOptions) begin() string {
	sql := "begin"
	if o.Isolation != "" {
		sql += " isolation level " + string(o.Isolation)
	}
	if o.ReadOnly {
		sql += " read only"
	}
	return sql
}

// settings returns the statement that sets the timeouts and the caller's own
// settings for the transaction, and its parameters. Timeouts cannot be start-up
// parameters: PgBouncer refuses those and Supavisor drops them. All end with the
// transaction, so the next client of the pooler's connection does not inherit them.
func (s *Session) settings() (sql string, values [][]byte) {
	milliseconds := func(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
	all := append([]Setting{
		{"statement_timeout", milliseconds(s.db.config.StatementTimeout)},
		{"lock_timeout", milliseconds(s.db.config.LockTimeout)},
		{"idle_in_transaction_session_timeout", milliseconds(s.db.config.IdleInTransactionTimeout)},
	}, s.opts.Settings...)
	calls := make([]string, len(all))
	for i, setting := range all {
		values = append(values, []byte(setting.Name), []byte(setting.Value))
		calls[i] = fmt.Sprintf("set_config($%d, $%d, true)", 2*i+1, 2*i+2)
	}
	return "select " + strings.Join(calls, ", "), values
}
