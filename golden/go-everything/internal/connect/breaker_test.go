package connect

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// begin starts as many proofs of n as may be.
func (b *breaker) begin(t *testing.T, n int) (begun []*proof) {
	t.Helper()
	for range n {
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond) // of a bubble: nobody answers in it
		if p, err := b.prove(ctx); err == nil {
			begun = append(begun, p)
		}
		cancel()
	}
	return begun
}

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
			var b breaker
			end := func(proofs []*proof, as *int) {
				for _, p := range proofs {
					p.move(nil, as)
				}
			}
			end(b.begin(t, 1), &b.accepted)
			hanging := b.begin(t, test.hanging)
			for second, want := range test.others {
				if len(hanging) < test.hanging { // of twelve, those that had to wait
					hanging = append(hanging, b.begin(t, test.hanging-len(hanging))...)
				}
				others := b.begin(t, 2*maxUnanswered)
				if len(others) != want {
					t.Errorf("%d hanging, after %d s: %d others, want %d", test.hanging, second, len(others), want)
				}
				end(others, &b.accepted)
				time.Sleep(answerTime + time.Millisecond)
			}
			if n := len(hanging); n > maxDoubtful {
				t.Errorf("%d proofs hang, want at most %d", n, maxDoubtful)
			}
			end(hanging, &b.accepted)
			if n := len(b.begin(t, 12)); n != maxUnanswered {
				t.Errorf("%d hung and were answered: %d others at once, want %d", test.hanging, n, maxUnanswered)
			}
		})
	}
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
				var b breaker
				for _, p := range b.begin(t, test.right) {
					p.move(nil, &b.accepted)
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
				if p, err := b.prove(ctx); err == nil {
					given.Add(1)
					time.Sleep(answered)
					p.move(nil, &b.refused)
				}
			}
		})
	}
	all.Wait()
	return given.Load()
}

// TestLostProofs wants a bound too on the wrong passwords whose answer nobody waits
// for; and none where the last answer was that the password is right.
func TestLostProofs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		lose := func() (n int) {
			for range 20 {
				for _, p := range b.begin(t, 1) {
					p.move(nil, &b.lost)
					n++
				}
			}
			return n
		}
		if n := lose(); n != maxDoubtful {
			t.Errorf("%d were given and lost, want %d", n, maxDoubtful)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.prove(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more: %v, want to wait", err)
		}
		time.Sleep(doubtFor)
		b.begin(t, 1)[0].move(nil, &b.accepted)
		if n := lose(); n != 20 {
			t.Errorf("%d of 20 were given after the password was accepted", n)
		}
	})
}

// TestLateSuccess wants a login that was under way to change nothing when another learns that secrets cannot be asked for,
// and one that came later to end the pause.
func TestLateSuccess(t *testing.T) {
	t.Parallel()
	b, before := newBreaker(), time.Now()
	b.told(&pgconn.PgError{Code: "XX000", Message: "(EAUTHQUERY) auth_query secret check timed out"}, before)
	b.Opened(before)
	b.told(&pgconn.PgError{Code: "57P01"}, before)
	if b.check() == nil {
		t.Error("the next login would be refused too")
	}
	for name, further := range map[string]func(g *guard){
		"refused later":               func(g *guard) { g.refusedBy(&pgconn.PgError{Code: "57P03"}) },
		"let in, though nobody waits": func(g *guard) { g.end(&g.accepted) },
	} {
		b.told(&pgconn.PgError{Code: "XX000", Message: "(EAUTHQUERY) auth_query secret check timed out"}, time.Now())
		further(&guard{breaker: b, checked: time.Now()})
		if err := b.check(); err != nil {
			t.Errorf("%s: it got further than that, and yet: %v", name, err)
		}
	}
}
