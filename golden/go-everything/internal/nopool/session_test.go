package nopool_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

func TestRunEnds(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	failure := errors.New("failure")
	cancelled, cancel := context.WithCancel(t.Context())
	runs := func(f func(context.Context, *nopool.Session) error) func() error {
		return func() error { return db.Run(t.Context(), nopool.TxOptions{}, f) }
	}
	says := func(sql string) func() error {
		return runs(func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, sql)
			return err
		})
	}
	tests := []struct {
		name string
		run  func() error
		want error
		rows int
	}{
		{"error", func() error {
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				return errors.Join(insert(1)(ctx, s), failure)
			})
		}, failure, 0},
		{"panic", func() (err error) {
			defer func() { err = recover().(error) }()
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				_ = insert(1)(ctx, s)
				panic(failure)
			})
		}, failure, 0},
		{"Goexit", func() error {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
					_ = insert(1)(ctx, s)
					runtime.Goexit()
					return nil
				})
			}()
			<-done
			return nil
		}, nil, 0},
		{"cancelled at the end", func() error {
			return db.Run(cancelled, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				defer cancel()
				return insert(1)(ctx, s)
			})
		}, context.Canceled, 0},
		{"statement failed and ignored", func() error {
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				_, _ = s.Exec(ctx, "select 1/0")
				return nil
			})
		}, nopool.ErrRolledBack, 0},
		{"rows left open", func() error {
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				rows, err := s.Query(ctx, "select generate_series(1, 10000000)")
				if err == nil {
					rows.Next()
				}
				return err
			})
		}, nopool.ErrSessionBusy, 0},
		{"transaction ended by a statement", says("rollback"), nopool.ErrNoTransaction, 0},
		{"and another begun", says("rollback and chain"), nopool.ErrNoTransaction, 0},
		{"and another begun by two", says("rollback; begin"), nopool.ErrNoTransaction, 0},
		{"in other words", says("abort work; start transaction"), nopool.ErrNoTransaction, 0},
		{"and more behind it", says("rollback; begin; select 1"), nopool.ErrNoTransaction, 0},
		{"by Query", runs(func(ctx context.Context, s *nopool.Session) error {
			rows, _ := s.Query(ctx, "Rollback\nand chain")
			rows.Close()
			return rows.Err()
		}), nopool.ErrNoTransaction, 0},
		{"by a batch", runs(func(ctx context.Context, s *nopool.Session) error {
			b := &pgx.Batch{}
			b.Queue("rollback and chain")
			b.Queue("select 1")
			return s.SendBatch(ctx, b).Close()
		}), nopool.ErrNoTransaction, 0},
		{"rolled back to a savepoint", says("savepoint s; rollback to s"), nil, 0},
		{"committed by itself", func() error {
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				return errors.Join(insert(1)(ctx, s), s.Commit(ctx))
			})
		}, nil, 1},
		{"finished by itself, and left", func() error {
			leaving, leave := context.WithCancel(t.Context())
			return db.Run(leaving, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				defer leave()
				return errors.Join(insert(2)(ctx, s), s.Finish(ctx))
			})
		}, nil, 2},
		{"read and finished by itself", func() error {
			return db.Run(t.Context(), nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, s *nopool.Session) error {
				return errors.Join(selectOne(ctx, s), s.Finish(ctx))
			})
		}, nil, 2},
		{"its own commit failed and ignored", func() error {
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				_, _ = s.Exec(ctx, "select 1/0")
				_ = s.Commit(ctx)
				return nil
			})
		}, nopool.ErrRolledBack, 2},
		{"rolled back by itself", func() error {
			return db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				return errors.Join(insert(3)(ctx, s), s.Rollback(ctx))
			})
		}, nopool.ErrSessionDone, 2},
		{"never used", func() error {
			return db.Run(t.Context(), nopool.TxOptions{}, func(context.Context, *nopool.Session) error { return nil })
		}, nil, 2},
		{"success", func() error { return db.Run(t.Context(), nopool.TxOptions{}, insert(3)) }, nil, 3},
	}
	for _, test := range tests {
		if err := test.run(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if n := count(t, db); n != test.rows {
			t.Errorf("%s: %d rows, want %d", test.name, n, test.rows)
		}
	}
}

func TestSessionAfterItsEnd(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	for want, end := range map[error]func(*nopool.Session, context.Context) error{
		nil: (*nopool.Session).Commit, nopool.ErrSessionDone: (*nopool.Session).Rollback,
	} {
		session := db.Session(t.Context(), nopool.TxOptions{})
		_, err := session.Exec(t.Context(), "select 1")
		must(t, err)
		must(t, end(session, t.Context()))
		must(t, session.Rollback(t.Context()))
		if _, err := session.Exec(t.Context(), "select 1"); !errors.Is(err, nopool.ErrSessionDone) {
			t.Errorf("a statement after the end: %v", err)
		}
		if err := session.Commit(t.Context()); !errors.Is(err, want) {
			t.Errorf("a commit after the end: %v, want %v", err, want)
		}
	}
}

// TestTwoGoroutines wants a clear error, under the race detector, where two
// goroutines share a session, and a session that still ends.
func TestTwoGoroutines(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	session := db.Session(t.Context(), nopool.TxOptions{})
	var wg sync.WaitGroup
	var busy, others sync.Map
	for range 8 {
		wg.Go(func() {
			for range 20 {
				var n int
				switch err := session.QueryRow(t.Context(), "select 1").Scan(&n); {
				case errors.Is(err, nopool.ErrSessionBusy):
					busy.Store(err.Error(), true)
				case err != nil:
					others.Store(err.Error(), true)
				}
			}
		})
	}
	wg.Wait()
	others.Range(func(err, _ any) bool { t.Error(err); return true })
	if _, any := busy.Load(nopool.ErrSessionBusy.Error()); !any {
		t.Error("no call was refused")
	}
	must(t, session.Rollback(t.Context()))
}

// TestCloseIsNotRefused closes rows while another goroutine asks for the session
// all the time: rows that stay open would keep it busy to its end.
func TestCloseIsNotRefused(t *testing.T) {
	t.Parallel()
	session := on(t, standin.Start(t, standin.Options{}).URL(), nil).Session(t.Context(), nopool.TxOptions{})
	must(t, selectOne(t.Context(), session))
	var asking sync.WaitGroup
	var enough atomic.Bool
	asking.Go(func() {
		for !enough.Load() {
			_ = selectOne(t.Context(), session)
		}
	})
	one := &pgx.Batch{}
	one.Queue("select 1")
	started := time.Now()
	for i := 0; i < 2000 && time.Since(started) < 2*time.Second; i++ { // one processor alone is slow at it
		if i%2 == 0 {
			_ = session.SendBatch(t.Context(), one).Close()
		} else if rows, err := session.Query(t.Context(), "select 1"); err == nil {
			rows.Close()
		}
	}
	enough.Store(true)
	asking.Wait()
	if err := selectOne(t.Context(), session); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	must(t, session.Rollback(t.Context()))
}

// TestBatchAfterItsSession uses a batch while its session ends and afterwards: under
// the race detector, nobody else may touch the connection then.
func TestBatchAfterItsSession(t *testing.T) {
	t.Parallel()
	db := on(t, standin.Start(t, standin.Options{}).URL(), nil)
	for range 50 {
		session := db.Session(t.Context(), nopool.TxOptions{})
		several := &pgx.Batch{}
		for range 20 {
			several.Queue("select 1")
		}
		results := session.SendBatch(t.Context(), several)
		var using sync.WaitGroup
		using.Go(func() {
			for range 20 {
				_, _ = results.Exec()
			}
			_ = results.Close()
		})
		_ = session.Rollback(t.Context())
		using.Wait()
		if _, err := results.Exec(); err == nil {
			t.Fatal("a statement of the batch succeeded after the end of its session")
		}
	}
}

// TestRollbackCancels wants Rollback to end a session that another goroutine
// still uses, and not to wait for its statement.
func TestRollbackCancels(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	session := db.Session(t.Context(), nopool.TxOptions{})
	failed := make(chan error)
	go func() {
		_, err := session.Exec(context.Background(), "select pg_sleep(9)")
		failed <- err
	}()
	time.Sleep(300 * time.Millisecond)
	started := time.Now()
	_ = session.Rollback(t.Context())
	if err := <-failed; err == nil || time.Since(started) > 5*time.Second {
		t.Errorf("the statement ended with %v after %v", err, time.Since(started))
	}
}

func TestFirstUse(t *testing.T) {
	t.Parallel()
	var sent counter
	db, _ := open(t, func(c *config) { c.DialFunc = sent.dial })
	ctx := t.Context()
	uses := map[string]func(s *nopool.Session) error{
		"several commands": func(s *nopool.Session) error {
			_, err := s.Exec(ctx, "create temp table a (n int); insert into a values (1)")
			return err
		},
		"option of pgx": func(s *nopool.Session) error {
			_, err := s.Exec(ctx, "select $1::int", pgx.QueryExecModeDescribeExec, 1)
			return err
		},
		"named arguments": func(s *nopool.Session) error {
			_, err := s.Exec(ctx, "select @n::int", pgx.NamedArgs{"n": 1})
			return err
		},
		"batch": func(s *nopool.Session) error {
			batch := &pgx.Batch{}
			batch.Queue("select $1::int", 1)
			return s.SendBatch(ctx, batch).Close()
		},
		"copy": func(s *nopool.Session) error {
			_, err := s.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{100}}))
			return err
		},
		"nothing": func(s *nopool.Session) error { _, err := s.Exec(ctx, "-- nothing"); return err },
	}
	// BEGIN travels with all of them, but pgx makes more round trips of some by itself:
	// of a batch one, of a copy up to three, depending on what it hears while it still writes.
	later := map[string]int32{"option of pgx": 1, "batch": 1, "copy": 1}
	one := db.Session(ctx, nopool.TxOptions{})
	must(t, selectOne(ctx, one))
	turns := sent.last.Load().turns.Load()
	must(t, one.Commit(ctx))
	for name, use := range uses {
		session := db.Session(ctx, nopool.TxOptions{})
		if err := use(session); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := sent.last.Load().turns.Load() - turns; n != later[name] && (name != "copy" || n > 3) {
			t.Errorf("%s: %d round trips more than one statement, want %d", name, n, later[name])
		}
		var timeout string
		if err := session.QueryRow(ctx, "select current_setting('statement_timeout')").Scan(&timeout); err != nil || timeout != "10s" {
			t.Errorf("%s: statement_timeout is %q (%v), want 10s", name, timeout, err)
		}
		if err := session.Commit(ctx); err != nil {
			t.Errorf("%s: commit: %v", name, err)
		}
	}
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows, want the one that was copied", n)
	}
}

// TestFailedFirstStatement wants the transaction that came with it to be open
// and to end in ROLLBACK.
func TestFailedFirstStatement(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	before := db.Snapshot()
	session := db.Session(t.Context(), nopool.TxOptions{})
	if _, err := session.Exec(t.Context(), "select 1/0"); err == nil {
		t.Fatal("a division by zero succeeded")
	}
	must(t, session.Rollback(t.Context()))
	if after := db.Snapshot(); after.RolledBack != before.RolledBack+1 || after.Aborted != before.Aborted {
		t.Errorf("counted %+v", after)
	}
}

// TestRefusedBegin wants a first statement that travelled behind a BEGIN which
// failed not to run: outside of a transaction it would commit by itself, once for
// each attempt.
func TestRefusedBegin(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	uses := map[string]func(ctx context.Context, s *nopool.Session) error{
		"simple": func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, "insert into t values (1)")
			return err
		},
		"parameters": insert(2),
		"batch": func(ctx context.Context, s *nopool.Session) error {
			batch := &pgx.Batch{}
			batch.Queue("insert into t values ($1)", 3)
			return s.SendBatch(ctx, batch).Close()
		},
	}
	for name, use := range uses {
		err := db.Run(t.Context(), nopool.TxOptions{Isolation: "unheard of"}, use)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42601" || !errors.Is(err, nopool.ErrConfiguration) {
			t.Errorf("%s: %v, want the syntax error", name, err)
		}
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows, want none", n)
	}

	pooler := standin.Start(t, standin.Options{OnStatement: func(c *standin.Conn, sql string) (reply standin.Reply) {
		if sql == "begin" && c.N < 3 { // a cancel that was meant for the pooler's last client
			reply.Error = standin.Error("57014", "canceling statement due to user request")
		}
		return reply
	}})
	must(t, on(t, pooler.URL(), nil).Run(t.Context(), nopool.TxOptions{}, selectOne))
	for i, conn := range pooler.Conns() {
		if ran := slices.Contains(conn.Statements, "select 1"); ran != (i == 2) {
			t.Errorf("attempt %d: %q", i+1, conn.Statements)
		}
	}
	if stats := pooler.Stats(); stats.Dials != 3 {
		t.Errorf("%d dials, want one per attempt and none to cancel", stats.Dials)
	}
}

// TestRefusedLargeStatement wants the reason of a pooler that closes while the first
// statement is still being written.
func TestRefusedLargeStatement(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{OnStatement: func(*standin.Conn, string) standin.Reply {
		return standin.Reply{Error: standin.Fatal("08P01", "query_wait_timeout")}
	}})
	db := on(t, pooler.URL(), func(c *config) { c.ConnectTimeout = 5 * time.Second })
	large := "select '" + strings.Repeat("x", 16<<20) + "'"
	err := db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, large)
		return err
	})
	if !errors.Is(err, nopool.ErrPoolerFull) {
		t.Errorf("%v, want ErrPoolerFull", err)
	}
}

// readHook is a connection that calls its hook with all that it reads.
type readHook struct {
	net.Conn
	hook func(read []byte)
}

func (r *readHook) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.hook(p[:n])
	return n, err
}

// TestCancelledAfterFirstStatement wants COMMIT to go out where the context of the
// first statement ends as that succeeds.
func TestCancelledAfterFirstStatement(t *testing.T) {
	t.Parallel()
	var cancel atomic.Pointer[context.CancelFunc]
	db, _ := open(t, func(c *config) {
		c.wrap = func(conn net.Conn) net.Conn {
			return &readHook{conn, func(read []byte) {
				if bytes.Contains(read, []byte("answer")) {
					(*cancel.Load())()
				}
			}}
		}
	})
	for range 5 {
		ctx, end := context.WithCancel(t.Context())
		cancel.Store(&end)
		s := db.Session(t.Context(), nopool.TxOptions{})
		_, err := s.Exec(ctx, "select 'answer'")
		time.Sleep(10 * time.Millisecond) // what the end of ctx still does
		if err == nil {
			err = s.Commit(ctx)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err) // further ones take long
		}
		_ = s.Rollback(ctx)
	}
}

// TestLateBegin reads the answer to BEGIN a moment too late: the session is not open,
// and it is not the client that has cancelled anything.
func TestLateBegin(t *testing.T) {
	t.Parallel()
	db := on(t, standin.Start(t, standin.Options{}).URL(), func(c *config) {
		c.ConnectTimeout = 300 * time.Millisecond
		c.wrap = func(conn net.Conn) net.Conn {
			return &readHook{conn, func(read []byte) {
				if bytes.Contains(read, []byte("BEGIN")) {
					time.Sleep(2 * c.ConnectTimeout)
				}
			}}
		}
	})
	if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if now := db.Snapshot(); now.Opened != 0 || now.OpenErrors != 1 {
		t.Errorf("counted %+v", now)
	}
}

// TestLeftBeforeBegin wants no BEGIN from a session whose client left, or panicked,
// before it had sent anything: a pooler gives up a connection on which one is open.
func TestLeftBeforeBegin(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{})
	db := on(t, pooler.URL(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	leave := valuer(func() (driver.Value, error) { cancel(); return nil, errors.New("no value") })
	err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select $1", leave)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that the client has left", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, "select $1", valuer(func() (driver.Value, error) { panic("no value") }))
			return err
		})
	}()
	must(t, db.Close(t.Context()))
	for i, conn := range pooler.Conns() {
		if len(conn.Statements) > 0 || conn.End != standin.Terminated {
			t.Errorf("connection %d: %s after %q", i+1, conn.End, conn.Statements)
		}
	}
}

// valuer is an argument that is asked for its value.
type valuer func() (driver.Value, error)

func (v valuer) Value() (driver.Value, error) { return v() }

// TestLongFirstStatement wants ConnectTimeout to bound the answer to BEGIN, not
// the statement that travels with it.
func TestLongFirstStatement(t *testing.T) {
	t.Parallel()
	db, _ := open(t, func(c *config) { c.ConnectTimeout = 2 * time.Second })
	must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select pg_sleep(2.5)")
		return err
	}))
}

// TestIdleTooLong wants a session that the server ended, because it sat idle,
// to be known as rolled back.
func TestIdleTooLong(t *testing.T) {
	t.Parallel()
	db, _ := open(t, func(c *config) { c.IdleInTransactionTimeout = 200 * time.Millisecond })
	err := db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		defer time.Sleep(time.Second)
		return insert(1)(ctx, s)
	})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "25P03" || errors.Is(err, nopool.ErrOutcomeUnknown) {
		t.Errorf("committed after too long a pause: %v, want 25P03", err)
	}
}

// TestHeardBeforeCommit ends the connection, or only says something, before COMMIT is sent: what was said then is no
// answer to it.
func TestHeardBeforeCommit(t *testing.T) {
	t.Parallel()
	var socket atomic.Pointer[net.TCPConn]
	direct, url := open(t, func(c *config) {
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				socket.Store(conn.(*net.TCPConn))
			}
			return conn, err
		}
	})
	said := &saying{}
	hidden := on(t, url, func(c *config) {
		c.DialFunc = new(counter).dial
		c.wrap = func(conn net.Conn) net.Conn { said.Conn = conn; return said }
	})
	pooled := on(t, pgtest.PgBouncer(t, url, pgtest.PgBouncerOptions{}), nil)
	admin := pgtest.Admin(t, url)
	terminate := func(ctx context.Context, s *nopool.Session) {
		var pid int
		must(t, s.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid))
		_, err := admin.Exec(ctx, "select pg_terminate_backend($1, 5000)", pid)
		must(t, err)
		time.Sleep(100 * time.Millisecond) // for a pooler to pass it on
	}
	for i, c := range []struct {
		db   *nopool.DB
		then func(ctx context.Context, s *nopool.Session)
		want error
	}{
		{direct, terminate, nopool.ErrUnavailable}, {hidden, terminate, nopool.ErrUnavailable}, {pooled, terminate, nopool.ErrUnavailable},
		{direct, func(context.Context, *nopool.Session) { must(t, socket.Load().CloseRead()) }, nopool.ErrUnavailable},
		{hidden, func(context.Context, *nopool.Session) {
			said.next, _ = (&pgproto3.ParameterStatus{Name: "a", Value: "b"}).Encode(nil) // as Supavisor does each minute
		}, nil},
	} {
		err := c.db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			must(t, insert(i)(ctx, s))
			c.then(ctx, s)
			return nil
		})
		if !errors.Is(err, c.want) || errors.Is(err, nopool.ErrOutcomeUnknown) || c.db.Snapshot().CommitUnknown != 0 {
			t.Errorf("%d: %v, want %v", i, err, c.want)
		}
	}
	if n := count(t, direct); n != 1 {
		t.Errorf("%d rows, want that of the last", n)
	}
}

// saying is a connection on which the server seems to say something more.
type saying struct {
	net.Conn
	next []byte
}

func (s *saying) Read(p []byte) (int, error) {
	if n := copy(p, s.next); n > 0 {
		s.next = nil
		return n, nil
	}
	return s.Conn.Read(p)
}

func TestRunWithRetry(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, insert(0)))
	calls := 0
	err := db.RunWithRetry(t.Context(), nopool.TxOptions{Isolation: pgx.Serializable}, func(ctx context.Context, s *nopool.Session) error {
		var n int
		if err := s.QueryRow(ctx, "select count(*) from t").Scan(&n); err != nil {
			return err
		}
		if calls++; calls == 1 { // somebody else changes what was read
			must(t, db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				_, err := s.Exec(ctx, "update t set n = 50")
				return err
			}))
		}
		_, err := s.Exec(ctx, "update t set n = n + 1")
		return err
	})
	if err != nil || calls != 2 {
		t.Errorf("%v after %d calls, want success at the second", err, calls)
	}
}

// TestRetryAfterOwnCommit has what comes after a function's own commit fail: that stands, so nothing runs again.
func TestRetryAfterOwnCommit(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	calls := 0
	err := db.RunWithRetry(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		calls++
		must(t, insert(calls)(ctx, s))
		must(t, s.Commit(ctx))
		return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, "do $$ begin raise exception 'later' using errcode = '40001'; end $$")
			return err
		})
	})
	if n := count(t, db); err == nil || calls != 1 || n != 1 {
		t.Errorf("%v after %d calls, %d rows", err, calls, n)
	}
}

// counter counts the round trips of its last connection.
type counter struct{ last atomic.Pointer[countedConn] }

type countedConn struct {
	net.Conn
	heard atomic.Bool  // something since the last write
	turns atomic.Int32 // writes after that
}

func (c *counter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	counted := &countedConn{Conn: conn}
	c.last.Store(counted)
	return counted, err
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.Store(true)
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	if c.heard.Swap(false) {
		c.turns.Add(1)
	}
	return c.Conn.Write(p)
}
