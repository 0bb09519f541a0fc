package dialer

import (
	"context"
	"errors"
	"testing"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	var g guard
	for range maxFailures {
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("one more at the same time: %v, want to wait", err)
	}
	for range maxFailures {
		g.leave(true, true)
	}
	if err := g.check(); !errors.Is(err, ErrBlocked) {
		t.Errorf("after %d failures: %v, want ErrBlocked", maxFailures, err)
	}
	g.failures[0] = g.failures[0].Add(-window)
	if err := g.check(); err != nil {
		t.Errorf("after the window: %v", err)
	}
}
