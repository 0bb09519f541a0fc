package httpapi

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"example.org/team/tiny-shop/internal/nopool"
)

// Wrap puts around next what every request passes: its id, a log line, an answer
// for panics, and the bounds of its time and of its body.
func (s *Server) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := correlationID(r.Header)
		w.Header().Set(correlationHeader, id)
		if s.draining.Load() {
			w.Header().Set("Connection", "close") // the next request is for another replica
		}
		body := &requestBody{over: r.Body == http.NoBody}
		r, cancel := bound(context.WithValue(r.Context(), arrivalKey{}, arrival{id, r.Context(), body}), w, r, s.RequestTimeout)
		defer cancel()
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})   // that the connection's last request has set
		recorder := &response{ResponseWriter: w, sent: true, ended: true} // nothing to hold, no session to end
		defer s.logRequest(recorder, r, time.Now())
		defer s.recover(recorder, r)
		if r.ContentLength > s.MaxBody {
			w.Header().Set("Connection", "close") // else net/http waits for the body before it answers
			s.problem(recorder, r, bodyTooLarge)
			return
		}
		if !body.over {
			body.ReadCloser = http.MaxBytesReader(w, r.Body, s.MaxBody)
			r.Body = body
		}
		next.ServeHTTP(recorder, r)
		recorder.status = cmp.Or(recorder.status, http.StatusOK) // what net/http sends for a handler that wrote nothing
	})
}

// Within returns a handler that gives h its own time, instead of RequestTimeout, from
// when it begins: for streams, websockets, and bodies that take long.
func Within(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came, _ := r.Context().Value(arrivalKey{}).(arrival)
		client := cmp.Or(came.client, r.Context()) // without Wrap, as in a test
		r, cancel := bound(context.WithoutCancel(r.Context()), w, r, d)
		defer cancel()
		defer context.AfterFunc(client, cancel)()
		h.ServeHTTP(w, r)
	})
}

// bound returns r with a context that ends after d, and lets its body take no longer.
func bound(ctx context.Context, w http.ResponseWriter, r *http.Request, d time.Duration) (*http.Request, context.CancelFunc) {
	end := time.Now().Add(d)
	// Once the body is over net/http reads ahead to see the client leave, and would take the deadline for that, for the whole connection.
	if came, _ := ctx.Value(arrivalKey{}).(arrival); came.body != nil && !came.body.over {
		_ = http.NewResponseController(w).SetReadDeadline(end.Add(time.Second)) // after ctx, for the same reason
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	r = r.WithContext(ctx)
	return r, func() { cancel(); tidy(r) }
}

// tidy removes the files of a form, as net/http does for its own *http.Request alone: handlers get copies of it.
func tidy(r *http.Request) {
	if r.MultipartForm != nil {
		_ = r.MultipartForm.RemoveAll()
	}
}

// requestBody is a body whose errors are the client's faults, and say which.
type requestBody struct {
	io.ReadCloser
	over bool // it has been read to its end, or there is none
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.over = b.over || err == io.EOF
	fault := malformed
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.As(err, new(*http.MaxBytesError)):
		fault = bodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		fault = slowBody
	}
	return n, fmt.Errorf("%w: %w", fault, err)
}

// logRequest writes one line for each request, without its query string, which may hold anything.
func (s *Server) logRequest(w *response, r *http.Request, started time.Time) {
	level := slog.LevelInfo
	if probe := r.URL.Path == "/health" || r.URL.Path == "/ready"; probe && w.status < 400 {
		level = slog.LevelDebug // one every few seconds, from everywhere, would drown the others
	}
	s.Logger.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path,
		"status", w.status, "bytes", w.bytes, "duration", time.Since(started))
}

// recover turns a panic into a 500, or cuts the response short where it has
// begun. The server goes on.
func (s *Server) recover(w *response, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	if value == http.ErrAbortHandler {
		panic(value)
	}
	err, ok := value.(error)
	if !ok {
		err = fmt.Errorf("%v", value)
	}
	s.Logger.ErrorContext(r.Context(), "panic", "error", nopool.Describe(err), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	s.write(w, r, internalError)
}

const correlationHeader = "X-Request-ID"

var (
	validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	// version-traceid-parentid-flags: https://www.w3.org/TR/trace-context/
	validTrace = regexp.MustCompile(`^(?:[0-9a-e][0-9a-f]|f[0-9a-e])-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$`)
)

type arrivalKey struct{}

// arrival is how a request came.
type arrival struct {
	id     string
	client context.Context // ends when the client leaves
	body   *requestBody
}

// CorrelationID returns the id of the request that ctx belongs to, "" outside of one.
func CorrelationID(ctx context.Context) string {
	a, _ := ctx.Value(arrivalKey{}).(arrival)
	return a.id
}

// correlationID returns the client's id where it is well-formed, else the trace's, else a new one.
func correlationID(header http.Header) string {
	if id := header.Get(correlationHeader); validID.MatchString(id) {
		return id
	}
	trace := validTrace.FindStringSubmatch(header.Get("traceparent"))
	if trace == nil || strings.Trim(trace[1], "0") == "" {
		return rand.Text()
	}
	return trace[1]
}

// WithCorrelation returns a handler that adds the correlation id of its context to each record.
func WithCorrelation(next slog.Handler) slog.Handler { return correlated{next} }

type correlated struct{ slog.Handler }

func (c correlated) Handle(ctx context.Context, record slog.Record) error {
	if id := CorrelationID(ctx); id != "" {
		record.AddAttrs(slog.String("correlation_id", id))
	}
	return c.Handler.Handle(ctx, record)
}

func (c correlated) WithAttrs(a []slog.Attr) slog.Handler { return correlated{c.Handler.WithAttrs(a)} }

func (c correlated) WithGroup(name string) slog.Handler { return correlated{c.Handler.WithGroup(name)} }
