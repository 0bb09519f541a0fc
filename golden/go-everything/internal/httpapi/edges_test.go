package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// TestNoHijack wants the handler's own answer where the connection cannot be taken
// over, as with HTTP/2 and with this recorder.
func TestNoHijack(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
	recorder := httptest.NewRecorder()
	server.Wrap(server.InSession(func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
		if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
			t.Error("a recorder was taken over")
		}
		w.WriteHeader(http.StatusNotImplemented)
		fmt.Fprintln(w, "use HTTP/1.1")
		return nil
	})).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if recorder.Code != http.StatusNotImplemented {
		t.Errorf("answered with %d, want 501", recorder.Code)
	}
}

// TestStreamLeft wants a client that leaves a stream to be no error of ours.
func TestStreamLeft(t *testing.T) {
	t.Parallel()
	server, log := serverOn(t, standin.Start(t, standin.Options{}).URL())
	web := httptest.NewServer(server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, _ *nopool.Session) error {
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		<-r.Context().Done()
		return r.Context().Err()
	})))
	response, err := web.Client().Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	web.Close() // waits for the handler
	if text := log.String(); !strings.Contains(text, "after its response had begun") || strings.Contains(text, "level=ERROR") {
		t.Errorf("want a line, and not at level error:\n%s", text)
	}
}

// TestOwnCommitStands has a handler commit by itself, after which nothing that ends the request can make it a failure.
func TestOwnCommitStands(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
	server.RequestTimeout = 200 * time.Millisecond
	defer server.unsent.Store(0)
	for name, then := range map[string]func(w http.ResponseWriter, r *http.Request){
		"done": func(http.ResponseWriter, *http.Request) {},
		"large": func(w http.ResponseWriter, _ *http.Request) {
			server.unsent.Store(maxUnsent)
			writeJSON(w, http.StatusCreated, strings.Repeat("x", 2*smallResponse))
		},
		"streamed": func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
		"late":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		recorder := httptest.NewRecorder()
		server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			w.WriteHeader(http.StatusCreated)
			if _, err := s.Exec(r.Context(), "insert into t values (1)"); err != nil {
				return err
			}
			if err := s.Commit(r.Context()); err != nil {
				return err
			}
			then(w, r)
			return nil
		})).ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", nil))
		if recorder.Code != http.StatusCreated {
			t.Errorf("%s: answered with %d, want 201", name, recorder.Code)
		}
	}
}

// TestOwnCommitUnknown loses the answer to a handler's own commit, which nothing that follows can make a plain failure.
func TestOwnCommitUnknown(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Drop: sql == "commit"}
	}}).URL())
	server.RequestTimeout = 200 * time.Millisecond
	for name, then := range map[string]func(ctx context.Context) error{
		"ignored": func(context.Context) error { return nil },
		"late":    func(ctx context.Context) error { <-ctx.Done(); return nil },
		"failed":  func(context.Context) error { return errors.New("not saved") },
	} {
		write := func(ctx context.Context, s *nopool.Session) error {
			if _, err := s.Exec(ctx, "insert into t values (1)"); err != nil {
				return err
			}
			_ = s.Commit(ctx)
			return then(ctx)
		}
		wantProblem(t, do(server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			return write(r.Context(), s)
		})), "POST", "/", ""), http.StatusInternalServerError, "commit_unknown")
		ctx, cancel := context.WithTimeout(t.Context(), server.RequestTimeout)
		if err := server.DB.Run(ctx, nopool.TxOptions{}, write); name != "failed" && !errors.Is(err, nopool.ErrOutcomeUnknown) {
			t.Errorf("%s: Run says %v", name, err)
		}
		cancel()
	}
}

// TestReadyBehindQueue wants a service to be ready while PgBouncer, which lets
// clients in and answers their first statement later, makes it wait.
func TestReadyBehindQueue(t *testing.T) {
	t.Parallel()
	var queue atomic.Bool
	pooler := standin.Start(t, standin.Options{OnStatement: func(*standin.Conn, string) standin.Reply {
		return standin.Reply{Hang: queue.Load()}
	}})
	server, _ := serverOn(t, pooler.URL(), func(c *dbConfig) { c.MaxSessions, c.ConnectTimeout = 12, 800*time.Millisecond })
	ask := func() error {
		return server.DB.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, "select 1")
			return err
		})
	}
	for ask() != nil { // on a busy machine, not in time
		if t.Context().Err() != nil {
			return
		}
	}
	queue.Store(true)
	var waiting sync.WaitGroup
	for range 12 { // more than make attempts rare
		waiting.Go(func() { _ = ask() })
	}
	waiting.Wait()
	dialled := server.DB.Snapshot().Dials
	go func() { _ = ask() }() // now, so that the next one would have to wait
	for end := time.Now().Add(5 * time.Second); server.DB.Snapshot().Dials == dialled && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if server.DB.Snapshot().Dials == dialled {
		t.Error("a session is refused without a dial")
	}
	if got := do(server.Handler(), "GET", "/ready", "").StatusCode; got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}

// TestReadyFarAway wants a database to be far away that a session takes long to open, and no more.
func TestReadyFarAway(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{OnStep: func(_ int, step standin.Step) standin.Fault {
		if step == standin.Starting {
			time.Sleep(1100 * time.Millisecond)
		}
		return nil
	}}).URL())
	if got := do(server.Handler(), "GET", "/ready", "").StatusCode; got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}

// TestNotReadyBehindQueue fills the queue for a database that has not answered for long: that is no load.
func TestNotReadyBehindQueue(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{OnStep: func(int, standin.Step) standin.Fault { return standin.Hang }}).URL(),
		func(c *dbConfig) { c.MaxSessions, c.MaxWaiting, c.ConnectTimeout = 1, 0, time.Second })
	waiting := server.DB.Session(t.Context(), nopool.TxOptions{})
	defer waiting.Rollback(t.Context())
	go func() { _, _ = waiting.Exec(t.Context(), "select 1") }()
	for server.DB.Snapshot().InUse == 0 {
		time.Sleep(time.Millisecond)
	}
	wantProblem(t, do(server.Handler(), "GET", "/ready", ""), http.StatusServiceUnavailable, "database_unavailable")
}

// TestDrainEndsConnections wants who keeps a connection to leave it while the service drains: at the end of that it is closed,
// whatever is on its way.
func TestDrainEndsConnections(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
	web := httptest.NewServer(server.Wrap(server.InSession(func(_ http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
		return notFound
	})))
	defer web.Close()
	for _, draining := range []bool{false, true} {
		if draining {
			server.Drain()
		}
		response, err := web.Client().Get(web.URL)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.Close != draining {
			t.Errorf("draining %v: %v", draining, response.Header)
		}
	}
}

// TestLeftByClient wants what nobody reads to be 499 in the log, and no error of ours.
func TestLeftByClient(t *testing.T) {
	t.Parallel()
	server, log := serverOn(t, standin.Start(t, standin.Options{}).URL())
	ctx, leave := context.WithCancel(t.Context())
	server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "insert into t")
		leave()
		return err
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil).WithContext(ctx))
	if text := log.String(); !strings.Contains(text, "status=499") || strings.Contains(text, "level=ERROR") {
		t.Errorf("want a line with status 499, and none at level error:\n%s", text)
	}
}

// TestSlowBody sends a part of a body and nothing more, to who reads JSON and to who reads it as it is.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, nowhere)
	server.RequestTimeout = 100 * time.Millisecond
	raw := server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, _ *nopool.Session) error {
		_, err := io.ReadAll(r.Body)
		return err
	}))
	for _, handler := range []http.Handler{echo(server), raw} {
		web := httptest.NewServer(handler)
		body, rest := io.Pipe()
		go func() { _, _ = io.WriteString(rest, `{"title": `) }()
		response, err := http.Post(web.URL, "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, response, http.StatusRequestTimeout, "slow_body")
		rest.Close()
		web.Close()
	}
}

// TestNestedInRequest wants no second session beside a handler's own: it could wait for a slot that the first one has.
func TestNestedInRequest(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
	do(server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "select 1")
		second := server.DB.Session(r.Context(), nopool.TxOptions{})
		defer second.Rollback(r.Context())
		if _, nested := second.Exec(r.Context(), "select 1"); !errors.Is(nested, nopool.ErrNested) {
			t.Errorf("a second session: %v", nested)
		}
		return err
	})), "GET", "/", "")
}

// TestAccessLog wants a line for each request, with those of probes that succeed
// out of the way.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	server, log := serverOn(t, nowhere)
	for _, path := range []string{"/nothing?secret=1", "/ready", "/health"} {
		do(server.Handler(), "GET", path, "")
	}
	for _, want := range []string{
		"level=INFO msg=.* path=/nothing .*status=404",
		"level=INFO msg=.* path=/ready .*status=503",
		"level=DEBUG msg=.* path=/health .*status=200",
	} {
		if !regexp.MustCompile(want).MatchString(log.String()) {
			t.Errorf("no line %q in\n%s", want, log)
		}
	}
}
