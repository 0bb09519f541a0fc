package nopool_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

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

// TestRefusedSettings tells what a client has sent, which is the server's own error, from
// what the service should not have asked for.
func TestRefusedSettings(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	for _, c := range []struct {
		name, value, code string
		ours              bool
	}{
		{"request.jwt.claims", "a\x00b", "22021", false}, {"request.jwt.claims", "\xff", "22021", false}, {"request.jwt.claims", "\xed\xa0\x80", "22021", false},
		{"request.\xff", "a", "22021", false}, {"request.a\x00", "a", "22021", false},
		{"role", "nobody knows", "22023", true}, {"role", "", "22023", true}, {"statement_timeout", "3000000000", "22023", true},
		{"statement_timeout", "soon", "22023", true}, {"nothing", "a", "42704", true}, {"shared_buffers", "1", "55P02", true},
	} {
		opts := nopool.TxOptions{Settings: []nopool.Setting{{Name: c.name, Value: c.value}}}
		err := db.Run(t.Context(), opts, selectOne)
		answer, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || answer.Code != c.code || errors.Is(err, nopool.ErrSetting) != c.ours || errors.Is(err, nopool.ErrConfiguration) {
			t.Errorf("%s = %q: %v, want %s, ErrSetting: %t", c.name, c.value, err, c.code, c.ours)
		}
	}
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	if n := db.Snapshot().OpenRetries; n != 0 {
		t.Errorf("%d were tried again", n)
	}
}

// TestSettingsAround has work after a session's COMMIT, and beside it, with that session's
// settings, in front of its own.
func TestSettingsAround(t *testing.T) {
	t.Parallel()
	db, url := open(t, nil)
	other := on(t, url, nil)
	claims := func(of string) nopool.TxOptions {
		return nopool.TxOptions{Settings: []nopool.Setting{{Name: "request.jwt.claims", Value: of}}}
	}
	seen := func(ctx context.Context, db *nopool.DB, opts nopool.TxOptions) (claims string) {
		must(t, db.Run(ctx, opts, func(ctx context.Context, s *nopool.Session) error {
			return s.QueryRow(ctx, "select coalesce(current_setting('request.jwt.claims', true), '')").Scan(&claims)
		}))
		return claims
	}
	check := func(when, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	must(t, db.Run(t.Context(), claims("ann"), func(ctx context.Context, s *nopool.Session) error {
		check("before its first use", seen(ctx, db, nopool.TxOptions{}), "ann")
		must(t, insert(1)(ctx, s))
		must(t, s.Commit(ctx))
		check("after COMMIT", seen(ctx, db, nopool.TxOptions{}), "ann")
		check("in the background", seen(context.WithoutCancel(ctx), db, nopool.TxOptions{ReadOnly: true}), "ann")
		check("settings of its own", seen(ctx, db, claims("bob")), "bob")
		check("another database", seen(ctx, other, nopool.TxOptions{}), "")
		return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, _ *nopool.Session) error {
			return other.Run(ctx, claims("eve"), func(ctx context.Context, _ *nopool.Session) error {
				check("further inside", seen(ctx, db, nopool.TxOptions{}), "ann")
				return nil
			})
		})
	}))
	check("without a session around it", seen(t.Context(), db, nopool.TxOptions{}), "")
}

// TestOpenChecks wants timeouts that the server would refuse at each BEGIN to be refused at once.
func TestOpenChecks(t *testing.T) {
	t.Parallel()
	good := nopool.Config{Connector: wrapper{}, MaxSessions: 1, SessionWait: 1, ConnectTimeout: 1, StatementTimeout: math.MaxInt32 * time.Millisecond}
	_, err := nopool.Open(good)
	must(t, err)
	for i, change := range []func(*nopool.Config){
		func(c *nopool.Config) { c.StatementTimeout += time.Millisecond },
		func(c *nopool.Config) { c.LockTimeout = math.MaxInt64 },
		func(c *nopool.Config) { c.IdleInTransactionTimeout = math.MaxInt32*time.Millisecond + time.Millisecond },
		func(c *nopool.Config) { c.LockTimeout = -1 },
		func(c *nopool.Config) { c.StatementTimeout = time.Microsecond },
		func(c *nopool.Config) { c.MaxSessions = 0 },
	} {
		bad := good
		change(&bad)
		if _, err := nopool.Open(bad); !errors.Is(err, nopool.ErrConfiguration) {
			t.Errorf("%d: %v, want ErrConfiguration", i, err)
		}
	}
}
