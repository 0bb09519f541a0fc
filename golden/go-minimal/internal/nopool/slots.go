package nopool

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// slots is the bound on connections: a semaphore that serves waiters in the
// order they came, with a bounded queue so that overload is refused at once
// instead of piling up.
type slots struct {
	mu         sync.Mutex
	max, inUse int
	maxWaiting int
	waiting    list.List // of chan error, which gets nil with a slot
	closed     bool
	idle       chan struct{} // closed when closed and nothing is in use
}

func newSlots(maxInUse, maxWaiting int) *slots {
	return &slots{max: maxInUse, maxWaiting: maxWaiting, idle: make(chan struct{})}
}

// acquire takes a slot, waiting at most wait. It returns ErrBusy when the queue
// is full or the wait is over, ErrClosed after close, or ctx's error.
func (s *slots) acquire(ctx context.Context, wait time.Duration) error {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return ErrClosed
	case s.inUse < s.max && s.waiting.Len() == 0:
		s.inUse++
		s.mu.Unlock()
		return nil
	case s.waiting.Len() >= s.maxWaiting:
		s.mu.Unlock()
		return fmt.Errorf("%w: all %d connections are in use and %d sessions wait", ErrBusy, s.max, s.maxWaiting)
	}
	granted := make(chan error, 1)
	place := s.waiting.PushBack(granted)
	s.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	var err error
	select {
	case err := <-granted:
		return err
	case <-timer.C:
		err = fmt.Errorf("%w: none of %d connections became free within %v", ErrBusy, s.max, wait)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case late := <-granted: // at the same moment: a slot is handed on
		if late == nil {
			s.releaseLocked()
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
	s.releaseLocked()
}

func (s *slots) releaseLocked() {
	if first := s.waiting.Front(); first != nil {
		s.waiting.Remove(first).(chan error) <- nil
		return
	}
	s.inUse--
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
		for first := s.waiting.Front(); first != nil; first = s.waiting.Front() {
			s.waiting.Remove(first).(chan error) <- ErrClosed
		}
		if s.inUse == 0 {
			close(s.idle)
		}
	}
	return s.idle
}

func (s *slots) usage() (inUse, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse, s.waiting.Len()
}
