package httpapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// TestStreaming is how a handler streams: everything that needs the session
// comes first, Flush commits, and what follows, for as long as it takes, holds no
// connection. Here the second line is sent when the client has read the first.
func TestStreaming(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{})
	server, _ := newServer(t, pooler.URL())
	hasRead := make(chan struct{})
	web := httptest.NewServer(server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		if _, err := s.Exec(r.Context(), "insert into t values (1)"); err != nil {
			return err
		}
		fmt.Fprintln(w, "stored")
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err // the commit failed: this error is the response, and not a line was sent
		}
		if _, err := s.Exec(r.Context(), "select 1"); !errors.Is(err, nopool.ErrSessionDone) {
			t.Errorf("a query after the commit: %v, want ErrSessionDone", err)
		}
		<-hasRead
		fmt.Fprintln(w, "more")
		return nil
	})))
	defer web.Close()
	response, err := web.Client().Post(web.URL, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	if !lines.Scan() || lines.Text() != "stored" {
		t.Fatalf("the first line is %q: %v", lines.Text(), lines.Err())
	}
	if conn := pooler.Conns()[0]; !slices.Contains(conn.Statements, "commit") {
		t.Errorf("a line left before COMMIT: %q", conn.Statements)
	}
	close(hasRead)
	if !lines.Scan() || lines.Text() != "more" {
		t.Errorf("the second line is %q: %v", lines.Text(), lines.Err())
	}
}

// TestNoHijack wants the handler's own answer where the connection cannot be taken
// over, as with HTTP/2 and with this recorder.
func TestNoHijack(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, standin.Start(t, standin.Options{}).URL())
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
	server, log := newServer(t, standin.Start(t, standin.Options{}).URL())
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
