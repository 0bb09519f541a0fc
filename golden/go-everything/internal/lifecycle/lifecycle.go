// Package lifecycle starts the parts of a process in order and stops them in the
// reverse order.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// grace is how long a Stop may still take once its context has ended. One that
// takes longer is left behind: no part can keep the process from ending.
const grace = 7 * time.Second

// Hook is one part of a process. Start must not keep its context. A nil function
// does nothing.
type Hook struct {
	Name        string
	Start, Stop func(context.Context) error
}

// Lifecycle is a list of hooks. The zero value is empty and ready to use.
type Lifecycle struct{ started []Hook }

// Start runs the hooks' Start, and keeps their Stop for later. When one fails,
// all hooks started before are stopped and the error is returned with theirs.
func (l *Lifecycle) Start(ctx context.Context, hooks ...Hook) error {
	for _, h := range hooks {
		if h.Start != nil {
			if err := h.Start(ctx); err != nil {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
				defer cancel()
				return errors.Join(fmt.Errorf("start %s: %w", h.Name, err), l.Stop(ctx))
			}
		}
		if h.Stop != nil {
			l.started = append(l.started, h)
		}
	}
	return nil
}

// Stop runs the Stop of every started hook, last first, whatever the others
// return; ctx is the bound of all together. A second call does nothing.
func (l *Lifecycle) Stop(ctx context.Context) (err error) {
	for _, h := range slices.Backward(l.started) {
		done := make(chan error, 1)
		go func() { done <- h.Stop(ctx) }()
		if stopErr := wait(ctx, done); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("stop %s: %w", h.Name, stopErr))
		}
	}
	l.started = nil
	return err
}

func wait(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return fmt.Errorf("left behind: %w", context.Cause(ctx))
	}
}
