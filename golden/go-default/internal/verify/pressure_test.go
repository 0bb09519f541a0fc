package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// pressureParts are the rules about a pooler that is full, slow or gone.
var pressureParts = []part{
	{"NP17", "never more than the cap, Postgres", underCap},
	{"NP17", "a pooler that admits just the cap", exactFit},
	{"NP17", "first come, first served", inOrder},
	{"NP17", "past the queue", pastTheQueue},
	{"NP18", "a session that is never used", lazySession},
	{"NP20", "every form of full", everyFull},
	{"NP20", "a full PgBouncer", fullBouncer},
	{"NP20", "what must not be tried again", neverRetried},
	{"NP21", "one dial for each attempt", oneDial},
	{"NP21", "one address of many", oneAddress},
	{"NP21", "the next address after one that does not answer", nextAddress},
	{"NP22", "the slot waits for the server's close", slotHeld},
	{"NP22", "so does that of a session whose BEGIN is refused", slotHeldForRefusal},
	{"NP22", "a cancel under way keeps the slot", slotHeldForCancel},
	{"NP23", "COMMIT or ROLLBACK before the close", kindEnds},
	{"NP23", "a client that leaves during COMMIT", leavesDuringCommit},
	{"NP29", "only the caller's word repeats a function", retries},
	{"NP31", "round trips", roundTrips},
}

func underCap(t *T) {
	b := real(t, func(o *benchOptions) { o.MaxSessions = 3 })
	b.handle("GET /", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "select pg_sleep(0.01)")
		return err
	})
	together(30, func(int) { b.want(200, "GET", "/") })
	b.wantNoneLeft()
	if peak := b.relay.peak.Load(); peak > 3 {
		t.Errorf("%d connections at once over a cap of 3", peak)
	}
}

// exactFit wants no session to be refused by a pooler that counts a client
// until its connection is closed, even one that takes its time to do so.
func exactFit(t *T) {
	for _, lag := range []time.Duration{0, 20 * time.Millisecond} {
		pooler := standin.Start(t, standin.Options{MaxClients: 4, ReleaseLag: lag})
		b := on(t, pooler.URL(), func(o *benchOptions) { o.MaxSessions = 4 })
		together(100, func(int) {
			if err := b.run("select 1"); err != nil {
				t.Errorf("session: %v", err)
			}
		})
		if stats := pooler.Stats(); stats.Rejected > 0 || stats.Dials != 100 {
			t.Errorf("close after %v: %d of %d refused", lag, stats.Rejected, stats.Dials)
		}
	}
}

// inOrder lets sessions queue one after the other, and wants them served so.
func inOrder(t *T) {
	b := on(t, standin.Start(t, standin.Options{}).URL(), func(o *benchOptions) { o.MaxSessions = 1 })
	var mu sync.Mutex
	var served []int
	var all sync.WaitGroup
	_ = b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		for i := range 8 {
			all.Go(func() {
				_ = b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
					_, err := s.Exec(ctx, "select 1")
					mu.Lock()
					defer mu.Unlock()
					served = append(served, i)
					return err
				})
			})
			within(5*time.Second, func() bool { return b.db.Snapshot().Waiting == i+1 })
		}
		return err
	})
	all.Wait()
	if got := fmt.Sprint(served); got != "[0 1 2 3 4 5 6 7]" {
		t.Errorf("served in the order %s", got)
	}
}

// pastTheQueue fills slots and queue: the next one is refused at once, as a
// 503 that says when to come back, and nothing is dialled for it.
func pastTheQueue(t *T) {
	pooler := standin.Start(t, standin.Options{})
	b := on(t, pooler.URL(), func(o *benchOptions) { o.MaxSessions, o.MaxWaiting, o.SessionWait = 1, 1, 2*time.Second })
	b.handle("GET /", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "select 1")
		return err
	})
	release, held := make(chan struct{}), make(chan struct{})
	go func() {
		_ = b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, "select 1")
			close(held)
			<-release
			return err
		})
	}()
	<-held
	waiting := make(chan answer)
	go func() { waiting <- b.do(context.Background(), "GET", "/") }()
	within(5*time.Second, func() bool { return b.db.Snapshot().Waiting == 1 })
	a := b.want(http.StatusServiceUnavailable, "GET", "/")
	if a.header.Get("Retry-After") == "" || a.took > time.Second {
		t.Errorf("refused after %v, Retry-After %q", a.took, a.header.Get("Retry-After"))
	}
	if n := pooler.Stats().Dials; n != 1 {
		t.Errorf("%d connections were dialled", n)
	}
	close(release)
	if a := <-waiting; a.status != 200 {
		t.Errorf("the one in the queue got %d", a.status)
	}
}

// lazySession holds every slot and serves a request that does not need one.
func lazySession(t *T) {
	pooler := standin.Start(t, standin.Options{})
	b := on(t, pooler.URL(), func(o *benchOptions) { o.MaxSessions, o.MaxWaiting = 1, 0 })
	b.handle("POST /", func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
		w.WriteHeader(http.StatusAccepted)
		return nil
	})
	b.handle("POST /invalid", func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error { return errors.New("cause") })
	_ = b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		b.want(http.StatusAccepted, "POST", "/")
		b.want(http.StatusInternalServerError, "POST", "/invalid")
		return err
	})
	if n := pooler.Stats().Dials; n != 1 {
		t.Errorf("%d connections for one session that was used", n)
	}
	b.wantNoneLeft()
	b.want(http.StatusAccepted, "POST", "/") // nor where there is room for one
	if n := pooler.Stats().Dials; n != 1 {
		t.Errorf("%d connections, one of them for a session that was not used", n)
	}
}

// fulls are the ways in which poolers and Postgres say that they are full.
var fulls = []*pgproto3.ErrorResponse{
	standin.Fatal("XX000", "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15"),
	standin.Fatal("XX000", "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size"),
	standin.Fatal("XX000", "Max client connections reached"),
	standin.Fatal("XX000", "(EMAXCONN) max client connections reached, limit: 200"),
	standin.Fatal("XX000", "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 60000ms in Session mode"),
	standin.Fatal("08P01", "no more connections allowed (max_client_conn)"),
	standin.Fatal("53300", "sorry, too many clients already"),
	standin.Fatal("53300", "remaining connection slots are reserved for non-replication superuser connections"),
}

// everyFull wants each of them to be tried again until it passes, and to end
// as a 503 when it does not.
func everyFull(t *T) {
	forms := append(slices.Clone(fulls), standin.Fatal("08P01", "query_wait_timeout"))
	together(len(forms), func(i int) { fullUntilItPasses(t, forms[i], i == len(fulls)) })
}

// fullUntilItPasses has one form of full, said to the connection or, by PgBouncer,
// to its first statement.
func fullUntilItPasses(t *T, full *pgproto3.ErrorResponse, atBegin bool) {
	var left atomic.Int32
	refuse := func() *pgproto3.ErrorResponse {
		if left.Add(-1) >= 0 {
			return full
		}
		return nil
	}
	pooler := standin.Start(t, standin.Options{
		OnStartup: func(int) *pgproto3.ErrorResponse {
			if atBegin {
				return nil
			}
			return refuse()
		},
		OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
			if atBegin && strings.HasPrefix(strings.ToLower(sql), "begin") {
				r.Error = refuse()
			}
			return r
		},
	})
	b := on(t, pooler.URL(), func(o *benchOptions) { o.ConnectTimeout = 3 * time.Second })
	left.Store(3)
	if err := b.run("select 1"); err != nil || b.db.Snapshot().OpenRetries != 3 {
		t.Errorf("%s: %d retries, %v", full.Message, b.db.Snapshot().OpenRetries, err)
	}
	left.Store(1 << 30)
	b = on(t, pooler.URL(), func(o *benchOptions) { o.ConnectTimeout = 500 * time.Millisecond })
	b.handle("GET /", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "select 1")
		if !errors.Is(err, nopool.ErrPoolerFull) {
			t.Errorf("%s: want ErrPoolerFull, got %v", full.Message, err)
		}
		return err
	})
	if a := b.want(http.StatusServiceUnavailable, "GET", "/"); a.header.Get("Retry-After") == "" {
		t.Errorf("%s: a 503 without Retry-After", full.Message)
	}
}

// fullBouncer asks a real PgBouncer for more than it has.
func fullBouncer(t *T) {
	b := real(t, func(o *benchOptions) {
		o.MaxSessions, o.bouncer = 8, &pgtest.PgBouncerOptions{PoolSize: 2, MaxClientConn: 4}
	})
	together(24, func(int) {
		if err := b.run("select pg_sleep(0.01)"); err != nil {
			t.Errorf("session: %v", err)
		}
	})
	if b.db.Snapshot().OpenRetries == 0 {
		t.Errorf("the pooler was never full: this proves nothing")
	}
}

// neverRetried wants one dial for what trying again cannot mend, and no more
// than three refused passwords from one process.
func neverRetried(t *T) {
	for _, refused := range []*pgproto3.ErrorResponse{
		standin.Fatal("28P01", "password authentication failed for user \"app\""),
		standin.Fatal("28000", "no pg_hba.conf entry"),
		standin.Fatal("3D000", "database \"app\" does not exist"),
		standin.Fatal("XX000", "(ENOTFOUND) tenant/user app.ref not found"),
		standin.Fatal("XX000", "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked"),
		standin.Fatal("08P01", "SASL authentication failed"),
		standin.Fatal("08P01", "no such database: app"),
		standin.Fatal("08P01", "unsupported startup parameter: statement_timeout"),
	} {
		pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse { return refused }})
		b := on(t, pooler.URL(), func(o *benchOptions) { o.ConnectTimeout = time.Second })
		if err := b.run("select 1"); !errors.Is(err, nopool.ErrConfiguration) || pooler.Stats().Dials != 1 {
			t.Errorf("%s: %d dials, %v", refused.Message, pooler.Stats().Dials, err)
		}
		if !strings.HasPrefix(refused.Code, "28") {
			continue
		}
		for range 10 {
			_ = b.run("select 1")
		}
		if n := pooler.Stats().Dials; n > 3 {
			t.Errorf("%s: tried %d times", refused.Message, n)
		}
	}
}

func refuseAll(int) *pgproto3.ErrorResponse { return fulls[0] }
