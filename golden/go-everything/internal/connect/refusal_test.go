package connect

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// TestForeignSeverity: a setting that a server refuses in German is no failure of the server either.
func TestForeignSeverity(t *testing.T) {
	t.Parallel()
	b := newBreaker(1)
	refused := &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "22023"}
	if kind := b.Refused(refused); kind != nopool.ErrConfiguration || b.failures > 1 {
		t.Errorf("%v, counted %d times", kind, b.failures)
	}
}

// TestBrokenDatabase wants a database that refuses everybody to be left alone
// for most of the time, and to be found again when it is back.
func TestBrokenDatabase(t *testing.T) {
	t.Parallel()
	for _, broken := range []*pgproto3.ErrorResponse{
		standin.Fatal("57P03", "the database system is starting up"),
		standin.Fatal("3D000", "there is no such database"),
		standin.Fatal("08P01", "server login has been failing, cached error: connect failed (server_login_retry)"), // at the first statement
	} {
		var back atomic.Bool
		refuse := func(here bool) *pgproto3.ErrorResponse {
			if back.Load() || !here {
				return nil
			}
			return broken
		}
		late := broken.Code == "08P01"
		pooler := standin.Start(t, standin.Options{
			OnStartup:   func(int) *pgproto3.ErrorResponse { return refuse(!late) },
			OnStatement: func(*standin.Conn, string) standin.Reply { return standin.Reply{Error: refuse(late)} },
		})
		db := on(t, pooler.URL(), nil)
		for range 100 {
			err := db.Run(t.Context(), nopool.TxOptions{}, selectOne)
			if err == nil || !strings.Contains(err.Error(), broken.Message) {
				t.Fatalf("%v, want what the database said", err)
			}
		}
		// Nine before the breaker opens, and one in each half second of what may be a slow test.
		if n := pooler.Stats().Dials; n < 9 || n > 30 {
			t.Errorf("%s: %d dials for 100 sessions", broken.Message, n)
		}
		back.Store(true)
		for started := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); err == nil {
				break
			} else if time.Since(started) > 10*time.Second {
				t.Fatalf("not found again: %v", err)
			}
		}
	}
}

// TestSilentDatabase wants one that says nothing to be left alone, too, though each failure is the same value: in between
// callers are told at once.
func TestSilentDatabase(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{OnStep: func(int, standin.Step) standin.Fault { return standin.Hang }})
	db := on(t, pooler.URL(), func(c *config) { c.ConnectTimeout = 50 * time.Millisecond })
	for range 100 {
		if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := pooler.Stats().Dials; n < 9 || n > 30 {
		t.Errorf("%d dials for 100 sessions", n)
	}
}

// TestRefusedInTheClear has an error answer the request for TLS, or come in its place: that
// is a server that cannot take us, not one without TLS.
func TestRefusedInTheClear(t *testing.T) {
	t.Parallel()
	encode := func(code, text string) string {
		message, _ := standin.Fatal(code, text).Encode(nil)
		return string(message)
	}
	const fork = "Ecould not fork new process for connection: Resource temporarily unavailable\n\x00"
	for _, test := range []struct {
		said string
		want error
	}{
		{fork, nopool.ErrPoolerFull},
		{encode("53300", "sorry, too many clients already"), nopool.ErrPoolerFull},
		{encode("57P03", "the database system is starting up"), nopool.ErrUnavailable},
		{encode("XX000", "what nobody has met yet"), nopool.ErrUnavailable},
		{"E", nopool.ErrUnavailable}, // and no more
		{"", nopool.ErrUnavailable},
		{"N", nopool.ErrConfiguration},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", nopool.ErrConfiguration},
	} {
		for _, negotiation := range []string{"postgres", "direct"} {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			t.Cleanup(func() { listener.Close() })
			var dials atomic.Int32
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					dials.Add(1)
					_, _ = io.ReadFull(conn, make([]byte, 8))
					_, _ = io.WriteString(conn, test.said)
					_ = conn.(*net.TCPConn).CloseWrite()
					go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }()
				}
			}()
			db := on(t, "postgres://app:x@"+listener.Addr().String()+"/app?sslmode=require&sslnegotiation="+negotiation, func(c *config) {
				c.ConnectTimeout = 700 * time.Millisecond
			})
			err = db.Run(t.Context(), nopool.TxOptions{}, selectOne)
			if want := test.want; negotiation == "direct" && test.said == "N" {
				continue // an unexpected end
			} else if !errors.Is(err, want) || (dials.Load() == 1) != (want == nopool.ErrConfiguration) {
				t.Errorf("%s, %q: %v after %d dials, want %v", negotiation, test.said, err, dials.Load(), want)
			}
		}
	}
}

// TestDeadAddress gives the host two addresses, the first of which nobody listens
// at: many sessions that find out together must not be taken for a database that
// is down.
func TestDeadAddress(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{})
	db := on(t, strings.Replace(pooler.URL(), "127.0.0.1", "localhost", 1), func(c *config) {
		c.MaxSessions = 20
		c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1", "127.0.0.1"}, nil }
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "192.0.2.1") {
				time.Sleep(20 * time.Millisecond) // for all to be there
				return nil, errors.New("connection refused")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	manySessions(t, db, 20)
}
