package nopool

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fullPause  = 250 * time.Millisecond // at most, before a pooler that is full is asked again
	settleMost = 10 * time.Millisecond  // that a pooler is given to free a place after its close
	settleStep = 4 * time.Millisecond   // more than was too little
	settleLess = 2 * time.Microsecond   // less with each attempt: one in 2,000 finds it late
)

// slots is the bound on connections, with a bounded queue so that overload is
// refused at once instead of piling up. An element of a channel is a slot that is free,
// with the time since when, zero if the pooler may have none for it: those that wait to
// receive one are served in the order in which they came.
type slots struct {
	free       chan time.Time
	maxWaiting int64
	room       chan struct{} // its receivers have a slot, and were refused by the pooler

	settling atomic.Int64 // how long a place is left alone after the server's close, in ns
	crowded  atomic.Int64 // when a place was last asked for without a close before it, in ns since 1970

	inUse, waiting atomic.Int64
	closing        sync.Once
	closed, idle   chan struct{} // idle: closed, and nothing is in use
}

func newSlots(n, maxWaiting int) *slots {
	s := &slots{free: make(chan time.Time, n), maxWaiting: int64(maxWaiting),
		room: make(chan struct{}), closed: make(chan struct{}), idle: make(chan struct{})}
	for range n {
		s.free <- time.Unix(0, 0)
	}
	return s
}

// acquire takes a slot, waiting for it until ctx ends, and returns since when it is free.
// It returns ErrBusy when the queue is full, ErrClosed after close, or ctx's cause.
func (s *slots) acquire(ctx context.Context) (freed time.Time, err error) {
	select {
	case <-s.closed:
		return freed, ErrClosed
	default:
	}
	select {
	case freed = <-s.free: // never before somebody who waits: while anybody does, none is free
		s.inUse.Add(1)
		return freed, nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.maxWaiting {
		return freed, ErrBusy
	}
	select {
	case freed = <-s.free:
		s.inUse.Add(1)
		return freed, nil
	case <-s.closed:
		return freed, ErrClosed
	case <-ctx.Done():
		return freed, context.Cause(ctx)
	}
}

// settle waits until a pooler will have noticed that there is room since freed. Some free
// a place a little after they have closed its connection, and refuse clients in between.
func (s *slots) settle(freed time.Time) {
	if freed.IsZero() {
		s.crowded.Store(time.Now().UnixNano())
	}
	time.Sleep(time.Until(freed.Add(time.Duration(s.settling.Load()))))
	s.settling.Add(-min(s.settling.Load(), int64(settleLess)))
}

// late is told that the pooler refused a connection that was dialled so long after it had
// freed a place. It reports whether that is because it frees places late, and not because
// another of ours has taken it.
func (s *slots) late(freed time.Time, age time.Duration) bool {
	if age >= settleMost || freed.UnixNano() < s.crowded.Load()+int64(settleMost) {
		return false
	}
	s.settling.Store(max(s.settling.Load(), int64(min(age+settleStep, settleMost))))
	return true
}

// release frees a slot whose connection is gone. If a session waits that the pooler had refused, it
// is woken, since there may be room now, and the slot rests for a while instead of going to one
// that comes later: the pooler admits fewer than we may open.
func (s *slots) release() {
	s.inUse.Add(-1)
	select {
	case s.room <- struct{}{}:
		time.AfterFunc(fullPause, func() { s.free <- time.Time{} })
	default:
		s.free <- time.Now()
	}
}

// close refuses further sessions, those that wait included, and returns a
// channel that is closed once no slot is in use.
func (s *slots) close() <-chan struct{} {
	s.closing.Do(func() {
		close(s.closed)
		go func() {
			for range cap(s.free) {
				<-s.free
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
