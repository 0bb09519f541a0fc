package verify

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/httpapi"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

var lifecycleParts = []part{
	{"NP09", "a database out of reach", unreachableAtStart},
	{"NP09", "a wrong configuration", wrongAtStart},
	{"NP09", "a database that comes late", lateAtStart},
	{"NP09", "a real session before listening", sessionBeforeListening},
	{"NP10", "a signal, stand-in", func(t *T) { signalled(t, standin.Start(t, standin.Options{TLS: true}).URL(), "") }},
	{"NP10", "a signal, Postgres", func(t *T) { database := pgtest.Database(t); signalled(t, database, database) }},
	{"NP10", "a session under way", signalledInSession},
	{"NP10", "a second signal", signalledTwice},
	{"NP11", "log lines and counters", monitoring},
}

// silent returns the URL of a server that accepts connections and never
// answers.
func silent(t *T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(io.Discard, conn) // until the client gives up
			}()
		}
	}()
	return "postgres://app:stand-in-secret@" + listener.Addr().String() + "/app?sslmode=require"
}

// absent returns the URL of a port that nothing listens on.
func absent(t *T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "postgres://app:stand-in-secret@" + listener.Addr().String() + "/app?sslmode=require"
}

// wantStartFailure wants the program to end by itself: with a status that says
// so, one clear line, and the password nowhere.
func wantStartFailure(t *T, p *process, limit time.Duration) time.Duration {
	t.Helper()
	code, took := p.wait(limit)
	if code == 0 {
		t.Errorf("it ended with status 0")
	}
	if lines := p.errors(); len(lines) != 1 || !strings.Contains(lines[0], "error") {
		t.Errorf("want one clear line, got %d: %s", len(lines), p.logs)
	}
	if strings.Contains(p.logs.String()+p.out.String(), "stand-in-secret") {
		t.Errorf("the password is in the output: %s", p.logs)
	}
	if listening.MatchString(p.logs.String()) {
		t.Errorf("it listened without a database")
	}
	return took
}

func unreachableAtStart(t *T) {
	for _, url := range []string{absent(t), silent(t)} {
		p := start(t, url, nil, "DB_STARTUP_TIMEOUT=1s", "DB_CONNECT_TIMEOUT=500ms")
		if took := wantStartFailure(t, p, 10*time.Second); took < 900*time.Millisecond {
			t.Errorf("it gave up after %v, before DB_STARTUP_TIMEOUT", took)
		}
	}
}

// wrongAtStart wants an exit long before DB_STARTUP_TIMEOUT when trying again
// cannot help.
func wrongAtStart(t *T) {
	plain := standin.Start(t, standin.Options{Auth: standin.SCRAM}).URL()
	scram := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	for name, url := range map[string]string{
		"no TLS":         strings.Replace(plain, "sslmode=disable", "sslmode=require", 1),
		"wrong password": strings.Replace(scram.URL(), ":stand-in-secret@", ":stand-in-secret-not@", 1),
		"wrong scheme":   strings.Replace(plain, "postgres://", "posgres://", 1),
	} {
		took := wantStartFailure(t, start(t, url, nil), 15*time.Second)
		switch {
		case name == "wrong password" && took < time.Second:
			t.Errorf("%s: it ended after %v; a crash loop would have its address blocked", name, took)
		case took > 10*time.Second:
			t.Errorf("%s: it took %v", name, took)
		}
	}
	if n := scram.Stats().Dials; n > 1 {
		t.Errorf("a wrong password was tried %d times", n)
	}
}

// lateAtStart starts the program first and lets the database in afterwards.
func lateAtStart(t *T) {
	open := time.Now().Add(time.Second)
	pooler := standin.Start(t, standin.Options{TLS: true, OnStartup: func(int) *pgproto3.ErrorResponse {
		if time.Now().Before(open) {
			return standin.Fatal("57P03", "the database system is starting up")
		}
		return nil
	}, OnStatement: oneRow})
	p := start(t, pooler.URL(), nil)
	p.address(15 * time.Second)
	if time.Now().Before(open) {
		t.Errorf("it listened before its database was there")
	}
}

// sessionBeforeListening wants a whole session to have been answered before
// the first request can come in.
func sessionBeforeListening(t *T) {
	const lag = 500 * time.Millisecond
	pooler := standin.Start(t, standin.Options{TLS: true, OnStatement: func(c *standin.Conn, sql string) standin.Reply {
		r := oneRow(c, sql)
		if strings.Contains(sql, "version()") {
			r.Delay = lag
		}
		return r
	}})
	p := start(t, pooler.URL(), nil)
	p.address(15 * time.Second)
	if took := time.Since(p.began); took < lag {
		t.Errorf("it listened after %v, before the database had answered", took)
	}
	asked := false
	for _, conn := range pooler.Conns() {
		asked = asked || len(conn.Statements) > 1 && strings.Contains(strings.Join(conn.Statements, ";"), "version()")
	}
	if !asked {
		t.Errorf("it never asked for version() in a session: %v", pooler.Conns())
	}
}

// signalled stops a program that is being used.
func signalled(t *T, database, behind string) {
	url, r := newRelay(t, database)
	p := start(t, url, nil, "SHUTDOWN_DELAY=2s", "DB_ALLOW_PLAIN_AUTH=true") // TEST_DATABASE_URL may be a plain one
	at := p.address(20 * time.Second)
	if got := status(at + "/ready"); got != 200 {
		t.Errorf("ready: %d", got)
	}
	stop := make(chan struct{})
	var cut atomic.Int32
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		together(4, func(int) {
			for {
				select {
				case <-stop:
					return
				default:
					if status(at+"/health") == 0 {
						cut.Add(1)
						return
					}
				}
			}
		})
	}()
	p.signal(syscall.SIGTERM)
	if !within(1800*time.Millisecond, func() bool { return status(at+"/ready") == 503 }) {
		t.Errorf("still ready after the signal")
	}
	close(stop)
	<-loaded
	code, _ := p.wait(10 * time.Second)
	if code != 0 {
		t.Errorf("status %d: %s", code, p.logs)
	}
	if n := cut.Load(); n > 0 {
		t.Errorf("%d requests were cut before the listener closed", n)
	}
	if !within(5*time.Second, func() bool { return r.open.Load() == 0 }) {
		t.Errorf("%d connections left", r.open.Load())
	}
	if behind != "" && pgtest.Connections(t, behind) != 0 {
		t.Errorf("the server counts %d connections", pgtest.Connections(t, behind))
	}
}

// signalledInSession stops the program while its readiness check waits for the
// database: before it exits the request is answered, its session is ended, and
// the server, which takes its time, has closed the connection.
func signalledInSession(t *T) {
	began := make(chan struct{}, 100)
	pooler := standin.Start(t, standin.Options{TLS: true, ReleaseLag: 500 * time.Millisecond, OnStatement: func(c *standin.Conn, sql string) standin.Reply {
		r := oneRow(c, sql)
		if strings.Contains(sql, "select 1") {
			began <- struct{}{}
			r.Delay = 700 * time.Millisecond
		}
		return r
	}})
	p := start(t, pooler.URL(), nil)
	at := p.address(15 * time.Second)
	answered := make(chan int, 1)
	go func() { answered <- status(at + "/ready") }()
	select {
	case <-began:
	case <-time.After(5 * time.Second):
		t.Fatal("readiness never asked the database")
	}
	p.signal(syscall.SIGINT)
	if got := <-answered; got != 200 {
		t.Errorf("the request under way got %d", got)
	}
	if code, _ := p.wait(10 * time.Second); code != 0 {
		t.Errorf("status %d: %s", code, p.logs)
	}
	if n := pooler.Stats().Open; n > 0 {
		t.Errorf("it ended while the server still counted %d connections", n)
	}
	for _, conn := range pooler.Conns() {
		if conn.End != standin.Terminated {
			t.Errorf("connection %d ended by %q", conn.N, conn.End)
		}
	}
}

func signalledTwice(t *T) {
	p := start(t, standin.Start(t, standin.Options{TLS: true, OnStatement: oneRow}).URL(), nil, "SHUTDOWN_DELAY=30s")
	p.address(15 * time.Second)
	p.signal(syscall.SIGTERM)
	within(5*time.Second, func() bool { return strings.Contains(p.logs.String(), "stopping") })
	p.signal(syscall.SIGTERM)
	if code, _ := p.wait(3 * time.Second); code == 0 {
		t.Errorf("a run that was cut short ended with status 0")
	}
}

// monitoring wants every open, close, commit, rollback and error in the log
// with its duration and correlation id, and in the counters.
func monitoring(t *T) {
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if strings.Contains(sql, "broken") {
			r.Error = standin.Error("42P01", "secret-detail")
		}
		return r
	}})
	b := on(t, pooler.URL())
	query := func(sql string) httpapi.SessionHandler {
		return func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			_, err := s.Exec(r.Context(), sql)
			return err
		}
	}
	b.handle("GET /good", query("select 1"))
	b.handle("GET /bad", query("broken"))
	b.want(200, "GET", "/good", "X-Request-ID", "good-one")
	b.want(500, "GET", "/bad", "X-Request-ID", "bad-one")
	b.wantNoneLeft()
	c := b.db.Snapshot()
	if c.Opened != 2 || c.Closed != 2 || c.Committed != 1 || c.RolledBack != 1 || c.Dials != 2 || time.Since(c.LastOpened) > time.Minute {
		t.Errorf("counters: %+v", c)
	}
	for message, level := range map[string]string{
		"database session opened": "DEBUG", "database session closed": "DEBUG", "database session error": "ERROR",
	} {
		lines := fmt.Sprint(b.log.lines(message))
		for _, want := range []string{"bad-one", level} {
			if !strings.Contains(lines, want) {
				t.Errorf("%q without %s: %s", message, want, lines)
			}
		}
	}
	for _, line := range b.log.lines("database session closed") {
		if line["duration"] == nil || line["outcome"] == nil || line["correlation_id"] == nil {
			t.Errorf("a line without duration, outcome or correlation id: %v", line)
		}
	}
	// So does one that ran out of its request's time.
	late := on(t, standin.Start(t, standin.Options{OnStatement: sleepy}).URL(), func(o *benchOptions) { o.requestTimeout = 300 * time.Millisecond })
	late.handle("GET /", query("select pg_sleep(20)"))
	late.want(http.StatusGatewayTimeout, "GET", "/")
	if len(late.log.lines("database session error")) != 1 {
		t.Errorf("a session that ran out of time left no error in the log")
	}
	// Sessions that get no connection are seen too.
	stopped := on(t, absent(t), func(o *benchOptions) { o.ConnectTimeout = 300 * time.Millisecond })
	if stopped.run("select 1") == nil || stopped.db.Snapshot().OpenErrors != 1 || len(stopped.log.lines("database session error")) != 1 {
		t.Errorf("a failed open is not counted or logged: %+v", stopped.db.Snapshot())
	}
	held := on(t, pooler.URL(), func(o *benchOptions) { o.MaxSessions, o.MaxWaiting = 1, 0 })
	_ = held.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		_ = held.run("select 1")
		return err
	})
	if held.db.Snapshot().Rejected != 1 || len(held.log.lines("database session rejected")) != 1 {
		t.Errorf("a refused session is not counted or logged: %+v", held.db.Snapshot())
	}
}

// oneRow answers every select with one row, as a database would.
func oneRow(_ *standin.Conn, sql string) (r standin.Reply) {
	if strings.HasPrefix(strings.ToLower(sql), "select") && !strings.Contains(sql, "set_config") {
		r.Rows = [][]string{{"PostgreSQL of a stand-in"}}
	}
	return r
}
