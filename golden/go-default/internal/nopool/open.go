package nopool

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	transientTries = 3                     // attempts at a database that cannot be reached
	retryPause     = 20 * time.Millisecond // at most, before the second of them, doubled before the third
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
	if outer, ok := s.ctx.Value(sessionKey{}).(*Session); ok && outer.db == s.db && outer.holding.Load() {
		return ErrNested
	}
	started := time.Now()
	waiting, stop := context.WithTimeoutCause(ctx, s.db.config.SessionWait, ErrBusy)
	err := s.db.slots.acquire(waiting)
	stop()
	if err != nil {
		s.rejected(err)
		return err
	}
	s.holding.Store(true)
	waited := time.Since(started)
	deadline := time.AfterFunc(s.db.config.ConnectTimeout, func() { cancel(errOpenTimeout) })
	defer deadline.Stop()
	var conn *connection
	defer func() {
		if s.conn == nil { // failed, or panicking
			s.holding.Store(false)
			go func() { <-conn.hangUp(); s.db.slots.release() }()
		}
	}()
	var reason error
	for attempt := 1; ; attempt++ {
		conn = newConnection(s)
		err, refusal := s.attempt(ctx, conn, first, func() {
			deadline.Stop()
			s.opened(started, waited, attempt)
		})
		if refusal == nil {
			s.conn = conn
			return err
		}
		if reason == nil || ctx.Err() == nil { // which says more than the timeout that ends the attempts
			reason = refusal
		}
		if !s.tryAgain(ctx, conn, refusal, attempt) {
			s.refusal = reason
			s.db.count(func(total *Snapshot) { total.OpenErrors++ })
			s.logError(reason)
			return reason
		}
	}
}

// attempt connects and does first. The second of its errors says why BEGIN was not
// acknowledged, with its meaning; the caller's own cancellation comes back as it is.
func (s *Session) attempt(ctx context.Context, conn *connection, first operation, began func()) (err, refusal error) {
	if refusal = conn.connect(ctx); refusal == nil {
		flight := conn.flight
		flight.begin, flight.began = s.begin(), began
		err = first(ctx, conn.pgx)
		if !flight.sent.Load() { // what cannot be encoded is an error of the statement alone
			_, _ = conn.pgx.Exec(ctx, ";")
		}
		refusal = flight.answer(ctx)
	}
	switch cause := context.Cause(ctx); {
	case refusal == nil:
		return err, nil
	case cause != nil && !errors.Is(cause, errOpenTimeout):
		return nil, cause
	case cause != nil:
		refusal = cause
	}
	return nil, &sessionError{s.db.config.Connector.Refused(refusal), refusal}
}

// tryAgain reports whether there may be another attempt, when it is time for it. The
// connection of the last one counts until it is gone.
func (s *Session) tryAgain(ctx context.Context, conn *connection, refusal error, attempt int) bool {
	full := errors.Is(refusal, ErrPoolerFull)
	if !full && (!errors.Is(refusal, ErrUnavailable) || attempt >= transientTries) {
		return false
	}
	select {
	case <-conn.hangUp():
	case <-ctx.Done():
		return false
	}
	s.db.count(func(total *Snapshot) { total.OpenRetries++ })
	if full {
		return s.db.slots.awaitRoom(ctx) == nil
	}
	return pause(ctx, retryPause<<(attempt-1)) == nil
}
