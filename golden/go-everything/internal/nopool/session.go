package nopool

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Session is one connection and one transaction, from its first use to Commit or Rollback. What can
// wait for somebody else, such as a request's body, belongs before its first use: from there on it
// holds a slot. It is for one goroutine; a second one gets ErrSessionBusy. Its methods are those of
// pgx.Tx, without those that would hand out the connection, so what sqlc generates runs on it. The
// first use can fail with ErrBusy, ErrPoolerFull, ErrUnavailable, ErrConfiguration, ErrSetting,
// ErrNested or ErrClosed, and so do all that follow; any use with the server's *pgconn.PgError,
// with ErrUnavailable when the connection is lost, ErrSessionBusy or ErrSessionDone.
type Session struct {
	db   *DB
	opts TxOptions
	ctx  context.Context // for log lines, and to find a session around this one

	life   context.Context // ends with the session, which cancels what is in flight
	cancel context.CancelCauseFunc

	used atomic.Bool // from then on, as long as it lives, a session inside it is refused

	turn  sync.Mutex  // guards what follows. Each call has it, by TryLock: nothing queues for it
	open  *results    // nil if none are: they keep the session busy
	conn  *connection // nil before the first use
	ended error       // what later uses are told: ErrSessionDone, or why it could not be opened
	said  error       // what Commit or Finish said; ErrSessionDone before, and after Rollback
	err   error       // the last failure, for the log
}

// Exec runs a statement, or several in one string without arguments, and returns
// the command tag of the last.
func (s *Session) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = s.use(ctx, nil, func(ctx context.Context, conn *connection) error {
		sql, args, err := typed(ctx, conn, sql, args)
		if err == nil {
			tag, err = conn.pgx.Exec(ctx, sql, args...)
		}
		return err
	})
	return tag, err
}

// CopyFrom streams rows into a table with COPY and returns their number. When source
// fails, its own error comes out, and its own panic.
func (s *Session) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (n int64, err error) {
	from := &copySource{CopyFromSource: source}
	err = s.use(ctx, nil, func(ctx context.Context, conn *connection) error {
		n, err = conn.pgx.CopyFrom(ctx, table, columns, pgx.CopyFromFunc(from.next))
		return from.answer(err)
	})
	if from.panicked != nil {
		panic(from.panicked)
	}
	return n, cmp.Or(from.err, err)
}

// use does run with the session's connection, and opens it if need be. What run
// leaves open, if anything, keeps the session busy.
func (s *Session) use(ctx context.Context, opens *results, run operation) (err error) {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.turn.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	unbind := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	stop := func() { unbind(); cancel(nil) }
	if s.conn == nil {
		err = s.connect(ctx, cancel, run)
	} else {
		s.conn.flight.asked = nil
		err = run(ctx, s.conn)
	}
	if err == nil && opens != nil {
		s.open, opens.stop = opens, stop
		return nil
	}
	stop()
	return s.failed(err)
}

// connect gets the session its connection. When it cannot, no commit may succeed
// afterwards: the caller's statement never ran.
func (s *Session) connect(ctx context.Context, cancel context.CancelCauseFunc, first operation) (err error) {
	defer func() {
		if s.conn == nil {
			s.ended = cmp.Or(err, ErrSessionDone) // there is no err where the caller's own code has panicked
			s.cancel(s.ended)
		}
	}()
	if s.nested() {
		return ErrNested
	}
	s.used.Store(true)
	opening := &opening{db: s.db, ctx: s.ctx, opts: s.opts, first: first, cancel: cancel}
	s.conn, err = opening.open(ctx)
	return err
}

// enter admits one caller at a time, to a session that has not ended.
func (s *Session) enter() error {
	if !s.turn.TryLock() {
		return ErrSessionBusy
	}
	err := s.ended
	if err == nil && s.open != nil {
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

type sessionKey struct{ db *DB }

// WithSession returns a context for work on behalf of s. A second session of the same DB that is
// made with it has the settings of s, and fails with ErrNested between the first use of s and its
// end: callers that each hold a connection and wait for a second could wait for each other until
// SessionWait ends.
func WithSession(ctx context.Context, s *Session) context.Context {
	return context.WithValue(ctx, sessionKey{s.db}, s)
}

// outer returns the session on whose behalf this one is, or nil.
func (s *Session) outer() *Session {
	outer, _ := s.ctx.Value(sessionKey{s.db}).(*Session)
	return outer
}

// nested reports whether the session is on behalf of one that holds a connection.
func (s *Session) nested() bool {
	outer := s.outer()
	return outer != nil && (outer.used.Load() && outer.life.Err() == nil || outer.nested())
}

// results are the rows of a statement, or the answers to a batch. While they are open the
// session takes no other statement. Reading and closing them takes the session's turn, so
// that the session cannot end in the middle.
type results struct {
	session *Session
	close   func() error // reads what is left
	stop    func()       // unbinds the statement's context
	done    atomic.Bool  // nothing is left to close
	misused atomic.Bool  // a second goroutine used the session, which pgx's own Err does not know
	err     error        // what ended them
}

// alone runs use while nobody else uses the session.
func (r *results) alone(use func() error) error {
	if !r.session.turn.TryLock() {
		r.misused.Store(true)
		return ErrSessionBusy
	}
	defer r.session.turn.Unlock()
	if r.session.open != r {
		return cmp.Or(r.err, errors.New("rows or batch are closed already"))
	}
	return r.session.failed(use())
}

// end ends them; the caller has the turn.
func (r *results) end() {
	if r.session.open == r {
		r.session.open = nil
		defer r.stop()
		r.err = r.session.failed(cmp.Or(r.err, r.close()))
		r.done.Store(true)
	}
}

// leave waits for its turn to end them, or a part: what stays open keeps the session busy.
func (r *results) leave(end func()) {
	if r.done.Load() { // nor wait for the turn: its holder may be waiting for the caller
		return
	}
	r.session.turn.Lock()
	defer r.session.turn.Unlock()
	if r.session.open == r {
		end()
	}
}
