package nopool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// take is what a session does for a slot that it wants to wait for no longer.
func take(ctx context.Context, s *slots, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, ErrBusy)
	defer cancel()
	_, err := s.acquire(ctx)
	return err
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
		waitFor(t, func() bool { return s.waiting.Load() == int64(i)+1 })
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
	waitFor(t, func() bool { return s.waiting.Load() == 1 })
	if err := take(t.Context(), s, time.Minute); !errors.Is(err, ErrBusy) {
		t.Errorf("with a full queue: %v, want ErrBusy at once", err)
	}
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the queue: %v", err)
	}
	if inUse, waiting := s.inUse.Load(), s.waiting.Load(); inUse != 1 || waiting != 0 {
		t.Errorf("%d in use and %d waiting, want 1 and 0", inUse, waiting)
	}
}

// TestSlotsRefused hands the room of a connection that has ended to a session that
// the pooler had none for, and not to one that came later and waits for a slot.
func TestSlotsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2, 10)
		for range 2 {
			if err := take(t.Context(), s, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		served := make(chan string, 2)
		who := func() string {
			select {
			case who := <-served:
				return who
			case <-time.After(time.Minute):
				return "nobody"
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			if take(t.Context(), s, time.Minute) == nil {
				served <- "later"
			}
		}()
		go func() {
			for pause(ctx, fullPause, s.room) == nil { // its pauses end by themselves too
				if len(s.free) == 0 && s.inUse.Load() == 1 {
					served <- "refused"
					return
				}
			}
		}()
		synctest.Wait()
		s.release()
		if who := who(); who != "refused" {
			t.Errorf("%s was served first", who)
		}
		started := time.Now()
		if who := who(); who != "later" || time.Since(started) > fullPause {
			t.Errorf("%s was served %v later", who, time.Since(started))
		}
		cancel(ErrClosed)
		if err := pause(ctx, fullPause, s.room); !errors.Is(err, ErrClosed) {
			t.Errorf("with a context that has ended: %v, want its cause", err)
		}
	})
}

// TestSlotsSettle wants places to be left alone after the close of a connection for as long
// as the pooler is late, as it turns out, and not much longer once it is not.
func TestSlotsSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, 1)
		for i, lag := range []time.Duration{0, 2 * time.Millisecond, 7 * time.Millisecond, 0} {
			refused := 0
			var waited time.Duration
			for range 10_000 {
				freed := time.Now()
				s.settle(freed)
				if waited = time.Since(freed); waited < lag {
					refused++
					if !s.late(freed, waited) {
						t.Fatalf("refused after %v, which is not late", waited)
					}
				}
			}
			if refused > 10*i || waited > lag+settleStep {
				t.Errorf("late by %v: %d of 10,000 refused, and waits %v", lag, refused, waited)
			}
		}
		freed := time.Now()
		if s.late(freed, settleMost) {
			t.Error("a pooler that is full is taken for one that is late")
		}
		s.settle(time.Time{})
		if s.late(freed, 0) {
			t.Error("a pooler is taken for one that is late although another has the place")
		}
	})
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
	waitFor(t, func() bool { return s.waiting.Load() == 3 })
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
					ctx, cancel := context.WithTimeout(context.Background(), 50*time.Microsecond)
					_ = pause(ctx, fullPause, s.room)
					cancel()
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
	if inUse, waiting := s.inUse.Load(), s.waiting.Load(); inUse != 0 || waiting != 0 {
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
