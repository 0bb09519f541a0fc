package nopool_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// database returns a DB on a new database, and that database's URL.
func database(t *testing.T) (*nopool.DB, string) {
	t.Helper()
	url := pgtest.Database(t)
	connector, err := connect.Parse(url, connect.Options{AllowPlaintext: true, AllowPlainAuth: true}) // TEST_DATABASE_URL may be plaintext
	must(t, err)
	db, err := nopool.Open(nopool.Config{Connector: connector, MaxSessions: 4, MaxWaiting: 10,
		SessionWait: 5 * time.Second, ConnectTimeout: 10 * time.Second, StatementTimeout: 10 * time.Second})
	must(t, err)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db, url
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRowLevelSecurity shows what Supabase's owners do: a policy reads the claims
// of the caller's token, and the role is one that policies apply to.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	db, databaseURL := database(t)
	user, err := url.Parse(databaseURL)
	must(t, err)
	role := "caller_" + strings.ToLower(rand.Text()) // roles belong to the whole cluster
	admin := pgtest.Admin(t, databaseURL)
	_, err = admin.Exec(t.Context(), `create role `+role+` nologin;
grant `+role+` to `+pgx.Identifier{user.User.Username()}.Sanitize()+`;
create table owned (owner text, body text);
alter table owned enable row level security;
create policy own on owned using (owner = current_setting('request.jwt.claims', true)::json->>'sub');
grant select on owned to `+role+`;
insert into owned values ('ann', 'of ann'), ('bob', 'of bob')`)
	must(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), "drop owned by "+role+"; drop role "+role)
		must(t, err)
	})
	read := func(settings ...nopool.Setting) (bodies []string, err error) {
		err = db.Run(t.Context(), nopool.TxOptions{ReadOnly: true, Settings: settings}, func(ctx context.Context, s *nopool.Session) error {
			rows, err := s.Query(ctx, "select body from owned")
			if err != nil {
				return err
			}
			bodies, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		return bodies, err
	}
	for claims, want := range map[string]string{`{"sub":"ann"}`: "of ann", `{"sub":"bob"}`: "of bob", `{"sub":"'; set role none; --"}`: ""} {
		bodies, err := read(nopool.Setting{Name: "request.jwt.claims", Value: claims}, nopool.Setting{Name: "role", Value: role})
		if got := strings.Join(bodies, ", "); err != nil || got != want {
			t.Errorf("%s sees %q, want %q: %v", claims, got, want, err)
		}
	}
	for range 20 {
		if _, err := read(nopool.Setting{Name: "role", Value: "nobody knows"}); !errors.Is(err, nopool.ErrSetting) {
			t.Errorf("an unknown role: %v, want ErrSetting", err)
		}
	}
	_, err = read() // others are not made to pay for it
	must(t, err)
}

// What follows has the shape of sqlc's output for pgx/v5.

type dbtx interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

type queries struct{ db dbtx }

type thing struct {
	ID       pgtype.UUID
	Settings []byte
	Tags     []string
	Mood     string
	Note     pgtype.Text
}

func (q *queries) createThing(ctx context.Context, arg thing) (thing, error) {
	row := q.db.QueryRow(ctx, `insert into things (id, settings, tags, mood, note)
values ($1, $2, $3, $4, $5) returning id, settings, tags, mood, note`, arg.ID, arg.Settings, arg.Tags, arg.Mood, arg.Note)
	var i thing
	err := row.Scan(&i.ID, &i.Settings, &i.Tags, &i.Mood, &i.Note)
	return i, err
}

func (q *queries) listThings(ctx context.Context, ids []pgtype.UUID) ([]thing, error) {
	rows, err := q.db.Query(ctx, "select id, settings, tags, mood, note from things where id = any($1::uuid[]) order by id", ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[thing])
}

// TestSQLC runs code as sqlc generates it on a session, each kind as its first use,
// where the statement travels with BEGIN, and later.
func TestSQLC(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	run := func(use func(ctx context.Context, q *queries) error) {
		t.Helper()
		must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			return use(ctx, &queries{s})
		}))
	}
	run(func(ctx context.Context, q *queries) error {
		_, err := q.db.Exec(ctx, `create type mood as enum ('good', 'bad');
create table things (id uuid primary key, settings jsonb not null, tags text[] not null, mood mood not null, note text)`)
		return err
	})
	var made []thing
	next := func() thing {
		made = append(made, thing{
			ID: pgtype.UUID{Bytes: [16]byte{byte(len(made))}, Valid: true}, Settings: []byte(`{"a": [1, null]}`),
			Tags: []string{`quo"ted`, "b,c"}, Mood: "good",
		})
		return made[len(made)-1]
	}
	for _, use := range []func(ctx context.Context, q *queries) error{
		func(ctx context.Context, q *queries) error {
			_, err := q.createThing(ctx, next())
			return err
		},
		func(ctx context.Context, q *queries) error { // :copyfrom
			i := next()
			rows := pgx.CopyFromRows([][]any{{i.ID, i.Settings, i.Tags, i.Mood, i.Note}})
			_, err := q.db.CopyFrom(ctx, pgx.Identifier{"things"}, []string{"id", "settings", "tags", "mood", "note"}, rows)
			return err
		},
		func(ctx context.Context, q *queries) error { // :batchexec
			i, batch := next(), &pgx.Batch{}
			batch.Queue("insert into things values ($1, $2, $3, $4, $5)", i.ID, i.Settings, i.Tags, i.Mood, i.Note)
			return q.db.SendBatch(ctx, batch).Close()
		},
		func(ctx context.Context, q *queries) error {
			var ids []pgtype.UUID
			for _, i := range made {
				ids = append(ids, i.ID)
			}
			if found, err := q.listThings(ctx, ids); err != nil || !reflect.DeepEqual(found, made) {
				t.Errorf("got %+v (%v), want %+v", found, err, made)
			}
			return nil
		},
	} {
		run(func(ctx context.Context, q *queries) error { return cmp.Or(use(ctx, q), use(ctx, q)) })
	}
}
