package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/httpapi"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// lockedBuffer is a log that several requests write to.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// dbConfig is what a test may change.
type dbConfig struct {
	nopool.Config
	connect.Options
}

// newServer returns a server on the database at url, and its log.
func newServer(t *testing.T, url string, changes ...func(*dbConfig)) (*httpapi.Server, *lockedBuffer) {
	t.Helper()
	log := &lockedBuffer{}
	logger := slog.New(httpapi.WithCorrelation(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	config := dbConfig{nopool.Config{
		MaxSessions: 4, MaxWaiting: 10, SessionWait: time.Second, ConnectTimeout: 5 * time.Second,
		StatementTimeout: 5 * time.Second, Logger: logger,
	}, connect.Options{AllowPlaintext: true, AllowPlainAuth: true}}
	for _, change := range changes {
		change(&config)
	}
	connector, err := connect.Parse(url, config.Options)
	if err != nil {
		t.Fatal(err)
	}
	config.Connector = connector
	db, err := nopool.Open(config.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return httpapi.New(httpapi.Options{DB: db, Logger: logger, MaxBody: 1000, RequestTimeout: 10 * time.Second}), log
}

// nowhere is a database that answers nobody.
const nowhere = "postgres://u:p@127.0.0.1:1/db?sslmode=require"

type problem struct {
	Status        int
	Code, Detail  string
	Errors        []httpapi.FieldError
	CorrelationID string `json:"correlation_id"`
}

// wantProblem checks that a response is a problem of that status and code, and
// returns it.
func wantProblem(t *testing.T, response *http.Response, status int, code string) (p problem) {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("%d: the body is no JSON: %s", response.StatusCode, body)
	}
	if response.StatusCode != status || p.Status != status || p.Code != code {
		t.Errorf("%d %s, want %d with code %s", response.StatusCode, body, status, code)
	}
	if got := response.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if id := response.Header.Get("X-Request-ID"); id == "" || p.CorrelationID != id {
		t.Errorf("correlation id %q in the body and %q in the header", p.CorrelationID, id)
	}
	return p
}

func do(handler http.Handler, method, target, body string, headers ...string) *http.Response {
	request := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder.Result()
}

func TestUnknownPathAndMethod(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, nowhere)
	handler := server.Handler()
	wantProblem(t, do(handler, "GET", "/nothing", ""), http.StatusNotFound, "not_found")
	response := do(handler, "POST", "/health", "")
	wantProblem(t, response, http.StatusMethodNotAllowed, "method_not_allowed")
	if response.Header.Get("Allow") == "" {
		t.Error("no Allow header")
	}
	response = do(handler, "GET", "//nothing", "")
	if response.StatusCode != http.StatusTemporaryRedirect || response.Header.Get("Location") != "/nothing" {
		t.Errorf("a path with two slashes: %d to %q", response.StatusCode, response.Header.Get("Location"))
	}
}

func TestCorrelation(t *testing.T) {
	t.Parallel()
	server, log := newServer(t, nowhere)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	tests := []struct{ header, value, want string }{ // want "" for a new id
		{"X-Request-ID", "abc-1.2_3", "abc-1.2_3"},
		{"X-Request-ID", "has space", ""},
		{"X-Request-ID", strings.Repeat("a", 65), ""},
		{"X-Request-ID", `"quoted"`, ""},
		{"traceparent", "00-" + trace + "-00f067aa0ba902b7-01", trace},
		{"traceparent", "ff-" + trace + "-00f067aa0ba902b7-01", ""},
		{"traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		{"traceparent", "00-" + trace + "-0000000000000000-01", ""},
	}
	for _, test := range tests {
		response := do(server.Handler(), "GET", "/health", "", test.header, test.value)
		got := response.Header.Get("X-Request-ID")
		if got == "" || (test.want != "" && got != test.want) || (test.want == "" && (got == test.value || got == trace)) {
			t.Errorf("%s %q gave %q, want %q", test.header, test.value, got, test.want)
		}
		if !strings.Contains(log.String(), "correlation_id="+got) {
			t.Errorf("%q is not in the log", got)
		}
	}
}

func TestErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	state := func(code string) error {
		return fmt.Errorf("wrapped: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "s3cret", Detail: "s3cret"})
	}
	tests := []struct {
		err    error
		status int
		code   string
	}{
		{state("23505"), 409, "already_exists"},
		{state("23P01"), 409, "conflict"},
		{state("23503"), 409, "reference"},
		{state("23502"), 422, "constraint"},
		{state("23514"), 422, "constraint"},
		{state("22P02"), 400, "invalid_value"},
		{state("22021"), 400, "invalid_value"},
		{state("22012"), 500, "internal_error"},
		{state("25006"), 500, "internal_error"},
		{state("40001"), 503, "concurrent_change"},
		{state("40P01"), 503, "concurrent_change"},
		{state("55P03"), 503, "locked"},
		{state("57014"), 504, "timeout"},
		{state("25P03"), 504, "timeout"},
		{state("25P02"), 500, "internal_error"}, // a handler that ignored an error
		{state("53300"), 503, "busy"},
		{state("57P01"), 503, "database_unavailable"},
		{state("42P01"), 500, "internal_error"},
		{errors.New("s3cret"), 500, "internal_error"},
		{nopool.ErrBusy, 503, "busy"},
		{nopool.ErrPoolerFull, 503, "busy"},
		{nopool.ErrUnavailable, 503, "database_unavailable"},
		{nopool.ErrConfiguration, 503, "database_unavailable"},
		{nopool.ErrOutcomeUnknown, 500, "commit_unknown"},
		{context.DeadlineExceeded, 504, "timeout"},
		{nopool.ErrNested, 500, "internal_error"},
		{&httpapi.Error{Status: 418, Code: "teapot", Detail: "short and stout"}, 418, "teapot"},
	}
	server, log := newServer(t, nowhere)
	for _, test := range tests {
		handler := server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, _ *nopool.Session) error {
			w.Header().Set("Location", "/s3cret")
			fmt.Fprint(w, "s3cret")
			return test.err
		}))
		response := do(handler, "POST", "/", "")
		p := wantProblem(t, response, test.status, test.code)
		if strings.Contains(fmt.Sprint(p, response.Header), "s3cret") {
			t.Errorf("%v leaks: %+v %v", test.err, p, response.Header)
		}
		if retry := response.Header.Get("Retry-After"); (retry != "") != (test.status == 503) {
			t.Errorf("%v: status %d with Retry-After %q", test.err, test.status, retry)
		}
	}
	if strings.Contains(strings.ReplaceAll(log.String(), `error=s3cret`, ""), "s3cret") {
		t.Errorf("the log holds what the database quoted:\n%s", log.String())
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	server, log := newServer(t, nowhere)
	handler := server.Wrap(server.InSession(func(http.ResponseWriter, *http.Request, *nopool.Session) error { panic("s3cret") }))
	wantProblem(t, do(handler, "GET", "/", ""), http.StatusInternalServerError, "internal_error")
	if !strings.Contains(log.String(), "TestPanic") || !strings.Contains(log.String(), "status=500") {
		t.Errorf("the log has no stack or status:\n%s", log.String())
	}
}

// TestAccessLog wants a line for each request, with those of probes that succeed
// out of the way.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	server, log := newServer(t, nowhere)
	for _, path := range []string{"/nothing?secret=1", "/ready", "/health"} {
		do(server.Handler(), "GET", path, "")
	}
	for _, want := range []string{
		"level=INFO msg=request method=GET path=/nothing status=404",
		"level=INFO msg=request method=GET path=/ready status=503",
		"level=DEBUG msg=request method=GET path=/health status=200",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no line %q in\n%s", want, log)
		}
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, nowhere)
	handler := server.Handler()
	if got := do(handler, "GET", "/health", "").StatusCode; got != http.StatusOK {
		t.Errorf("health is %d without a database", got)
	}
	wantProblem(t, do(handler, "GET", "/ready", ""), http.StatusServiceUnavailable, "database_unavailable")
	dials := server.DB.Snapshot().Dials
	for range 100 {
		do(handler, "GET", "/ready", "")
	}
	if now := server.DB.Snapshot().Dials; now != dials {
		t.Errorf("%d dials for 100 probes", now-dials)
	}
	server.Drain()
	wantProblem(t, do(handler, "GET", "/ready", ""), http.StatusServiceUnavailable, "shutting_down")
}

// TestReadyBehindQueue wants a service to be ready while PgBouncer, which lets
// clients in and answers their first statement later, makes it wait.
func TestReadyBehindQueue(t *testing.T) {
	t.Parallel()
	var queue atomic.Bool
	pooler := standin.Start(t, standin.Options{OnStatement: func(*standin.Conn, string) standin.Reply {
		return standin.Reply{Hang: queue.Load()}
	}})
	server, _ := newServer(t, pooler.URL())
	err := server.DB.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	queue.Store(true)
	if got := do(server.Handler(), "GET", "/ready", "").StatusCode; got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}
