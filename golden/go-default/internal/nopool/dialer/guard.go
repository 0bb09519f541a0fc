package dialer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrBlocked says that the password was refused too often of late to give it again.
var ErrBlocked = errors.New("authentication failed")

// guard bounds how often a process gives a password that is refused. Supavisor
// blocks an address for two minutes after ten failures in 150 s. Since a
// password can change while many connections authenticate, no more of them may
// prove it at once than may fail.
type guard struct {
	mu       sync.Mutex
	proving  int
	failures []time.Time
	changed  chan struct{} // closed and replaced when one of the two changes; nil while nobody waits
}

const (
	maxFailures = 3
	window      = 150 * time.Second
)

// check returns ErrBlocked while the limit of failures is reached.
func (g *guard) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.checkLocked()
}

func (g *guard) checkLocked() error {
	g.failures = slices.DeleteFunc(g.failures, func(at time.Time) bool { return time.Since(at) > window })
	if len(g.failures) < maxFailures {
		return nil
	}
	return fmt.Errorf("%w %d times; next try in %v", ErrBlocked, maxFailures, (window - time.Since(g.failures[0])).Round(time.Second))
}

// enter waits for its turn to prove the password. The caller must leave.
func (g *guard) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		err := g.checkLocked()
		admitted := err == nil && g.proving+len(g.failures) < maxFailures
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
func (g *guard) leave(entered, refused bool) {
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

// IsAuthentication reports whether err is a refused user or password, or the
// pooler's block that follows too many of them.
func IsAuthentication(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "28") ||
		strings.Contains(pgErr.Message, "authentication failed") || strings.Contains(pgErr.Message, "ECIRCUITBREAKER"))
}
