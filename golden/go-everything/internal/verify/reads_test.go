package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// readParts are about responses that leave before their COMMIT is acknowledged.
var readParts = []part{
	{"NP19", "a read does not wait for COMMIT", readsDoNotWait},
	{"NP19", "what waits for COMMIT", othersWait},
	{"NP19", "a level that is the database's, Postgres", levelOfDatabase},
	{"NP19", "a read that has failed before COMMIT", failedReads},
	{"NP19", "a connection that ended before COMMIT, Postgres", endedBefore},
	{"NP31", "round trips until a read is answered", roundTripsOfRead},
}

// holdCommits starts a pooler that answers no COMMIT until it is told to, and then
// with an error.
func holdCommits(t *T) (pooler *standin.Server, release func()) {
	t.Helper()
	held := make(chan struct{})
	pooler = standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "commit" {
			<-held
			r.Error = standin.Error("40001", "could not serialize")
		}
		return r
	}})
	release = sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	return pooler, release
}

// readsDoNotWait wants the answer to a read while COMMIT has none, and then that the
// session goes on as any other: its slot is taken, Close waits for it, the COMMIT's
// failure is counted and logged, and the connection is closed politely.
func readsDoNotWait(t *T) {
	pooler, release := holdCommits(t)
	b := on(t, pooler.URL())
	b.handle("GET /", query("select 1"))
	b.want(200, "GET", "/", "X-Request-ID", "the-read")
	sent := pgtest.Within(5*time.Second, func() bool { return slices.Contains(pooler.Conns()[0].Statements, "commit") })
	if now := b.db.Snapshot(); !sent || now.InUse != 1 || now.RolledBack+now.Committed+now.ReadCommitErrors != 0 {
		t.Errorf("COMMIT was sent: %v, and the engine counts %+v", sent, now)
	}
	var err error
	closed := make(chan struct{})
	go func() { defer close(closed); err = b.db.Close(context.Background()) }()
	select {
	case <-closed:
		t.Errorf("Close did not wait for the COMMIT of a read: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	release()
	<-closed
	if err != nil {
		t.Errorf("Close: %v", err)
	}
	b.wantNoneLeft()
	if now := b.db.Snapshot(); now.ReadCommitErrors != 1 || now.RolledBack != 1 {
		t.Errorf("a COMMIT that failed after the response: the engine counts %+v", now)
	}
	lines := b.log.Records("database session error")
	if len(lines) != 1 || lines[0]["correlation_id"] != "the-read" || lines[0]["sqlstate"] != "40001" {
		t.Errorf("a COMMIT that failed after the response: the log says %v", lines)
	}
	if conn := pooler.Conns()[0]; conn.End != standin.Terminated {
		t.Errorf("the connection ended by %q", conn.End)
	}
}

// othersWait lets COMMIT fail: who waited for it cannot answer with a success.
func othersWait(t *T) {
	serializable := nopool.TxOptions{ReadOnly: true, Isolation: pgx.Serializable}
	for i, c := range []struct {
		method string
		level  string // that the server says is in force, "" if it does not say
		asked  []nopool.TxOptions
		status int
	}{
		{"GET", "read committed", nil, 200},
		{"HEAD", "read committed", nil, 200},
		{"GET", "repeatable read", nil, 200},
		{"GET", "repeatable read", []nopool.TxOptions{{ReadOnly: true, Isolation: pgx.RepeatableRead}}, 200},
		{"POST", "read committed", nil, 503},
		{"GET", "read committed", []nopool.TxOptions{{}}, 503},
		{"GET", "serializable", []nopool.TxOptions{serializable}, 503},
		{"GET", "serializable", nil, 503},
		{"GET", "", nil, 503},
		{"GET", "read committed", []nopool.TxOptions{{ReadOnly: true, WaitForCommit: true}}, 503},
	} {
		b := on(t, standin.Start(t, standin.Options{OnStatement: func(conn *standin.Conn, sql string) (r standin.Reply) {
			switch {
			case sql == "commit":
				r.Error = standin.Error("40001", "could not serialize")
			case len(conn.Statements) == 2: // the settings, behind BEGIN
				r.Rows = [][]string{{"0", c.level}}[:min(1, len(c.level))]
			}
			return r
		}}).URL())
		b.handle("/", query("select 1"), c.asked...)
		if a := b.do(context.Background(), c.method, "/"); a.status != c.status {
			t.Errorf("%d, %s at level %q, asked for %+v: COMMIT failed, and the answer is %d", i, c.method, c.level, c.asked, a.status)
		}
		b.wantNoneLeft()
		if now := b.db.Snapshot(); (now.ReadCommitErrors == 1) != (c.status == 200) || now.RolledBack != 1 {
			t.Errorf("%d: the engine counts %+v", i, now)
		}
	}
}

// levelOfDatabase wants reads to wait where the database itself says serializable:
// when the answer is there, the COMMIT has been counted.
func levelOfDatabase(t *T) {
	b := real(t)
	b.create("do $$ begin execute format('alter database %I set default_transaction_isolation = serializable', current_database()); end $$")
	b.handle("GET /", query("select 1"))
	before := b.db.Snapshot().Committed
	for i := range uint64(20) {
		b.want(200, "GET", "/")
		if now := b.db.Snapshot().Committed; now != before+i+1 {
			t.Fatalf("answered before COMMIT: %d of %d committed", now-before, i+1)
		}
	}
}

// failedReads wants what is known before COMMIT to become an error.
func failedReads(t *T) {
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select broken" {
			r.Error = standin.Error("42703", "no such column")
		}
		r.Drop = sql == "select lost"
		return r
	}})
	b := on(t, pooler.URL())
	ignored := func(sql string) func(http.ResponseWriter, *http.Request, *nopool.Session) error {
		return func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			_, _ = s.Exec(r.Context(), "select 1")
			_, _ = s.Exec(r.Context(), sql)
			_, err := fmt.Fprint(w, "read")
			return err
		}
	}
	b.handle("GET /failed", ignored("select broken"))
	b.handle("GET /lost", ignored("select lost"))
	b.handle("GET /ended", ignored("rollback"))
	b.handle("GET /open", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Query(r.Context(), "select 1")
		return err
	})
	for path, status := range map[string]int{"/failed": 500, "/lost": 503, "/ended": 500, "/open": 500} {
		b.want(status, "GET", path)
	}
	b.wantNoneLeft()
	if now := b.db.Snapshot(); now.Committed != 0 || now.ReadCommitErrors != 0 {
		t.Errorf("the engine counts %+v", now)
	}
}

// roundTripsOfRead counts what was sent when a read is answered and COMMIT is not:
// start-up, SASL, SASL, BEGIN with the query, COMMIT. Four of them had to be answered.
func roundTripsOfRead(t *T) {
	pooler, release := holdCommits(t)
	b := on(t, pooler.URL())
	b.handle("GET /", query("select 1"))
	b.want(200, "GET", "/")
	if conn := pooler.Conns()[0]; conn.Bursts > 5 {
		t.Errorf("%d bursts for %q, and COMMIT is not answered yet", conn.Bursts, conn.Statements)
	}
	release()
	b.wantNoneLeft()
}

// endedBefore has the server end a connection between two statements: what it said then is no answer to COMMIT.
func endedBefore(t *T) {
	s := real(t)
	s.create("create table item (id int)")
	err := s.session(func(ctx context.Context, session *nopool.Session) error {
		var pid int
		_, err := session.Exec(ctx, "insert into item values (1)")
		t.need(errors.Join(err, session.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid)))
		err = s.run(fmt.Sprintf("select pg_terminate_backend(%d)", pid))
		left := fmt.Sprintf("select count(*) from pg_stat_activity where pid = %d", pid)
		t.failIf(!pgtest.Within(soon, func() bool { return s.value(left) == "0" }), "it is not ended")
		time.Sleep(100 * time.Millisecond) // for what it said to arrive
		return err
	})
	t.wantErr(nopool.ErrUnavailable, err, "COMMIT")
	t.failIf(errors.Is(err, nopool.ErrOutcomeUnknown) || s.value("select count(*) from item") != "0", "rolled back, and called unknown: %v", err)
}
