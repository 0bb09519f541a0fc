package nopool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// roles counts the databases of this test, since roles belong to the whole cluster.
var roles atomic.Int32

// TestRowLevelSecurity shows what Supabase's owners do: a policy reads the claims
// of the caller's token, and the role is one that policies apply to.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	db, url := open(t, nil)
	role := fmt.Sprintf("caller_%d_%d", os.Getpid(), roles.Add(1))
	admin := pgtest.Admin(t, url)
	for _, sql := range []string{
		`create role ` + role + ` nologin`,
		`do $$ begin execute format('grant ` + role + ` to %I', (select tableowner from pg_tables where tablename = 't')); end $$`,
		`create table owned (owner text, body text)`,
		`alter table owned enable row level security`,
		`create policy own on owned using (owner = current_setting('request.jwt.claims', true)::json->>'sub')`,
		`grant select on owned to ` + role,
		`insert into owned values ('ann', 'of ann'), ('bob', 'of bob')`,
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), "drop owned by "+role+"; drop role "+role)
		if err != nil {
			t.Error(err)
		}
	})
	as := func(claims string) nopool.TxOptions {
		return nopool.TxOptions{ReadOnly: true, Settings: []nopool.Setting{{"request.jwt.claims", claims}, {"role", role}}}
	}
	for claims, want := range map[string]string{`{"sub":"ann"}`: "of ann", `{"sub":"bob"}`: "of bob", `{"sub":"'; set role none; --"}`: ""} {
		must(t, db.Run(t.Context(), as(claims), func(ctx context.Context, s *nopool.Session) error {
			rows, err := s.Query(ctx, "select body from owned")
			if err != nil {
				return err
			}
			bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if got := strings.Join(bodies, ", "); got != want {
				t.Errorf("%s sees %q, want %q", claims, got, want)
			}
			return err
		}))
	}
	for range 20 {
		err := db.Run(t.Context(), nopool.TxOptions{Settings: []nopool.Setting{{"role", "nobody knows"}}}, selectOne)
		if !errors.Is(err, nopool.ErrConfiguration) {
			t.Errorf("an unknown role: %v, want ErrConfiguration", err)
		}
	}
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne)) // others are not made to pay for it
}

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
