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
	"example.com/demo/internal/standin"
)

// slotParts are the rules about the attempts to connect, and how long each of their connections counts.
var slotParts = []part{
	{"NP21", "one dial for each attempt", oneDial},
	{"NP22", "the slot waits for the server's close", func(t *T) { slotHeld(t, "select 1", standin.Options{ReleaseLag: atWork}) }},
	{"NP22", "so does that of a session whose BEGIN is refused", slotHeldForRefusal},
	{"NP22", "a pooler that frees its places late", lateRelease},
	{"NP22", "the slot waits for an opening that was given up", func(t *T) { slotHeld(t, "select 1", standin.Options{TLS: true, CheckOut: atWork}) }},
	{"NP22", "a cancel under way keeps the slot", func(t *T) {
		slotHeld(t, "select pg_sleep(20)", standin.Options{OnStatement: asPostgres, OnStep: secondLate})
	}},
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

// atWork is how long a pooler has work with somebody who has left: far longer than it takes to see who waits for it.
const atWork = 3 * time.Second

// secondLate lets the second connection wait, which is that of a cancel.
func secondLate(n int, _ standin.Step) standin.Fault {
	if n == 2 {
		time.Sleep(atWork)
	}
	return nil
}

// slotHeld wants a caller back who is done or gives up after a moment, and the slot when the pooler is done, too: one that
// admits a single client refuses whoever comes before.
func slotHeld(t *T, sql string, pooler standin.Options) {
	pooler.MaxClients = 1
	s := onStandin(t, pooler, func(o *options) { o.MaxSessions, o.noRelay = 1, true })
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = s.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, sql)
		return err
	})
	t.failIf(s.db.Snapshot().InUse != 1, "the slot is free while the pooler is at work, or the caller had to wait for that")
	t.wantErr(nil, s.run("select 1"), "the next session")
	t.failIf(s.pooler.Stats().Rejected > 0, "the next session was dialled too early")
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
