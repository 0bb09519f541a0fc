package nopool_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"example.com/demo/internal/nopool"
)

// What follows has the shape of sqlc's output for pgx/v5.

type dbtx interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
}

type queries struct{ db dbtx }

type mood string

type thing struct {
	ID       pgtype.UUID
	Settings []byte
	Tags     []string
	Scores   []int32
	Mood     mood
	Note     pgtype.Text
	Seen     pgtype.Timestamptz
	Price    pgtype.Numeric
}

func (q *queries) createThing(ctx context.Context, arg thing) (thing, error) {
	row := q.db.QueryRow(ctx, `insert into things (id, settings, tags, scores, mood, note, seen, price)
values ($1, $2, $3, $4, $5, $6, $7, $8) returning id, settings, tags, scores, mood, note, seen, price`,
		arg.ID, arg.Settings, arg.Tags, arg.Scores, arg.Mood, arg.Note, arg.Seen, arg.Price)
	var i thing
	err := row.Scan(&i.ID, &i.Settings, &i.Tags, &i.Scores, &i.Mood, &i.Note, &i.Seen, &i.Price)
	return i, err
}

func (q *queries) listThings(ctx context.Context, ids []pgtype.UUID) ([]thing, error) {
	rows, err := q.db.Query(ctx, "select id, settings, tags, scores, mood, note, seen, price from things where id = any($1::uuid[])", ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []thing
	for rows.Next() {
		var i thing
		if err := rows.Scan(&i.ID, &i.Settings, &i.Tags, &i.Scores, &i.Mood, &i.Note, &i.Seen, &i.Price); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, rows.Err()
}

// TestSQLC runs code as sqlc generates it on a session, as its first use, where
// the statement travels with BEGIN, and later.
func TestSQLC(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	run := func(fn func(ctx context.Context, q *queries) error) {
		t.Helper()
		must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			return fn(ctx, &queries{s})
		}))
	}
	run(func(ctx context.Context, q *queries) error {
		_, err := q.db.Exec(ctx, `create type mood as enum ('good', 'bad');
create table things (id uuid primary key, settings jsonb not null, tags text[] not null, scores int[] not null,
	mood mood not null, note text, seen timestamptz, price numeric)`)
		return err
	})
	want := thing{
		ID: pgtype.UUID{Bytes: [16]byte{1, 2, 3}, Valid: true}, Settings: []byte(`{"a": [1, null]}`),
		Tags: []string{`quo"ted`, "b,c"}, Scores: []int32{1, 2}, Mood: "good",
	}
	check := func(got thing) {
		t.Helper()
		if got.ID != want.ID || string(got.Settings) != string(want.Settings) || len(got.Tags) != 2 || got.Tags[0] != want.Tags[0] ||
			len(got.Scores) != 2 || got.Mood != want.Mood || got.Note.Valid || got.Seen.Valid || got.Price.Valid {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	run(func(ctx context.Context, q *queries) error { // first use
		got, err := q.createThing(ctx, want)
		check(got)
		return err
	})
	run(func(ctx context.Context, q *queries) error {
		for range 2 { // first use and later
			got, err := q.listThings(ctx, []pgtype.UUID{want.ID})
			if err != nil || len(got) != 1 {
				t.Fatalf("%d things, %v", len(got), err)
			}
			check(got[0])
		}
		return nil
	})
}
