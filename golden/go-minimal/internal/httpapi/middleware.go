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

// Wrap puts around next what every request passes: its id, a log line, an answer
// for panics, and the bounds of its time and of its body.
func (s *Server) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := correlationID(r.Header)
		w.Header().Set(correlationHeader, id)
		r, cancel := bound(context.WithValue(r.Context(), arrivalKey{}, arrival{id, r.Context()}), w, r, s.RequestTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, s.MaxBody)
		recorder := &recordingWriter{ResponseWriter: w}
		defer recorder.end()
		defer s.logRequest(recorder, r, time.Now())
		defer s.recover(recorder, r)
		next.ServeHTTP(recorder, r)
		recorder.status = cmp.Or(recorder.status, http.StatusOK) // what net/http sends for a handler that wrote nothing
	})
}

// Within returns a handler that gives h its own time, instead of RequestTimeout, from
// when it begins: for streams, websockets, and bodies that take long.
func Within(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came, _ := r.Context().Value(arrivalKey{}).(arrival)
		r, cancel := bound(context.WithoutCancel(r.Context()), w, r, d)
		defer cancel()
		defer context.AfterFunc(came.client, cancel)()
		h.ServeHTTP(w, r)
	})
}

// bound returns r with a context that ends after d, and lets its body take no longer.
func bound(ctx context.Context, w http.ResponseWriter, r *http.Request, d time.Duration) (*http.Request, context.CancelFunc) {
	control, end := http.NewResponseController(w), time.Now().Add(d)
	_ = control.SetReadDeadline(end.Add(time.Second)) // after ctx: net/http would cancel it, as if the client had left
	_ = control.SetWriteDeadline(end.Add(clientTimeout))
	ctx, cancel := context.WithDeadline(ctx, end)
	return r.WithContext(ctx), cancel
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

const (
	clientTimeout = 10 * time.Second // for a client that takes nothing of its response
	pieceSize     = 16 << 10         // of a response, which a client has to take within it
)

// recordingWriter remembers what was answered, and cuts off who does not take it. A slow
// client is served, since each piece has time of its own.
type recordingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recordingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recordingWriter) Write(p []byte) (n int, err error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	defer w.within(time.Time{}) // what the handler takes until it writes again is not the client's time
	for more := true; more && err == nil; more = n < len(p) {
		w.within(time.Now().Add(clientTimeout))
		var taken int
		taken, err = w.ResponseWriter.Write(p[n:min(n+pieceSize, len(p))])
		n += taken
	}
	w.bytes += int64(n)
	return n, err
}

// FlushError implements what http.ResponseController looks for.
func (w *recordingWriter) FlushError() error {
	defer w.within(time.Time{})
	w.within(time.Now().Add(clientTimeout))
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// end bounds what net/http has still to send. A connection that was hijacked has other
// owners now.
func (w *recordingWriter) end() {
	if w.bytes > 0 {
		w.within(time.Now().Add(clientTimeout))
	}
}

func (w *recordingWriter) within(deadline time.Time) {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(deadline)
}

func (w *recordingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

const correlationHeader = "X-Request-ID"

var (
	validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	// version-traceid-parentid-flags: https://www.w3.org/TR/trace-context/
	validTrace = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$`)
)

type arrivalKey struct{}

// arrival is how a request came.
type arrival struct {
	id     string
	client context.Context // ends when the client leaves
}

// CorrelationID returns the id of the request that ctx belongs to, "" outside
// of one.
func CorrelationID(ctx context.Context) string {
	a, _ := ctx.Value(arrivalKey{}).(arrival)
	return a.id
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
