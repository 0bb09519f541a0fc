package nopool_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

// TestTypes has each connection know more of types than pgx does, at no round trip.
func TestTypes(t *testing.T) {
	t.Parallel()
	var sent counter
	db, _ := open(t, func(c *config) {
		c.DialFunc = sent.dial
		c.Types = func(types *pgtype.Map) {
			types.RegisterType(&pgtype.Type{Name: "jsonb", OID: pgtype.JSONBOID, Codec: &pgtype.JSONBCodec{Marshal: json.Marshal, Unmarshal: exactly}})
		}
	})
	for range 2 {
		must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			must(t, selectOne(ctx, s))
			before := sent.last.Load().turns.Load()
			var got map[string]any
			err := s.QueryRow(ctx, `select '{"a": 12345678901234567890}'::jsonb`).Scan(&got)
			if got["a"] != json.Number("12345678901234567890") || sent.last.Load().turns.Load() != before+1 {
				t.Errorf("got %v after %d round trips", got, sent.last.Load().turns.Load()-before)
			}
			return err
		}))
	}
}

// uid is made as the types of libraries for uuids and decimals are.
type uid [16]byte

func (u uid) Value() (driver.Value, error) { return hex.EncodeToString(u[:]), nil }

func (u *uid) Scan(text any) error {
	b, err := hex.DecodeString(strings.ReplaceAll(fmt.Sprint(text), "-", ""))
	copy(u[:], b)
	return err
}

// TestLibraries has types that nobody has registered go and come, alone and in arrays.
func TestLibraries(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	session := db.Session(t.Context(), nopool.TxOptions{})
	defer session.Rollback(t.Context())
	id := uid{1, 2, 3}
	for _, c := range []struct {
		sqlType  string
		arg, got any
	}{
		{"uuid", id, new(uid)}, {"uuid[]", []uid{id, id}, new([]uid)}, {"uuid", [16]byte(id), new([16]byte)}, {"uuid[]", [][16]byte{id}, new([][16]byte)},
		{"jsonb", map[string]any{"a": "b"}, new(map[string]any)}, {"jsonb", map[string]string{"a": "b"}, new(map[string]string)},
		{"jsonb", []map[string]any{{"a": nil}}, new([]map[string]any)}, {"macaddr", "01:02:03:04:05:06", new(string)},
	} {
		for _, way := range []string{"alone", "batch"} {
			var err error
			query := "select $1::" + c.sqlType
			if way == "alone" {
				err = session.QueryRow(t.Context(), query, c.arg).Scan(c.got)
			} else {
				b := &pgx.Batch{}
				b.Queue(query, c.arg).QueryRow(func(row pgx.Row) error { return row.Scan(c.got) })
				err = session.SendBatch(t.Context(), b).Close()
			}
			if got := reflect.ValueOf(c.got).Elem().Interface(); err != nil || !reflect.DeepEqual(got, c.arg) {
				t.Errorf("%s: %T as %s: got %v, %v, want %v", way, c.arg, c.sqlType, got, err, c.arg)
			}
		}
	}
}

// TestLoadTypes wants an enum, arrays of it and a composite to go and come after they have been
// asked for once.
func TestLoadTypes(t *testing.T) {
	t.Parallel()
	type visit struct {
		Mood  string
		Moods []string
		Days  int32
	}
	var sent counter
	db, url := open(t, func(c *config) { c.DialFunc = sent.dial })
	_, err := pgtest.Admin(t, url).Exec(t.Context(), "create type mood as enum ('good', 'bad'); create type visit as (mood mood, moods mood[], days int)")
	must(t, err)
	must(t, db.LoadTypes(t.Context(), "mood", "_mood", "visit"))
	for range 2 {
		must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			must(t, selectOne(ctx, s))
			before := sent.last.Load().turns.Load()
			want := visit{"bad", []string{"good", "bad"}, 3}
			var got visit
			err := s.QueryRow(ctx, "select $1::visit", want).Scan(&got)
			if turns := sent.last.Load().turns.Load() - before; !reflect.DeepEqual(got, want) || turns != 2 {
				t.Errorf("got %+v after %d round trips", got, turns)
			}
			var moods []string
			return errors.Join(err, s.QueryRow(ctx, "select $1::mood[]", []string{"good"}).Scan(&moods))
		}))
	}
	var readers sync.WaitGroup // all connections share the types
	for range 4 {
		readers.Go(func() {
			if err := db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				var mood scanned
				return errors.Join(s.QueryRow(ctx, "select 'good'::mood").Scan(&mood), s.QueryRow(ctx, "select 'bad'::mood").Scan(&mood))
			}); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	if err := db.LoadTypes(t.Context(), "visit of nobody", "_mood"); err != nil {
		t.Error(err)
	}
}

// scanned is an enum as sqlc writes it.
type scanned string

func (s *scanned) Scan(value any) error {
	text, ok := value.(string)
	if *s = scanned(text); !ok {
		return fmt.Errorf("a %T", value)
	}
	return nil
}

func exactly(data []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decoder.Decode(v)
}
