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
	{"NP31", "a read does not wait for COMMIT", readsDoNotWait},
	{"NP19", "what waits for COMMIT", othersWait},
	{"NP19", "a level that is the database's, Postgres", levelOfDatabase},
	{"NP19", "a connection that ended before COMMIT, Postgres", endedBefore},
}

// readsDoNotWait wants the answer to a read while COMMIT has none, after four flights that had to be answered: start-up,
// SASL, SASL, BEGIN with the query. Then the session goes on as any other: its slot is taken, Close waits for it, the
// failure of its COMMIT is counted and logged, and the connection is closed politely.
func readsDoNotWait(t *T) {
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "commit" {
			<-held
			r = refusal("40001")
		}
		return r
	}})
	t.Cleanup(release)
	s := on(t, pooler.URL())
	s.handle("GET /", query("select 1"))
	s.want(http.StatusOK, "GET", "/", "X-Request-ID", "the-read")
	sent := pgtest.Within(soon, func() bool { return slices.Contains(pooler.Conns()[0].Statements, "commit") })
	conn, now := pooler.Conns()[0], s.db.Snapshot()
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
	s.wantNoneLeft()
	now = s.db.Snapshot()
	t.failIf(now.ReadCommitErrors != 1 || now.RolledBack != 1, "a COMMIT that failed after the response: the engine counts %+v", now)
	lines := s.log.Records("database session error")
	t.failIf(len(lines) != 1 || lines[0]["correlation_id"] != "the-read" || lines[0]["sqlstate"] != "40001", "a COMMIT that failed after the response: the log says %v", lines)
	t.failIf(pooler.Conns()[0].End != standin.Terminated, "the connection ended by %q", pooler.Conns()[0].End)
}

// othersWait lets COMMIT fail: who waited for it cannot answer with a success.
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
		s := on(t, standin.Start(t, standin.Options{OnStatement: func(conn *standin.Conn, sql string) (r standin.Reply) {
			switch {
			case sql == "commit":
				r = refusal("40001")
			case len(conn.Statements) == 2: // the settings, behind BEGIN
				r.Rows = [][]string{{"0", c.level}}[:min(1, len(c.level))]
			}
			return r
		}}).URL())
		s.handle("/", query("select 1"), c.asked...)
		a := s.do(context.Background(), c.method, "/")
		t.failIf(a.status != c.status, "%d, %s at level %q, asked for %+v: COMMIT failed, and the answer is %d", i, c.method, c.level, c.asked, a.status)
		s.wantNoneLeft()
		now := s.db.Snapshot()
		t.failIf((now.ReadCommitErrors == 1) != (c.status == 200) || now.RolledBack != 1, "%d: the engine counts %+v", i, now)
	}
}

// levelOfDatabase wants reads to wait where the database itself says serializable: when the answer is there, the COMMIT
// has been counted.
func levelOfDatabase(t *T) {
	s := real(t)
	s.create("do $$ begin execute format('alter database %I set default_transaction_isolation = serializable', current_database()); end $$")
	s.handle("GET /", query("select 1"))
	for i := range uint64(20) {
		s.want(http.StatusOK, "GET", "/")
		t.failIf(s.db.Snapshot().Committed != i+1, "%d were answered, %d committed", i+1, s.db.Snapshot().Committed)
	}
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
