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
// times, after any other refusal never. cancel ends ctx, which the rows or the batch
// of first keep using.
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
	gotSlot := time.Now()
	deadline := time.AfterFunc(s.db.config.ConnectTimeout, func() { cancel(errOpenTimeout) })
	defer deadline.Stop()
	var reason error
	for attempt := 1; ; attempt++ {
		conn = &connection{db: s.db, ctx: s.ctx, dialled: time.Now()}
		err, refusal := s.attempt(ctx, gotSlot, conn, first, func() {
			if deadline.Stop() { // else ctx has ended
				s.db.count(func(total *Snapshot) { total.Opened++; total.LastOpened = time.Now() })
				s.db.config.Logger.DebugContext(s.ctx, "database session opened", "waited", gotSlot.Sub(started),
					"took", time.Since(started), "attempts", attempt, "read_only", s.opts.ReadOnly)
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
			s.db.count(func(total *Snapshot) { total.OpenErrors++ })
			s.logError(reason)
			return reason
		}
	}
}

func (s *Session) takeSlot(ctx context.Context) error {
	outer, ok := s.ctx.Value(sessionKey{}).(*Session)
	for ; ok; outer, ok = outer.ctx.Value(sessionKey{}).(*Session) {
		if outer.db == s.db && outer.holding.Load() {
			return ErrNested
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.db.config.SessionWait, ErrBusy)
	defer cancel()
	err := s.db.slots.acquire(ctx)
	s.holding.Store(err == nil)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrSessionDone) { // else it left the queue by itself
		s.db.count(func(total *Snapshot) { total.Rejected++ })
		s.db.config.Logger.WarnContext(s.ctx, "database session rejected", "error", Describe(err))
	}
	return err
}

// attempt connects and does first. refusal is nil once BEGIN is acknowledged, and err
// is then first's own; else refusal says why not, as ErrPoolerFull, ErrUnavailable or
// ErrConfiguration, or is the cause for which ctx ended.
func (s *Session) attempt(ctx context.Context, gotSlot time.Time, conn *connection, first operation, onOpen func()) (err, refusal error) {
	// The addresses of a host share this deadline. ctx has none, since rows outlive the opening.
	connecting, cancel := context.WithDeadlineCause(ctx, gotSlot.Add(s.db.config.ConnectTimeout), errOpenTimeout)
	defer cancel()
	if refusal = conn.connect(connecting); refusal == nil {
		conn.flight.begin, conn.flight.onOpen = s.begin(), onOpen
		err = first(ctx, conn.pgx)
		if !conn.flight.sent.Load() { // an argument could not be encoded: an empty statement carries BEGIN, and the session is of use
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
	limit, room := fullPause, s.db.slots.room
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
