package nopool_test

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// TestFailedRows has callers who look at rows or results alone, as pgx lets them: no
// failure of a statement is a panic, and all say what it was.
func TestFailedRows(t *testing.T) {
	t.Parallel()
	db := on(t, standin.Start(t, standin.Options{}).URL(), func(c *config) { c.MaxSessions, c.MaxWaiting = 1, 0 })
	holder := db.Session(t.Context(), nopool.TxOptions{})
	must(t, selectOne(t.Context(), holder))
	defer holder.Rollback(t.Context())
	ended := db.Session(t.Context(), nopool.TxOptions{})
	must(t, ended.Rollback(t.Context()))
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, c := range []struct {
		session *nopool.Session
		ctx     context.Context
		arg     any
		want    error
	}{
		{db.Session(t.Context(), nopool.TxOptions{}), t.Context(), 1, nopool.ErrBusy},
		{ended, t.Context(), 1, nopool.ErrSessionDone},
		{holder, t.Context(), rewriter(func(*pgx.Conn) error { return errors.ErrUnsupported }), errors.ErrUnsupported},
		{holder, gone, 1, context.Canceled},
	} {
		rows, err := c.session.Query(c.ctx, "select $1", c.arg)
		_, collected := pgx.CollectRows(rows, pgx.RowTo[int])
		_, values := rows.Values()
		said := []error{cmp.Or(err, rows.Err()), collected, values, rows.Err(), rows.Scan(new(int)), c.session.QueryRow(c.ctx, "select $1", c.arg).Scan(new(int))}
		b := &pgx.Batch{}
		b.Queue("select $1", c.arg).Query(func(pgx.Rows) error { t.Error("a statement that was not sent is answered"); return nil })
		results := c.session.SendBatch(c.ctx, b)
		_, exec := results.Exec()
		answered, query := results.Query()
		answered.Close()
		for i, said := range append(said, exec, query, answered.Err(), results.QueryRow().Scan(new(int)), results.Close(), results.Close()) {
			if !errors.Is(said, c.want) {
				t.Errorf("%d: %v, want %v", i, said, c.want)
			}
		}
	}
}

// rewriter rewrites nothing, and wants to know the connection.
type rewriter func(*pgx.Conn) error

func (r rewriter) RewriteQuery(_ context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	return sql, args, r(conn)
}

// whole wants the whole row.
type whole func(pgx.Rows)

func (w whole) ScanRow(rows pgx.Rows) error { w(rows); return nil }

// TestConnectionStays looks for ways to the connection that others could use after the session.
func TestConnectionStays(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	s := db.Session(t.Context(), nopool.TxOptions{})
	defer s.Rollback(t.Context())
	seen := 0
	look := func(conn *pgx.Conn) {
		if seen++; conn != nil {
			t.Errorf("the connection is found in place %d", seen)
		}
	}
	inRows := whole(func(rows pgx.Rows) { look(rows.Conn()) })
	rows, err := s.Query(t.Context(), "select 1", rewriter(func(conn *pgx.Conn) error { look(conn); return nil }))
	must(t, err)
	inRows(rows)
	rows.Next()
	must(t, rows.Scan(inRows))
	rows.Close()
	must(t, s.QueryRow(t.Context(), "select 1").Scan(inRows))
	b := &pgx.Batch{}
	for range 2 {
		b.Queue("select 1", rewriter(func(conn *pgx.Conn) error { look(conn); return nil }))
	}
	b.Queue("select 1").Query(func(rows pgx.Rows) error { inRows(rows); rows.Next(); return rows.Scan(inRows) })
	b.Queue("select 1").QueryRow(func(row pgx.Row) error { return row.Scan(inRows) })
	results := s.SendBatch(t.Context(), b)
	rows, err = results.Query()
	must(t, err)
	inRows(rows)
	rows.Close()
	must(t, results.QueryRow().Scan(inRows))
	must(t, results.Close())
	begins := &pgx.Batch{}
	begins.BeginTx(pgx.TxOptions{})
	results = s.SendBatch(t.Context(), begins)
	look(results.Tx().Conn())
	if err := results.Close(); err == nil || !errors.Is(results.Tx().Rollback(t.Context()), pgx.ErrTxClosed) {
		t.Errorf("a batch begins a transaction in a session: %v", err)
	}
	if must(t, selectOne(t.Context(), s)); seen != 12 {
		t.Errorf("looked %d times", seen)
	}
}

// TestPanicWhileOpening has an argument panic before there is a connection, and be recovered.
func TestPanicWhileOpening(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	s := db.Session(t.Context(), nopool.TxOptions{})
	func() {
		defer func() { _ = recover() }()
		_, _ = s.Exec(t.Context(), "select $1", panics{})
	}()
	if err := s.Commit(t.Context()); err == nil {
		t.Error("a session whose first statement panicked was committed")
	}
}

type panics struct{}

func (panics) Value() (driver.Value, error) { panic("no value") }

// TestClosedTwice closes rows that have been read, from the source of a COPY, which has the session.
func TestClosedTwice(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "create temp table t (a int)")
		must(t, err)
		rows, err := s.Query(ctx, "select 1")
		must(t, err)
		rows.Close()
		_, err = s.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"a"}, pgx.CopyFromFunc(func() ([]any, error) {
			rows.Close()
			return nil, nil
		}))
		return err
	}))
}

// TestRowsInUse asks for a row while another is being read: a loop over Next ends, and Err says why.
func TestRowsInUse(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	session := db.Session(t.Context(), nopool.TxOptions{})
	rows, err := session.Query(t.Context(), "select generate_series(1, 2)")
	must(t, err)
	rows.Next()
	must(t, rows.Scan(whileScanned(func() {
		if rows.Next() || !errors.Is(rows.Err(), nopool.ErrSessionBusy) {
			t.Errorf("%v, want ErrSessionBusy", rows.Err())
		}
	})))
	rows.Close()
	must(t, session.Rollback(t.Context()))
}

type whileScanned func()

func (f whileScanned) Scan(any) error { f(); return nil }

// TestBatchCalls has what was queued with a statement fail, panic, exit, or not be called
// at all: the session ends with ROLLBACK.
func TestBatchCalls(t *testing.T) {
	t.Parallel()
	_, url := open(t, nil)
	own := errors.New("own")
	for name, c := range map[string]struct {
		call  func() error
		calls int
		want  error
	}{
		"none fails": {func() error { return nil }, 3, nil},
		"error":      {func() error { return own }, 1, own},
		"panic":      {func() error { panic(own) }, 1, own},
		"exit":       {func() error { runtime.Goexit(); return nil }, 1, nil},
	} {
		db := on(t, url, nil)
		calls := 0
		ended := make(chan error, 1)
		go func() {
			var err error
			defer func() {
				if value := recover(); value != nil {
					err = value.(error)
				}
				ended <- err
			}()
			err = db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				must(t, selectOne(ctx, s))
				b := &pgx.Batch{}
				b.Queue("select 1").Query(func(rows pgx.Rows) error { rows.Next(); return nil })
				b.Queue("select repeat('x', 8000) from generate_series(1, 100)").QueryRow(func(row pgx.Row) error {
					calls++
					return cmp.Or(c.call(), row.Scan(new(string)))
				})
				b.Queue("select 1").QueryRow(func(row pgx.Row) error { calls++; return row.Scan(new(string)) })
				b.Queue("select pg_sleep(0.3)") // which is still to come then
				b.Queue("select 1").Exec(func(pgconn.CommandTag) error { calls++; return nil })
				results := s.SendBatch(ctx, b)
				err := results.Close()
				if again := results.Close(); again != err {
					t.Errorf("%s: closed again: %v, not %v", name, again, err)
				}
				return err
			})
		}()
		if err := <-ended; !errors.Is(err, c.want) || calls != c.calls {
			t.Errorf("%s: %v after %d calls, want %v after %d", name, err, calls, c.want, c.calls)
		}
		must(t, db.Close(context.Background()))
		if now := db.Snapshot(); now.Aborted > 0 || (now.Committed == 1) != (name == "none fails") {
			t.Errorf("%s: counted %+v", name, now)
		}
	}
}
