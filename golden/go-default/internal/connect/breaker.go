package connect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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

	maxAsking    = 6                // logins whose secret the pooler may have to ask the database for, at once
	aloneFor     = 3 * time.Second  // after which a login that goes first lets another go ahead
	unaskedPause = 22 * time.Second // after one answer that it cannot, so that four processes give Supavisor eight in 44 s
	circuitPause = 31 * time.Second // after several: at five, Supavisor does not try for 30 s
	longestPause = 75 * time.Second
)

// breaker decides whether another attempt may be made, for three reasons not to.
//
// The attempts at a database that has refused several times running are spaced out:
// in between, callers are refused without a dial, with what the last attempt was told.
//
// And Supavisor blocks an address for two minutes after ten refused passwords in 150 s,
// while a password can change under many logins. So few may prove it at once, and one
// that is not answered counts as refused until it is: no more than maxDoubtful will be.
//
// To the same ten it counts each login whose secret it could not ask the database for. So
// one goes first where the last attempt has failed, or none was made; and after such an
// answer nobody dials for a pause, twice as long after each.
type breaker struct {
	mu       sync.Mutex
	failures int
	last     error
	next     time.Time     // when an attempt is due
	pause    time.Duration // until then, 0 as long as the pooler could ask
	unasked  time.Time     // when it could not
	first    chan struct{} // has one element while a login goes first
	asking   chan struct{} // has one for each login whose secret may be asked for

	// Proofs of the password by how they stand: sent just now, sent answerTime ago, given
	// up, and answered.
	proving, late, lost, refused, accepted, forgotten int
	trusted                                           bool          // the last answer was yes
	waiting                                           []chan *proof // those who want to send one, in order
}

func newBreaker() *breaker {
	return &breaker{failures: 1, first: make(chan struct{}, 1), asking: make(chan struct{}, maxAsking)} // none has succeeded yet
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
	b.pause = min(2*b.pause, longestPause)
	b.next = time.Now().Add(max(b.pause, breakerPause/2+rand.N(breakerPause/2)))
	return nil
}

// Opened implements nopool.Connector. A login alone is no success: PgBouncer lets clients
// in while it cannot reach the server, and says so at their first statement.
func (b *breaker) Opened(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since.After(b.unasked) {
		b.failures, b.pause = 0, 0
	}
}

// well reports whether the last attempt succeeded.
func (b *breaker) well() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures == 0
}

// take takes a place, and returns what gives it back, as the end of ctx does. A login that
// was let through before another learnt that secrets cannot be asked for is held back here.
func (b *breaker) take(ctx context.Context, places chan struct{}, since time.Time) (leave func(), err error) {
	select {
	case places <- struct{}{}:
		free := sync.OnceFunc(func() { <-places })
		stop := context.AfterFunc(ctx, free) // pgx does not tell when it gives up on what it has read
		leave = func() { stop(); free() }
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !since.After(b.unasked) {
		leave()
		return nil, heldBack{b.last}
	}
	return leave, nil
}

// Refused implements nopool.Connector. A full pooler can be reached, and so can a
// server that let us in and then refused a setting, which may be one caller's alone.
func (b *breaker) Refused(err error) error {
	kind := kindOf(err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	letIn := answered && cmp.Or(pgErr.SeverityUnlocalized, pgErr.Severity) == "ERROR"
	if errors.As(err, new(heldBack)) {
		return kind
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind != nopool.ErrPoolerFull && !letIn {
		b.failures++
		b.last = err
	}
	return kind
}

// told is told what a server has said to an attempt that was let through at since.
func (b *breaker) told(refusal *pgconn.PgError, since time.Time) {
	if !isUnasked(refusal) {
		b.asked(since)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause > 0 || strings.Contains(refusal.Message, unaskedLong) {
		b.pause = max(b.pause, circuitPause)
	} else {
		b.pause = unaskedPause
	}
	b.failures, b.last, b.unasked = breakerFailures, refusal, time.Now()
	b.next = b.unasked.Add(b.pause)
}

// asked is told that an attempt that was let through at since got further than its secret.
func (b *breaker) asked(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause > 0 && since.After(b.unasked) {
		b.pause, b.next = 0, time.Time{}
	}
}

// unreached is told that an attempt that was let through at since met nobody who counts it.
func (b *breaker) unreached(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause > 0 && since.After(b.unasked) {
		b.pause, b.next = b.pause/2, time.Now().Add(breakerPause) // as it was before
	}
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
