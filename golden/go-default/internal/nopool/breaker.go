package nopool

import (
	"errors"
	"math/rand/v2"
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
