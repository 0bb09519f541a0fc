package nopool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var errOpenTimeout = errors.New("no answer to BEGIN in time")

const (
	transientTries = 3                     // attempts at a database that cannot be reached
	retryPause     = 20 * time.Millisecond // at most, before the second of them, doubled before the third
)

// open takes a slot, dials and sends BEGIN with the first statement, all within
// ConnectTimeout once the slot is there. BEGIN belongs to opening because
// PgBouncer admits a client first and says that it is full at its first
// statement. A full pooler is retried until the deadline, a database out of reach
// a few times, and a refusal never. The answer to the statement is the next in
// the pipeline that open returns.
func (s *Session) open(ctx context.Context, first *statement) (*pgconn.Pipeline, error) {
	if outer, ok := s.ctx.Value(sessionKey{}).(*Session); ok && outer.db == s.db && outer.holding.Load() {
		return nil, ErrNested
	}
	started := time.Now()
	if err := s.db.slots.acquire(ctx, s.db.config.SessionWait); err != nil {
		s.rejected(err)
		return nil, err
	}
	s.holding.Store(true)
	s.lease = &lease{db: s.db, started: started, waited: time.Since(started)}
	deadline := time.Now().Add(s.db.config.ConnectTimeout)
	var full error // what was last said by a pooler without room
	for attempt := 1; ; attempt++ {
		flight, err := s.attempt(ctx, deadline, first)
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
		s.openFailed(err)
		return nil, err
	}
}

// beforeRetry waits until another attempt is due after one that failed with err.
// It returns err when there must be none, and what ended the wait when it failed.
func (s *Session) beforeRetry(ctx context.Context, err error, attempt int, deadline time.Time) error {
	full, limit := errors.Is(err, ErrPoolerFull), retryPause<<(attempt-1)
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
func (s *Session) attempt(ctx context.Context, deadline time.Time, first *statement) (*pgconn.Pipeline, error) {
	if err := s.db.breaker.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx) // ends with its parent, since what is returned uses it
	timer := time.AfterFunc(time.Until(deadline), func() { cancel(errOpenTimeout) })
	defer timer.Stop()
	s.db.count(func(total *Snapshot) { total.Dials++ })
	conn, err := s.db.dialer.connect(ctx, s.lease)
	if err == nil {
		var flight *pgconn.Pipeline
		if flight, err = s.takeOff(ctx, conn, first); err == nil {
			s.conn = conn
			s.db.breaker.report(nil)
			return flight, nil
		}
		s.lease.hangUp(conn)
	}
	switch {
	case ctx.Err() == nil:
		err = &sessionError{openKind(err), err}
	case errors.Is(context.Cause(ctx), errOpenTimeout):
		err = &sessionError{ErrUnavailable, fmt.Errorf("%w (%v)", errOpenTimeout, s.db.config.ConnectTimeout)}
	default:
		return nil, context.Cause(ctx)
	}
	s.db.breaker.report(err)
	return nil, err
}

// takeOff sends BEGIN, the settings and the first statement in one write, and
// waits for the answers to the first two. The statement itself may take longer: a
// Flush before it makes the server answer BEGIN at once, not when all is done.
func (s *Session) takeOff(ctx context.Context, conn *pgx.Conn, first *statement) (*pgconn.Pipeline, error) {
	flight := conn.PgConn().StartPipeline(ctx)
	flight.SendQueryParams(s.opts.begin(), nil, nil, nil, nil)
	settings, values := s.settings()
	flight.SendQueryParams(settings, values, nil, nil, nil)
	flight.SendFlushRequest()
	if first != nil {
		flight.SendQueryParams(first.sql, first.ParamValues, nil, first.ParamFormats, nil)
	}
	err := flight.Sync()
	for range 2 { // BEGIN, then the settings
		var result any
		if err == nil {
			result, err = flight.GetResults()
		}
		if answer, ok := result.(*pgconn.ResultReader); ok {
			_, err = answer.Close()
		}
	}
	if err != nil {
		flight.Close()
		return nil, err
	}
	return flight, nil
}

// breaker spaces out the attempts at a database that has refused several times
// running: sessions fail at once with what the last attempt was told, and one at
// a time finds out whether it still holds.
type breaker struct {
	mu       sync.Mutex
	failures int
	last     error
	next     time.Time // when an attempt is due
}

const (
	breakerFailures = 10
	breakerPause    = time.Second // at most, between attempts; at least half of it
)

// check returns nil to a caller who may make an attempt.
func (b *breaker) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakerFailures {
		return nil
	}
	if time.Now().Before(b.next) {
		return b.last
	}
	b.next = time.Now().Add(breakerPause) // for all others, whatever becomes of this one
	return nil
}

// report says how an attempt ended. A full pooler can be reached, and lowers the
// limit of the slots instead. So can a server that let us in and then refused a
// setting, which may be one caller's alone.
func (b *breaker) report(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || errors.Is(err, ErrPoolerFull) || !connectionLost(err) {
		b.failures = 0
		return
	}
	b.failures++
	b.last = err
	b.next = time.Now().Add(breakerPause/2 + rand.N(breakerPause/2))
}
