package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

// TestSessionEnds looks at what is persisted, and answered, after each way of
// ending a handler.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, pgtest.Database(t))
	run := func(sql string) error {
		return server.DB.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			_, err := s.Exec(ctx, sql)
			return err
		})
	}
	if err := run("create table t (n int, constraint late unique (n) deferrable initially deferred)"); err != nil {
		t.Fatal(err)
	}
	rows := func() (n int) {
		err := server.DB.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			return s.QueryRow(ctx, "select count(*) from t").Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	insert := func(r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "insert into t values (1)")
		return err
	}
	tests := []struct {
		name    string
		handler func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error
		status  int
		rows    int
	}{
		{"success", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			w.WriteHeader(http.StatusCreated)
			return insert(r, s)
		}, 201, 1},
		{"nothing written", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error { return insert(r, s) }, 200, 1},
		{"error", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			return errors.Join(insert(r, s), errors.New("failure"))
		}, 500, 0},
		{"error status", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			w.WriteHeader(http.StatusTeapot)
			return insert(r, s)
		}, 418, 0},
		{"panic", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			_ = insert(r, s)
			panic("failure")
		}, 500, 0},
		{"failure of the commit", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			w.WriteHeader(http.StatusCreated)
			return errors.Join(insert(r, s), insert(r, s)) // the constraint is checked at COMMIT
		}, 409, 0},
		{"statement failed and ignored", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			_ = insert(r, s)
			_, _ = s.Exec(r.Context(), "select 1/0")
			return nil
		}, 500, 0},
		{"flush commits", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			if err := insert(r, s); err != nil {
				return err
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
			if _, err := s.Exec(r.Context(), "select 1"); !errors.Is(err, nopool.ErrSessionDone) {
				t.Errorf("a statement after the commit point: %v", err)
			}
			return nil
		}, 200, 1},
		{"large response commits", func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			if err := insert(r, s); err != nil {
				return err
			}
			_, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 3<<20)))
			return err
		}, 200, 1},
	}
	for _, test := range tests {
		if err := run("truncate t"); err != nil {
			t.Fatal(err)
		}
		response := do(server.Wrap(server.InSession(test.handler)), "POST", "/", "")
		if response.StatusCode != test.status || rows() != test.rows {
			t.Errorf("%s: status %d and %d rows, want %d and %d", test.name, response.StatusCode, rows(), test.status, test.rows)
		}
	}
}

// TestErrorAfterCommitPoint wants a response that has begun to be cut short, so
// that the client does not take a part for the whole.
func TestErrorAfterCommitPoint(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, nowhere)
	web := httptest.NewServer(server.Wrap(server.InSession(func(w http.ResponseWriter, _ *http.Request, _ *nopool.Session) error {
		fmt.Fprint(w, "part")
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		return errors.New("failure")
	})))
	defer web.Close()
	response, err := http.Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); string(body) != "part" || err == nil {
		t.Errorf("read %q with error %v, want the part and an error", body, err)
	}
}

// TestReadOnly wants GET to be unable to write unless its route says so.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, pgtest.Database(t))
	create := func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "create table t (n int)")
		return err
	}
	wantProblem(t, do(server.Wrap(server.InSession(create)), "GET", "/", ""), http.StatusInternalServerError, "internal_error")
	if got := do(server.Wrap(server.InSession(create, nopool.TxOptions{})), "GET", "/", "").StatusCode; got != http.StatusOK {
		t.Errorf("status %d on a route that may write", got)
	}
}

// TestClientGone wants nothing persisted for a client that went away before the
// handler was done.
func TestClientGone(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, pgtest.Database(t))
	ctx, cancel := context.WithCancel(t.Context())
	handler := server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "create table t (n int)")
		cancel()
		return err
	}))
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", nil).WithContext(ctx))
	if recorder.Code != 499 {
		t.Errorf("status %d, want 499 in the log", recorder.Code)
	}
	after := server.DB.Snapshot()
	if after.Committed != 0 || after.RolledBack != 1 {
		t.Errorf("%d committed and %d rolled back", after.Committed, after.RolledBack)
	}
}

// TestRequestTimeout wants a 504 while the handler's statement still runs.
func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, pgtest.Database(t))
	server.RequestTimeout = 500 * time.Millisecond
	handler := server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "select pg_sleep(4)")
		return err
	}))
	started := time.Now()
	wantProblem(t, do(handler, "POST", "/", ""), http.StatusGatewayTimeout, "timeout")
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestRequestSettings sets a request's claims in its transaction.
func TestRequestSettings(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, pgtest.Database(t))
	server.Settings = func(r *http.Request) []nopool.Setting {
		return []nopool.Setting{{Name: "request.jwt.claims", Value: `{"sub":"` + r.Header.Get("Caller") + `"}`}}
	}
	handler := server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		var claims string
		err := s.QueryRow(r.Context(), "select current_setting('request.jwt.claims', true)").Scan(&claims)
		fmt.Fprint(w, claims)
		return err
	}))
	for _, caller := range []string{"ann", "bob"} {
		body, err := io.ReadAll(do(handler, "GET", "/", "", "Caller", caller).Body)
		if want := `{"sub":"` + caller + `"}`; err != nil || string(body) != want {
			t.Errorf("%q and %v, want %q", body, err, want)
		}
	}
}

// TestNestedSession refuses a request a second connection while it holds one.
func TestNestedSession(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, pgtest.Database(t))
	run := func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		return err
	}
	do(server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		if err := run(r.Context(), s); err != nil {
			t.Error(err)
		}
		if err := server.DB.Run(r.Context(), nopool.TxOptions{}, run); !errors.Is(err, nopool.ErrNested) {
			t.Errorf("%v, want ErrNested", err)
		}
		return nil
	})), "GET", "/", "")
}
