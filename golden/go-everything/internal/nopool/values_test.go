package nopool_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

type (
	word  string
	rank  int32
	level int32 // of which text is the name
	blob  []byte
	ranks []int
	point struct{ X, Y int }
)

func (l level) String() string { return "level" + strings.Repeat("+", int(l)) }

// stamp is a time, whatever its field.
type stamp struct{ V string }

func (s stamp) Value() (driver.Value, error) { return time.Parse(time.RFC3339, s.V) }

// given is an argument with a value of its own.
func given(value driver.Value) driver.Valuer {
	return valuer(func() (driver.Value, error) { return value, nil })
}

// values are of all Go types that pgx encodes without being told the SQL type, and of some that it does not.
func values() (all []any) {
	east, west := time.FixedZone("east", 2*60*60), time.FixedZone("", -(3*60*60+30*60))
	times := []time.Time{
		time.Date(2024, 3, 10, 0, 30, 0, 0, east), time.Date(2024, 3, 10, 23, 45, 0, 123456789, west), time.Date(1850, 1, 1, 0, 0, 0, 0, time.FixedZone("", 53*60+28)),
		time.Date(2024, 3, 10, 1, 2, 3, 0, time.UTC), time.Date(-43, 3, 15, 12, 0, 0, 0, east), {},
	}
	for _, at := range times {
		all = append(all, at, &at, []time.Time{at}, []*time.Time{&at, nil}, sql.NullTime{Time: at, Valid: true}, sql.Null[time.Time]{V: at, Valid: true}, given(at), stamp{"2024-03-10T00:30:00+02:00"},
			pgtype.Date{Time: at, Valid: true}, pgtype.Timestamp{Time: at, Valid: true}, pgtype.Timestamptz{Time: at, Valid: true},
			pgtype.Range[pgtype.Timestamptz]{Lower: pgtype.Timestamptz{Time: at, Valid: true}, LowerType: pgtype.Inclusive, UpperType: pgtype.Unbounded, Valid: true})
	}
	for _, text := range []string{"a", "", "7", "2024-03-10", `{"a": "b\\n"}`, `\x61`, "{1,2}"} {
		all = append(all, text, &text, word(text), []string{text, "NULL", `a"b\c`}, []word{word(text)}, []*string{&text, nil}, []byte(text), blob(text), json.RawMessage(text), [][]byte{[]byte(text)},
			given(text), given([]byte(text)), sql.NullString{String: text, Valid: true}, pgtype.Text{String: text, Valid: true}, json.Number(text))
	}
	for _, n := range []int{1, 20240310, math.MaxInt32} {
		real := float32(n) + 0.1
		all = append(all, n, &n, int8(n), int16(n), int32(n), int64(n), uint8(n), uint16(n), uint32(n), uint64(n), uint(n), rank(n), level(n&3), []level{level(n & 3)}, time.Month(n&7+1),
			real, &real, float64(n)+0.1, float64(n), []float32{real}, []float64{0.1}, []int{n}, ranks{n}, []int32{int32(n)}, []rank{rank(n)}, [2]int{n, n}, [][]int{{n}, {n}},
			time.Duration(n)*time.Second, sql.Null[time.Duration]{V: time.Duration(n) * time.Second, Valid: true}, []time.Duration{time.Duration(n) * time.Second}, given(int64(n)), given(float64(real)), big.NewInt(int64(n)),
			sql.NullInt64{Int64: int64(n), Valid: true}, sql.NullFloat64{Float64: float64(real), Valid: true}, sql.Null[level]{V: level(n & 3), Valid: true},
			pgtype.Int4{Int32: int32(n), Valid: true}, pgtype.Float4{Float32: real, Valid: true}, pgtype.Numeric{Int: big.NewInt(int64(n)), Exp: -2, Valid: true},
			pgtype.Time{Microseconds: int64(n&0xff) * 1e6, Valid: true}, pgtype.Interval{Months: 1, Days: -2, Microseconds: int64(n), Valid: true})
	}
	yes := true
	id := [16]byte{1, 2, 3}
	ip, prefix := netip.MustParseAddr("10.1.2.3"), netip.MustParsePrefix("10.1.2.0/24")
	_, network, _ := net.ParseCIDR("2001:db8::/32")
	return append(all, nil, (*string)(nil), (*time.Time)(nil), []string(nil), []byte(nil), map[string]any(nil), sql.NullTime{}, pgtype.Timestamp{}, given(nil),
		pgtype.Array[int32]{Elements: []int32{1, 2}, Dims: []pgtype.ArrayDimension{{Length: 2, LowerBound: 5}}, Valid: true}, pgtype.FlatArray[int32]{1},
		yes, &yes, []bool{yes}, sql.NullBool{Bool: true, Valid: true}, pgtype.Bool{Bool: true, Valid: true}, 1+math.Pow(2, -24), math.Inf(1), math.NaN(), uint64(math.MaxUint64),
		id, [][16]byte{id}, pgtype.UUID{Bytes: id, Valid: true}, []pgtype.UUID{{Bytes: id, Valid: true}}, ip, &ip, prefix, net.ParseIP("10.1.2.3"), *network, []netip.Addr{ip},
		net.HardwareAddr{1, 2, 3, 4, 5, 6}, map[string]any{"a": 1}, map[string]string{"a": "b"}, point{1, 2}, &point{1, 2}, []point{{1, 2}}, []string{}, []int{}, []time.Time{}, []any{1, "a"},
		pgtype.Bits{Bytes: []byte{0xa0}, Len: 4, Valid: true}, pgtype.Point{P: pgtype.Vec2{X: 1, Y: 2}, Valid: true}, errors.New("no value at all"))
}

// sqlTypes are what a parameter can be, but for xml and "char", as which pgx alone writes integers another way.
var sqlTypes = strings.Fields(`text varchar bytea json jsonb bool int2 int4 int8 float4 float8 numeric money date time timetz timestamp timestamptz
	interval uuid inet cidr macaddr varbit point text[] int4[] int8[] float8[] numeric[] bytea[] date[] timestamp[] timestamptz[] jsonb[] uuid[]
	tsrange tstzrange mood mood[] amount`)

// refused are those of which some slices, booleans and strings are not accepted, where pgx would find a way.
var refused = map[string]bool{"json": true, "jsonb": true, "jsonb[]": true, "varbit": true, "text[]": true, "point": true}

// TestValuesArrive wants each value to arrive as in pgx's default mode, or not at all, whatever is asked for, by whatever way it goes.
func TestValuesArrive(t *testing.T) {
	t.Parallel()
	db, url := open(t, nil)
	admin := pgtest.Admin(t, url)
	_, err := admin.Exec(t.Context(), `create type mood as enum ('a', 'level+'); create domain amount as numeric(10, 1);
		do $$ begin execute format('alter database %I set timezone = ''America/St_Johns''', current_database());
			execute format('alter database %I set array_nulls = off', current_database()); end $$`)
	must(t, err)
	plain := pgtest.Admin(t, url)
	_, err = plain.Exec(t.Context(), "set array_nulls = on") // what it sends as text would suffer too
	must(t, err)
	session := db.Session(t.Context(), nopool.TxOptions{})
	defer session.Rollback(t.Context())
	alone := func(sql string, arg any) (got *string, err error) {
		return got, session.QueryRow(t.Context(), sql, arg).Scan(&got)
	}
	ways := map[string]func(sql string, arg any) (*string, error){
		"alone": alone,
		"batch": func(sql string, arg any) (got *string, err error) {
			batch := &pgx.Batch{}
			batch.Queue(sql, arg).QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
			return got, session.SendBatch(t.Context(), batch).Close()
		},
	}
	compared := 0
	_, err = session.Exec(t.Context(), "savepoint before")
	must(t, err)
	for _, value := range values() {
		for _, sqlType := range sqlTypes {
			query := "select ($1::" + sqlType + ")::text"
			var want *string
			if plain.QueryRow(t.Context(), query, value).Scan(&want) != nil {
				continue // pgx says more of what cannot be
			}
			compared++
			for way, ask := range ways {
				got, err := ask(query, value)
				if err == nil && shown(got) != shown(want) || err != nil && !refused[sqlType] {
					t.Errorf("%s: %T %v as %s: %s, %v, want %s", way, value, value, sqlType, shown(got), err, shown(want))
				}
				if err != nil {
					_, err = session.Exec(t.Context(), "rollback to before")
					must(t, err)
				}
			}
		}
	}
	t.Logf("%d pairs", compared)
}

func shown(text *string) string {
	if text == nil {
		return "NULL"
	}
	return fmt.Sprintf("%q", *text)
}

// TestCopyArrives has CopyFrom store a local day and its like.
func TestCopyArrives(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	at := time.Date(2024, 3, 10, 0, 30, 0, 0, time.FixedZone("", 2*60*60))
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "create temp table copied (d date, ts timestamp, h time, ds date[], f float8, v text)")
		must(t, err)
		_, err = s.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"d", "ts", "h", "ds", "f", "v"}, pgx.CopyFromRows([][]any{{at, at, at, []time.Time{at}, float32(0.1), []byte("a")}}))
		must(t, err)
		var got string
		err = s.QueryRow(ctx, "select copied::text from copied").Scan(&got)
		if want := `(2024-03-10,"2024-03-10 00:30:00",00:30:00,{2024-03-10},0.10000000149011612,a)`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		return err
	}))
}

// TestModeOfTheCaller wants one round trip where the caller asks for it, and where nothing can go wrong.
func TestModeOfTheCaller(t *testing.T) {
	t.Parallel()
	var sent counter
	db, _ := open(t, func(c *config) { c.DialFunc = sent.dial })
	session := db.Session(t.Context(), nopool.TxOptions{})
	defer session.Rollback(t.Context())
	must(t, selectOne(t.Context(), session))
	if _, err := session.Exec(t.Context(), "select $1::interval", sql.Null[time.Duration]{V: time.Second, Valid: true}); err == nil {
		t.Error("a number of nanoseconds was taken for an interval") // as which pgx's default mode refuses it
	}
	for _, c := range []struct {
		args  []any
		turns int32
	}{
		{[]any{time.Now()}, 2}, {[]any{pgx.NamedArgs{"a": time.Now()}}, 2}, {[]any{[]byte("a")}, 2},
		{[]any{pgx.QueryExecModeExec, time.Now()}, 1}, {[]any{"a"}, 1}, {[]any{word("a")}, 1}, {[]any{pgx.NamedArgs{"a": 1}}, 1},
		{[]any{[]string{"a"}}, 1}, {[]any{[]int64{1}}, 1}, {[]any{pgtype.UUID{Valid: true}}, 1}, {[]any{sql.NullTime{}}, 1}, {[]any{(*time.Time)(nil)}, 1},
	} {
		before := sent.last.Load().turns.Load()
		query := "select $1"
		if _, ok := c.args[0].(pgx.NamedArgs); ok {
			query = "select @a"
		}
		_, err := session.Exec(t.Context(), query, c.args...)
		if turns := sent.last.Load().turns.Load() - before; err != nil || turns != c.turns {
			t.Errorf("%v: %d round trips, %v, want %d", c.args, turns, err, c.turns)
		}
	}
}

// TestTextIsPinned reads from a database of which all settings that text depends on are changed.
func TestTextIsPinned(t *testing.T) {
	t.Parallel()
	db, url := open(t, nil)
	_, err := pgtest.Admin(t, url).Exec(t.Context(), `do $$ declare setting text; begin
		foreach setting in array array['extra_float_digits = 0', 'IntervalStyle = sql_standard', 'DateStyle = "SQL, DMY"', 'bytea_output = escape',
			'client_encoding = latin1'] loop
			execute format('alter database %I set ', current_database()) || setting;
		end loop; end $$`)
	must(t, err)
	claims := nopool.Setting{Name: "request.jwt.claims", Value: "Zoë"}
	must(t, db.Run(t.Context(), nopool.TxOptions{Settings: []nopool.Setting{claims}}, func(ctx context.Context, s *nopool.Session) error {
		var sum float64
		var length time.Duration
		var at, day time.Time
		var bytes []byte
		var name, claimed string
		err := s.QueryRow(ctx, `select 0.1::float8 + 0.2::float8, interval '-1 day 4:05:06', timestamptz '2026-02-03 04:05:06+00', date '2026-02-03',
			'\xff00'::bytea, chr(233), current_setting('request.jwt.claims')`).Scan(&sum, &length, &at, &day, &bytes, &name, &claimed)
		got := fmt.Sprint(sum, length, at.UTC(), day, bytes, name, claimed)
		if want := "0.30000000000000004 -19h54m54s 2026-02-03 04:05:06 +0000 UTC 2026-02-03 00:00:00 +0000 UTC [255 0]éZoë"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		return err
	}))
}

// broken is a source of COPY that fails after a row.
type broken struct {
	pgx.CopyFromSource
	values func() ([]any, error)
}

func (b broken) Values() ([]any, error) { return b.values() }

// TestCopySourceFails wants what went wrong in the source to come out, and nothing to be stored.
func TestCopySourceFails(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	own := errors.New("own")
	for name, c := range map[string]struct {
		source pgx.CopyFromSource
		want   error
	}{
		"function":     {pgx.CopyFromFunc(func() ([]any, error) { return nil, own }), own},
		"slice":        {pgx.CopyFromSlice(9, func(int) ([]any, error) { return nil, own }), own},
		"values alone": {broken{pgx.CopyFromRows([][]any{{1}}), func() ([]any, error) { return nil, own }}, own},
		"reader":       {pgx.CopyFromFunc(func() ([]any, error) { return nil, io.ErrUnexpectedEOF }), io.ErrUnexpectedEOF},
		"deadline":     {pgx.CopyFromFunc(func() ([]any, error) { return nil, fmt.Errorf("%w: %w", own, context.DeadlineExceeded) }), own},
		"cancelled":    {pgx.CopyFromFunc(func() ([]any, error) { return nil, fmt.Errorf("%w: %w", own, context.Canceled) }), own},
		"panic":        {pgx.CopyFromFunc(func() ([]any, error) { panic(own) }), own},
		"panic late":   {broken{pgx.CopyFromRows([][]any{{1}}), func() ([]any, error) { panic(own) }}, own},
		"too few":      {pgx.CopyFromRows([][]any{{}}), nil},
		"unencodable":  {pgx.CopyFromRows([][]any{{"s3cret"}}), nil},
	} {
		err := func() (err error) {
			defer func() {
				if value := recover(); value != nil {
					err = value.(error)
				}
			}()
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				must(t, insert(1)(ctx, s))
				_, err := s.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, c.source)
				return err
			})
		}()
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); err == nil || ok && pgErr.Code == "57014" || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if strings.Contains(nopool.Describe(err), "s3cret") {
			t.Errorf("%s: the log would say %s", name, nopool.Describe(err))
		}
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows are stored", n)
	}
}
