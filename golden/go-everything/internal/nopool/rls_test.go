package nopool_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

// roles counts the databases of this test, since roles belong to the whole cluster.
var roles atomic.Int32

// TestRowLevelSecurity shows what Supabase's owners do: a policy reads the claims
// of the caller's token, and the role is one that policies apply to.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	db, databaseURL := database(t)
	user, err := url.Parse(databaseURL)
	must(t, err)
	role := fmt.Sprintf("caller_%d_%d", os.Getpid(), roles.Add(1))
	admin := pgtest.Admin(t, databaseURL)
	for _, sql := range []string{
		`create role ` + role + ` nologin`,
		`grant ` + role + ` to ` + pgx.Identifier{user.User.Username()}.Sanitize(),
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
