package connect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
)

const (
	breakerFailures = 10          // attempts running, before they are spaced out
	breakerPause    = time.Second // at most, between attempts; at least half of it

	maxRefused    = 3                 // proofs of the password within refusedFor; at once too, until one was accepted
	maxUnanswered = 6                 // proofs at once
	maxDoubtful   = 9                 // proofs that are refused, or may turn out to be
	answerTime    = time.Second       // after which a proof gives its place to another
	doubtFor      = 15 * time.Second  // after the end of a connection that did not wait for the answer
	refusedFor    = 150 * time.Second // Supavisor's window
)

// breaker decides whether another attempt may be made, for two reasons not to.
//
// The attempts at a database that has refused several times running are spaced out:
// in between, callers are refused without a dial, with what the last attempt was told.
//
// And Supavisor blocks an address for two minutes after ten refused passwords in 150 s,
// while a password can change under many logins. So few may prove it at once, and one
// that is not answered counts as refused until it is: no more than maxDoubtful will be.
type breaker struct {
	mu       sync.Mutex
	failures int
	last     error
	next     time.Time // when an attempt is due

	// Proofs of the password by how they stand: sent just now, sent answerTime ago, given
	// up, and answered.
	proving, late, lost, refused, accepted, forgotten int
	trusted                                           bool          // the last answer was yes
	waiting                                           []chan *proof // those who want to send one, in order
}

// heldBack is what a caller gets who may not make an attempt.
type heldBack struct{ error }

func (h heldBack) Unwrap() error { return h.error }

// errBlocked: the password was refused too often of late to give it again.
var errBlocked = heldBack{lasting{fmt.Errorf("authentication: failed %d times within %v", maxRefused, refusedFor)}}

func (b *breaker) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused >= maxRefused {
		return errBlocked
	}
	if b.failures >= breakerFailures && time.Now().Before(b.next) {
		return heldBack{b.last}
	}
	b.next = time.Now().Add(breakerPause/2 + rand.N(breakerPause/2))
	return nil
}

// Opened implements nopool.Connector. A login alone is no success: PgBouncer lets clients
// in while it cannot reach the server, and says so at their first statement.
func (b *breaker) Opened() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
}

// Refused implements nopool.Connector. A full pooler can be reached, and so can a
// server that let us in and then refused a setting, which may be one caller's alone.
func (b *breaker) Refused(err error) error {
	kind := kindOf(err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	letIn := answered && cmp.Or(pgErr.SeverityUnlocalized, pgErr.Severity) == "ERROR"
	if kind != nopool.ErrPoolerFull && !letIn && !errors.As(err, new(heldBack)) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.failures++
		b.last = err
	}
	return kind
}

// prove waits until the password may be proved once more, in order of arrival. It
// returns errBlocked or ctx's cause.
func (b *breaker) prove(ctx context.Context) (*proof, error) {
	turn := make(chan *proof, 1)
	b.mu.Lock()
	b.waiting = append(b.waiting, turn)
	b.serve()
	b.mu.Unlock()
	select {
	case p := <-turn:
		if p == nil {
			return nil, errBlocked
		}
		return p, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	b.waiting = slices.DeleteFunc(b.waiting, func(one chan *proof) bool { return one == turn })
	b.mu.Unlock()
	select {
	case p := <-turn: // at that moment
		if p != nil {
			p.move(nil, &b.forgotten)
		}
	default:
	}
	return nil, context.Cause(ctx)
}

// serve lets those go ahead who wait and may, and sends all away once it is in vain.
func (b *breaker) serve() {
	for len(b.waiting) > 0 {
		var p *proof
		if b.refused < maxRefused {
			if !b.mayProve() {
				return
			}
			b.proving++
			p = &proof{b, &b.proving}
			time.AfterFunc(answerTime, func() { p.move(&b.proving, &b.late) })
		}
		b.waiting[0] <- p
		b.waiting = b.waiting[1:]
	}
}

func (b *breaker) mayProve() bool {
	if b.trusted {
		return b.proving < maxUnanswered && b.proving+b.late+b.refused < maxDoubtful
	}
	return b.refused+b.proving < maxRefused && b.proving+b.late+b.lost+b.refused < maxDoubtful
}

// proof is one proof of the password, from before it is sent.
type proof struct {
	of *breaker
	as *int // the count that has it
}

// move counts the proof elsewhere, if it is counted as from (nil: as anything).
func (p *proof) move(from, to *int) {
	b := p.of
	b.mu.Lock()
	defer b.mu.Unlock()
	if from != nil && p.as != from {
		return
	}
	*p.as--
	*to++
	p.as = to
	switch to {
	case &b.accepted:
		b.trusted = true
	case &b.refused:
		b.trusted = false
		time.AfterFunc(refusedFor, func() { p.move(to, &b.forgotten) })
	case &b.lost:
		time.AfterFunc(doubtFor, func() { p.move(to, &b.forgotten) })
	}
	b.serve()
}
