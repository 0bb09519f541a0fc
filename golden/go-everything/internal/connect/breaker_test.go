package connect

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// begin has n logins ask to send a password, and returns those that may.
func (b *breaker) begin(t *testing.T, n int) (begun []*guard) {
	t.Helper()
	for range n {
		ctx, cancel := context.WithCancel(t.Context())
		patience := time.AfterFunc(time.Nanosecond, cancel) // of a bubble: nobody answers in it
		g := b.newGuard(ctx, time.Now())
		g.writes = io.Discard
		if _, err := g.Write([]byte("p")); err == nil && patience.Stop() {
			begun = append(begun, g)
		}
	}
	return begun
}

var (
	errLost     = errors.New("connection reset by peer")
	errPassword = &pgconn.PgError{Severity: "FATAL", Code: "28P01"}
	errUnasked  = &pgconn.PgError{Severity: "FATAL", Code: "XX000", Message: "(EAUTHQUERY) auth_query secret check timed out"}
)

// TestHangingProofs has some proofs of the password hang, and wants others to be let
// through: at once, after a second, or not before it is known how those end.
func TestHangingProofs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		hanging int
		others  []int // that may begin: at once, a second later, and another
	}{
		{3, []int{3, 6, 6}},
		{6, []int{0, 3, 3}}, // no more than nine can be refused
		{12, []int{0, 0, 0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBreaker(1)
			end := func(logins []*guard) {
				for _, g := range logins {
					g.end(nil)
				}
			}
			end(b.begin(t, 1))
			b.Opened(time.Now())
			hanging := b.begin(t, test.hanging)
			for second, want := range test.others {
				if len(hanging) < test.hanging { // of twelve, those that had to wait
					hanging = append(hanging, b.begin(t, test.hanging-len(hanging))...)
				}
				if one := b.begin(t, 1); len(one) > 0 { // goes first
					end(one)
					b.Opened(time.Now())
				}
				others := b.begin(t, 2*b.maxLogins)
				if len(others) != want {
					t.Errorf("%d hanging, after %d s: %d others, want %d", test.hanging, second, len(others), want)
				}
				end(others)
				time.Sleep(answerTime + time.Millisecond)
			}
			if n := len(hanging); n > maxPlaces {
				t.Errorf("%d proofs hang, want at most %d", n, maxPlaces)
			}
			end(hanging)
			b.Opened(time.Now())
			if n := len(b.begin(t, 12)); n != b.maxLogins {
				t.Errorf("%d hung and were answered: %d others at once, want %d", test.hanging, n, b.maxLogins)
			}
		})
	}
}

// TestLoginsInTurn wants a place to go to the login that has waited longest for one, not to
// who asks when it becomes free.
func TestLoginsInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(1)
		b.begin(t, 1)[0].end(nil)
		b.Opened(time.Now())
		logins := b.begin(t, b.maxLogins)
		entered := make(chan int, 100)
		ask := func(n int) {
			g := b.newGuard(t.Context(), time.Now())
			g.writes = io.Discard
			logins = append(logins, g)
			go func() {
				if _, err := g.Write([]byte("p")); err == nil {
					entered <- n
				}
			}()
		}
		for n := range 10 {
			ask(n)
			synctest.Wait()
		}
		for n := range 20 {
			logins[n].end(nil)
			ask(10 + n)
			synctest.Wait()
			if got := <-entered; got != n {
				t.Fatalf("login %d goes on, want %d", got, n)
			}
		}
		for _, g := range logins {
			g.end(nil)
		}
	})
}

// TestRefusedProofs wants three wrong passwords to be given, at most nine where many
// were under way, and none after that until Supavisor has forgotten them.
func TestRefusedProofs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		right       int // proofs before the password changes
		logins      int // at a time
		answered    time.Duration
		least, most int32
	}{
		{"wrong from the start", 0, 40, 10 * time.Millisecond, 3, 3},
		{"changed, at little load", 1, 3, 10 * time.Millisecond, 3, 3},
		{"changed, at much load", 1, 40, 10 * time.Millisecond, 3, 6},
		{"wrong from the start, answered late", 0, 40, 5 * time.Second, 3, 9},
		{"changed, answered late", 1, 40, 5 * time.Second, 3, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBreaker(1)
				for _, g := range b.begin(t, test.right) {
					g.end(nil)
					b.Opened(time.Now())
				}
				if n := b.giveWrong(t.Context(), test.logins, test.answered); n < test.least || n > test.most {
					t.Errorf("%d wrong passwords were given, want %d to %d", n, test.least, test.most)
				}
				time.Sleep(refusedFor + time.Second)
				if err := b.check(); err != nil || len(b.begin(t, 1)) != 1 {
					t.Errorf("after the window: %v, or no proof", err)
				}
			})
		})
	}
}

// giveWrong gives a wrong password in many logins until that is in vain, and returns
// how often.
func (b *breaker) giveWrong(ctx context.Context, logins int, answered time.Duration) int32 {
	var given atomic.Int32
	var all sync.WaitGroup
	for range logins {
		all.Go(func() {
			for b.check() == nil {
				g := b.newGuard(ctx, time.Now())
				g.writes = io.Discard
				time.Sleep(min(answered, 100*time.Millisecond)) // until the server asks for it
				if _, err := g.Write([]byte("p")); err == nil {
					given.Add(1)
					time.Sleep(answered)
					g.end(errPassword)
					b.Refused(errPassword)
				}
			}
		})
	}
	all.Wait()
	return given.Load()
}

// TestShares wants the places of one process to be nine, those of several together not more, as far
// as each then has two, and that many wrong passwords to be given.
func TestShares(t *testing.T) {
	t.Parallel()
	for processes, want := range map[int]struct{ logins, doubts, refused int }{
		1: {6, 3, 3}, 2: {3, 1, 3}, 3: {2, 1, 3}, 4: {2, 0, 2}, 100: {2, 0, 2},
	} {
		b := newBreaker(processes)
		if b.maxLogins != want.logins || b.maxDoubts != want.doubts || b.maxRefused != want.refused {
			t.Errorf("%d processes: %d logins, %d doubts, %d refused, want %v", processes, b.maxLogins, b.maxDoubts, b.maxRefused, want)
		}
	}
}

// TestLostProofs wants a bound too on the wrong passwords whose answer nobody waits
// for; and none where the last answer was that the password is right.
func TestLostProofs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(1)
		lose := func() (n int) {
			for range 20 {
				for _, g := range b.begin(t, 1) {
					g.end(errLost)
					n++
				}
			}
			return n
		}
		first := lose()
		time.Sleep(answerTime + time.Millisecond)
		if n := lose(); first != b.maxLogins || n != b.maxDoubts {
			t.Errorf("%d were given and lost, then %d, want %d and %d", first, n, b.maxLogins, b.maxDoubts)
		}
		time.Sleep(doubtFor)
		b.begin(t, 1)[0].end(nil)
		if n := lose(); n != 20 {
			t.Errorf("%d of 20 were given after the password was accepted", n)
		}
	})
}

// TestLateSuccess wants a login that was under way to change nothing when another learns that secrets cannot be asked for,
// and one that came later to let the next pause be a short one.
func TestLateSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(1)
		before := time.Now()
		b.Opened(before)
		under := b.begin(t, 2)
		time.Sleep(time.Second)
		b.begin(t, 1)[0].end(errUnasked)
		under[0].end(&pgconn.PgError{Code: "57P01"})
		b.Opened(before)
		under[1].end(errUnasked)
		if b.check() == nil {
			t.Error("the next login would be refused too")
		}
		for _, pause := range []time.Duration{unaskedPause, unaskedPause, longPause, longPause} {
			if time.Sleep(pause - time.Second); b.check() == nil {
				t.Errorf("an attempt was made %v after an answer", pause-time.Second)
			}
			if time.Sleep(time.Second + time.Millisecond); b.check() != nil {
				t.Errorf("none was made %v after an answer", pause)
			}
			b.begin(t, 1)[0].end(errUnasked)
		}
		time.Sleep(longPause + time.Millisecond)
		b.Opened(time.Now())
		b.begin(t, 1)[0].end(errUnasked)
		if time.Sleep(unaskedPause + time.Millisecond); b.check() != nil {
			t.Error("a success in between has not ended the outage")
		}
	})
}
