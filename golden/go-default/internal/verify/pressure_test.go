package verify

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// pressureParts are the rules about many sessions, and about a pooler that is full, slow or gone.
var pressureParts = []part{
	{"NP01", "200 sessions over a cap of 4, stand-in", distinctDials}, {"NP17", "200 sessions over a cap of 4, stand-in", distinctDials},
	{"NP01", "200 sessions over a cap of 4, Postgres", distinctBackends}, {"NP17", "200 sessions over a cap of 4, Postgres", distinctBackends},
	{"NP17", "first come, first served", inOrder},
	{"NP11", "past the queue", pastTheQueue}, {"NP17", "past the queue", pastTheQueue}, {"NP18", "past the queue", pastTheQueue},
	{"NP20", "every form of full", everyFull},
	{"NP20", "a full PgBouncer", fullBouncer},
	{"NP20", "what must not be tried again", neverRetried},
	{"NP20", "what may pass", fewTimes},
	{"NP21", "one dial for each attempt", oneDial},
	{"NP21", "a server that is silent", silentServer},
	{"NP22", "the slot waits for the server's close", slotHeld},
	{"NP22", "so does that of a session whose BEGIN is refused", slotHeldForRefusal},
	{"NP22", "a pooler that frees its places late", lateRelease},
	{"NP22", "the slot waits for an opening that was given up", slotHeldForOpening},
	{"NP22", "a cancel under way keeps the slot", slotHeldForCancel},
}

const (
	manySessions = 200
	capOfMany    = 4
)

// distinctDials wants a connection for each session, with one transaction in it, while many wait for few slots. The
// pooler admits just the cap, and counts a client until its connection is closed, which may take a while.
func distinctDials(t *T) {
	for _, lag := range []time.Duration{0, 20 * time.Millisecond} {
		pooler := standin.Start(t, standin.Options{MaxClients: capOfMany, ReleaseLag: lag})
		s := on(t, pooler.URL(), func(o *options) { o.MaxSessions = capOfMany })
		together(manySessions, func(int) {
			t.wantErr(nil, s.run("select 1"), "session")
		})
		s.wantNoneLeft()
		now := pooler.Stats()
		t.failIf(now.Dials != manySessions || now.Peak > capOfMany || now.Rejected > 0, "%d sessions over a cap of %d: %+v", manySessions, capOfMany, now)
		for _, conn := range pooler.Conns() {
			n := strings.Count(";"+strings.ToLower(strings.Join(conn.Statements, ";")), ";begin")
			t.failIf(n != 1, "connection %d carried %d transactions", conn.N, n)
		}
	}
}

// silentServer answers no statement, and does not hear of a cancel: a caller without a bound of its own must be back soon
// after the server's timeout should have ended it.
func silentServer(t *T) {
	const timeout = 300 * time.Millisecond
	s := on(t, standin.Start(t, standin.Options{OnStatement: asPostgres}).URL(), func(o *options) { o.StatementTimeout = timeout })
	began := time.Now()
	t.wantErr(nopool.ErrUnavailable, s.run("select 1", "select pg_sleep(20)"), "a statement without an answer")
	if took := time.Since(began); took < timeout || took > timeout+5*time.Second {
		t.Errorf("given up after %v, the server's timeout is %v", took, timeout)
	}
}

// distinctBackends wants the same as Postgres itself sees it: a backend is known by its pid and the time it started.
func distinctBackends(t *T) {
	s := real(t, func(o *options) { o.MaxSessions = capOfMany })
	var backends sync.Map
	together(manySessions, func(int) {
		var backend string
		t.wantErr(nil, s.session(func(ctx context.Context, session *nopool.Session) error {
			return session.QueryRow(ctx, "select pid || ' ' || backend_start from pg_stat_activity where pid = pg_backend_pid()").Scan(&backend)
		}), "session")
		_, twice := backends.Swap(backend, true)
		t.failIf(twice, "two sessions had the backend %s", backend)
	})
	s.wantNoneLeft()
	total, peak := s.relay.Total.Load(), s.relay.Peak.Load()
	t.failIf(total != manySessions || peak > capOfMany, "%d sessions over a cap of %d made %d connections, %d at once", manySessions, capOfMany, total, peak)
}

// inOrder lets sessions queue one after the other, and wants them served so.
func inOrder(t *T) {
	s := on(t, standin.Start(t, standin.Options{}).URL(), func(o *options) { o.MaxSessions = 1 })
	served := make(chan int, 8)
	s.holding(func() {
		for i := range cap(served) {
			go func() {
				_ = s.session(func(ctx context.Context, session *nopool.Session) error {
					_, err := session.Exec(ctx, "select 1")
					served <- i
					return err
				})
			}()
			if !pgtest.Within(soon, func() bool { return s.db.Snapshot().Waiting == i+1 }) {
				t.Fatal("not in the queue: session", i)
			}
		}
	})
	for i := range cap(served) {
		n := <-served
		t.failIf(n != i, "session %d was served in place of %d", n, i)
	}
}

// pastTheQueue fills slots and queue: the next one is refused at once, as a 503 that says when to come back, counted and
// logged, and nothing is dialled for it. A request that never asks the database is served all the same.
func pastTheQueue(t *T) {
	pooler := standin.Start(t, standin.Options{})
	s := on(t, pooler.URL(), func(o *options) { o.MaxSessions, o.MaxWaiting = 1, 1 })
	s.handle("GET /", query("select 1"))
	s.handle("POST /", chosen(http.StatusAccepted))
	s.handle("POST /invalid", fails)
	s.want(http.StatusAccepted, "POST", "/")
	queued := make(chan answer, 1)
	s.holding(func() {
		go func() { queued <- s.do(context.Background(), "GET", "/") }()
		pgtest.Within(soon, func() bool { return s.db.Snapshot().Waiting == 1 })
		a := s.want(http.StatusServiceUnavailable, "GET", "/")
		t.failIf(a.header.Get("Retry-After") == "", "no Retry-After: %v", a.header)
		t.failIf(t.rule == "NP11" && (s.db.Snapshot().Rejected != 1 || len(s.log.Records("database session rejected")) != 1), "a refused session is not counted or logged: %+v", s.db.Snapshot())
		s.want(http.StatusAccepted, "POST", "/")
		s.want(http.StatusInternalServerError, "POST", "/invalid")
	})
	t.failIf((<-queued).status != 200, "the one in the queue was not served")
	s.wantNoneLeft()
	t.failIf(pooler.Stats().Dials != 2, "%d connections for two sessions that were used", pooler.Stats().Dials)
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

func refuseAll(int) *pgproto3.ErrorResponse { return fulls[0] }

// everyFull wants each of them to be tried again until it passes, and to end as a 503 when it does not.
func everyFull(t *T) {
	last := len(fulls)
	forms := append(slices.Clone(fulls), standin.Fatal("08P01", "query_wait_timeout"), fulls[last-1])
	together(len(forms), func(i int) { fullUntilItPasses(t, forms[i], map[int]string{last: "BEGIN", last + 1: "SSLRequest"}[i]) })
}

// fullUntilItPasses has one form of full, said at start-up, to the first statement, as PgBouncer does, or in answer to the
// request for TLS, as pgpool-II does.
func fullUntilItPasses(t *T, full *pgproto3.ErrorResponse, at string) {
	var left atomic.Int32
	refuse := func(here string) *pgproto3.ErrorResponse {
		if here == at && left.Add(-1) >= 0 {
			return full
		}
		return nil
	}
	pooler := standin.Start(t, standin.Options{
		TLS:          at == "SSLRequest",
		OnSSLRequest: func() *pgproto3.ErrorResponse { return refuse("SSLRequest") },
		OnStartup:    func(int) *pgproto3.ErrorResponse { return refuse("") },
		OnStatement: func(_ *standin.Conn, sql string) (reply standin.Reply) {
			if strings.HasPrefix(strings.ToLower(sql), "begin") {
				reply.Error = refuse("BEGIN")
			}
			return reply
		},
	})
	s := on(t, pooler.URL())
	left.Store(3)
	t.wantErr(nil, s.run("select 1"), "%s", full.Message)
	t.failIf(s.db.Snapshot().OpenRetries != 3, "%s: %d retries", full.Message, s.db.Snapshot().OpenRetries)
	left.Store(1 << 30)
	s = on(t, pooler.URL(), func(o *options) { o.ConnectTimeout = time.Second })
	s.handle("GET /", query("select 1"))
	told := pgtest.Within(soon/2, func() bool { // unless its time is over in the middle of an attempt
		a := s.want(http.StatusServiceUnavailable, "GET", "/")
		t.failIf(a.header.Get("Retry-After") == "", "%s: a 503 without Retry-After", full.Message)
		return a.problem["code"] == "busy" && errors.Is(s.run("select 1"), nopool.ErrPoolerFull)
	})
	t.failIf(!told, "%s: want ErrPoolerFull, and an answer that the service is busy", full.Message)
}

// fullBouncer asks a real PgBouncer for more than it has.
func fullBouncer(t *T) {
	s := real(t, func(o *options) {
		o.MaxSessions, o.bouncer = 8, &pgtest.PgBouncerOptions{PoolSize: 2, MaxClientConn: 4}
	})
	together(24, func(int) {
		t.wantErr(nil, s.run("select pg_sleep(0.01)"), "session")
	})
	t.failIf(s.db.Snapshot().OpenRetries == 0, "the pooler was never full: this proves nothing")
}

// neverRetried wants one dial for what trying again cannot mend, and no more than three refused passwords from one
// process.
func neverRetried(t *T) {
	for _, refused := range []*pgproto3.ErrorResponse{
		standin.Fatal("28P01", "password authentication failed for user \"app\""),
		standin.Fatal("28000", "no pg_hba.conf entry"),
		standin.Fatal("3D000", "database \"app\" does not exist"),
		standin.Fatal("XX000", "(ENOTFOUND) tenant/user app.ref not found"),
		standin.Fatal("XX000", "(ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)"),
		standin.Fatal("XX000", "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked"),
		standin.Fatal("08P01", "SASL authentication failed"),
		standin.Fatal("08P01", "no such database: app"),
		standin.Fatal("08P01", "unsupported startup parameter: statement_timeout"),
	} {
		pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse { return refused }})
		s := on(t, pooler.URL())
		if err := s.run("select 1"); !errors.Is(err, nopool.ErrConfiguration) || pooler.Stats().Dials != 1 {
			t.Errorf("%s: %d dials, %v", refused.Message, pooler.Stats().Dials, err)
		}
		if !strings.HasPrefix(refused.Code, "28") {
			continue
		}
		for range 10 {
			_ = s.run("select 1")
		}
		t.failIf(pooler.Stats().Dials > 3, "%s: tried %d times", refused.Message, pooler.Stats().Dials)
	}
	// Supavisor counts this to the same ten, though the password is right, and it passes.
	pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse {
		return standin.Fatal("XX000", "(EAUTHQUERY) authentication query failed: connection to database not available")
	}})
	s := on(t, pooler.URL())
	together(10, func(int) {
		t.wantErr(nopool.ErrUnavailable, s.run("select 1"), "the pooler cannot ask for the secret")
	})
	t.failIf(pooler.Stats().Rejected != 1, "a pooler that cannot ask for the secret: %d logins", pooler.Stats().Rejected)
}

// fewTimes wants three dials for a refusal that nobody knows, and one where the answer to BEGIN is lost: what travelled
// with it may have run.
func fewTimes(t *T) {
	unknown := standin.Fatal("XX000", "what nobody has met yet")
	for want, o := range map[uint64]standin.Options{
		3: {OnStartup: func(int) *pgproto3.ErrorResponse { return unknown }},
		1: {OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
			return standin.Reply{Drop: strings.HasPrefix(strings.ToLower(sql), "begin")}
		}},
	} {
		s := on(t, standin.Start(t, o).URL())
		err, dials := s.run("select 1"), s.db.Snapshot().Dials // the pooler sees those of pgx's cancels, too
		t.failIf(!errors.Is(err, nopool.ErrUnavailable) || dials != want, "%d dials, want %d: %v", dials, want, err)
	}
}

// oneDial counts the connections of refused attempts: no fallback to plaintext or to another host, and one address of
// those that a host has. A dial that fails tries the next address within the same attempt.
func oneDial(t *T) {
	for _, encrypted := range []bool{false, true} {
		for _, addresses := range [][]string{{"192.0.2.1"}, {"192.0.2.1", "192.0.2.2", "192.0.2.3"}, {brokenAddress, "192.0.2.1"}} {
			pooler := standin.Start(t, standin.Options{TLS: encrypted, OnStartup: func(n int) *pgproto3.ErrorResponse {
				if n < 4 {
					return fulls[0]
				}
				return nil
			}})
			url := strings.NewReplacer("verify-full", "prefer", "127.0.0.1", "localhost").Replace(pooler.URL())
			s := on(t, url, func(o *options) {
				o.noRelay, o.DialFunc = true, dialHere
				o.LookupFunc = func(context.Context, string) ([]string, error) { return addresses, nil }
			})
			t.wantErr(nil, s.run("select 1"), "a host of the addresses %v", addresses)
			c, dials := s.db.Snapshot(), pooler.Stats().Dials
			t.failIf(dials != 4 || c.Dials != 4 || c.OpenRetries != 3, "addresses %v: 4 attempts made %d connections; counted: %d dials, %d retries", addresses, dials, c.Dials, c.OpenRetries)
		}
	}
	for _, url := range []string{
		"postgres://u:p@a.example.com,b.example.com/d?sslmode=require",
		"host=a.example.com,b.example.com user=u sslmode=require",
		"postgres://u:p@a.example.com:1,a.example.com:2/d?sslmode=require",
	} {
		_, err := connect.Parse(url, connect.Options{})
		t.failIf(err == nil, "a URL of several hosts was accepted: %s", url)
	}
}

const brokenAddress = "192.0.2.9" // RFC 5737

// dialHere finds a server of this machine at every address but one.
func dialHere(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, _ := net.SplitHostPort(address)
	if host == brokenAddress {
		return nil, errors.New("no route to host")
	}
	return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

// slotHeld wants the slot of a session back when the server has closed its connection, and the response before.
func slotHeld(t *T) {
	pooler := standin.Start(t, standin.Options{ReleaseLag: 3 * time.Second})
	s := on(t, pooler.URL(), func(o *options) { o.MaxSessions = 1 })
	s.handle("POST /", query("insert into t"))
	s.want(200, "POST", "/")
	t.failIf(pooler.Stats().Open != 1, "the response waited for the server's close")
	t.failIf(s.db.Snapshot().InUse != 1, "the slot is free before the server has closed")
	t.wantErr(nil, s.run("select 1"), "the next session")
	t.failIf(s.relay.Peak.Load() != 1, "%d connections at once over a cap of 1", s.relay.Peak.Load())
}

// slotHeldForRefusal wants the same of a session that could not be opened: it has a connection to close, too. So has each
// attempt, before the next one.
func slotHeldForRefusal(t *T) {
	const lag = 400 * time.Millisecond
	for code, attempts := range map[string]int{"42501": 1, "53300": 2} { // never tried again, and always
		s := on(t, standin.Start(t, standin.Options{ReleaseLag: lag, OnStatement: func(c *standin.Conn, sql string) (r standin.Reply) {
			if strings.HasPrefix(strings.ToLower(sql), "begin") && (attempts == 1 || c.N == 1) {
				r = refusal(code)
			}
			return r
		}}).URL(), func(o *options) { o.MaxSessions = 1 })
		began := time.Now()
		for range 2 {
			err := s.run("select 1")
			t.failIf((err != nil) != (attempts == 1), "BEGIN refused with %s: %v", code, err)
		}
		took, peak := time.Since(began), s.relay.Peak.Load()
		t.failIf(took < lag || peak != 1, "%s: the next connection came after %v; %d at once over a cap of 1", code, took, peak)
	}
}

// lateRelease runs sessions, one after the other, on a pooler that frees a place only after it has closed. All but the first
// are refused if nobody gives it that time; a machine under load can be later than the pooler, so some may be.
func lateRelease(t *T) {
	const sessions = 100
	pooler := standin.Start(t, standin.Options{MaxClients: 1, LateRelease: 4 * time.Millisecond})
	s := on(t, pooler.URL(), func(o *options) { o.MaxSessions, o.noRelay = 1, true })
	for range sessions {
		t.wantErr(nil, s.run("select 1"), "session")
	}
	now := pooler.Stats()
	t.failIf(now.Rejected*10 > now.Dials, "%d of %d dials were refused", now.Rejected, now.Dials)
}

// slotHeldForOpening leaves while the pooler is at work on the login, and has its place until that ends.
func slotHeldForOpening(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true, MaxClients: 1, CheckOut: 500 * time.Millisecond})
	s := on(t, pooler.URL(), func(o *options) { o.MaxSessions, o.noRelay = 1, true })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := s.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "select 1")
		return err
	})
	t.wantErr(context.DeadlineExceeded, err, "who left")
	t.failIf(s.db.Snapshot().InUse != 1, "the slot was free while the pooler counted its connection")
	t.wantErr(nil, s.run("select 1"), "the next session")
	t.failIf(pooler.Stats().Rejected > 0, "the next session was dialled too early")
}

// slotHeldForCancel goes away during a statement. pgx then dials again to cancel it: until that is done, the slot is taken.
func slotHeldForCancel(t *T) {
	var dials atomic.Int32
	release := make(chan struct{})
	pooler := standin.Start(t, standin.Options{OnStatement: asPostgres})
	s := on(t, pooler.URL(), func(o *options) {
		o.MaxSessions = 1
		o.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) == 2 {
				<-release
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_ = s.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "select pg_sleep(20)")
		return err
	})
	t.failIf(pgtest.Within(400*time.Millisecond, func() bool { return s.db.Snapshot().InUse == 0 }), "the slot was free with the cancel under way")
	close(release)
	s.wantNoneLeft()
	t.failIf(pooler.Stats().CancelRequests != 1, "%d cancel requests arrived", pooler.Stats().CancelRequests)
}
