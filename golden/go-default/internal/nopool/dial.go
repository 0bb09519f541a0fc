package nopool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

var errOpenTimeout = errors.New("no answer to BEGIN in time")

const (
	firstPause     = 20 * time.Millisecond  // before the second attempt, doubled each time
	longestPause   = 250 * time.Millisecond // between attempts
	transientTries = 3                      // attempts at a database that cannot be reached
)

// open takes a slot, dials and sends BEGIN with the first statement, all within
// ConnectTimeout once the slot is there. BEGIN belongs to opening because
// PgBouncer admits a client first and says that it is full at its first
// statement. A full pooler is retried until the deadline, keeping the slot; a
// database out of reach a few times; a refusal never.
func (s *Session) open(ctx context.Context, first *encoded) (*flight, error) {
	started := time.Now()
	if err := s.db.slots.acquire(ctx, s.db.config.SessionWait); err != nil {
		s.reject(err)
		return nil, err
	}
	s.lease = &lease{dialer: s.db.config.DialFunc, started: started, waited: time.Since(started)}
	deadline := time.Now().Add(s.db.config.ConnectTimeout)
	ctx, cancel := context.WithCancelCause(ctx) // lives as long as the flight
	limit := firstPause
	var full error // what was last said by a pooler without room
	for attempt := 1; ; attempt++ {
		flight, err := s.attempt(ctx, cancel, deadline, first)
		if err == nil {
			s.opened(attempt)
			return flight, nil
		}
		if errors.Is(err, ErrPoolerFull) {
			full = err
		} else if full != nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
			err = full // the attempt that a deadline cut short has no better reason
		}
		retry := errors.Is(err, ErrPoolerFull) || (errors.Is(err, ErrUnavailable) && attempt < transientTries)
		if !retry || time.Until(deadline) < limit || pause(ctx, limit) != nil {
			cancel(nil)
			return nil, s.openFailed(err)
		}
		limit = min(2*limit, longestPause)
		s.db.count(func(total *Snapshot) { total.OpenRetries++ })
		s.lease.closed(time.Until(deadline)) // the attempt before is gone before the next begins
	}
}

// attempt makes one connection and sends BEGIN on it. Its error carries what it
// means; the caller's own cancellation comes back as it is.
func (s *Session) attempt(ctx context.Context, cancel context.CancelCauseFunc, deadline time.Time, first *encoded) (*flight, error) {
	if err := s.db.guard.check(); err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx, deadline)
	var f *flight
	if err == nil {
		if f, err = s.takeOff(ctx, cancel, deadline, conn, first); err == nil {
			s.conn = conn
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
		if IsAuthentication(err) {
			s.db.guard.failed()
		}
		err = &sessionError{openKind(err), err}
	}
	return nil, err
}

// dial makes one connection to one address. pgx would try all addresses of the
// host in turn, and a pooler that refused us at one has refused us. An address
// that does not answer makes the next attempt, of any session, take the next.
func (s *Session) dial(ctx context.Context, deadline time.Time) (*pgx.Conn, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errOpenTimeout)
	defer cancel()
	turn := s.db.address.Load()
	config := s.db.connect.Copy()
	config.DialFunc = s.lease.dial
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		addresses, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		return addresses[int(turn)%len(addresses):][:1], nil
	}
	s.db.count(func(total *Snapshot) { total.Dials++ })
	conn, err := pgx.ConnectConfig(ctx, config)
	if network := (*net.OpError)(nil); errors.As(err, &network) && network.Op == "dial" {
		s.db.address.CompareAndSwap(turn, turn+1)
	}
	return conn, err
}
