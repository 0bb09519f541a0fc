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

	"example.org/team/tiny-shop/internal/nopool"
)

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

// correlate gives the request its id: the client's where it is well-formed,
// else the trace's, else a new one.
func (s *Server) correlate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(correlationHeader)
		if !validID.MatchString(id) {
			id = traceID(r.Header.Get("traceparent"))
		}
		if id == "" {
			id = rand.Text()
		}
		w.Header().Set(correlationHeader, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), correlationKey{}, id)))
	})
}

// traceID returns the trace id of a valid traceparent header, else "".
func traceID(header string) string {
	match := validTrace.FindStringSubmatch(header)
	if match == nil || strings.HasPrefix(header, "ff") ||
		strings.Trim(match[1], "0") == "" || strings.Trim(match[2], "0") == "" {
		return ""
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

// accessLog writes one line for each request, without its query string, which
// may hold anything.
func (s *Server) accessLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		recorder := &recordingWriter{ResponseWriter: w}
		defer func() {
			level := slog.LevelInfo
			if probe := r.URL.Path == "/health" || r.URL.Path == "/ready"; probe && recorder.status < 400 {
				level = slog.LevelDebug // one every few seconds, from everywhere, would drown the others
			}
			s.Logger.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path,
				"status", recorder.status, "bytes", recorder.bytes, "duration", time.Since(started))
		}()
		next.ServeHTTP(recorder, r)
		recorder.status = cmp.Or(recorder.status, http.StatusOK) // what net/http sends for a handler that wrote nothing
	})
}

// recover turns a panic into a 500, or cuts the response short where it has
// begun. The server goes on.
func (s *Server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
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
			if recorder, ok := w.(*recordingWriter); ok && recorder.status != 0 {
				panic(http.ErrAbortHandler)
			}
			s.write(w, r, internalError)
		}()
		next.ServeHTTP(w, r)
	})
}

// limit bounds the request's time and the size of its body.
func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.RequestTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, s.MaxBody)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
