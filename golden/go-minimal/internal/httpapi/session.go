package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"example.org/team/tiny-shop/internal/nopool"
)

// SessionHandler handles a request with a database session. The session opens
// its connection at its first query; it is committed when the handler returns
// nil and has answered with a status below 400, and rolled back otherwise; what it
// has committed itself stands. The response leaves after that; that of a read need not
// wait for COMMIT's answer, as Session.Finish and TxOptions.WaitForCommit say. An error
// that the handler returns becomes the response, in place of anything written so far.
// A handler should have read the request's body before its first query: later it holds
// a connection for as long as the client likes.
type SessionHandler func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error

const (
	// maxBuffered is how many bytes of a response are held back until the commit. A
	// longer one commits first and is streamed from then on.
	maxBuffered = 4 << 20
	// maxUnsent is how many bytes of all responses, but for small ones, may be held for
	// clients that have not taken them yet. Another one is answered with 503.
	maxUnsent     = 32 << 20
	smallResponse = 64 << 10
)

// InSession returns a handler that runs h with a session: read only for GET and
// HEAD, unless options say otherwise.
func (s *Server) InSession(h SessionHandler, options ...nopool.TxOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tx := nopool.TxOptions{ReadOnly: r.Method == http.MethodGet || r.Method == http.MethodHead}
		if len(options) > 0 {
			tx = options[0]
		}
		if s.Settings != nil {
			tx.Settings = slices.Concat(s.Settings(r), tx.Settings) // never appended to what the owner may share
		}
		ctx := r.Context()
		session := s.DB.Session(ctx, tx)
		// A panic, or runtime.Goexit, leaves by this way; after a commit it does nothing.
		defer session.Rollback(ctx)

		r = r.WithContext(nopool.WithSession(ctx, session)) // a second one would be refused
		held := &heldResponse{ResponseWriter: w, header: w.Header().Clone(), request: r, session: session, unsent: &s.unsent}
		defer held.hold(0)
		err := h(held, r, session)
		if err == nil {
			err = held.finish()
		}
		switch {
		case err == nil:
			held.send()
		case held.sent:
			level := slog.LevelError
			if errors.Is(ctx.Err(), context.Canceled) {
				level = slog.LevelDebug // the client has left, as clients of streams do
			}
			s.Logger.Log(ctx, level, "handler failed after its response had begun", "error", nopool.Describe(err))
			panic(http.ErrAbortHandler) // the client must see that the response is cut short
		default:
			if said := held.undo(err); errors.Is(said, nopool.ErrOutcomeUnknown) { // before the error leaves
				err = said
			}
			s.problem(w, r, err)
		}
	})
}

// heldResponse holds a response back until the session has ended. Flush,
// Hijack and more than maxBuffered bytes are the commit point: the session ends
// there and what follows is streamed.
type heldResponse struct {
	http.ResponseWriter
	header  http.Header // held back like the body, so that an error replaces both
	request *http.Request
	session *nopool.Session
	status  int // 0 until the handler has chosen one
	body    bytes.Buffer
	ended   bool  // the session has been committed or rolled back
	err     error // why not, if the commit failed
	sent    bool

	unsent *atomic.Int64 // of all responses
	ours   int64         // of unsent
}

func (h *heldResponse) Header() http.Header {
	if h.sent {
		return h.ResponseWriter.Header() // for trailers
	}
	return h.header
}

func (h *heldResponse) WriteHeader(status int) {
	switch {
	case status >= 100 && status < 200:
		h.ResponseWriter.WriteHeader(status)
	case h.status == 0:
		h.status = status
	}
}

func (h *heldResponse) Write(p []byte) (int, error) {
	if h.status == 0 {
		h.status = http.StatusOK
	}
	if !h.sent {
		size := h.body.Len() + len(p)
		if err := h.admit(size); err != nil {
			return 0, err
		}
		h.hold(size)
		if size <= maxBuffered {
			return h.body.Write(p)
		}
		if err := h.stream(); err != nil {
			return 0, err
		}
	}
	h.hold(len(p))
	defer h.hold(0)
	return h.ResponseWriter.Write(p)
}

// admit refuses a response that grows large while too much waits, unless it tells of a commit.
func (h *heldResponse) admit(size int) error {
	if h.body.Len() > smallResponse || size <= smallResponse || h.unsent.Load() < maxUnsent {
		return nil
	}
	h.ended, h.err = true, h.undo(busy)
	return h.err
}

// hold counts the bytes of this response that wait for its client.
func (h *heldResponse) hold(size int) {
	if h.unsent != nil {
		h.unsent.Add(int64(size) - h.ours)
		h.ours = int64(size)
	}
}

// finish ends the session, once: committed (a read in the background), or rolled back when the handler
// chose an error status. A request that was cancelled persists nothing.
func (h *heldResponse) finish() error {
	if h.ended {
		return h.err
	}
	h.ended = true
	ctx := h.request.Context()
	switch {
	case ctx.Err() != nil:
		h.err = h.undo(context.Cause(ctx))
	case h.status >= http.StatusBadRequest:
		_ = h.session.Rollback(ctx)
	default:
		h.err = h.session.Finish(ctx)
	}
	return h.err
}

// undo rolls the session back and returns err, unless the handler's own Commit stands, or nobody knows.
func (h *heldResponse) undo(err error) error {
	ctx := h.request.Context()
	_ = h.session.Rollback(ctx)
	if said := h.session.Finish(ctx); said == nil || errors.Is(said, nopool.ErrOutcomeUnknown) {
		return said
	}
	return err
}

// send passes on what was held back.
func (h *heldResponse) send() {
	if h.sent {
		return
	}
	h.sent = true
	header := h.ResponseWriter.Header()
	clear(header)
	maps.Copy(header, h.header)
	if h.status != 0 {
		h.ResponseWriter.WriteHeader(h.status)
	}
	_, _ = h.ResponseWriter.Write(h.body.Bytes()) // the client may be gone; the commit stands
	h.body = bytes.Buffer{}
}

// stream is the commit point of a response that cannot be held any longer.
func (h *heldResponse) stream() error {
	if err := h.finish(); err != nil {
		return err
	}
	h.send()
	return nil
}

// FlushError implements what http.ResponseController looks for.
func (h *heldResponse) FlushError() error {
	if err := h.stream(); err != nil {
		return err
	}
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (h *heldResponse) Flush() { _ = h.FlushError() }

// Hijack implements http.Hijacker.
func (h *heldResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := h.finish(); err != nil {
		return nil, nil, err
	}
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.sent = h.sent || err == nil // over HTTP/2 the handler can still answer that it cannot
	return conn, buffered, err
}

// Unwrap lets http.ResponseController reach deadlines and full duplex.
func (h *heldResponse) Unwrap() http.ResponseWriter { return h.ResponseWriter }
