package verify

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// query is a handler of one statement.
func query(sql string) func(http.ResponseWriter, *http.Request, *nopool.Session) error {
	return func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), sql)
		return err
	}
}

// oneDial refuses every attempt and counts them: no fallback to plaintext, to
// another address of the host, or to another host.
func oneDial(t *T) {
	for _, options := range []standin.Options{{}, {TLS: true}} {
		options.OnStartup = func(n int) *pgproto3.ErrorResponse {
			if n%4 != 0 {
				return fulls[0]
			}
			return nil
		}
		pooler := standin.Start(t, options)
		b := on(t, strings.Replace(pooler.URL(), "verify-full", "prefer", 1))
		for range 3 {
			if err := b.run("select 1"); err != nil {
				t.Errorf("session: %v", err)
			}
		}
		c := b.db.Snapshot()
		if n := pooler.Stats().Dials; n != 12 || c.Dials != 12 || c.OpenRetries != 9 {
			t.Errorf("12 attempts made %d connections; counted: %d dials, %d retries", n, c.Dials, c.OpenRetries)
		}
	}
	for _, url := range []string{
		"postgres://u:p@a.example.com,b.example.com/d?sslmode=require",
		"host=a.example.com,b.example.com user=u sslmode=require",
		"postgres://u:p@a.example.com:1,a.example.com:2/d?sslmode=require",
	} {
		if _, err := connect.Parse(url, connect.Options{}); err == nil {
			t.Errorf("a URL of several hosts was accepted: %s", url)
		}
	}
}

// oneAddress refuses the connections to a host of three addresses: the next
// attempt may take another, but an attempt takes one.
func oneAddress(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true, OnStartup: func(n int) *pgproto3.ErrorResponse {
		if n%4 != 0 {
			return fulls[0]
		}
		return nil
	}})
	db := onHost(t, pooler, "192.0.2.1", "192.0.2.2", "192.0.2.3")
	err := db.Run(context.Background(), nopool.TxOptions{}, selectOne)
	if c := db.Snapshot(); err != nil || c.Dials != 4 || c.OpenRetries != 3 || pooler.Stats().Dials != 4 {
		t.Errorf("4 attempts made %d connections; counted: %d dials, %d retries; %v", pooler.Stats().Dials, c.Dials, c.OpenRetries, err)
	}
}

func selectOne(ctx context.Context, s *nopool.Session) error {
	_, err := s.Exec(ctx, "select 1")
	return err
}

// onHost opens an engine on a host of several addresses. Nobody listens at the
// broken one, and the pooler at the others.
func onHost(t *T, pooler *standin.Server, addresses ...string) *nopool.DB {
	t.Helper()
	u, err := url.Parse(pooler.URL())
	if err != nil {
		t.Fatal(err)
	}
	o := anyServer()
	o.LookupFunc = func(context.Context, string) ([]string, error) { return addresses, nil }
	o.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, brokenAddress) {
			return nil, errors.New("no route to host")
		}
		return new(net.Dialer).DialContext(ctx, network, u.Host)
	}
	config := patient()
	config.Connector = connector(t, "postgres://"+u.User.String()+"@db.example.com/app?sslmode=require", o)
	db, err := nopool.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

const brokenAddress = "192.0.2.9" // RFC 5737

// nextAddress lets the dial of a host's first address fail: the same open takes
// the next one.
func nextAddress(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true})
	db := onHost(t, pooler, brokenAddress, "192.0.2.1")
	if err := db.Run(context.Background(), nopool.TxOptions{}, selectOne); err != nil {
		t.Errorf("a host of two addresses, one of which does not answer: %v", err)
	}
}

// slotHeld wants the slot of a session back when the server has closed its
// connection, and the response long before.
func slotHeld(t *T) {
	const lag = time.Second
	b := on(t, standin.Start(t, standin.Options{ReleaseLag: lag}).URL(), func(o *benchOptions) { o.MaxSessions = 1 })
	b.handle("POST /", query("insert into t"))
	if a := b.want(200, "POST", "/"); a.took >= lag {
		t.Errorf("the response waited %v for the server's close", a.took)
	}
	if b.db.Snapshot().InUse != 1 {
		t.Errorf("the slot is free before the server has closed")
	}
	if err := b.run("select 1"); err != nil {
		t.Errorf("the next session: %v", err)
	}
	if peak := b.relay.peak.Load(); peak != 1 {
		t.Errorf("%d connections at once over a cap of 1", peak)
	}
}

// slotHeldForRefusal wants the same of a session that could not be opened: it
// has a connection to close, too. So has each attempt, before the next one.
func slotHeldForRefusal(t *T) {
	const lag = 400 * time.Millisecond
	for code, attempts := range map[string]int{"42501": 1, "53300": 2} { // never tried again, and always
		b := on(t, standin.Start(t, standin.Options{ReleaseLag: lag, OnStatement: func(c *standin.Conn, sql string) (r standin.Reply) {
			if strings.HasPrefix(strings.ToLower(sql), "begin") && (attempts == 1 || c.N == 1) {
				r.Error = standin.Error(code, "not now")
			}
			return r
		}}).URL(), func(o *benchOptions) { o.MaxSessions = 1 })
		began := time.Now()
		for range 2 {
			if err := b.run("select 1"); (err != nil) != (attempts == 1) {
				t.Errorf("BEGIN refused with %s: %v", code, err)
			}
		}
		if took := time.Since(began); took < lag {
			t.Errorf("%s: the next connection came after %v", code, took)
		}
		if peak := b.relay.peak.Load(); peak != 1 {
			t.Errorf("%s: %d connections at once over a cap of 1", code, peak)
		}
	}
}

// slotHeldForCancel goes away during a statement. pgx then dials again to
// cancel it: until that is done, the slot is taken.
func slotHeldForCancel(t *T) {
	const lag = 400 * time.Millisecond
	var dials atomic.Int32
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var began time.Time // the cancel
	pooler := standin.Start(t, standin.Options{OnStatement: func(c *standin.Conn, sql string) standin.Reply {
		r := sleepy(c, sql)
		if r.Hang {
			began = time.Now()
			cancel()
		}
		return r
	}})
	b := on(t, pooler.URL(), func(o *benchOptions) {
		o.MaxSessions = 1
		o.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) == 2 {
				time.Sleep(lag)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	_ = b.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select pg_sleep(20)")
		return err
	})
	if !within(5*time.Second, func() bool { return b.db.Snapshot().InUse == 0 }) || time.Since(began) < lag {
		t.Errorf("the slot was free after %v, with the cancel under way", time.Since(began))
	}
	if n := pooler.Stats().CancelRequests; n != 1 {
		t.Errorf("%d cancel requests arrived", n)
	}
	b.wantNoneLeft()
}

// kindEnds wants every session to end its transaction itself, and a pooler to
// keep its backend for that. The exception is a statement cut in flight, which
// is counted.
func kindEnds(t *T) {
	pooler := standin.Start(t, standin.Options{OnStatement: sleepy})
	b := on(t, pooler.URL())
	b.handleFailures()
	b.handle("GET /", query("select 1"))
	b.want(200, "GET", "/")
	for _, f := range failures {
		if f.name != "gone" {
			b.fail(f.name, f.status)
		}
	}
	b.wantNoneLeft()
	for _, conn := range pooler.Conns() {
		if conn.Status != 'I' || conn.End != standin.Terminated {
			t.Errorf("connection %d ended by %q with its transaction %c after %q", conn.N, conn.End, conn.Status, conn.Statements)
		}
	}
	if n := b.db.Snapshot().Aborted; n != 0 {
		t.Errorf("%d counted as aborted", n)
	}
	b.fail("gone", 0)
	b.wantNoneLeft()
	if n := b.db.Snapshot().Aborted; n != 1 {
		t.Errorf("a statement cut in flight: %d counted as aborted", n)
	}

	warm := real(t, func(o *benchOptions) { o.bouncer = &pgtest.PgBouncerOptions{PoolSize: 5} })
	backends := map[int]bool{}
	for i := range 8 {
		var pid int
		err := warm.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			if err := s.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil || i%2 == 0 {
				return err
			}
			return errors.New("roll back")
		})
		if err != nil && err.Error() != "roll back" {
			t.Errorf("session: %v", err)
		}
		backends[pid] = true
		warm.wantNoneLeft()
	}
	if len(backends) != 1 {
		t.Errorf("8 sessions in turn used %d backends of the pooler", len(backends))
	}
}

// leavesDuringCommit goes away while the server takes its time over COMMIT: it
// runs to its end all the same, and its outcome is known.
func leavesDuringCommit(t *T) {
	committing := make(chan struct{}, 1)
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if strings.EqualFold(sql, "commit") {
			select {
			case committing <- struct{}{}:
			default: // not the first: nobody waits for it
			}
			r.Delay = 300 * time.Millisecond
		}
		return r
	}})
	b := on(t, pooler.URL())
	b.handle("POST /", query("insert into t"))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-committing; cancel() }()
	if a := b.do(ctx, "POST", "/"); a.err == nil {
		t.Errorf("the client got an answer: %d", a.status)
	}
	b.wantNoneLeft()
	c, conns := b.db.Snapshot(), pooler.Conns()
	if c.Committed != 1 || c.CommitUnknown != 0 || len(conns) != 1 || conns[0].End != standin.Terminated {
		t.Errorf("%d committed, %d of unknown outcome, the connection ended by %q", c.Committed, c.CommitUnknown, conns[0].End)
	}
}

// retries counts how often a function runs.
func retries(t *T) {
	for _, c := range []struct {
		code       string
		fails      int32 // so many times
		plain, ask int32 // runs wanted of Run and of RunWithRetry
	}{
		{"40001", 1, 1, 2}, {"40P01", 2, 1, 3}, {"40001", 99, 1, 3}, {"", 99, 1, 1}, // "": the connection is lost
		{"23505", 99, 1, 1}, {"40002", 99, 1, 1}, {"40003", 99, 1, 1}, {"55P03", 99, 1, 1}, {"57014", 99, 1, 1},
	} {
		var left, runs atomic.Int32
		pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
			if strings.HasPrefix(sql, "update") && left.Add(-1) >= 0 {
				if r.Drop = c.code == ""; !r.Drop {
					r.Error = standin.Error(c.code, "again")
				}
			}
			return r
		}})
		b := on(t, pooler.URL())
		once := func(ctx context.Context, s *nopool.Session) error {
			runs.Add(1)
			_, err := s.Exec(ctx, "update t")
			return err
		}
		left.Store(c.fails)
		if err := b.db.Run(context.Background(), nopool.TxOptions{}, once); err == nil || runs.Load() != c.plain {
			t.Errorf("%q: Run ran it %d times: %v", c.code, runs.Load(), err)
		}
		left.Store(c.fails)
		runs.Store(0)
		err := b.db.RunWithRetry(context.Background(), nopool.TxOptions{}, once)
		if (err == nil) != (c.fails < 3) || runs.Load() != c.ask {
			t.Errorf("%q: RunWithRetry ran it %d times, want %d: %v", c.code, runs.Load(), c.ask, err)
		}
		b.wantNoneLeft()
	}
}

// roundTrips counts how often the client had to wait for an answer: start-up,
// SASL, SASL, BEGIN with the statement, COMMIT, Terminate.
func roundTrips(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	b := on(t, pooler.URL())
	b.handle("GET /{id}", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "select $1::text", r.PathValue("id"))
		return err
	})
	b.handle("POST /", query("insert into t"))
	b.want(200, "GET", "/some")
	b.want(200, "POST", "/")
	b.wantNoneLeft()
	for _, conn := range pooler.Conns() {
		if conn.Bursts > 6 {
			t.Errorf("%d bursts for %q", conn.Bursts, conn.Statements)
		}
	}
	if len(pooler.Conns()) != 2 {
		t.Errorf("%d connections", len(pooler.Conns()))
	}
}
