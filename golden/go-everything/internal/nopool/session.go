package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// finishTimeout bounds COMMIT and ROLLBACK, which run to their end even when
// the caller has gone away.
const finishTimeout = 5 * time.Second

// Session is one connection and one transaction, from its first use to Commit
// or Rollback. What can wait for somebody else, such as a request's body, belongs before
// its first use: from there on it holds a slot. It is for one goroutine; a second one gets ErrSessionBusy. Its
// methods are those of pgx.Tx, without those that would hand out the connection, so
// what sqlc generates runs on it. The first use can fail with ErrBusy, ErrPoolerFull,
// ErrUnavailable, ErrConfiguration, ErrNested or ErrClosed, and so do all that follow;
// any use with the server's *pgconn.PgError, with ErrUnavailable when the connection is
// lost, ErrSessionBusy or ErrSessionDone.
type Session struct {
	db   *engine
	opts TxOptions
	ctx  context.Context // for log lines, and to find a session around this one

	life   context.Context // ends with the session, which cancels what is in flight
	cancel context.CancelCauseFunc

	holding atomic.Bool // from its first use to Commit or Rollback, when a session inside it is refused

	turn  turn        // guards what follows
	conn  *connection // nil before the first use
	ended error       // what later uses are told: ErrSessionDone, or why it could not be opened
	said  error       // what Commit or Finish said; ErrSessionDone before, and after Rollback
	err   error       // the last failure, for the log
}

// Exec runs a statement, or several in one string without arguments, and returns
// the command tag of the last.
func (s *Session) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = s.use(ctx, nil, func(ctx context.Context, conn *connection) error {
		tag, err = conn.pgx.Exec(ctx, sql, typed(args)...)
		return err
	})
	return tag, err
}

// CopyFrom streams rows into a table with COPY and returns their number. When source
// fails, its own error comes out, and its own panic.
func (s *Session) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (n int64, err error) {
	from := &copySource{CopyFromSource: source}
	err = s.use(ctx, nil, func(ctx context.Context, conn *connection) error {
		n, err = conn.pgx.CopyFrom(ctx, table, columns, from)
		return from.answer(err)
	})
	if from.panicked != nil {
		panic(from.panicked)
	}
	return n, cmp.Or(from.err, err)
}

// Query runs a statement and returns its rows, which must be closed or read to
// their end before the session is used again. As in pgx, an error of the
// statement may come from rows.Err instead.
func (s *Session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r := &openRows{turn: &s.turn}
	err := s.use(ctx, r, func(ctx context.Context, conn *connection) (err error) {
		r.Rows, err = conn.pgx.Query(ctx, sql, typed(args)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
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
	r := &openRows{turn: &s.turn}
	err := s.use(ctx, r, func(ctx context.Context, conn *connection) error {
		if err := typeBatch(ctx, conn.pgx, b); err != nil {
			return err
		}
		if err := conn.flight.board(ctx, conn.pgx.PgConn().Conn()); err != nil {
			return err
		}
		r.batch = conn.pgx.SendBatch(ctx, b)
		return nil
	})
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return batch{r.batch, r}
}

// use does run with the session's connection, and opens it if need be. What run
// leaves open, rows or nil, keeps the session busy.
func (s *Session) use(ctx context.Context, open *openRows, run operation) (err error) {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.turn.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	unbind := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	stop := func() { unbind(); cancel(nil) }
	if s.conn == nil {
		err = s.open(ctx, cancel, run)
	} else {
		err = run(ctx, s.conn)
	}
	if err == nil && open != nil {
		s.turn.rows, open.stop = open, stop
		return nil
	}
	stop()
	return s.failed(err)
}

// open gets the session its connection. When it cannot, no commit may succeed
// afterwards: the caller's statement never ran.
func (s *Session) open(ctx context.Context, cancel context.CancelCauseFunc, first operation) (err error) {
	if s.nested() {
		err = ErrNested
	} else {
		s.holding.Store(true)
		defer func() { s.holding.Store(s.conn != nil) }()
		opening := &opening{db: s.db, ctx: s.ctx, opts: s.opts, first: first, cancel: cancel}
		s.conn, err = opening.open(ctx)
	}
	if s.conn == nil {
		s.ended = err
		s.cancel(err)
	}
	return err
}

// Commit ends the session. When it returns nil the server has acknowledged the
// COMMIT, or the session was never used. ErrOutcomeUnknown means that nobody
// can tell; with any other error nothing was persisted, unless a statement of the
// caller ended the transaction, which is ErrNoTransaction. It runs to its end even
// when ctx is cancelled, for at most 5 s. A session that is in use stays open: roll it
// back.
func (s *Session) Commit(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.turn.Unlock()
	return s.commitNow(ctx)
}

func (s *Session) commitNow(ctx context.Context) (err error) {
	how := committed
	if s.conn != nil {
		how, err = s.commit(ctx)
	}
	_ = s.failed(err)
	s.said = err
	s.end(how)
	return err
}

// Finish is Commit for who passes on what the session has read: where nothing can be
// lost it returns before COMMIT is acknowledged, which saves a round trip. What is known
// by then is an error as in Commit: open rows, a lost connection, a transaction that has
// failed or was ended. A COMMIT that fails later is logged and counted. See
// TxOptions.WaitForCommit for what waits all the same. After Commit or Finish it says
// again what that said.
func (s *Session) Finish(ctx context.Context) error { return s.finish(ctx, false) }

func (s *Session) finish(ctx context.Context, wait bool) error {
	switch err := s.enter(); {
	case errors.Is(err, ErrSessionDone):
		return s.said
	case err != nil:
		return err
	}
	defer s.turn.Unlock()
	if s.conn == nil || wait || !s.nothingToLose() {
		return s.commitNow(ctx)
	}
	s.said = nil
	s.leave()
	go func() {
		var how ending
		if how, s.err = s.commit(ctx); s.err != nil {
			s.db.count(func(total *Snapshot) { total.ReadCommitErrors++ })
		}
		s.record(how)
		s.close(how, time.Now())
	}()
	return nil
}

// nothingToLose reports whether COMMIT can change neither what was read nor what is
// stored. The levels below serializable fail no read at COMMIT, and the flight's answer
// says which is in force: after it no statement can change that, nor make the transaction
// read write.
func (s *Session) nothingToLose() bool {
	level := s.conn.flight.isolation
	return s.opts.ReadOnly && !s.opts.WaitForCommit && level != "" && level != string(pgx.Serializable) &&
		!s.conn.pgx.IsClosed() && s.conn.pgx.PgConn().TxStatus() == 'T'
}

func (s *Session) commit(ctx context.Context) (ending, error) {
	// Asked before, since pgx calls a connection that is lost after COMMIT was
	// sent "closed" and "safe to retry" too.
	unsent := s.conn.pgx.IsClosed()
	if !unsent && s.conn.pgx.PgConn().TxStatus() == 'I' { // a COMMIT now would be acknowledged and mean nothing
		return aborted, ErrNoTransaction
	}
	var tag pgconn.CommandTag
	var err error
	if !unsent && !s.opts.ReadOnly {
		err = s.conn.unasked()
		unsent = err != nil
	}
	if err == nil {
		tag, err = s.say(ctx, "commit")
	}
	_, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil && tag.String() == "COMMIT":
		return committed, nil
	case err == nil:
		return rolledBack, ErrRolledBack
	case refused && !ConnectionLost(err):
		return rolledBack, err
	case unsent || s.opts.ReadOnly:
		return aborted, &sessionError{ErrUnavailable, err}
	}
	s.db.count(func(total *Snapshot) { total.CommitUnknown++ })
	return aborted, &sessionError{ErrOutcomeUnknown, err}
}

// Rollback ends the session with nothing persisted; after the session's end it
// does nothing. It runs to its end even when ctx is cancelled, for at most 5 s. What another
// goroutine has in flight on the session is cancelled. Its error says only that
// ROLLBACK was not acknowledged: the server rolls back all the same when the
// connection closes.
func (s *Session) Rollback(ctx context.Context) error {
	if !s.turn.TryLock() {
		s.cancel(ErrSessionDone)
		if !s.turn.lockWithin(finishTimeout) { // code of the caller's, such as the source of a COPY, does not return
			go func() { s.turn.Lock(); _ = s.rollback(ctx) }()
			return fmt.Errorf("roll back: %w", ErrSessionBusy)
		}
	}
	return s.rollback(ctx)
}

// rollback ends the turn that its caller has.
func (s *Session) rollback(ctx context.Context) (err error) {
	defer s.turn.Unlock()
	if s.ended != nil {
		return nil
	}
	if s.turn.rows != nil { // reading them to their end could take for ever
		s.cancel(ErrSessionDone)
		s.turn.rows.finish()
	}
	how := rolledBack
	if s.conn != nil {
		if _, err = s.say(ctx, "rollback"); err != nil {
			how, err = aborted, fmt.Errorf("roll back: %w", err)
		}
	}
	s.end(how)
	return err
}

// say sends COMMIT or ROLLBACK, even when the caller has gone away.
func (s *Session) say(ctx context.Context, last string) (pgconn.CommandTag, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	s.conn.flight.patience.Store(0) // ctx bounds it
	tag, err := s.conn.pgx.Exec(ctx, last)
	if ctx.Err() != nil {
		s.conn.silent.Store(true)
	}
	return tag, err
}

// enter admits one caller at a time, to a session that has not ended.
func (s *Session) enter() error {
	if !s.turn.TryLock() {
		return ErrSessionBusy
	}
	err := s.ended
	if err == nil && s.turn.rows != nil {
		err = ErrSessionBusy
	}
	if err != nil {
		s.turn.Unlock()
	}
	return err
}

// failed remembers err for the session's last log line, and returns it. A
// connection that was lost, which pgx reports in many ways, is ErrUnavailable,
// unless err says itself why the connection is closed.
func (s *Session) failed(err error) error {
	if cause := context.Cause(s.life); cause != nil && errors.Is(err, context.Canceled) {
		err = cause // why it was ended, which pgx does not pass on
	}
	if err == nil || s.ended != nil || errors.Is(err, ErrSessionBusy) || errors.Is(err, ErrSessionDone) {
		return err
	}
	hasMeaning := errors.As(err, new(*pgconn.PgError)) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	lost := ConnectionLost(err) || s.conn != nil && s.conn.pgx.IsClosed() && !hasMeaning
	if lost && !errors.As(err, new(*sessionError)) {
		err = &sessionError{ErrUnavailable, err}
	}
	s.err = err
	return err
}

// end marks the session's end and gives its connection back. The caller holds
// the turn.
func (s *Session) end(how ending) {
	s.leave()
	if s.conn != nil {
		s.record(how)
		go s.close(how, time.Now())
	}
}

// leave makes every use that follows fail, and cancels what is in flight.
func (s *Session) leave() {
	s.ended = ErrSessionDone
	s.holding.Store(false)
	s.cancel(ErrSessionDone)
}

func (s *Session) record(how ending) {
	s.db.count(how.count)
	s.db.logError(s.ctx, s.err)
}

// close gives the slot back when the server has closed the connection.
func (s *Session) close(how ending, ended time.Time) {
	s.conn.hangUp()
	s.db.count(func(total *Snapshot) { total.Closed++ })
	s.db.log.DebugContext(s.ctx, "database session closed", "outcome", how.name,
		"duration", ended.Sub(s.conn.dialled), "close", time.Since(ended))
	s.db.slots.release()
}

type sessionKey struct{}

// WithSession returns a context for work on behalf of s: a second session of the
// same DB that is made with it fails with ErrNested while s holds a connection.
// Otherwise callers that each hold one connection and wait for a second could
// wait for each other until SessionWait ends.
func WithSession(ctx context.Context, s *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// nested reports whether the session is on behalf of one that holds a connection.
func (s *Session) nested() bool {
	outer, ok := s.ctx.Value(sessionKey{}).(*Session)
	for ; ok; outer, ok = outer.ctx.Value(sessionKey{}).(*Session) {
		if outer.db == s.db && outer.holding.Load() {
			return true
		}
	}
	return false
}
