package nopool

import (
	"container/list"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// slots is the bound on connections: a semaphore that serves waiters in the
// order they came, with a bounded queue so that overload is refused at once
// instead of piling up.
//
// A pooler that admits fewer than we may open is not asked over and over: each
// refusal lowers the limit to the connections that are there, so that the next
// attempt is made when one of them has ended, and now and then the limit is
// raised by one, to see whether there is room again.
type slots struct {
	mu         sync.Mutex
	max, limit int // limit <= max
	inUse      int
	raiseAfter time.Duration // at most; at least half of it
	maxWaiting int
	waiting    list.List // of chan error, which gets nil with a slot
	closed     bool
	idle       chan struct{} // closed when closed and nothing is in use
}

func newSlots(maxInUse, maxWaiting int) *slots {
	return &slots{max: maxInUse, limit: maxInUse, raiseAfter: 250 * time.Millisecond, maxWaiting: maxWaiting, idle: make(chan struct{})}
}

// acquire takes a slot, waiting at most wait. It returns ErrBusy when the queue
// is full or the wait is over, ErrClosed after close, or ctx's error.
func (s *slots) acquire(ctx context.Context, wait time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.inUse < s.limit && s.waiting.Len() == 0:
		s.inUse++
		return nil
	case s.waiting.Len() >= s.maxWaiting:
		return fmt.Errorf("%w: %d of %d connections are in use and %d sessions wait", ErrBusy, s.inUse, s.max, s.waiting.Len())
	}
	return s.awaitLocked(ctx, wait, s.waiting.PushBack(make(chan error, 1)))
}

// refused gives back the slot of a session that the pooler had no room for, and
// waits like acquire for another, ahead of all who wait.
func (s *slots) refused(ctx context.Context, wait time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit == s.max {
		s.raiseLater()
	}
	s.limit = min(s.limit, s.inUse-1)
	s.leaveLocked()
	if s.closed {
		return ErrClosed
	}
	return s.awaitLocked(ctx, wait, s.waiting.PushFront(make(chan error, 1)))
}

func (s *slots) raiseLater() {
	time.AfterFunc(s.raiseAfter/2+rand.N(s.raiseAfter/2), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.limit++
		s.grantLocked()
		if s.limit < s.max {
			s.raiseLater()
		}
	})
}

// awaitLocked waits, without the lock, for a slot to be granted to a place in
// the queue.
func (s *slots) awaitLocked(ctx context.Context, wait time.Duration, place *list.Element) error {
	granted := place.Value.(chan error)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	s.mu.Unlock()
	var err error
	select {
	case err = <-granted:
		s.mu.Lock()
		return err
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	if err == nil {
		err = fmt.Errorf("%w: none became free within %v, %d of %d connections are in use", ErrBusy, wait, s.inUse, s.max)
	}
	select {
	case late := <-granted: // at the same moment: a slot is handed on
		if late == nil {
			s.leaveLocked()
		}
	default:
		s.waiting.Remove(place)
	}
	return err
}

// release frees a slot, or hands it to the waiter that came first.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked()
}

func (s *slots) leaveLocked() {
	s.inUse--
	s.grantLocked()
	if s.closed && s.inUse == 0 {
		close(s.idle)
	}
}

func (s *slots) grantLocked() {
	for s.inUse < s.limit && s.waiting.Len() > 0 {
		s.inUse++
		s.waiting.Remove(s.waiting.Front()).(chan error) <- nil
	}
}

// close refuses further sessions, those that wait included, and returns a
// channel that is closed once no slot is in use.
func (s *slots) close() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.idle
	}
	s.closed = true
	for s.waiting.Len() > 0 {
		s.waiting.Remove(s.waiting.Front()).(chan error) <- ErrClosed
	}
	if s.inUse == 0 {
		close(s.idle)
	}
	return s.idle
}

func (s *slots) usage() (limit, inUse, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit, s.inUse, s.waiting.Len()
}
