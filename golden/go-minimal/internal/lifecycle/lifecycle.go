// Package lifecycle starts the parts of a process in order and stops them in the
// reverse order, each within a bound of its own.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// grace is what a hook gets to return in once its context has ended. One that
// does not is left behind: no hook can keep the process from ending.
const grace = 7 * time.Second

// Hook is one part of a process. Its contexts end with its bounds and are not to
// be kept. A nil function does nothing.
type Hook struct {
	Name         string
	Start, Stop  func(context.Context) error
	StartTimeout time.Duration // 0 sets no bound
	StopTimeout  time.Duration // 0 sets no bound
}

// Lifecycle is a list of hooks. The zero value is empty and ready to use.
type Lifecycle struct {
	started []Hook
}

// Start runs the hook's Start, and keeps its Stop for later. When Start fails,
// all hooks started before are stopped and the error is returned with theirs.
func (l *Lifecycle) Start(ctx context.Context, hooks ...Hook) error {
	for _, h := range hooks {
		if err := bounded(ctx, h.StartTimeout, "start "+h.Name, h.Start); err != nil {
			return errors.Join(err, l.Stop(context.WithoutCancel(ctx)))
		}
		l.started = append(l.started, h)
	}
	return nil
}

// Stop runs the Stop of every started hook, last first, whatever the others
// return. A second call does nothing.
func (l *Lifecycle) Stop(ctx context.Context) error {
	var errs []error
	for ; len(l.started) > 0; l.started = l.started[:len(l.started)-1] {
		h := l.started[len(l.started)-1]
		errs = append(errs, bounded(ctx, h.StopTimeout, "stop "+h.Name, h.Stop))
	}
	return errors.Join(errs...)
}

func bounded(ctx context.Context, limit time.Duration, what string, hook func(context.Context) error) error {
	if hook == nil {
		return nil
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	done := make(chan error, 1)
	go func() { done <- hook(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done:
		case <-time.After(grace):
			err = fmt.Errorf("left behind: %w", context.Cause(ctx))
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
