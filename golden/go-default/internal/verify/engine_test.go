package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// engineParts are the rules about one session: its owner, its transaction, what it costs.
var engineParts = []part{
	{"NP03", "a session used from two goroutines", twoGoroutines},
	{"NP07", "background work", backgroundWork},
	{"NP04", "shutdown waits", shutdownWaits},
	{"NP16", "what is sent, stand-in", whatIsSent}, {"NP16", "what is read, Postgres", textInForce},
	{"NP29", "only the caller's word repeats a function", retries},
	{"NP23", "a pooler keeps its backend", keepsBackend},
	{"NP31", "what is sent, stand-in", whatIsSent},
}

// twoGoroutines uses one session from several goroutines at once. All but one at a time must be refused by name; under
// -race this finds unguarded state.
func twoGoroutines(t *T) {
	begun, refused := make(chan struct{}), make(chan struct{})
	s := on(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select slow" {
			close(begun)
			select {
			case <-refused:
			case <-time.After(3 * time.Second): // the second waits for the first
			}
		}
		return r
	}}).URL())
	ctx := context.Background()
	session := s.db.Session(ctx, nopool.TxOptions{})
	exec := func(sql string) error { _, err := session.Exec(ctx, sql); return err }
	together(2, func(i int) {
		if i == 0 {
			t.wantErr(nil, exec("select slow"), "the one who came first")
			return
		}
		<-begun
		t.wantErr(nopool.ErrSessionBusy, exec("select 1"), "the one who came second")
		close(refused)
	})
	together(8, func(int) {
		for range 20 {
			if err := exec("select 1"); err != nil {
				t.wantErr(nopool.ErrSessionBusy, err, "one of many")
			}
		}
	})
	rows, err := session.Query(ctx, "select 1")
	t.need(err)
	t.wantErr(nopool.ErrSessionBusy, exec("select 1"), "while rows are open")
	rows.Close()
	t.wantErr(nil, session.Commit(ctx), "commit")
	s.wantNoneLeft()
}

// backgroundWork wants of DB.Run what a request gets.
func backgroundWork(t *T) {
	s := real(t)
	s.create("create table item (id int unique deferrable initially deferred)")
	ctx, cancel := context.WithCancel(context.Background())
	for i, c := range []struct {
		name, sql string
		then      func() error
		want      string // in the error
	}{
		{"success", "select 1", func() error { return nil }, ""},
		{"error", "select 1", func() error { return errSecret }, errSecret.Error()},
		{"panic", "select 1", func() error { panic(errSecret) }, errSecret.Error()},
		{"a commit that fails", "insert into item values (1)", func() error { return nil }, "23505"},
		{"cancelled", "select 1", func() error { cancel(); return nil }, context.Canceled.Error()},
	} {
		err := func() (err error) {
			defer func() {
				if panicked := recover(); panicked != nil {
					err = panicked.(error)
				}
			}()
			return s.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
				if _, err := session.Exec(ctx, fmt.Sprintf("insert into item values (%d); %s", i+1, c.sql)); err != nil {
					return err
				}
				return c.then()
			})
		}()
		t.failIf((err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want), "%s: want %q, got %v", c.name, c.want, err)
	}
	if rows := s.value("select string_agg(id::text, ' ') from item"); rows != "1" {
		t.Errorf("kept are the rows %s, want the first alone", rows)
	}
	s.wantNoneLeft()
}

// whatIsSent counts how often the client had to wait for an answer, for a read as for a write: start-up, SASL, SASL, BEGIN
// with timeouts and statement in one flight, COMMIT, Terminate. It wants no prepared statement, and no start-up parameter
// that poolers refuse.
func whatIsSent(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	s := on(t, pooler.URL())
	s.handle("/{times}", func(_ http.ResponseWriter, r *http.Request, session *nopool.Session) (err error) {
		for range len(r.PathValue("times")) {
			_, err = session.Exec(r.Context(), "select $1::text", "x")
		}
		return err
	})
	for _, request := range []string{"GET 1", "POST 1", "GET 22"} {
		method, times, _ := strings.Cut(request, " ")
		s.want(200, method, "/"+times)
		s.wantNoneLeft()
		conn := pooler.Conns()[len(pooler.Conns())-1]
		sent := strings.ToLower(strings.Join(conn.Statements, ";"))
		first, _, _ := strings.Cut(sent, ";")
		if t.rule == "NP16" && (!strings.HasPrefix(first, "begin") || strings.Contains(first, "read only") != (method == "GET") || !strings.HasSuffix(sent, ";commit")) {
			t.Errorf("statements of a %s: %q", method, sent)
		}
		n := strings.Count(sent, "select $1::text")
		t.failIf(n != len(times) || conn.Bursts > 5+n, "%d statements were sent %d times, in %d bursts: %q", len(times), n, conn.Bursts, sent)
		for name := range conn.Parameters {
			t.failIf(name != "user" && name != "database" && name != "application_name", "start-up parameter %s", name)
		}
	}
	t.failIf(len(pooler.Conns()) != 3, "%d connections for 3 requests", len(pooler.Conns()))
}

// textInForce reads from a database whose own settings would give other text.
func textInForce(t *T) {
	s := real(t)
	s.create(`do $$ begin
		execute format('alter database %I set extra_float_digits = 0', current_database());
		execute format('alter database %I set intervalstyle = sql_standard', current_database());
		execute format('alter database %I set datestyle = german', current_database());
		execute format('alter database %I set bytea_output = escape', current_database());
		execute format('alter database %I set client_encoding = latin1', current_database());
	end $$`)
	err := s.session(func(ctx context.Context, session *nopool.Session) error {
		var sum float64
		var length time.Duration
		var day time.Time
		var bytes []byte
		var letter string
		err := session.QueryRow(ctx, "select 0.1::float8 + 0.2::float8, interval '-1 day 1:00', date '2026-02-03', '\\xff'::bytea, chr(233)").
			Scan(&sum, &length, &day, &bytes, &letter)
		if got := fmt.Sprint(sum, length, day.Format(time.DateOnly), bytes, letter); got != "0.30000000000000004 -23h0m0s2026-02-03[255]é" {
			t.Errorf("read %s", got)
		}
		return err
	})
	t.failIf(err != nil, "reading: %v", err)
	s.wantNoneLeft()
}

// retries counts how often a function runs.
func retries(t *T) {
	var left, runs atomic.Int32
	s := on(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if code, ok := strings.CutPrefix(sql, "update "); ok && left.Add(-1) >= 0 {
			if r.Drop = code == "lost"; !r.Drop {
				r.Error = standin.Error(code, "again")
			}
		}
		return r
	}}).URL())
	for _, c := range []struct {
		code  string
		fails int32 // so many times
		want  int32 // runs of RunWithRetry; Run has one
	}{
		{"40001", 1, 2}, {"40P01", 2, 3}, {"40001", 99, 3}, {"lost", 99, 1},
		{"23505", 99, 1}, {"40002", 99, 1}, {"40003", 99, 1}, {"55P03", 99, 1}, {"57014", 99, 1},
	} {
		for _, again := range []bool{false, true} {
			run, want := s.db.Run, int32(1)
			if again {
				run, want = s.db.RunWithRetry, c.want
			}
			left.Store(c.fails)
			runs.Store(0)
			err := run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
				runs.Add(1)
				_, err := session.Exec(ctx, "update "+c.code)
				return err
			})
			t.failIf((err == nil) != (c.fails < want) || runs.Load() != want, "%s, asked to retry %v: ran %d times, want %d: %v", c.code, again, runs.Load(), want, err)
		}
	}
	s.wantNoneLeft()
}

// shutdownWaits wants Close to wait for a session that is under way, and no other to begin.
func shutdownWaits(t *T) {
	s := on(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select slow" {
			r.Delay = 500 * time.Millisecond
		}
		return r
	}}).URL())
	underway := make(chan error, 1)
	go func() { underway <- s.run("select slow") }()
	pgtest.Within(soon, func() bool { return s.db.Snapshot().Opened == 1 })
	t.wantErr(nil, s.db.Close(context.Background()), "Close")
	t.failIf(s.db.Snapshot().InUse > 0, "Close did not wait for a session")
	t.wantErr(nil, <-underway, "a session under way when Close was called")
	t.wantErr(nopool.ErrClosed, s.run("select 1"), "a session opened after Close")
	s.wantNoneLeft()
}

// keepsBackend wants sessions to end so that a pooler can give its backend to the next.
func keepsBackend(t *T) {
	s := real(t, func(o *options) { o.bouncer = &pgtest.PgBouncerOptions{PoolSize: 5} })
	backends := map[int]bool{}
	for i := range 8 {
		var pid int
		want := []error{nil, errSecret}[i%2] // the latter rolls back
		t.wantErr(want, s.session(func(ctx context.Context, session *nopool.Session) error {
			return errors.Join(want, session.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid))
		}), "session")
		backends[pid] = true
		s.wantNoneLeft()
	}
	t.failIf(len(backends) != 1, "8 sessions in turn used %d backends of the pooler", len(backends))
}
