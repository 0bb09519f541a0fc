package verify

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// slotParts are the rules about the attempts to connect, and how long each of their connections counts.
var slotParts = []part{
	{"NP21", "one dial for each attempt", oneDial},
	{"NP21", "a server that is silent", silentServer},
	{"NP22", "the slot waits for the server's close", slotHeld},
	{"NP22", "so does that of a session whose BEGIN is refused", slotHeldForRefusal},
	{"NP22", "a pooler that frees its places late", lateRelease},
	{"NP22", "the slot waits for an opening that was given up", slotHeldForOpening},
	{"NP22", "a cancel under way keeps the slot", slotHeldForCancel},
}

// oneDial counts the connections of refused attempts: no fallback to plaintext or to another host, and one address of
// those that a host has. A dial that fails tries the next address within the same attempt.
func oneDial(t *T) {
	for _, encrypted := range []bool{false, true} {
		for _, addresses := range [][]string{{"192.0.2.1"}, {"192.0.2.1", "192.0.2.2", "192.0.2.3"}, {brokenAddress, "192.0.2.1"}} {
			pooler := standin.Start(t, standin.Options{TLS: encrypted, OnStartup: func(n int) *pgproto3.ErrorResponse {
				if n < 4 {
					return refuseAll(n)
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

// silentServer answers no statement, and does not hear of a cancel: a caller without a bound of its own must be back soon
// after the server's timeout should have ended it.
func silentServer(t *T) {
	const timeout = 300 * time.Millisecond
	s := onStandin(t, standin.Options{OnStatement: asPostgres}, func(o *options) { o.StatementTimeout = timeout })
	began := time.Now()
	t.wantErr(nopool.ErrUnavailable, s.run("select 1", "select pg_sleep(20)"), "a statement without an answer")
	took := time.Since(began)
	t.failIf(took < timeout || took > timeout+5*time.Second, "given up after %v, the server's timeout is %v", took, timeout)
}

// slotHeld wants the slot of a session back when the server has closed its connection, and the response before.
func slotHeld(t *T) {
	s := onStandin(t, standin.Options{ReleaseLag: 3 * time.Second}, func(o *options) { o.MaxSessions = 1 })
	s.handle("POST /", query("insert into t"))
	s.want(200, "POST", "/")
	t.failIf(s.pooler.Stats().Open != 1, "the response waited for the server's close")
	t.failIf(s.db.Snapshot().InUse != 1, "the slot is free before the server has closed")
	t.wantErr(nil, s.run("select 1"), "the next session")
	t.failIf(s.relay.Peak.Load() != 1, "%d connections at once over a cap of 1", s.relay.Peak.Load())
}

// slotHeldForRefusal wants the same of a session that could not be opened: it has a connection to close, too. So has each
// attempt, before the next one.
func slotHeldForRefusal(t *T) {
	const lag = 400 * time.Millisecond
	for code, attempts := range map[string]int{"42501": 1, "53300": 2} { // never tried again, and always
		s := onStandin(t, standin.Options{ReleaseLag: lag, OnStatement: func(c *standin.Conn, sql string) (r standin.Reply) {
			if strings.HasPrefix(strings.ToLower(sql), "begin") && (attempts == 1 || c.N == 1) {
				r = refusal(code)
			}
			return r
		}}, func(o *options) { o.MaxSessions = 1 })
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
	s := onStandin(t, standin.Options{MaxClients: 1, ReleaseLag: 4 * time.Millisecond, CloseFirst: true}, func(o *options) { o.MaxSessions, o.noRelay = 1, true })
	for range sessions {
		t.wantErr(nil, s.run("select 1"), "session")
	}
	now := s.pooler.Stats()
	t.failIf(now.Rejected*10 > now.Dials, "%d of %d dials were refused", now.Rejected, now.Dials)
}

// leave runs a statement, and gives up on it after a moment.
func (s *service) leave(after time.Duration, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	return s.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, sql)
		return err
	})
}

// slotHeldForOpening leaves while the pooler is at work on the login, and has its place until that ends.
func slotHeldForOpening(t *T) {
	s := onStandin(t, standin.Options{TLS: true, MaxClients: 1, CheckOut: 500 * time.Millisecond}, func(o *options) { o.MaxSessions, o.noRelay = 1, true })
	t.wantErr(context.DeadlineExceeded, s.leave(100*time.Millisecond, "select 1"), "who left")
	t.failIf(s.db.Snapshot().InUse != 1, "the slot was free while the pooler counted its connection")
	t.wantErr(nil, s.run("select 1"), "the next session")
	t.failIf(s.pooler.Stats().Rejected > 0, "the next session was dialled too early")
}

// slotHeldForCancel goes away during a statement. pgx then dials again to cancel it: until that is done, the slot is taken.
func slotHeldForCancel(t *T) {
	release := make(chan struct{})
	s := onStandin(t, standin.Options{OnStatement: asPostgres, OnStep: func(n int, _ standin.Step) standin.Fault {
		if n == 2 {
			<-release
		}
		return nil
	}}, func(o *options) { o.MaxSessions = 1 })
	_ = s.leave(300*time.Millisecond, "select pg_sleep(20)")
	t.failIf(pgtest.Within(400*time.Millisecond, func() bool { return s.db.Snapshot().InUse == 0 }), "the slot was free with the cancel under way")
	close(release)
	s.wantNoneLeft()
	t.failIf(s.pooler.Stats().CancelRequests != 1, "%d cancel requests arrived", s.pooler.Stats().CancelRequests)
}
