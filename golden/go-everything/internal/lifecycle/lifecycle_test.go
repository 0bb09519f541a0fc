package lifecycle

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// recorder notes which hooks ran, in order.
type recorder []string

func (r *recorder) hook(name string, startErr, stopErr error) Hook {
	return Hook{
		Name:  name,
		Start: func(context.Context) error { *r = append(*r, "start "+name); return startErr },
		Stop:  func(context.Context) error { *r = append(*r, "stop "+name); return stopErr },
	}
}

func (r *recorder) want(t *testing.T, steps ...string) {
	t.Helper()
	if !slices.Equal(*r, steps) {
		t.Errorf("got %q, want %q", *r, steps)
	}
}

func TestStopsInReverseOrder(t *testing.T) {
	t.Parallel()
	var l Lifecycle
	var r recorder
	failed := errors.New("failed")
	if err := l.Start(t.Context(), r.hook("a", nil, nil), r.hook("b", nil, failed), Hook{Name: "empty"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(t.Context(), time.Minute); !errors.Is(err, failed) || err.Error() != "stop b: failed" {
		t.Errorf("got %v", err)
	}
	if err := l.Stop(t.Context(), time.Minute); err != nil {
		t.Errorf("second stop: %v", err)
	}
	r.want(t, "start a", "start b", "stop b", "stop a")
}

func TestFailedStartStopsWhatHadStarted(t *testing.T) {
	t.Parallel()
	var l Lifecycle
	var r recorder
	failed := errors.New("failed")
	err := l.Start(t.Context(), r.hook("a", nil, nil), r.hook("b", nil, nil), r.hook("c", failed, nil), r.hook("d", nil, nil))
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	r.want(t, "start a", "start b", "start c", "stop b", "stop a")
}

// A start that is interrupted must still stop the parts that had started, and not
// wait for them for ever.
func TestInterruptedStartStopsWithALiveContext(t *testing.T) {
	t.Parallel()
	var l Lifecycle
	ctx, cancel := context.WithCancel(t.Context())
	var during error
	var bounded bool
	first := Hook{Name: "first", Stop: func(ctx context.Context) error {
		during = ctx.Err()
		_, bounded = ctx.Deadline()
		return nil
	}}
	second := Hook{Name: "second", Start: func(context.Context) error { cancel(); return ctx.Err() }}
	if err := l.Start(ctx, first, second); !errors.Is(err, context.Canceled) || during != nil || !bounded {
		t.Errorf("start: %v; context of stop: %v, bounded: %v", err, during, bounded)
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l Lifecycle
		hook := Hook{Name: "slow", Stop: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		if err := l.Start(t.Context(), hook, hook); err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		err := l.Stop(t.Context(), time.Second)
		if took := time.Since(started); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %v", err, took)
		}
	})
}
