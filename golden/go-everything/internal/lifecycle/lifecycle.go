// Package lifecycle starts the parts of a process in order and stops them in the reverse order.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Hook is one part of a process. Start must not keep its context, Stop not outlast
// its own. A nil function does nothing.
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
				return errors.Join(fmt.Errorf("start %s: %w", h.Name, err), l.Stop(ctx, 5*time.Second))
			}
		}
		if h.Stop != nil {
			l.started = append(l.started, h)
		}
	}
	return nil
}

// Stop runs the Stop of every started hook, last first, whatever the others
// return and whether ctx has ended. The timeout is that of all together, since
// whoever stops us has one for the process. A second call does nothing.
func (l *Lifecycle) Stop(ctx context.Context, timeout time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for _, h := range slices.Backward(l.started) {
		if stopErr := h.Stop(ctx); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("stop %s: %w", h.Name, stopErr))
		}
	}
	l.started = nil
	return err
}
