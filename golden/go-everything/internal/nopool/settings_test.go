package nopool_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// TestSettingsCostNoRoundTrip counts the bursts with and without.
func TestSettingsCostNoRoundTrip(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	db := on(t, pooler.URL(), nil)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	must(t, db.Run(t.Context(), nopool.TxOptions{Settings: []nopool.Setting{{"role", "caller"}}}, selectOne))
	must(t, db.Close(t.Context()))
	if conns := pooler.Conns(); conns[0].Bursts != conns[1].Bursts {
		t.Errorf("%d bursts without settings, %d with", conns[0].Bursts, conns[1].Bursts)
	}
}

// TestNameTravels wants the service's name in BEGIN's flight, since Supavisor drops it at start-up, and no empty one.
func TestNameTravels(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"some service", ""} {
		sent := &listening{}
		db := on(t, standin.Start(t, standin.Options{}).URL(), func(c *config) {
			c.AppName = name
			c.wrap = func(conn net.Conn) net.Conn { sent.Conn = conn; return sent }
		})
		must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
		must(t, db.Close(t.Context()))
		_, flight, _ := strings.Cut(sent.all.String(), "begin")
		if !strings.Contains(flight, cmp.Or(name, "nopool")) {
			t.Errorf("%q: sent was %q", name, flight)
		}
	}
}

// listening is a connection that remembers what was written.
type listening struct {
	net.Conn
	all bytes.Buffer
}

func (l *listening) Write(p []byte) (int, error) {
	l.all.Write(p)
	return l.Conn.Write(p)
}

// TestNestedSession has one connection for a caller who asks for two.
func TestNestedSession(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{})
	db := on(t, pooler.URL(), func(c *config) { c.MaxSessions = 1 })
	other := on(t, pooler.URL(), nil)
	var later context.Context
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		must(t, db.Run(ctx, nopool.TxOptions{}, selectOne)) // the outer one holds nothing yet
		if err := selectOne(ctx, s); err != nil {
			return err
		}
		if err := db.Run(ctx, nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrNested) {
			t.Errorf("%v, want ErrNested", err)
		}
		err := other.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			if err := db.Run(ctx, nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrNested) {
				t.Errorf("inside a session of another database: %v, want ErrNested", err)
			}
			return nil
		})
		must(t, err)
		later = ctx                                          //nolint:fatcontext // kept on purpose, to be used after its session
		return other.Run(ctx, nopool.TxOptions{}, selectOne) // a budget of its own
	}))
	must(t, db.Run(later, nopool.TxOptions{}, selectOne)) // work that outlives its request
}

// TestLongSetting wants room for the claims of a token with many rights: the server
// repeats a setting in its answer.
func TestLongSetting(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	claims := strings.Repeat("right ", 20_000)
	opts := nopool.TxOptions{Settings: []nopool.Setting{{Name: "request.jwt.claims", Value: claims}}}
	must(t, db.Run(t.Context(), opts, func(ctx context.Context, s *nopool.Session) error {
		var got string
		err := s.QueryRow(ctx, "select current_setting('request.jwt.claims')").Scan(&got)
		if got != claims {
			t.Errorf("got %d bytes, want %d", len(got), len(claims))
		}
		return err
	}))
}
