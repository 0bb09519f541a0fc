package connect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
)

const (
	breakerFailures = 10               // in a row, before attempts are spaced out
	breakerPause    = time.Second      // at most, between attempts; at least half of it
	unaskedPause    = 33 * time.Second // longer than the 30 s for which Supavisor does not ask after five times in vain
	longPause       = 85 * time.Second // two of them are longer than Supavisor's window

	maxPlaces  = 9                 // logins that Supavisor may count, of all processes: at ten it blocks their address
	maxRefused = 3                 // passwords of one process within refusedFor
	refusedFor = 150 * time.Second // Supavisor's window
	answerTime = time.Second       // after which a login is in doubt
	doubtFor   = 15 * time.Second  // after the end of a connection that did not wait for the answer
	aloneFor   = 5 * time.Second   // after which a login that goes first lets another go ahead
)

// breaker decides whether there may be another attempt, and when a login may send its password.
//
// After several failures in a row attempts are spaced out: in between, callers are refused
// without a dial, with what the last attempt was told.
//
// And Supavisor blocks an address for two minutes after ten logins within 150 s that it did
// not let in. So each that it may count holds a place, and of those there are nine, of which
// each of several processes has its share:
//
//	a login that                      holds
//	sends its password                one of six logins
//	does so after a failed attempt    that of the first, too: no other may go on, for aloneFor at most
//	is not answered in answerTime     one of three doubts instead, if one is free, so that another has its place
//	was refused for its password      what it held, for refusedFor; after the third nobody tries
//	ended without an answer           what it held, for doubtFor, unless the last password was right
//	was let in, or refused otherwise  nothing
//
// Supavisor also counts a login whose secret it cannot ask the database for. The next one
// would fare no better, so nobody dials until a pause is over: unaskedPause the first two
// times, which is eight logins of four processes, then longPause.
type breaker struct {
	gate    chan struct{} // held by the login that is next to go on; the others wait for it in line
	mu      sync.Mutex    // guards what follows
	changed sync.Cond     // in a way that may let the next one go on, or give up

	failures int       // in a row
	last     error     // what the last of them was told
	next     time.Time // when an attempt is due, if they are spaced out
	unasked  time.Time // when the pooler could not ask for the secret
	inVain   int       // such answers in a row; those to logins that went together count as one
	refused  int       // passwords within refusedFor
	trusted  bool      // the last password that was answered was right

	first          *guard // the login that goes alone, if one does
	logins, doubts int    // places taken

	maxLogins, maxDoubts, maxRefused int
}

// newBreaker returns that of one of so many processes. With fewer than two places none could
// give a new password again, which Supavisor refuses once.
func newBreaker(processes int) *breaker {
	places := max(2, maxPlaces/processes)
	b := &breaker{failures: 1, gate: make(chan struct{}, 1)} // none has succeeded yet
	b.maxLogins, b.maxRefused = (2*places+2)/3, min(places, maxRefused)
	b.maxDoubts = places - b.maxLogins
	b.changed.L = &b.mu
	return b
}

// errBlocked: the password was refused too often of late to give it again.
var errBlocked = fmt.Errorf("authentication: failed too often within %v", refusedFor)

// again is what others were told, and no failure by itself. Failures can be one value: an end of time, or of a connection.
type again struct{ error }

func (a again) Unwrap() error { return a.error }

func (b *breaker) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused >= b.maxRefused {
		return again{errBlocked}
	}
	if b.failures >= breakerFailures && time.Now().Before(b.next) {
		return again{b.last}
	}
	b.next = time.Now().Add(breakerPause/2 + rand.N(breakerPause/2))
	return nil
}

// Opened implements nopool.Connector. A login alone is no success: PgBouncer lets clients
// in while it cannot reach the server, and says so at their first statement.
func (b *breaker) Opened(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since.After(b.unasked) && b.failures > 0 { // else another has learnt worse meanwhile
		b.failures, b.inVain = 0, 0
		b.changed.Signal()
	}
}

// Refused implements nopool.Connector. It is no failure of the database if the pooler is full,
// or if a server that has let us in refuses a setting, which may be one caller's alone.
func (b *breaker) Refused(err error) error {
	kind := kindOf(err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	letIn := answered && cmp.Or(pgErr.SeverityUnlocalized, pgErr.Severity) == "ERROR"
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind != nopool.ErrPoolerFull && !letIn && !errors.As(err, new(again)) {
		b.failures++
		b.last = err
	}
	return kind
}

// after calls f when d is over, under the lock.
func (b *breaker) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		f()
	})
}

// guard is one login as the breaker sees it. It stands between pgx and its connection: it
// takes the login's places before a password leaves, and gives them back with the answer.
//
// It wraps reader and writer, never the connection: pgx binds SCRAM to the server's
// certificate only if its connection is a *tls.Conn. With another type in its place,
// as AfterNetConnect could put there, binding is off without a word, and a man in the
// middle with a certificate of his own is let in.
type guard struct {
	*breaker
	ctx    context.Context
	since  time.Time // when the breaker let it through
	reads  io.Reader
	writes io.Writer
	sent   bool        // something that a pooler may count
	scram  bool        // both have proved that they know the password
	over   atomic.Bool // the login has ended, well or not
	place  *int        // which it holds: of breaker.logins, or of doubts
}

// newGuard returns the guard of a login that may take until ctx ends: pgx does not tell
// when it gives up on what it has read.
func (b *breaker) newGuard(ctx context.Context, since time.Time) *guard {
	g := &guard{breaker: b, ctx: ctx, since: since}
	context.AfterFunc(ctx, func() { g.end(context.Cause(ctx)) })
	return g
}

func (g *guard) Write(b []byte) (int, error) {
	if b[0] == 'p' && !g.sent { // PasswordMessage or SASLInitialResponse
		if err := g.enter(); err != nil {
			return 0, err
		}
	}
	return g.writes.Write(b)
}

// enter waits until the login may go on: alone, if nobody knows whether it can succeed. In
// the meantime it may have become pointless.
func (g *guard) enter() error {
	select {
	case g.gate <- struct{}{}:
		defer func() { <-g.gate }()
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		switch {
		case g.over.Load():
			return context.Cause(g.ctx)
		case g.refused >= g.maxRefused:
			return again{errBlocked}
		case !g.since.After(g.unasked): // it was let through before another was told
			return again{g.last}
		case g.logins < g.maxLogins && (g.failures == 0 || g.first == nil):
			g.sent = true
			g.take(&g.logins)
			g.after(answerTime, g.late)
			if g.failures > 0 {
				g.first = g
				g.after(aloneFor, g.stepAside)
			}
			return nil
		}
		g.changed.Wait()
	}
}

// take gives the login a place, or nil for none, and its old one to others.
func (g *guard) take(place *int) {
	if g.place != nil {
		*g.place--
		g.changed.Signal()
	}
	if g.place = place; place != nil {
		*place++
	}
}

// stepAside lets others go on if the login went first.
func (g *guard) stepAside() {
	if g.first == g {
		g.first = nil
		g.changed.Signal()
	}
}

// late is due when answerTime is over. Whether others can succeed is in doubt, too, as long
// as the login is not answered. One that has its place still lets another have it.
func (g *guard) late() {
	if !g.over.Load() {
		g.failures = max(1, g.failures)
	}
	if g.doubts < g.maxDoubts && g.place == &g.logins {
		g.take(&g.doubts)
	}
}

// Read notices that the server lets us in: what a pooler says after that, such as that its own
// login to the server was refused, is not about our password. Refusals come from pgx: see Config.
func (g *guard) Read(b []byte) (int, error) {
	n, err := g.reads.Read(b)
	switch {
	case g.over.Load():
	case err != nil:
		g.end(err)
	case n > 8 && b[0] == 'R':
		switch kind := binary.BigEndian.Uint32(b[5:]); {
		case kind == pgproto3.AuthTypeSASLFinal && bytes.HasPrefix(b[9:n], []byte("e=")): // how RFC 5802 refuses a password, and some poolers
			refusal, err := refusedBySCRAM.Encode(nil)
			return copy(b, refusal), err
		case kind == pgproto3.AuthTypeSASLFinal, kind == pgproto3.AuthTypeOk:
			g.scram = g.scram || kind == pgproto3.AuthTypeSASLFinal
			g.end(nil)
		}
	}
	return n, err
}

var refusedBySCRAM = pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28P01",
	Message: "password authentication failed, says SCRAM"}

// end is told how the login ended: nil for well, or what the server has said, or why nobody
// knows. What is said after it can be anybody's text.
func (g *guard) end(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over.Swap(true) {
		return
	}
	g.changed.Signal()
	g.stepAside()
	var held time.Duration // how long its place stays taken
	switch means := said(why).means; {
	case why == nil:
		g.trusted = g.trusted || g.sent
	case means == unasked:
		if g.since.After(g.unasked) { // else it went together with one that was told before
			g.inVain++
		}
		pause := unaskedPause
		if g.inVain > 2 {
			pause = longPause
		}
		g.failures, g.last, g.unasked, g.next = breakerFailures, why, time.Now(), time.Now().Add(pause)
	case means == password:
		g.trusted = false
		g.refused++
		g.after(refusedFor, func() { g.refused-- })
		held = refusedFor
	case !errors.As(why, new(*pgconn.PgError)) && !g.trusted && g.sent:
		held = doubtFor
	}
	if held > 0 {
		g.after(held, func() { g.take(nil) })
	} else {
		g.take(nil)
	}
}
