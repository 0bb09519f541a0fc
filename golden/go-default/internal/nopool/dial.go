package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

var errOpenTimeout = errors.New("no answer to BEGIN in time")

const (
	firstPause     = 20 * time.Millisecond  // at most, before the second attempt, doubled each time
	longestPause   = 250 * time.Millisecond // at most, between attempts at a full pooler
	transientTries = 3                      // attempts at a database that cannot be reached
)

// open takes a slot, dials and sends BEGIN with the first statement, all within
// ConnectTimeout once the slot is there. BEGIN belongs to opening because
// PgBouncer admits a client first and says that it is full at its first
// statement. A full pooler is retried until the deadline, a database out of reach
// a few times, and a refusal never.
func (s *Session) open(ctx context.Context, first *encoded) (*flight, error) {
	if outer, ok := s.ctx.Value(sessionKey{}).(*Session); ok && outer.db == s.db && outer.holding.Load() {
		return nil, ErrNested
	}
	started := time.Now()
	if err := s.db.slots.acquire(ctx, s.db.config.SessionWait); err != nil {
		s.rejected(err)
		return nil, err
	}
	s.holding.Store(true)
	s.lease = &lease{dialer: s.db.config.DialFunc, started: started, waited: time.Since(started)}
	deadline := time.Now().Add(s.db.config.ConnectTimeout)
	ctx, cancel := context.WithCancelCause(ctx) // lives as long as the flight
	var full error                              // what was last said by a pooler without room
	for attempt := 1; ; attempt++ {
		flight, err := s.attempt(ctx, cancel, deadline, first)
		if err == nil {
			s.opened(attempt)
			return flight, nil
		}
		if errors.Is(err, ErrPoolerFull) {
			full = err
		}
		if err = s.beforeRetry(ctx, err, attempt, deadline); err == nil {
			s.db.count(func(total *Snapshot) { total.OpenRetries++ })
			continue
		}
		if full != nil && (errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
			err = full // what a deadline cut short has no better reason
		}
		cancel(nil)
		return nil, s.openFailed(err)
	}
}

// beforeRetry waits until another attempt is due after one that failed with err.
// It returns err when there must be none, and what ended the wait when it failed.
func (s *Session) beforeRetry(ctx context.Context, err error, attempt int, deadline time.Time) error {
	full, limit := errors.Is(err, ErrPoolerFull), firstPause<<(attempt-1)
	if !full && (!errors.Is(err, ErrUnavailable) || attempt >= transientTries || time.Until(deadline) < limit) {
		return err
	}
	if !s.lease.awaitGone(ctx, time.Until(deadline)) { // one connection at a time
		return cmp.Or(context.Cause(ctx), err)
	}
	if !full {
		return pause(ctx, limit)
	}
	s.refused(err)
	s.holding.Store(false)
	if err := s.db.slots.refused(ctx, time.Until(deadline)); err != nil {
		return err
	}
	s.holding.Store(true)
	return nil
}

// attempt makes one connection and sends BEGIN on it. Its error carries what it
// means; the caller's own cancellation comes back as it is.
func (s *Session) attempt(ctx context.Context, cancel context.CancelCauseFunc, deadline time.Time, first *encoded) (*flight, error) {
	if err := s.db.breaker.check(); err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx, deadline)
	var f *flight
	if err == nil {
		if f, err = s.takeOff(ctx, cancel, deadline, conn, first); err == nil {
			s.conn = conn
			s.db.breaker.report(nil)
			return f, nil
		}
		s.lease.hangUp(conn)
	}
	switch {
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errOpenTimeout):
		return nil, context.Cause(ctx)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		err = &sessionError{ErrUnavailable, fmt.Errorf("%w (%v)", errOpenTimeout, s.db.config.ConnectTimeout)}
	default:
		err = &sessionError{openKind(err), err}
	}
	s.db.breaker.report(err)
	return nil, err
}

// dial makes one connection.
func (s *Session) dial(ctx context.Context, deadline time.Time) (*pgx.Conn, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errOpenTimeout)
	defer cancel()
	config, err := s.db.dialer.Config(ctx, s.lease.dial)
	if err != nil {
		return nil, err
	}
	s.db.count(func(total *Snapshot) { total.Dials++ })
	return pgx.ConnectConfig(ctx, config)
}
