package nopool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// finishTimeout bounds COMMIT and ROLLBACK, which run to their end even when
// the caller has gone away.
const finishTimeout = 5 * time.Second

// ending is how a session ended.
type ending struct {
	name  string
	count func(total *Snapshot)
}

var (
	committed  = ending{"committed", func(total *Snapshot) { total.Committed++ }}
	rolledBack = ending{"rolled back", func(total *Snapshot) { total.RolledBack++ }}
	aborted    = ending{"aborted", func(total *Snapshot) { total.Aborted++ }}
)

// Commit ends the session. When it returns nil the server has acknowledged the
// COMMIT, or the session was never used. ErrOutcomeUnknown means that nobody
// can tell; with any other error nothing was persisted, unless a statement of the
// caller ended the transaction, which is ErrNoTransaction. So what stands behind a Commit
// that returned nil, a session of its own by DB.Run or a message, happens only if the
// COMMIT has. It runs to its end even when ctx is cancelled, for at most 5 s. A session
// that is in use stays open: roll it back. After Commit or Finish it says again what that said.
func (s *Session) Commit(ctx context.Context) error { return s.finish(ctx, true) }

// Finish is Commit for a caller that passes on what the session has read: where nothing can
// be lost it returns before COMMIT is acknowledged, which saves a round trip. What is known
// by then is an error as in Commit: open rows, a lost connection, a transaction that has
// failed or was ended. A COMMIT that fails later is logged and counted. See
// TxOptions.WaitForCommit for what waits all the same.
func (s *Session) Finish(ctx context.Context) error { return s.finish(ctx, false) }

func (s *Session) finish(ctx context.Context, wait bool) error {
	err := s.enter()
	switch {
	case errors.Is(err, ErrSessionDone):
		return s.said
	case err != nil:
		return err
	}
	defer s.turn.Unlock()
	defer s.leave()
	if s.conn != nil && !wait && s.nothingToLose() {
		s.said = nil
		go func() {
			how, err := s.commit(ctx)
			if s.err = err; err != nil {
				s.db.count(func(total *Snapshot) { total.ReadCommitErrors++ })
			}
			s.end(how)
		}()
		return nil
	}
	how := committed
	if s.conn != nil {
		how, err = s.commit(ctx)
	}
	s.said = err
	_ = s.failed(err)
	s.end(how)
	return err
}

// nothingToLose reports whether COMMIT can change neither what was read nor what is stored. The
// levels below serializable fail no read at COMMIT, and the flight's answer says which is in force:
// after it no statement can change that, nor make the transaction read write.
func (s *Session) nothingToLose() bool {
	level := s.conn.flight.isolation
	return s.opts.ReadOnly && !s.opts.WaitForCommit && level != "" && level != string(pgx.Serializable) &&
		!s.conn.pgx.IsClosed() && s.conn.pgx.PgConn().TxStatus() == 'T' && !s.conn.flight.begunAnew
}

func (s *Session) commit(ctx context.Context) (ending, error) {
	// Asked before, since pgx calls a connection that is lost after COMMIT was
	// sent "closed" and "safe to retry" too.
	unsent := s.conn.pgx.IsClosed()
	if !unsent && (s.conn.flight.begunAnew || s.conn.pgx.PgConn().TxStatus() == 'I') { // a COMMIT now would be acknowledged and mean nothing
		return aborted, ErrNoTransaction
	}
	var tag pgconn.CommandTag
	var err error
	if !unsent && !s.opts.ReadOnly {
		err = s.conn.unsolicited()
		unsent = err != nil
	}
	if err == nil {
		tag, err = s.say(ctx, "commit")
	}
	_, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case tag.String() == "COMMIT": // whatever becomes of the connection behind it
		return committed, nil
	case err == nil || tag.String() == "ROLLBACK":
		return rolledBack, ErrRolledBack
	case refused && !ConnectionLost(err):
		return rolledBack, err
	case unsent || s.opts.ReadOnly:
		return aborted, &sessionError{ErrUnavailable, err}
	}
	s.db.count(func(total *Snapshot) { total.CommitUnknown++ })
	return aborted, &sessionError{ErrOutcomeUnknown, err}
}

// Rollback ends the session with nothing persisted; after the session's end it does nothing. It
// runs to its end even when ctx is cancelled, for at most 5 s. What another goroutine has in flight
// on the session is cancelled. Its error says only that ROLLBACK was not acknowledged: the server
// rolls back all the same when the connection closes.
func (s *Session) Rollback(ctx context.Context) error {
	if s.turn.TryLock() {
		return s.rollback(ctx)
	}
	s.cancel(ErrSessionDone)
	done := make(chan error, 1)
	go func() { s.turn.Lock(); done <- s.rollback(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(finishTimeout): // code of the caller's, such as the source of a COPY, does not return
		return fmt.Errorf("roll back: %w", ErrSessionBusy)
	}
}

// Undo rolls the session back and returns why, unless it was committed before, or nobody
// knows whether it was: then it returns what Commit did.
func (s *Session) Undo(ctx context.Context, why error) error {
	if err := s.Rollback(ctx); errors.Is(err, ErrSessionBusy) {
		return why // it may not have ended yet, so a Commit could
	}
	if said := s.Commit(ctx); said == nil || errors.Is(said, ErrOutcomeUnknown) {
		return said
	}
	return why
}

// rollback ends the turn that its caller has.
func (s *Session) rollback(ctx context.Context) (err error) {
	defer s.turn.Unlock()
	if s.ended != nil {
		return nil
	}
	if s.open != nil { // reading them to their end could take for ever
		s.cancel(ErrSessionDone)
		s.open.end()
	}
	how := rolledBack
	if s.conn != nil {
		if _, err = s.say(ctx, "rollback"); err != nil {
			how, err = aborted, fmt.Errorf("roll back: %w", err)
		}
	}
	s.leave()
	s.end(how)
	return err
}

// say sends COMMIT or ROLLBACK, even when the caller has gone away.
func (s *Session) say(ctx context.Context, last string) (pgconn.CommandTag, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	s.conn.flight.asked = nil
	s.conn.patience.Store(0) // ctx bounds it
	tag, err := s.conn.pgx.Exec(ctx, last)
	if ctx.Err() != nil {
		s.conn.abandon()
	}
	return tag, err
}

// leave makes every use that follows fail, and cancels what is in flight.
func (s *Session) leave() {
	s.ended = ErrSessionDone
	s.cancel(ErrSessionDone)
}

// end gives the slot back when the server has closed the connection.
func (s *Session) end(how ending) {
	if s.conn == nil {
		return
	}
	s.db.count(how.count)
	s.db.logError(s.ctx, s.err)
	ended := time.Now()
	go func() {
		s.conn.hangUp()
		s.db.count(func(total *Snapshot) { total.Closed++ })
		s.db.log.DebugContext(s.ctx, "database session closed", "outcome", how.name,
			"duration", ended.Sub(s.conn.dialled), "close", time.Since(ended))
		s.db.slots.release()
	}()
}
