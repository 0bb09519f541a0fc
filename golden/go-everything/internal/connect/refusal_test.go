package connect

import (
	"context"
	"errors"
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
	b := newBreaker()
	refused := &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "22023"}
	if kind := b.Refused(refused); kind != nopool.ErrConfiguration || b.failures != 0 {
		t.Errorf("%v, counted %d times", kind, b.failures)
	}
}

// TestBrokenDatabase wants a database that refuses everybody to be left alone
// for most of the time, and to be found again when it is back.
func TestBrokenDatabase(t *testing.T) {
	t.Parallel()
	for _, broken := range []*pgproto3.ErrorResponse{
		standin.Fatal("57P03", "the database system is starting up"),
		standin.Fatal("3D000", "database \"app\" does not exist"),
	} {
		var back atomic.Bool
		pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse {
			if back.Load() {
				return nil
			}
			return broken
		}})
		db := on(t, pooler.URL(), nil)
		for range 100 {
			err := db.Run(t.Context(), nopool.TxOptions{}, selectOne)
			if err == nil || !strings.Contains(err.Error(), broken.Message) {
				t.Fatalf("%v, want what the database said", err)
			}
		}
		// Ten before the breaker opens, and one in each half second of what may be a slow test.
		if n := pooler.Stats().Dials; n < 10 || n > 30 {
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
