package nopool

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	transientTries = 3                      // attempts at a database that cannot be reached
	retryPause     = 20 * time.Millisecond  // at most, before the second of them, doubled before the third
	fullPause      = 250 * time.Millisecond // at most, before a pooler that is full is asked again
)

var errOpenTimeout = errors.New("no answer to BEGIN in time")

// operation is what a session does with its connection.
type operation func(ctx context.Context, conn *pgx.Conn) error

// open takes a slot, dials, and does first, with which BEGIN travels. ConnectTimeout
// bounds all that follows the wait for the slot, up to the answer to BEGIN: PgBouncer
// admits a client and says only at its first statement that it is full. As long as
// BEGIN is not acknowledged nothing has happened, and first is done again on another
// connection: on a full pooler until the deadline, on a database out of reach a few
// times, after any other refusal never. cancel ends ctx, in which what first has
// begun may outlive this call.
func (s *Session) open(ctx context.Context, cancel context.CancelCauseFunc, first operation) error {
	started := time.Now()
	if err := s.takeSlot(ctx); err != nil {
		return err
	}
	var conn *connection
	defer func() {
		if s.conn == nil { // failed, or panicking
			s.holding.Store(false)
			go func() { conn.hangUp(); s.db.slots.release() }()
		}
	}()
	served := time.Now()
	deadline := time.AfterFunc(s.db.config.ConnectTimeout, func() { cancel(errOpenTimeout) })
	defer deadline.Stop()
	var reason error
	for attempt := 1; ; attempt++ {
		conn = &connection{db: s.db, ctx: s.ctx, began: time.Now()}
		err, refusal := s.attempt(ctx, served, conn, first, func() {
			if deadline.Stop() { // else ctx has ended
				s.opened(started, served, attempt)
			}
		})
		if refusal == nil {
			s.conn = conn
			return err
		}
		if reason == nil || ctx.Err() == nil && !errors.Is(refusal, errOpenTimeout) {
			reason = refusal // which says more than the end of the time for other attempts
		}
		if !s.tryAgain(ctx, conn, refusal, attempt) {
			s.ended = reason
			s.cancel(reason)
			s.db.count(func(total *Snapshot) { total.OpenErrors++ })
			s.logError(reason)
			return reason
		}
	}
}

func (s *Session) takeSlot(ctx context.Context) error {
	if outer, ok := s.ctx.Value(sessionKey{}).(*Session); ok && outer.db == s.db && outer.holding.Load() {
		return ErrNested
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.db.config.SessionWait, ErrBusy)
	defer cancel()
	err := s.db.slots.acquire(ctx)
	s.holding.Store(err == nil)
	if err != nil && !errors.Is(err, context.Canceled) { // a client that left the queue was not refused anything
		s.db.count(func(total *Snapshot) { total.Rejected++ })
		s.db.log.WarnContext(s.ctx, "database session rejected", "error", Describe(err))
	}
	return err
}

// attempt connects and does first. The second of its errors says why BEGIN was not
// acknowledged, with its meaning; the caller's own cancellation comes back as it is.
func (s *Session) attempt(ctx context.Context, since time.Time, conn *connection, first operation, began func()) (err, refusal error) {
	connecting, cancel := context.WithDeadlineCause(ctx, since.Add(s.db.config.ConnectTimeout), errOpenTimeout)
	defer cancel()
	if refusal = conn.connect(connecting); refusal == nil {
		conn.flight.begin, conn.flight.began = s.begin(), began
		err = first(ctx, conn.pgx)
		if !conn.flight.sent.Load() { // what cannot be encoded is an error of the statement alone
			_, _ = conn.pgx.Exec(ctx, ";")
		}
		if refusal = conn.flight.answer(ctx, conn.pgx.IsClosed()); refusal == nil && !errors.Is(context.Cause(ctx), errOpenTimeout) {
			return err, nil
		}
	}
	if cause := context.Cause(connecting); errors.Is(cause, errOpenTimeout) {
		refusal = cause
	} else if cause != nil {
		return nil, cause
	}
	return nil, &sessionError{s.db.config.Connector.Refused(refusal), refusal}
}

// tryAgain reports whether there may be another attempt, when it is time for it. The
// connection of the last one counts until it is gone.
func (s *Session) tryAgain(ctx context.Context, conn *connection, refusal error, attempt int) bool {
	limit, room := fullPause, s.db.slots.refused
	if !errors.Is(refusal, ErrPoolerFull) {
		if limit, room = retryPause<<(attempt-1), nil; !errors.Is(refusal, ErrUnavailable) || attempt >= transientTries {
			return false
		}
	}
	gone := make(chan struct{})
	go func() { conn.hangUp(); close(gone) }()
	select {
	case <-gone:
	case <-ctx.Done():
		return false
	}
	s.db.count(func(total *Snapshot) { total.OpenRetries++ })
	return pause(ctx, limit, room) == nil
}
