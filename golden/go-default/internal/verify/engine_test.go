package verify

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// engineParts are the rules about one session: its owner, its transaction, what it costs.
var engineParts = []part{
	{"NP03", "a session used from two goroutines", twoGoroutines},
	{"NP16 NP31", "what is sent, stand-in", whatIsSent}, {"NP16", "what is read, Postgres", textInForce},
	{"NP19 NP31", "a read does not wait for COMMIT", readsDoNotWait}, {"NP19", "what waits for COMMIT", othersWait},
	{"NP07", "every kind of statement, Postgres", everyStatement},
	{"NP29", "only the caller's word repeats a function", retries},
}

// twoGoroutines uses one session from several goroutines at once. All but one at a time must be refused by name; under
// -race this finds unguarded state.
func twoGoroutines(t *T) {
	begun, refused := make(chan struct{}), make(chan struct{})
	s := onStandin(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select slow" {
			close(begun)
			select {
			case <-refused:
			case <-time.After(3 * time.Second): // the second waits for the first
			}
		}
		return r
	}})
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

// whatIsSent counts how often the client had to wait for an answer, for a read as for a write: start-up, SASL, SASL, BEGIN
// with timeouts and statement in one flight, COMMIT, Terminate. It wants no prepared statement, and no start-up parameter
// that poolers refuse.
func whatIsSent(t *T) {
	s := onStandin(t, standin.Options{TLS: true, Auth: standin.SCRAM})
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
		conn := s.pooler.Conns()[len(s.pooler.Conns())-1]
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
	t.failIf(len(s.pooler.Conns()) != 3, "%d connections for 3 requests", len(s.pooler.Conns()))
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
		got := fmt.Sprint(sum, length, day.Format(time.DateOnly), bytes, letter)
		t.failIf(got != "0.30000000000000004 -23h0m0s2026-02-03[255]é", "read %s", got)
		return err
	})
	t.failIf(err != nil, "reading: %v", err)
	s.wantNoneLeft()
}

// readsDoNotWait wants the answer to a read while COMMIT has none, after four flights that had to be answered: start-up,
// SASL, SASL, BEGIN with the query. Then the session goes on as any other: its slot is taken, Close waits for it, the
// failure of its COMMIT is counted and logged, and the connection is closed politely.
func readsDoNotWait(t *T) {
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	s := onStandin(t, standin.Options{TLS: true, Auth: standin.SCRAM, OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "commit" {
			<-held
			r = refusal("40001")
		}
		return r
	}})
	t.Cleanup(release)
	s.handle("GET /", query("select 1"))
	s.want(http.StatusOK, "GET", "/", "X-Request-ID", "the-read")
	sent := pgtest.Within(soon, func() bool { return slices.Contains(s.pooler.Conns()[0].Statements, "commit") })
	conn, now := s.pooler.Conns()[0], s.db.Snapshot()
	if t.rule == "NP31" {
		t.failIf(conn.Bursts > 5, "%d bursts for %q, and COMMIT is not answered yet", conn.Bursts, conn.Statements)
		release()
		return
	}
	t.failIf(!sent || now.InUse != 1 || now.RolledBack+now.Committed+now.ReadCommitErrors != 0, "COMMIT was sent: %v, and the engine counts %+v", sent, now)
	closed := make(chan error, 1)
	go func() { closed <- s.db.Close(context.Background()) }()
	time.Sleep(100 * time.Millisecond)
	t.failIf(len(closed) > 0, "Close did not wait for the COMMIT of a read")
	release()
	t.wantErr(nil, <-closed, "Close")
	t.wantErr(nopool.ErrClosed, s.run("select 1"), "a session opened after Close")
	s.wantNoneLeft()
	now = s.db.Snapshot()
	t.failIf(now.ReadCommitErrors != 1 || now.RolledBack != 1, "a COMMIT that failed after the response: the engine counts %+v", now)
	lines := s.log.Records("database session error")
	t.failIf(len(lines) != 1 || lines[0]["correlation_id"] != "the-read" || lines[0]["sqlstate"] != "40001", "a COMMIT that failed after the response: the log says %v", lines)
	t.failIf(s.pooler.Conns()[0].End != standin.Terminated, "the connection ended by %q", s.pooler.Conns()[0].End)
}

// othersWait lets COMMIT fail: a handler that waited for it cannot answer with a success.
func othersWait(t *T) {
	readOnly := func(level pgx.TxIsoLevel) []nopool.TxOptions {
		return []nopool.TxOptions{{ReadOnly: true, Isolation: level}}
	}
	for i, c := range []struct {
		method string
		level  string // that the server says is in force, "" if it does not say
		asked  []nopool.TxOptions
		status int
	}{
		{"GET", "read committed", nil, 200},
		{"HEAD", "read committed", nil, 200},
		{"GET", "repeatable read", nil, 200},
		{"GET", "repeatable read", readOnly(pgx.RepeatableRead), 200},
		{"POST", "read committed", nil, 503},
		{"GET", "read committed", []nopool.TxOptions{{}}, 503},
		{"GET", "serializable", readOnly(pgx.Serializable), 503},
		{"GET", "serializable", nil, 503},
		{"GET", "", nil, 503},
		{"GET", "read committed", []nopool.TxOptions{{ReadOnly: true, WaitForCommit: true}}, 503},
	} {
		s := onStandin(t, standin.Options{OnStatement: func(conn *standin.Conn, sql string) (r standin.Reply) {
			switch {
			case sql == "commit":
				r = refusal("40001")
			case len(conn.Statements) == 2: // the settings, behind BEGIN
				r.Rows = [][]string{{"0", c.level}}[:min(1, len(c.level))]
			}
			return r
		}})
		s.handle("/", query("select 1"), c.asked...)
		a := s.do(context.Background(), c.method, "/")
		t.failIf(a.status != c.status, "%d, %s at level %q, asked for %+v: COMMIT failed, and the answer is %d", i, c.method, c.level, c.asked, a.status)
		s.wantNoneLeft()
		now := s.db.Snapshot()
		t.failIf((now.ReadCommitErrors == 1) != (c.status == 200) || now.RolledBack != 1, "%d: the engine counts %+v", i, now)
	}
}

// retries counts how often a function runs.
func retries(t *T) {
	s := onStandin(t, standin.Options{OnStatement: asPostgres})
	for _, c := range []struct {
		sql         string
		fails, want int // so many times; runs of RunWithRetry, where Run has one
	}{
		{"raise 40001", 1, 2}, {"raise 40P01", 2, 3}, {"raise 40001", 99, 3}, {"select pg_terminate_backend(1)", 99, 1},
		{"raise 23505", 99, 1}, {"raise 40002", 99, 1}, {"raise 40003", 99, 1}, {"raise 55P03", 99, 1}, {"raise 57014", 99, 1},
	} {
		for _, again := range []bool{false, true} {
			run, want, runs := s.db.Run, 1, 0
			if again {
				run, want = s.db.RunWithRetry, c.want
			}
			err := run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) (err error) {
				if runs++; runs <= c.fails {
					_, err = session.Exec(ctx, c.sql)
				}
				return err
			})
			t.failIf((err == nil) != (c.fails < want) || runs != want, "%s, asked to retry %v: ran %d times, want %d: %v", c.sql, again, runs, want, err)
		}
	}
	s.wantNoneLeft()
}

// everyStatement sends each kind of statement first in a session: one that is kept, and one that the table refuses, which
// must be told as that, and leave nothing.
func everyStatement(t *T) {
	s := real(t)
	s.create("create table kept (n int check (n < 9), day date)")
	const insert = "insert into kept values ($1, $2) returning day"
	day := time.Date(2026, 2, 3, 0, 0, 0, 0, time.Now().Location())
	for i, send := range []func(ctx context.Context, session *nopool.Session, n int) error{
		func(ctx context.Context, session *nopool.Session, n int) error {
			_, err := session.Exec(ctx, insert, n, day)
			return err
		},
		func(ctx context.Context, session *nopool.Session, n int) error {
			rows, _ := session.Query(ctx, insert, n, day)
			_, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[time.Time])
			return err
		},
		func(ctx context.Context, session *nopool.Session, n int) error {
			return session.QueryRow(ctx, insert, n, day).Scan(new(time.Time))
		},
		func(ctx context.Context, session *nopool.Session, n int) error {
			row := func(int) ([]any, error) { return []any{n, day}, nil }
			_, err := session.CopyFrom(ctx, pgx.Identifier{"kept"}, []string{"n", "day"}, pgx.CopyFromSlice(1, row))
			return err
		},
		func(ctx context.Context, session *nopool.Session, n int) error {
			var b pgx.Batch
			b.Queue(insert, n, day)
			b.Queue("select $1::date", day)
			results := session.SendBatch(ctx, &b)
			err := results.QueryRow().Scan(new(time.Time))
			return cmp.Or(err, results.Close())
		},
	} {
		for _, n := range []int{i, i + 10} {
			err := s.session(func(ctx context.Context, session *nopool.Session) error { return send(ctx, session, n) })
			t.failIf((err == nil) != (n < 9) || err != nil && !strings.Contains(err.Error(), "23514"), "statement %d: %v", n, err)
		}
		kept := s.value("select count(*) from kept where day = '2026-02-03'")
		t.failIf(kept != strconv.Itoa(i+1), "after %d kinds of statement %s rows are kept", i+1, kept)
	}
	s.wantNoneLeft()
}
