package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// engineParts are the rules about one session: its owner, its transaction, what it costs.
var engineParts = []part{
	{"NP03", "a session used from two goroutines", twoGoroutines},
	{"NP07", "background work", backgroundWork},
	{"NP16", "what is sent, stand-in", whatIsSent},
	{"NP16", "what is in force, Postgres", kindInForce}, {"NP16", "what is read, Postgres", textInForce},
	{"NP18", "a session that is never used", lazySession},
	{"NP29", "only the caller's word repeats a function", retries},
	{"NP31", "round trips", roundTrips},
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
	together(2, func(i int) {
		if i == 0 {
			if _, err := session.Exec(ctx, "select slow"); err != nil {
				t.Errorf("the one who came first: %v", err)
			}
			return
		}
		<-begun
		if _, err := session.Exec(ctx, "select 1"); !errors.Is(err, nopool.ErrSessionBusy) {
			t.Errorf("the one who came second: want ErrSessionBusy, got %v", err)
		}
		close(refused)
	})
	together(8, func(int) {
		for range 20 {
			if _, err := session.Exec(ctx, "select 1"); err != nil && !errors.Is(err, nopool.ErrSessionBusy) {
				t.Errorf("want ErrSessionBusy or success, got %v", err)
			}
		}
	})
	rows, err := session.Query(ctx, "select 1")
	if err != nil {
		t.Fatalf("the session is broken afterwards: %v", err)
	}
	if _, err := session.Exec(ctx, "select 1"); !errors.Is(err, nopool.ErrSessionBusy) {
		t.Errorf("want ErrSessionBusy while rows are open, got %v", err)
	}
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

// whatIsSent wants one flight of BEGIN, timeouts and statement, no prepared statement, no start-up parameter that poolers
// refuse.
func whatIsSent(t *T) {
	pooler := standin.Start(t, standin.Options{})
	s := on(t, pooler.URL())
	s.handle("GET /", func(_ http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		_, one := session.Exec(r.Context(), "select $1::text", "x")
		_, other := session.Exec(r.Context(), "select $1::text", "x")
		return errors.Join(one, other)
	})
	s.want(200, "GET", "/")
	s.wantNoneLeft()
	if len(pooler.Conns()) != 1 {
		t.Fatalf("%d connections, want one that has ended", len(pooler.Conns()))
	}
	conn := pooler.Conns()[0]
	got := strings.ToLower(strings.Join(conn.Statements, ";"))
	if first, _, _ := strings.Cut(got, ";"); !strings.HasPrefix(first, "begin") || !strings.Contains(first, "read only") || !strings.HasSuffix(got, ";commit") {
		t.Errorf("statements of a GET: %q", got)
	}
	if n := strings.Count(got, "select $1::text"); n != 2 || conn.Bursts > 5 {
		t.Errorf("2 statements were sent %d times, in %d bursts", n, conn.Bursts)
	}
	for name := range conn.Parameters {
		t.failIf(name != "user" && name != "database" && name != "application_name", "start-up parameter %s", name)
	}
}

// kindInForce asks the server what it runs, for each kind that can be asked for.
func kindInForce(t *T) {
	s := real(t)
	show := func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		var kind string
		err := session.QueryRow(r.Context(), "select concat_ws(', ', current_setting('transaction_read_only'), current_setting('transaction_isolation'))").Scan(&kind)
		w.Header().Set("Kind", kind) // which HEAD gets too
		return err
	}
	s.handle("/", show)
	s.handle("/other", show, nopool.TxOptions{Isolation: pgx.Serializable})
	for request, want := range map[string]string{
		"GET /": "on, read committed", "HEAD /": "on, read committed", "POST /": "off, read committed", "PUT /": "off, read committed", "DELETE /": "off, read committed",
		"GET /other": "off, serializable", "POST /other": "off, serializable",
	} {
		method, path, _ := strings.Cut(request, " ")
		if kind := s.want(200, method, path).header.Get("Kind"); kind != want {
			t.Errorf("%s: %s, want %s", request, kind, want)
		}
	}
	// Settings end with their transaction: the next client of a pooler's backend must not inherit them.
	err := s.session(func(ctx context.Context, session *nopool.Session) error {
		var left string
		if _, err := session.Exec(ctx, "commit; begin"); err != nil {
			return err
		}
		err := session.QueryRow(ctx, "select current_setting('statement_timeout') || current_setting('lock_timeout')").Scan(&left)
		if left != "00" { // what a new database has
			t.Errorf("the timeouts outlive the transaction: %s", left)
		}
		return err
	})
	t.failIf(err != nil, "after a commit: %v", err)
	s.wantNoneLeft()
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

// lazySession holds every slot and serves a request that does not need one.
func lazySession(t *T) {
	pooler := standin.Start(t, standin.Options{})
	s := on(t, pooler.URL(), func(o *options) { o.MaxSessions, o.MaxWaiting = 1, 0 })
	s.handle("POST /", chosen(http.StatusAccepted))
	s.handle("POST /invalid", fails)
	s.holding(func() {
		s.want(http.StatusAccepted, "POST", "/")
		s.want(http.StatusInternalServerError, "POST", "/invalid")
	})
	s.wantNoneLeft()
	s.want(http.StatusAccepted, "POST", "/") // nor where there is room for one
	t.failIf(pooler.Stats().Dials != 1, "%d connections for one session that was used", pooler.Stats().Dials)
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

// roundTrips counts how often the client had to wait for an answer: start-up, SASL, SASL, BEGIN with the statement,
// COMMIT, Terminate.
func roundTrips(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	s := on(t, pooler.URL())
	s.handle("GET /{id}", func(_ http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		_, err := session.Exec(r.Context(), "select $1::text", r.PathValue("id"))
		return err
	})
	s.handle("POST /", query("insert into t"))
	s.want(200, "GET", "/some")
	s.want(200, "POST", "/")
	s.wantNoneLeft()
	for _, conn := range pooler.Conns() {
		t.failIf(conn.Bursts > 6, "%d bursts for %q", conn.Bursts, conn.Statements)
	}
	t.failIf(len(pooler.Conns()) != 2, "%d connections", len(pooler.Conns()))
}
