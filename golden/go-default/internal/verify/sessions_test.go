package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

var oneEngineParts = []part{
	{"NP03", "a session used from two goroutines", twoGoroutines},
}

var sessionParts = []part{
	{"NP04", "every way a session can end, stand-in", func(t *T) { everyEnd(t, on(t, standin.Start(t, standin.Options{OnStatement: sleepy}).URL())) }},
	{"NP04", "every way a session can end, Postgres", func(t *T) { everyEnd(t, real(t)) }},
	{"NP04", "shutdown", shutdownCloses},
	{"NP05", "committed before the response", committedBefore},
	{"NP06", "nothing persists after a failure", nothingPersists},
	{"NP06", "ROLLBACK is sent", rollbackSent},
	{"NP07", "background work", backgroundWork},
	{"NP08", "errors and panics become problems", problemsForAll},
}

// sleepy makes the stand-in hang where Postgres would sleep.
func sleepy(_ *standin.Conn, sql string) standin.Reply {
	return standin.Reply{Hang: strings.Contains(sql, "pg_sleep")}
}

// insert is a handler that writes one row and then does as it is told.
func insert(then func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error) func(http.ResponseWriter, *http.Request, *nopool.Session) error {
	return func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		if _, err := s.Exec(r.Context(), "insert into item values (default)"); err != nil {
			return err
		}
		return then(w, r, s)
	}
}

const makeItem = "create table item (id int generated always as identity)"

func sleep(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
	_, err := s.Exec(r.Context(), "select pg_sleep(20)")
	return err
}

// failures are the handlers whose writes must not persist, with the status
// that the client must see; 0 where it sees none.
var failures = []struct {
	name   string
	status int
	then   func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error
}{
	{"error", 500, func(http.ResponseWriter, *http.Request, *nopool.Session) error { return errors.New("secret-cause") }},
	{"status", 409, func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(409)
		_, err := w.Write([]byte(`{"status":409,"correlation_id":"` + w.Header().Get("X-Request-ID") + `"}`))
		return err
	}},
	{"panic", 500, func(http.ResponseWriter, *http.Request, *nopool.Session) error { panic("secret-cause") }},
	{"abort", 0, func(http.ResponseWriter, *http.Request, *nopool.Session) error { panic(http.ErrAbortHandler) }},
	{"gone", 0, sleep},
	{"late", 0, func(_ http.ResponseWriter, r *http.Request, _ *nopool.Session) error {
		<-r.Context().Done()
		return nil
	}},
}

func (b *bench) handleFailures() {
	for _, f := range failures {
		b.handle("POST /"+f.name, insert(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			select {
			case b.failing <- struct{}{}:
			default: // nobody waits for it
			}
			return f.then(w, r, s)
		}))
	}
}

// fail calls one of the failing handlers. A client that is to go away does so
// once the handler has had the time to begin its wait.
func (b *bench) fail(name string, status int) {
	b.t.Helper()
	if status > 0 {
		b.want(status, "POST", "/"+name)
		return
	}
	select {
	case <-b.failing: // of one before, whose client stayed
	default:
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-b.failing
		time.AfterFunc(300*time.Millisecond, cancel)
	}()
	if a := b.do(ctx, "POST", "/"+name); a.err == nil {
		b.t.Errorf("%s: the client got an answer: %d %s", name, a.status, a.body)
	}
}

// everyEnd ends sessions in every way there is, and looks for what is left.
func everyEnd(t *T, b *bench) {
	if b.behind != "" {
		b.exec(makeItem)
	}
	b.handle("POST /ok", insert(func(http.ResponseWriter, *http.Request, *nopool.Session) error { return nil }))
	b.handleFailures()
	b.want(200, "POST", "/ok")
	b.wantNoneLeft()
	for _, f := range failures {
		b.fail(f.name, f.status)
		b.wantNoneLeft()
	}
	// Rows that are still being read when the handler returns.
	b.handle("GET /rows", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Query(r.Context(), "select generate_series(1, 100000)")
		if err != nil {
			return err
		}
		return errors.New("in the middle of its rows")
	})
	b.want(500, "GET", "/rows")
	b.wantNoneLeft()
}

// shutdownCloses wants Close to wait for a session, then to end it.
func shutdownCloses(t *T) {
	b := on(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select slow" {
			r.Delay = 300 * time.Millisecond
		}
		return r
	}}).URL())
	s := b.db.Session(context.Background(), nopool.TxOptions{})
	if _, err := s.Exec(context.Background(), "select 1"); err != nil {
		t.Fatal(err)
	}
	underway := make(chan error, 1)
	go func() {
		_, err := s.Exec(context.Background(), "select slow")
		underway <- err
	}()
	time.Sleep(50 * time.Millisecond) // Close shall find it under way
	ended := make(chan error, 1)
	go func() { ended <- b.db.Close(context.Background()) }()
	select {
	case err := <-ended:
		t.Errorf("Close did not wait for a session: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := b.run("select 1"); !errors.Is(err, nopool.ErrClosed) {
		t.Errorf("a session was opened after Close: %v", err)
	}
	if err := <-underway; err != nil {
		t.Errorf("a statement under way when Close was called: %v", err)
	}
	if err := s.Commit(context.Background()); err != nil {
		t.Errorf("commit during Close: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Close: %v", err)
	}
	b.wantNoneLeft()

	// A session that does not end by itself.
	b = on(t, standin.Start(t, standin.Options{OnStatement: sleepy}).URL())
	hung := make(chan error, 1)
	go func() { hung <- b.run("select pg_sleep(20)") }()
	within(5*time.Second, func() bool { return b.db.Snapshot().Opened == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := b.db.Close(ctx); err != nil {
		t.Errorf("Close with a hanging session: %v", err)
	}
	if err := <-hung; err == nil {
		t.Errorf("a session outlived Close")
	}
	b.wantNoneLeft()
}

// committedBefore looks for the row from elsewhere as soon as the response is
// there, and wants no response while the server keeps the COMMIT waiting.
func committedBefore(t *T) {
	const lag = 300 * time.Millisecond
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if strings.EqualFold(sql, "commit") {
			r.Delay = lag
		}
		return r
	}})
	slow := on(t, pooler.URL())
	created := insert(func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
		w.WriteHeader(http.StatusCreated)
		_, err := w.Write(make([]byte, 100_000)) // more than net/http itself holds back
		return err
	})
	slow.handle("POST /", created)
	if a := slow.want(201, "POST", "/"); a.first < lag {
		t.Errorf("the response began after %v, before its COMMIT could be acknowledged", a.first)
	}

	b := real(t)
	b.exec(makeItem)
	b.handle("POST /", created)
	for i := range 10 {
		b.want(201, "POST", "/")
		b.wantRows(i+1, "item")
	}
}

func nothingPersists(t *T) {
	b := real(t)
	b.exec(makeItem)
	b.handleFailures()
	for _, f := range failures {
		b.fail(f.name, f.status)
		b.wantNoneLeft()
		b.wantRows(0, "item")
	}
}

// rollbackSent wants ROLLBACK as the last statement of every session that
// failed with no statement in flight, whatever the status of its answer.
func rollbackSent(t *T) {
	pooler := standin.Start(t, standin.Options{})
	b := on(t, pooler.URL())
	b.handleFailures()
	for _, f := range failures {
		if f.name != "gone" {
			b.fail(f.name, f.status)
		}
	}
	b.wantNoneLeft()
	for _, conn := range pooler.Conns() {
		last := conn.Statements[len(conn.Statements)-1]
		if !strings.EqualFold(last, "rollback") || conn.End != standin.Terminated {
			t.Errorf("connection %d: the last statement is %q, and it ended by %q", conn.N, last, conn.End)
		}
	}
	for status, want := range map[int]string{
		200: "commit", 204: "commit", 303: "commit", 400: "rollback", 401: "rollback", 404: "rollback", 410: "rollback", 429: "rollback", 503: "rollback",
	} {
		path := fmt.Sprintf("/%d", status)
		b.handle("POST "+path, insert(func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
			w.WriteHeader(status)
			return nil
		}))
		b.do(context.Background(), "POST", path)
		b.wantNoneLeft()
		var sent []string
		for _, conn := range pooler.Conns() {
			sent = conn.Statements
		}
		if len(sent) == 0 || !strings.EqualFold(sent[len(sent)-1], want) {
			t.Errorf("a response of %d ends the session %q, want %s", status, sent, want)
		}
	}
}

// backgroundWork wants of DB.Run what a request gets.
func backgroundWork(t *T) {
	b := real(t)
	b.exec(makeItem)
	write := func(ctx context.Context, then func() error) error {
		return b.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			if _, err := s.Exec(ctx, "insert into item values (default)"); err != nil {
				return err
			}
			return then()
		})
	}
	if err := write(context.Background(), func() error { return nil }); err != nil {
		t.Errorf("background work: %v", err)
	}
	b.wantRows(1, "item")
	cause := errors.New("cause")
	if err := write(context.Background(), func() error { return cause }); !errors.Is(err, cause) {
		t.Errorf("want the function's own error, got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Errorf("a panic was swallowed")
			}
		}()
		_ = write(context.Background(), func() error { panic("in the background") })
	}()
	ctx, cancel := context.WithCancel(context.Background())
	if err := write(ctx, func() error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("want the cancellation, got %v", err)
	}
	b.wantRows(1, "item")
	b.exec("alter table item add unique (id) deferrable initially deferred")
	err := b.run("insert into item overriding system value select id from item")
	wantSQLState(t, "a commit that fails", "23505", err)
	b.wantRows(1, "item")
	b.wantNoneLeft()
}

// problemsForAll wants a problem with a correlation id for everything that a
// handler lets out, and the cause of it in the log alone.
func problemsForAll(t *T) {
	b := on(t, standin.Start(t, standin.Options{}).URL())
	b.handleFailures()
	b.mux.HandleFunc("GET /plain-panic", func(http.ResponseWriter, *http.Request) { panic(errors.New("secret-cause")) })
	for _, a := range []answer{
		b.want(500, "POST", "/error"), b.want(500, "POST", "/panic"), b.want(500, "GET", "/plain-panic"),
	} {
		if strings.Contains(a.body, "secret-cause") || a.problem == nil {
			t.Errorf("the cause is in the response: %s", a.body)
		}
		if id := a.header.Get("X-Request-ID"); strings.Count(b.log.String(), `"correlation_id":"`+id+`"`) < 2 {
			t.Errorf("the log does not say what happened to request %s", id)
		}
	}
	if len(b.log.lines("panic")) != 2 {
		t.Errorf("want both panics in the log")
	}
}

// twoGoroutines uses one session from several goroutines at once. All but one
// at a time must be refused by name; under -race this finds unguarded state.
func twoGoroutines(t *T) {
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "select slow" {
			r.Delay = 1500 * time.Millisecond
		}
		return r
	}})
	b := on(t, pooler.URL())
	s := b.db.Session(context.Background(), nopool.TxOptions{})
	together(2, func(i int) {
		if i == 0 {
			_, err := s.Exec(context.Background(), "select slow")
			if err != nil {
				t.Errorf("the one who came first: %v", err)
			}
			return
		}
		time.Sleep(300 * time.Millisecond)
		_, err := s.Exec(context.Background(), "select 1")
		if !errors.Is(err, nopool.ErrSessionBusy) { // had it waited, it would not be busy
			t.Errorf("the one who came second: want ErrSessionBusy, got %v", err)
		}
	})
	together(8, func(int) {
		for range 20 {
			_, err := s.Exec(context.Background(), "select 1")
			if err != nil && !errors.Is(err, nopool.ErrSessionBusy) {
				t.Errorf("want ErrSessionBusy or success, got %v", err)
			}
		}
	})
	if _, err := s.Exec(context.Background(), "select 1"); err != nil {
		t.Errorf("the session is broken afterwards: %v", err)
	}
	rows, err := s.Query(context.Background(), "select 1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Exec(context.Background(), "select 1"); !errors.Is(err, nopool.ErrSessionBusy) {
		t.Errorf("want ErrSessionBusy while rows are open, got %v", err)
	}
	rows.Close()
	if err := s.Commit(context.Background()); err != nil {
		t.Errorf("commit: %v", err)
	}
	b.wantNoneLeft()
}
