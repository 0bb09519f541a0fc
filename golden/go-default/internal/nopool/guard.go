package nopool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

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
	breakerPause    = time.Second // at most, between attempts
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

// report says how an attempt ended. A full pooler can be reached, and its
// refusals are spaced out by those who are refused.
func (b *breaker) report(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || errors.Is(err, ErrPoolerFull) {
		b.failures = 0
		return
	}
	b.failures++
	b.last = err
	b.next = time.Now().Add(breakerPause/2 + rand.N(breakerPause/2))
}

// authGuard bounds how often a process gives a password that is refused.
// Supavisor blocks an address for two minutes after ten failures in 150 s. Since
// a password can change while many sessions open, no more of them may prove it
// at once than may fail.
type authGuard struct {
	mu       sync.Mutex
	proving  int
	failures []time.Time
	changed  chan struct{} // closed and replaced when one of the two changes; nil while nobody waits
}

const (
	authFailures = 3
	authWindow   = 150 * time.Second
)

// check returns ErrConfiguration while the limit of failures is reached.
func (g *authGuard) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.checkLocked()
}

func (g *authGuard) checkLocked() error {
	g.failures = slices.DeleteFunc(g.failures, func(at time.Time) bool { return time.Since(at) > authWindow })
	if len(g.failures) < authFailures {
		return nil
	}
	return fmt.Errorf("%w: authentication failed %d times; next try in %v", ErrConfiguration,
		authFailures, (authWindow - time.Since(g.failures[0])).Round(time.Second))
}

// enter waits for its turn to prove the password. The caller must leave.
func (g *authGuard) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		err := g.checkLocked()
		admitted := err == nil && g.proving+len(g.failures) < authFailures
		if admitted {
			g.proving++
		} else if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		if err != nil || admitted {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave ends the turn of a caller who has entered. refused says that the server
// did not accept the password, which some find out without a turn.
func (g *authGuard) leave(entered, refused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if entered {
		g.proving--
	}
	if refused {
		g.failures = append(g.failures, time.Now())
	}
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}
