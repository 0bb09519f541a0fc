package nopool

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const fullPause = 250 * time.Millisecond // at most, before a pooler that is full is asked again

// slots is the bound on connections, with a bounded queue so that overload is
// refused at once instead of piling up. An element of a channel is a slot: who
// waits to send one is served in the order in which they came.
type slots struct {
	held       chan struct{}
	maxWaiting int64
	room       chan struct{} // who receives from it has a slot, and was refused by the pooler

	inUse, waiting atomic.Int64
	closing        sync.Once
	closed, idle   chan struct{} // idle: closed, and nothing is in use
}

func newSlots(n, maxWaiting int) *slots {
	return &slots{held: make(chan struct{}, n), maxWaiting: int64(maxWaiting),
		room: make(chan struct{}), closed: make(chan struct{}), idle: make(chan struct{})}
}

// acquire takes a slot, waiting for it until ctx ends. It returns ErrBusy when
// the queue is full, ErrClosed after close, or ctx's cause.
func (s *slots) acquire(ctx context.Context) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	select {
	case s.held <- struct{}{}: // never before somebody who waits: while they do, there is no room
	default:
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	s.inUse.Add(1)
	return nil
}

func (s *slots) wait(ctx context.Context) error {
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.maxWaiting {
		return ErrBusy
	}
	select {
	case s.held <- struct{}{}:
		return nil
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release frees a slot whose connection is gone. If a session waits that the pooler
// had refused, it is woken, since there may be room now, and the slot rests for a
// while instead of going to one that comes later: the pooler admits fewer than we may
// open.
func (s *slots) release() {
	s.inUse.Add(-1)
	select {
	case s.room <- struct{}{}:
		time.AfterFunc(fullPause, func() { <-s.held })
	default:
		<-s.held
	}
}

// close refuses further sessions, those that wait included, and returns a
// channel that is closed once no slot is in use.
func (s *slots) close() <-chan struct{} {
	s.closing.Do(func() {
		close(s.closed)
		go func() {
			for range cap(s.held) {
				s.held <- struct{}{}
			}
			close(s.idle)
		}()
	})
	return s.idle
}

// pause waits for a random time up to limit ("full jitter", so that clients refused
// together do not return together), for sooner, or until ctx ends, with its cause.
func pause(ctx context.Context, limit time.Duration, sooner <-chan struct{}) error {
	select {
	case <-time.After(rand.N(limit)):
		return nil
	case <-sooner:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
