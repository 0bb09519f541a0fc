package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/config"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// nowhere is a database that answers nobody.
const nowhere = "postgres://u:p@127.0.0.1:1/db?sslmode=require"

// load returns a configuration for the database at url.
func load(t *testing.T, url string) config.Config {
	t.Helper()
	cfg, err := config.Load([]string{"DATABASE_URL=" + url, "APP_ENV=local", "DB_ALLOW_PLAIN_AUTH=true"})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// newServer returns a server on the database at url.
func newServer(t *testing.T, url string) *Server {
	t.Helper()
	cfg := load(t, url)
	db, err := nopool.Open(cfg.DB)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(t.Context()) }) // which is over: what still runs is ended
	return &Server{DB: db, Logger: slog.New(slog.DiscardHandler), MaxBody: 1000, RequestTimeout: 10 * time.Second}
}

func do(handler http.Handler, method, target, body string) *http.Response {
	recorder, request := httptest.NewRecorder(), httptest.NewRequest(method, target, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/vnd.api+json; charset=utf-8")
	handler.ServeHTTP(recorder, request)
	return recorder.Result()
}

// wantProblem wants a response to be a problem of that status and code, and returns it.
func wantProblem(t *testing.T, response *http.Response, status int, code string) (p Error) {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err := cmp.Or(err, json.Unmarshal(body, &p)); err != nil || response.StatusCode != status || p.Status != status || p.Code != code {
		t.Errorf("%d %s (%v), want %d with code %s", response.StatusCode, body, err, status, code)
	}
	id := response.Header.Get("X-Request-ID")
	if response.Header.Get("Content-Type") != "application/problem+json" || id == "" || !bytes.Contains(body, []byte(id)) {
		t.Errorf("headers %v of %s", response.Header, body)
	}
	return p
}

func TestUnknownPathAndMethod(t *testing.T) {
	t.Parallel()
	handler := newServer(t, nowhere).Handler()
	wantProblem(t, do(handler, "GET", "/nothing", ""), 404, "not_found")
	response := do(handler, "POST", "/health", "")
	wantProblem(t, response, 405, "method_not_allowed")
	if response.Header.Get("Allow") == "" {
		t.Error("no Allow header")
	}
	response = do(handler, "GET", "//nothing", "")
	if response.StatusCode != 307 || response.Header.Get("Location") != "/nothing" {
		t.Errorf("a path with two slashes: %d to %q", response.StatusCode, response.Header.Get("Location"))
	}
}

// An error replaces what the handler has written, and tells nothing of itself.
func TestErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	server := newServer(t, nowhere)
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: "23505", Message: "s3cret", Detail: "s3cret"}), 409, "already_exists"},
		{&pgconn.PgError{Code: "40P01"}, 503, "concurrent_change"},
		{&pgconn.PgError{Code: "40003"}, 500, "commit_unknown"},
		{fmt.Errorf("wrapped: %w", nopool.ErrConfiguration), 503, "database_unavailable"},
		{fmt.Errorf("wrapped: %w", nopool.ErrSetting), 500, "internal_error"},
		{errors.New("s3cret"), 500, "internal_error"},
		{&Error{Status: 418, Code: "teapot", Detail: "short and stout"}, 418, "teapot"},
	} {
		response := do(server.Wrap(server.InSession(func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
			w.Header().Set("Location", "/s3cret")
			fmt.Fprint(w, "s3cret")
			return test.err
		})), "POST", "/", "")
		p := wantProblem(t, response, test.status, test.code)
		if all := fmt.Sprint(p, response.Header); strings.Contains(all, "s3cret") {
			t.Errorf("%v leaks: %s", test.err, all)
		}
	}
}

// A handler's session has the request's settings.
func TestSessionOfRequest(t *testing.T) {
	t.Parallel()
	server := newServer(t, pgtest.Database(t))
	server.Settings = func(r *http.Request) []nopool.Setting {
		return []nopool.Setting{{Name: "request.jwt.claims", Value: r.URL.RawQuery}}
	}
	handler := server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) (err error) {
		var claims string
		err = s.QueryRow(r.Context(), "select current_setting('request.jwt.claims')").Scan(&claims)
		fmt.Fprint(w, claims)
		return err
	}))
	for _, caller := range []string{"ann", "bob"} {
		if body, err := io.ReadAll(do(handler, "GET", "/?"+caller, "").Body); err != nil || string(body) != caller {
			t.Errorf("%q and %v, want %q", body, err, caller)
		}
	}
}
