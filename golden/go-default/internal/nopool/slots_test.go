package nopool

import (
	"context"
	"errors"
	"testing"
	"time"
)

// take is what a session does for a slot that it wants to wait for no longer.
func take(ctx context.Context, s *slots, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, ErrBusy)
	defer cancel()
	return s.acquire(ctx, false)
}

// again is what a session does that a full pooler has refused.
func again(ctx context.Context, s *slots, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, ErrBusy)
	defer cancel()
	s.refused()
	s.release()
	return s.acquire(ctx, true)
}

func TestSlotsServeInOrder(t *testing.T) {
	t.Parallel()
	s := newSlots(1, 10)
	if err := take(t.Context(), s, time.Second); err != nil {
		t.Fatal(err)
	}
	order := make(chan int, 5)
	for i := range 5 {
		go func() {
			if err := take(context.Background(), s, 10*time.Second); err == nil {
				order <- i
				s.release()
			}
		}()
		waitFor(t, func() bool { _, _, waiting := s.usage(); return waiting == i+1 })
	}
	s.release()
	for i := range 5 {
		if got := <-order; got != i {
			t.Fatalf("waiter %d was served in place %d", got, i)
		}
	}
}

func TestSlotsRefuse(t *testing.T) {
	t.Parallel()
	s := newSlots(1, 1)
	if err := take(t.Context(), s, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := take(t.Context(), s, time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("after the wait: %v, want ErrBusy", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() { waited <- take(ctx, s, time.Minute) }()
	waitFor(t, func() bool { _, _, waiting := s.usage(); return waiting == 1 })
	if err := take(t.Context(), s, time.Minute); !errors.Is(err, ErrBusy) {
		t.Errorf("with a full queue: %v, want ErrBusy at once", err)
	}
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the queue: %v", err)
	}
	if _, inUse, waiting := s.usage(); inUse != 1 || waiting != 0 {
		t.Errorf("%d in use and %d waiting, want 1 and 0", inUse, waiting)
	}
}

// TestSlotsRefused lowers the limit to what a pooler admits: a refused session
// is the first to get a slot when one is free, and no later one gets another.
func TestSlotsRefused(t *testing.T) {
	t.Parallel()
	s := newSlots(4, 10)
	s.raiseAfter = time.Hour // the limit stays where it is put
	for range 4 {
		if err := take(t.Context(), s, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	served := make(chan string, 2)
	wait := func(who string, take func(context.Context, *slots, time.Duration) error) {
		go func() {
			if err := take(context.Background(), s, time.Minute); err == nil {
				served <- who
			}
		}()
	}
	wait("later", take)
	waitFor(t, func() bool { _, _, waiting := s.usage(); return waiting == 1 })
	wait("refused", again)
	waitFor(t, func() bool { _, _, waiting := s.usage(); return waiting == 2 })
	if limit, inUse, _ := s.usage(); limit != 3 || inUse != 3 {
		t.Errorf("limit %d and %d in use, want 3 and 3", limit, inUse)
	}
	s.release()
	if who := <-served; who != "refused" {
		t.Errorf("%s was served first", who)
	}
	for range 2 {
		s.release()
	}
	if who := <-served; who != "later" {
		t.Errorf("%s was served second", who)
	}
}

// TestSlotsRefusedTogether wants no more than one place of those who are there for
// many that are refused before the first of them has released its slot.
func TestSlotsRefusedTogether(t *testing.T) {
	t.Parallel()
	s := newSlots(10, 10)
	s.raiseAfter = time.Hour
	for range 10 {
		if err := take(t.Context(), s, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for range 7 {
		s.refused()
	}
	for range 7 {
		s.release()
	}
	if limit, inUse, _ := s.usage(); limit != 3 || inUse != 3 {
		t.Errorf("limit %d and %d in use, want 3 and 3", limit, inUse)
	}
}

// TestSlotsRecover raises the limit again, by one at a time.
func TestSlotsRecover(t *testing.T) {
	t.Parallel()
	s := newSlots(3, 10)
	s.raiseAfter = time.Millisecond
	if err := take(t.Context(), s, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := again(t.Context(), s, time.Minute); err != nil { // nobody else has a slot: the limit is raised from 0
		t.Fatal(err)
	}
	waitFor(t, func() bool { limit, _, _ := s.usage(); return limit == 3 })
	s.release()
	time.Sleep(2 * time.Millisecond)
	if limit, inUse, _ := s.usage(); limit != 3 || inUse != 0 {
		t.Errorf("limit %d and %d in use, want 3 and 0", limit, inUse)
	}
}

func TestSlotsClose(t *testing.T) {
	t.Parallel()
	s := newSlots(1, 10)
	if err := take(t.Context(), s, time.Second); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 3)
	for range 3 {
		go func() { waited <- take(context.Background(), s, time.Minute) }()
	}
	waitFor(t, func() bool { _, _, waiting := s.usage(); return waiting == 3 })
	idle := s.close()
	if err := take(t.Context(), s, time.Minute); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v, want ErrClosed", err)
	}
	select {
	case <-idle:
		t.Fatal("idle while a slot is in use")
	default:
	}
	s.release()
	for range 3 {
		if err := <-waited; !errors.Is(err, ErrClosed) {
			t.Errorf("waiter after close: %v, want ErrClosed", err)
		}
	}
	<-idle
}

// TestSlotsUnderRace wants every slot back after waiters that give up at the
// moment they are served.
func TestSlotsUnderRace(t *testing.T) {
	t.Parallel()
	s := newSlots(2, 100)
	done := make(chan struct{})
	for range 50 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 50 {
				err := take(context.Background(), s, 50*time.Microsecond)
				if err == nil && i%5 == 0 {
					err = again(context.Background(), s, 50*time.Microsecond)
				}
				if err == nil {
					s.release()
				}
			}
		}()
	}
	for range 50 {
		<-done
	}
	if _, inUse, waiting := s.usage(); inUse != 0 || waiting != 0 {
		t.Errorf("%d in use and %d waiting at the end", inUse, waiting)
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for range 1000 {
		if condition() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}
