package httpapi

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"example.com/demo/internal/nopool"
)

// Wrap puts around next what every request passes: its id, a log line, an answer
// for panics, and the bounds of its time and of its body.
func (s *Server) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := correlationID(r.Header)
		w.Header().Set(correlationHeader, id)
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), correlationKey{}, id), s.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, s.MaxBody)
		recorder := &recordingWriter{ResponseWriter: w}
		defer s.logRequest(recorder, r, time.Now())
		defer s.recover(recorder, r)
		next.ServeHTTP(recorder, r)
		recorder.status = cmp.Or(recorder.status, http.StatusOK) // what net/http sends for a handler that wrote nothing
	})
}

// logRequest writes one line for each request, without its query string, which
// may hold anything.
func (s *Server) logRequest(w *recordingWriter, r *http.Request, started time.Time) {
	level := slog.LevelInfo
	if probe := r.URL.Path == "/health" || r.URL.Path == "/ready"; probe && w.status < 400 {
		level = slog.LevelDebug // one every few seconds, from everywhere, would drown the others
	}
	s.Logger.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path,
		"status", w.status, "bytes", w.bytes, "duration", time.Since(started))
}

// recover turns a panic into a 500, or cuts the response short where it has
// begun. The server goes on.
func (s *Server) recover(w *recordingWriter, r *http.Request) {
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

// recordingWriter remembers what was answered.
type recordingWriter struct {
	http.ResponseWriter
	status int
	bytes  int
}

func (w *recordingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recordingWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += n
	return n, err
}

func (w *recordingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

const correlationHeader = "X-Request-ID"

var (
	validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	// version-traceid-parentid-flags: https://www.w3.org/TR/trace-context/
	validTrace = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$`)
)

type correlationKey struct{}

// CorrelationID returns the id of the request that ctx belongs to, "" outside
// of one.
func CorrelationID(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}

// correlationID returns the client's id where it is well-formed, else the trace's,
// else a new one.
func correlationID(header http.Header) string {
	if id := header.Get(correlationHeader); validID.MatchString(id) {
		return id
	}
	trace := header.Get("traceparent")
	match := validTrace.FindStringSubmatch(trace)
	if match == nil || strings.HasPrefix(trace, "ff") ||
		strings.Trim(match[1], "0") == "" || strings.Trim(match[2], "0") == "" {
		return rand.Text()
	}
	return match[1]
}

// WithCorrelation returns a handler that adds the correlation id of its context
// to each record.
func WithCorrelation(next slog.Handler) slog.Handler { return correlated{next} }

type correlated struct{ slog.Handler }

func (c correlated) Handle(ctx context.Context, record slog.Record) error {
	if id := CorrelationID(ctx); id != "" {
		record.AddAttrs(slog.String("correlation_id", id))
	}
	return c.Handler.Handle(ctx, record)
}

func (c correlated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return correlated{c.Handler.WithAttrs(attrs)}
}

func (c correlated) WithGroup(name string) slog.Handler {
	return correlated{c.Handler.WithGroup(name)}
}
