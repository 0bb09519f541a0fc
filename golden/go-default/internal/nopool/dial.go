package nopool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

var errOpenTimeout = errors.New("no answer to BEGIN in time")

const (
	firstPause      = 20 * time.Millisecond  // before the second attempt, doubled each time
	longestPause    = 250 * time.Millisecond // between attempts
	transientTries  = 3                      // attempts at a database that cannot be reached
	resolverTTL     = 30 * time.Second       // Go itself keeps no answers of the resolver
	serverErrorByte = 'E'                    // ErrorResponse, sent where TLS's answer was due
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
	for attempt := 1; ; attempt++ {
		flight, err := s.attempt(ctx, cancel, deadline, first)
		if err == nil {
			s.opened(attempt)
			return flight, nil
		}
		retry := errors.Is(err, ErrPoolerFull) || (errors.Is(err, ErrUnavailable) && attempt < transientTries)
		if !retry || time.Until(deadline) < limit || pause(ctx, limit) != nil {
			cancel(nil)
			return nil, s.openFailed(err)
		}
		limit = min(2*limit, longestPause)
		s.db.counters.openRetries.Add(1)
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
	case ended(err):
		err = &sessionError{ErrUnavailable, fmt.Errorf("%w (%v)", errOpenTimeout, s.db.config.ConnectTimeout)}
	case strings.Contains(err.Error(), "server refused TLS") && s.lease.firstByte() == serverErrorByte:
		err = &sessionError{ErrPoolerFull, errors.New("refused before TLS")} // PgBouncer's max_client_conn
	default:
		if IsAuthentication(err) {
			s.db.guard.failed()
		}
		err = &sessionError{openKind(err), err}
	}
	return nil, err
}

// dial connects to one address after the other until one takes the connection:
// pgx gets to see a single address at a time, so that a refusal by the pooler
// is not repeated at each of its addresses.
func (s *Session) dial(ctx context.Context, deadline time.Time) (conn *pgx.Conn, err error) {
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errOpenTimeout)
	defer cancel()
	config := s.db.connect.Copy()
	config.DialFunc = s.lease.dial
	for next, known := 0, 1; next < known; next++ {
		config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
			addresses, err := s.db.resolver.lookup(ctx, host)
			if err != nil {
				return nil, err
			}
			known = len(addresses)
			return addresses[next : next+1], nil
		}
		s.db.counters.dials.Add(1)
		conn, err = pgx.ConnectConfig(ctx, config)
		var dialError *net.OpError
		if err == nil || ctx.Err() != nil || !errors.As(err, &dialError) || dialError.Op != "dial" {
			return conn, err
		}
	}
	s.db.resolver.forget()
	return nil, err
}

// resolver remembers the addresses of the database's host for a while: every
// session dials, and each look-up is a round trip of its own.
type resolver struct {
	mu        sync.Mutex
	addresses []string
	expires   time.Time
}

func (r *resolver) lookup(ctx context.Context, host string) ([]string, error) {
	r.mu.Lock()
	addresses, fresh := r.addresses, time.Now().Before(r.expires)
	r.mu.Unlock()
	if fresh {
		return addresses, nil
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addresses, r.expires = addresses, time.Now().Add(resolverTTL)
	return addresses, nil
}

// forget makes the next look-up ask again: none of the addresses answers.
func (r *resolver) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expires = time.Time{}
}
