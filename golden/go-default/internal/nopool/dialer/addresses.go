package dialer

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// addressTTL is how long the addresses of the host are kept. Go keeps none, and
// a session that dials must not ask the resolver each time.
const addressTTL = 5 * time.Second

// addresses are those of the database's host, of which one is in use.
type addresses struct {
	resolve pgconn.LookupFunc
	mu      sync.Mutex
	known   []string
	until   time.Time
	turn    int
}

// lookup implements pgconn.LookupFunc: it returns a single address.
func (a *addresses) lookup(ctx context.Context, host string) ([]string, error) {
	a.mu.Lock()
	known, turn, fresh := a.known, a.turn, time.Now().Before(a.until)
	a.mu.Unlock()
	if !fresh {
		var err error
		if known, err = a.resolve(ctx, host); err != nil {
			return nil, err
		}
		a.mu.Lock()
		a.known, a.until = known, time.Now().Add(addressTTL)
		a.mu.Unlock()
	}
	return known[turn%len(known):][:1], nil
}

// skip makes the next attempt ask again and take the next address.
func (a *addresses) skip() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn++
	a.until = time.Time{}
}
