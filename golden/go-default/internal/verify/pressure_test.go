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

// pressureParts are the rules about many sessions, and about a pooler that is full or refuses.
var pressureParts = []part{
	{"NP01 NP17", "200 sessions over a cap of 4, stand-in", distinctDials},
	{"NP01", "200 sessions over a cap of 4, Postgres", distinctBackends},
	{"NP17", "first come, first served", inOrder},
	{"NP11 NP17 NP18", "past the queue", pastTheQueue},
	{"NP20", "every form of full", everyFull},
	{"NP20", "what must not be tried again", neverRetried},
}

const capOfMany = 4

// many runs sessions, of which most wait for a slot, and wants a connection for each and no more at once than the cap.
func (s *service) many(session func()) {
	s.t.Helper()
	const sessions = 200
	together(sessions, func(int) { session() })
	s.wantNoneLeft()
	total, peak := s.relay.Total.Load(), s.relay.Peak.Load()
	s.t.failIf(total != sessions || peak > capOfMany, "%d sessions over a cap of %d made %d connections, %d at once", sessions, capOfMany, total, peak)
}

// distinctDials wants one transaction on each connection. The pooler admits just the cap, and counts a client until its
// connection is closed, which takes a while.
func distinctDials(t *T) {
	s := onStandin(t, standin.Options{MaxClients: capOfMany, ReleaseLag: 20 * time.Millisecond}, func(o *options) { o.MaxSessions = capOfMany })
	s.many(func() { t.wantErr(nil, s.run("select 1"), "session") })
	t.failIf(s.pooler.Stats().Rejected > 0, "%d connections were refused by a pooler that admits the cap", s.pooler.Stats().Rejected)
	for _, conn := range s.pooler.Conns() {
		n := strings.Count(";"+strings.ToLower(strings.Join(conn.Statements, ";")), ";begin")
		t.failIf(n != 1, "connection %d carried %d transactions", conn.N, n)
	}
}

// distinctBackends wants the same as Postgres itself sees it: a backend is known by its pid and the time it started.
func distinctBackends(t *T) {
	s := real(t, func(o *options) { o.MaxSessions = capOfMany })
	var backends sync.Map
	s.many(func() {
		var backend string
		t.wantErr(nil, s.session(func(ctx context.Context, session *nopool.Session) error {
			return session.QueryRow(ctx, "select pid || ' ' || backend_start from pg_stat_activity where pid = pg_backend_pid()").Scan(&backend)
		}), "session")
		_, twice := backends.Swap(backend, true)
		t.failIf(twice, "two sessions had the backend %s", backend)
	})
}

// inOrder lets sessions queue one after the other, and wants them served so.
func inOrder(t *T) {
	s := onStandin(t, standin.Options{}, func(o *options) { o.MaxSessions = 1 })
	var all sync.WaitGroup
	s.holding(func() {
		for i := range 8 {
			all.Go(func() { t.wantErr(nil, s.run(fmt.Sprint("select ", i)), "session") })
			if !pgtest.Within(soon, func() bool { return s.db.Snapshot().Waiting == i+1 }) {
				t.Fatal("not in the queue: session", i)
			}
		}
	})
	all.Wait()
	for i, conn := range s.pooler.Conns()[1:] {
		t.failIf(!slices.Contains(conn.Statements, fmt.Sprint("select ", i)), "in the place of session %d came %q", i, conn.Statements)
	}
}

// pastTheQueue fills slots and queue: the next one is refused at once, as a 503 that says when to come back, counted and
// logged, and nothing is dialled for it. A request that never asks the database is served all the same.
func pastTheQueue(t *T) {
	s := onStandin(t, standin.Options{}, func(o *options) { o.MaxSessions, o.MaxWaiting = 1, 1 })
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
	t.failIf(s.pooler.Stats().Dials != 2, "%d connections for two sessions that were used", s.pooler.Stats().Dials)
}

// fulls are the ways in which poolers and Postgres say that they are full: mostly at start-up, but PgBouncer in answer to the
// first statement, and pgpool-II to the request for TLS.
var fulls = []struct{ at, code, message string }{
	{atStart, "XX000", "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15"},
	{atStart, "XX000", "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size"},
	{atStart, "XX000", "Max client connections reached"},
	{atStart, "XX000", "(EMAXCONN) max client connections reached, limit: 200"},
	{atStart, "XX000", "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 60000ms in Session mode"},
	{atStart, "08P01", "no more connections allowed (max_client_conn)"},
	{atStart, "53300", "sorry, too many clients already"},
	{"begin", "08P01", "query_wait_timeout"},
	{string(standin.Encrypting), "53300", "remaining connection slots are reserved for non-replication superuser connections"},
}

const atStart = string(standin.Starting)

func refuseAll(int) *pgproto3.ErrorResponse { return standin.Fatal(fulls[0].code, fulls[0].message) }

// everyFull wants each of them to be tried again until it passes, and to end as a 503 when it does not.
func everyFull(t *T) {
	together(len(fulls), func(i int) { fullUntilItPasses(t, fulls[i].at, standin.Fatal(fulls[i].code, fulls[i].message)) })
}

func fullUntilItPasses(t *T, at string, full *pgproto3.ErrorResponse) {
	var left atomic.Int32
	refuse := func(here string) *pgproto3.ErrorResponse {
		if here == at && left.Add(-1) >= 0 {
			return full
		}
		return nil
	}
	s := onStandin(t, standin.Options{
		TLS:    at == string(standin.Encrypting),
		OnStep: func(_ int, step standin.Step) *pgproto3.ErrorResponse { return refuse(string(step)) },
		OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
			verb, _, _ := strings.Cut(sql, " ")
			return standin.Reply{Error: refuse(verb)}
		},
	})
	left.Store(3)
	t.wantErr(nil, s.run("select 1"), "%s", full.Message)
	t.failIf(s.db.Snapshot().OpenRetries != 3, "%s: %d retries", full.Message, s.db.Snapshot().OpenRetries)
	left.Store(1 << 30)
	s = on(t, s.pooler.URL(), func(o *options) { o.ConnectTimeout = time.Second })
	s.handle("GET /", query("select 1"))
	told := pgtest.Within(soon/2, func() bool { // unless its time is over in the middle of an attempt
		a := s.want(http.StatusServiceUnavailable, "GET", "/")
		t.failIf(a.header.Get("Retry-After") == "", "%s: a 503 without Retry-After", full.Message)
		return a.problem["code"] == "busy" && errors.Is(s.run("select 1"), nopool.ErrPoolerFull)
	})
	t.failIf(!told, "%s: want ErrPoolerFull, and an answer that the service is busy", full.Message)
}

// neverRetried wants one dial for what trying again cannot mend, no more than three refused passwords from one process, and
// three dials for a refusal that nobody knows.
func neverRetried(t *T) {
	unknown := standin.Fatal("XX000", "what nobody has met yet")
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
		unknown,
	} {
		want, dials := nopool.ErrConfiguration, 1
		if refused == unknown {
			want, dials = nopool.ErrUnavailable, 3
		}
		s := onStandin(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse { return refused }})
		if err := s.run("select 1"); !errors.Is(err, want) || s.pooler.Stats().Dials != dials {
			t.Errorf("%s: %d dials, %v", refused.Message, s.pooler.Stats().Dials, err)
		}
		if !strings.HasPrefix(refused.Code, "28") {
			continue
		}
		for range 10 {
			_ = s.run("select 1")
		}
		t.failIf(s.pooler.Stats().Dials > 3, "%s: tried %d times", refused.Message, s.pooler.Stats().Dials)
	}
	// Supavisor counts this to the same ten, though the password is right, and it passes.
	var counted atomic.Int32
	s := onStandin(t, standin.Options{Auth: standin.SCRAM, OnStep: func(_ int, step standin.Step) *pgproto3.ErrorResponse {
		if step != standin.Challenged {
			return nil
		}
		counted.Add(1)
		return standin.Fatal("XX000", "(EAUTHQUERY) authentication query failed: connection to database not available")
	}})
	together(10, func(int) {
		t.wantErr(nopool.ErrUnavailable, s.run("select 1"), "the pooler cannot ask for the secret")
	})
	t.failIf(counted.Load() != 1, "a pooler that cannot ask for the secret: %d logins", counted.Load())
	// What travelled with BEGIN may have run where the answer is lost.
	s = onStandin(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Drop: strings.HasPrefix(strings.ToLower(sql), "begin")}
	}})
	t.wantErr(nopool.ErrUnavailable, s.run("select 1"), "the answer to BEGIN is lost")
	t.failIf(s.db.Snapshot().Dials != 1, "the answer to BEGIN is lost: %d dials", s.db.Snapshot().Dials) // the pooler sees those of pgx's cancels, too
}
