package nopool

import (
	"container/list"
	"context"
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
	maxWaiting int
	raiseAfter time.Duration // the longest pause between two raises of the limit; the shortest is half of it

	mu         sync.Mutex
	max, limit int // limit <= max
	inUse      int
	waiting    list.List // of chan error, which gets nil with a slot
	closed     bool
	idle       chan struct{} // closed when closed and nothing is in use
}

func newSlots(maxInUse, maxWaiting int) *slots {
	return &slots{max: maxInUse, limit: maxInUse, raiseAfter: 250 * time.Millisecond, maxWaiting: maxWaiting, idle: make(chan struct{})}
}

// acquire takes a slot, waiting for it until ctx ends. It returns ErrBusy when
// the queue is full, ErrClosed after close, or ctx's cause. A session that comes
// again, because its attempt with another slot failed, goes ahead of all who wait
// and is never refused for a full queue.
func (s *slots) acquire(ctx context.Context, again bool) error {
	granted := make(chan error, 1)
	place, err := s.queue(granted, again)
	if err != nil {
		return err
	}
	select {
	case err := <-granted:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case err := <-granted: // at the same moment: the slot goes to the next
		if err == nil {
			s.inUse--
			s.settle()
		}
	default:
		s.waiting.Remove(place)
	}
	return context.Cause(ctx)
}

func (s *slots) queue(granted chan error, again bool) (place *list.Element, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrClosed
	case again:
		place = s.waiting.PushFront(granted)
	case s.inUse >= s.limit && s.waiting.Len() >= s.maxWaiting:
		return nil, ErrBusy
	default:
		place = s.waiting.PushBack(granted)
	}
	s.settle()
	return place, nil
}

// release frees a slot, or hands it to the waiter that came first.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse--
	s.settle()
}

// refused lowers the limit, since the pooler had no room for the holder of a slot,
// who has yet to release it. It returns whether this is the first time for a while.
func (s *slots) refused() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = s.limit == s.max
	s.limit = min(s.limit, s.inUse) - 1 // many may be refused before one of them releases its slot
	if first {
		s.raiseLater()
	}
	return first
}

// raiseLater raises the limit by one after a pause, again and again until it is
// back at its maximum.
func (s *slots) raiseLater() {
	time.AfterFunc(s.raiseAfter/2+rand.N(s.raiseAfter/2), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			return
		}
		s.limit++
		s.settle()
		if s.limit < s.max {
			s.raiseLater()
		}
	})
}

// settle gives what is free to those who wait, and sends them away once closed.
// The caller holds the lock.
func (s *slots) settle() {
	for s.waiting.Len() > 0 && (s.inUse < s.limit || s.closed) {
		granted := s.waiting.Remove(s.waiting.Front()).(chan error)
		if s.closed {
			granted <- ErrClosed
			continue
		}
		s.inUse++
		granted <- nil
	}
	if s.closed && s.inUse == 0 {
		close(s.idle)
	}
}

// close refuses further sessions, those that wait included, and returns a
// channel that is closed once no slot is in use.
func (s *slots) close() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.settle()
	}
	return s.idle
}

func (s *slots) usage() (limit, inUse, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit, s.inUse, s.waiting.Len()
}
