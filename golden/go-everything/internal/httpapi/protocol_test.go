//go:build unix

package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// raw sends text to a server, and returns what comes back until it closes the connection.
func raw(t *testing.T, web *httptest.Server, text string) string {
	t.Helper()
	conn := ask(t, web, 64<<10, "%s", text)
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("%q, then %v", all, err)
	}
	return string(all)
}

// TestProtocol has handlers do what net/http lets them do, with a session and without one, and wants the bytes that
// net/http would send. A session must have been committed before the first of them.
func TestProtocol(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		handler func(w http.ResponseWriter)
		want    string // from its first byte to its last
		not     string
	}{
		{"upgrade", func(w http.ResponseWriter) { // as coder/websocket does
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprint(conn, "hello")
			conn.Close()
		}, `^HTTP/1.1 101 .*\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n.*\r\n\r\nhello$`, ""},
		{"take over", func(w http.ResponseWriter) { // as gorilla/websocket does
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprint(conn, "hello")
			conn.Close()
		}, `^hello$`, ""},
		{"events", func(w http.ResponseWriter) { // as r3labs/sse does
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
		}, `^HTTP/1.1 200 .*event-stream.*\r\n\r\n9\r\ndata: 1`, ""},
		{"early hints", func(w http.ResponseWriter) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Link", "</b.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.WriteHeader(http.StatusNoContent)
		}, `^HTTP/1.1 103 .*\r\nLink: </a.css>.*HTTP/1.1 103 .*\r\nLink: </b.css>.*HTTP/1.1 204 `, `204.*\r\nLink`},
		{"hints too late", func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusAccepted)
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		}, `^HTTP/1.1 202 `, `Link`},
		{"hints, then an error", func(w http.ResponseWriter) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			panic("broken")
		}, `^HTTP/1.1 103 .*\r\nLink: .*HTTP/1.1 500 .*"internal_error"`, ""},
		{"trailers", func(w http.ResponseWriter) {
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprint(w, "text")
			w.Header().Set("X-Sum", "7")
			w.Header().Set(http.TrailerPrefix+"X-More", "8")
			w.Header().Set("X-Late", "9")
		}, `^HTTP/1.1 200 .*\r\nTrailer: X-Sum\r\n.*\r\n\r\n4\r\ntext\r\n0\r\nX-More: 8\r\nX-Sum: 7\r\n\r\n$`, `X-Sum: .*X-Sum: |X-Late`},
		{"late headers", func(w http.ResponseWriter) {
			w.Header().Set("X-Early", "1")
			w.WriteHeader(http.StatusAccepted)
			w.Header().Set("X-Late", "1")
			w.Header().Del("X-Early")
		}, `^HTTP/1.1 202 .*\r\nX-Early: 1\r\n`, `X-Late`},
		{"late headers of a stream", func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			w.Header().Set("X-Late", "1")
			fmt.Fprint(w, "text")
		}, `^HTTP/1.1 200 .*\r\n\r\n4\r\ntext\r\n`, `X-Late`},
		{"panic behind a flush", func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			panic("broken")
		}, `^HTTP/1.1 200 .*\r\n\r\n$`, `internal_error`},
		{"what a page says of itself, then an error", func(w http.ResponseWriter) {
			for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
				w.Header().Set(name, "3")
			}
			panic("broken")
		}, `^HTTP/1.1 500 .*"internal_error".*}\n$`, `Encoding: 3|Etag|Modified|Length: 3\r`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
			mux := http.NewServeMux()
			mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) { test.handler(w) })
			mux.Handle("/session", server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
				_, err := s.Exec(r.Context(), "insert into t values (1)")
				test.handler(w)
				return err
			}))
			web := httptest.NewServer(server.Wrap(mux))
			defer web.Close()
			for _, path := range []string{"/plain", "/session"} {
				got := raw(t, web, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				if !regexp.MustCompile(`(?s)`+test.want).MatchString(got) || test.not != "" && regexp.MustCompile(`(?s)`+test.not).MatchString(got) {
					t.Errorf("%s: %q", path, got)
				}
			}
		})
	}
}

// TestCommitBeforeHandshake refuses the COMMIT of a handler that upgrades: the client must not see 101.
func TestCommitBeforeHandshake(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "commit" {
			r.Error = standin.Error("40001", "could not serialize")
		}
		return r
	}}).URL())
	web := httptest.NewServer(server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		if _, err := s.Exec(r.Context(), "insert into t values (1)"); err != nil {
			return err
		}
		w.WriteHeader(http.StatusSwitchingProtocols)
		_, _, err := http.NewResponseController(w).Hijack()
		return err
	})))
	defer web.Close()
	if got := raw(t, web, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Errorf("%q", got)
	}
}

// TestLargeBody declares a body that is too large, and sends nothing of it.
func TestLargeBody(t *testing.T) {
	t.Parallel()
	server, log := serverOn(t, nowhere)
	web := httptest.NewServer(server.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") })))
	defer web.Close()
	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		for _, size := range []int64{server.MaxBody + 1, 10 << 20} {
			conn := ask(t, web, 4<<10, "POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n", expect, size)
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			wantProblem(t, response, http.StatusRequestEntityTooLarge, "body_too_large")
			conn.Close() // net/http waits for the rest of it
		}
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("an error of ours:\n%s", log)
	}
}

// TestBrokenBody sends bodies that end too early, or are framed wrongly, to who reads them as they are.
func TestBrokenBody(t *testing.T) {
	t.Parallel()
	server, log := serverOn(t, nowhere)
	web := httptest.NewServer(server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, _ *nopool.Session) error {
		_, err := io.Copy(io.Discard, r.Body)
		return err
	})))
	defer web.Close()
	for body, code := range map[string]string{
		"Transfer-Encoding: chunked\r\n\r\nxyz\r\n":                                                  "malformed",
		"Transfer-Encoding: chunked\r\n\r\n5000\r\n" + strings.Repeat("x", 0x5000) + "\r\n0\r\n\r\n": "body_too_large",
	} {
		if got := raw(t, web, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+body); !strings.Contains(got, `"code":"`+code+`"`) {
			t.Errorf("%.80q: %q", body, got)
		}
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("an error of ours:\n%s", log)
	}
}

// TestWrittenWhileRowsAreOpen answers from open rows, on both sides of what is held back of others.
func TestWrittenWhileRowsAreOpen(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
	for size, want := range map[int]int{maxBuffered / 2: 200, 2 * maxBuffered: 200, maxUnsent + maxBuffered: 503} {
		recorder := httptest.NewRecorder()
		server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			rows, err := s.Query(r.Context(), "select 1")
			if err != nil {
				return err
			}
			defer rows.Close()
			for range size / 1000 {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 1000)) // nobody looks at its error
			}
			return nil
		})).ServeHTTP(recorder, httptest.NewRequest("POST", "/", nil))
		if recorder.Code != want || want == 200 && recorder.Body.Len() != size/1000*1000 {
			t.Errorf("%d bytes: %d with %d, want %d", size, recorder.Code, recorder.Body.Len(), want)
		}
	}
	if left := server.unsent.Load(); left != 0 {
		t.Errorf("%d bytes are still counted", left)
	}
}

// TestSentIsNotWaiting counts what a stream has sent no more while it goes on.
func TestSentIsNotWaiting(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{}).URL())
	server.Wrap(server.InSession(func(w http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, _ = w.Write(make([]byte, maxBuffered/2))
		w.(http.Flusher).Flush()
		if left := server.unsent.Load(); left != 0 {
			t.Errorf("%d bytes are still counted", left)
		}
		return nil
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}

// TestStatusOfReadOnly has a statement refused because it writes: our fault in a session that reads, the database's in
// one that may write.
func TestStatusOfReadOnly(t *testing.T) {
	t.Parallel()
	server, _ := serverOn(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if strings.HasPrefix(sql, "insert") {
			r.Error = standin.Error("25006", "cannot execute INSERT in a read-only transaction")
		}
		return r
	}}).URL())
	write := func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "insert into t values (1)")
		return err
	}
	for _, test := range []struct {
		method  string
		options []nopool.TxOptions
		status  int
		code    string
	}{
		{"POST", nil, 503, "read_only"},
		{"GET", nil, 500, "internal_error"},
		{"GET", []nopool.TxOptions{{}}, 503, "read_only"},
		{"POST", []nopool.TxOptions{{ReadOnly: true}}, 500, "internal_error"},
	} {
		wantProblem(t, do(server.Wrap(server.InSession(write, test.options...)), test.method, "/", ""), test.status, test.code)
	}
}

// TestWithinAlone wants a route with a time of its own to work in a test of its own, without the middleware.
func TestWithinAlone(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	recorder := httptest.NewRecorder()
	Within(time.Minute, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leave()
		<-r.Context().Done()
		fmt.Fprint(w, r.Context().Err())
	})).ServeHTTP(recorder, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	if got := recorder.Body.String(); got != context.Canceled.Error() {
		t.Errorf("%q", got)
	}
}

// TestFaultsOfClients has values refused by the database: no error of ours, and a line that says which column or constraint.
func TestFaultsOfClients(t *testing.T) {
	t.Parallel()
	refusals := map[string]*pgproto3.ErrorResponse{
		"column":     standin.Error("23502", "s3cret"),
		"constraint": standin.Error("23514", "s3cret"),
		"length":     standin.Error("22001", "s3cret"),
		"reference":  standin.Error("23001", "s3cret"),
		"view":       standin.Error("44000", "s3cret"),
		"index":      standin.Error("54000", "s3cret"),
		"policy":     standin.Error("42501", "s3cret"),
	}
	refusals["policy"].Routine = "ExecWithCheckOptions"
	refusals["column"].ColumnName, refusals["column"].TableName = "given", "t"
	refusals["constraint"].ConstraintName = "t_given"
	server, log := serverOn(t, standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Error: refusals[sql]}
	}}).URL())
	for sql, want := range map[string]struct {
		status int
		code   string
	}{"column": {422, "missing_value"}, "constraint": {422, "constraint"}, "length": {400, "invalid_value"}, "reference": {409, "reference"}, "view": {422, "constraint"}, "index": {422, "constraint"}, "policy": {403, "forbidden"}} {
		wantProblem(t, do(server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
			_, err := s.Exec(r.Context(), sql)
			return err
		})), "POST", "/", ""), want.status, want.code)
	}
	text := log.String()
	for _, want := range []string{`level=INFO msg="database session error" error="SQLSTATE 23502, column given of t"`, `constraint t_given"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "level=ERROR") {
		t.Errorf("an error of ours:\n%s", text)
	}
}
