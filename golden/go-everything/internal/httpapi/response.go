package httpapi

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"sync/atomic"

	"example.com/demo/internal/nopool"
)

const (
	// maxBuffered is how many bytes of a response are held back until the commit. A
	// longer one commits first and is streamed from then on.
	maxBuffered = 4 << 20
	// maxUnsent is how many bytes of all responses, but for small ones, may be held for
	// clients that have not taken them yet. Another one is answered with 503.
	maxUnsent     = 32 << 20
	smallResponse = 64 << 10
)

// response remembers what was answered. That of a handler with a session is held back
// until the session has ended: Flush, Hijack and more than maxBuffered bytes are the
// commit point, from which on it is streamed.
type response struct {
	http.ResponseWriter
	status int   // 0 until the handler has chosen one
	bytes  int64 // of the body

	request *http.Request
	session *nopool.Session
	before  http.Header // without the handler's, for an error's response
	chosen  http.Header // with the status: those that are set later are trailers, or are not sent
	body    bytes.Buffer
	ended   bool  // the session has been committed or rolled back
	err     error // why not, if the commit failed
	sent    bool

	unsent *atomic.Int64 // of all responses
	ours   int64         // of unsent
}

func (h *response) WriteHeader(status int) {
	interim := status < 200 && status != http.StatusSwitchingProtocols
	if h.status == 0 && !interim {
		h.status, h.chosen = status, h.Header().Clone()
	}
	if h.sent || interim && h.status == 0 {
		h.ResponseWriter.WriteHeader(status)
	}
}

func (h *response) Write(p []byte) (int, error) {
	if h.status == 0 {
		h.WriteHeader(http.StatusOK)
	}
	if err := h.admit(h.body.Len() + len(p)); err != nil {
		return 0, err
	}
	h.hold(h.body.Len() + len(p)) // the body is empty once it is sent
	if !h.sent {
		return h.body.Write(p)
	}
	defer h.hold(0)
	n, err := h.ResponseWriter.Write(p)
	h.bytes += int64(n)
	return n, err
}

// admit refuses a response that grows large while too much waits, unless it tells of a commit.
// It streams one that is too large to be held, unless rows are open, which may be closed yet.
func (h *response) admit(size int) error {
	if h.sent || size <= smallResponse {
		return nil
	}
	full := h.unsent.Load() >= maxUnsent
	if size > maxBuffered && (!full || h.body.Len() > smallResponse) {
		if err := h.stream(); !errors.Is(err, nopool.ErrSessionBusy) {
			return err
		}
	}
	if full {
		h.ended, h.err = true, h.session.Undo(h.request.Context(), busy)
		return h.err
	}
	return nil
}

// hold counts the bytes of this response that wait for its client.
func (h *response) hold(size int) {
	if h.unsent != nil {
		h.unsent.Add(int64(size) - h.ours)
		h.ours = int64(size)
	}
}

// finish ends the session, once: committed (a read in the background), or rolled back when the handler
// chose an error status. A request that was cancelled persists nothing.
func (h *response) finish() error {
	if h.ended {
		return h.err
	}
	h.ended = true
	ctx := h.request.Context()
	switch {
	case ctx.Err() != nil:
		h.err = h.session.Undo(ctx, context.Cause(ctx))
	case h.status >= http.StatusBadRequest:
		_ = h.session.Rollback(ctx)
	default:
		h.err = h.session.Finish(ctx)
		h.ended = !errors.Is(h.err, nopool.ErrSessionBusy)
	}
	return h.err
}

// send passes on what was held back.
func (h *response) send() {
	if h.sent {
		return
	}
	h.sent = true
	now := h.Header().Clone()
	if h.status != 0 {
		h.setHeader(h.chosen)
		h.ResponseWriter.WriteHeader(h.status)
	}
	_, _ = h.ResponseWriter.Write(h.body.Bytes()) // the client may be gone; the commit stands
	h.setHeader(now)
	h.body = bytes.Buffer{}
	h.hold(0)
}

// drop lets go of a response that will not leave.
func (h *response) drop() {
	h.hold(0)
	if !h.sent {
		h.setHeader(h.before)
	}
}

func (h *response) setHeader(all http.Header) {
	clear(h.Header())
	maps.Copy(h.Header(), all)
}

// stream is the commit point of a response that cannot be held any longer.
func (h *response) stream() error {
	if err := h.finish(); err != nil {
		return err
	}
	h.send()
	return nil
}

// FlushError implements what http.ResponseController looks for.
func (h *response) FlushError() error {
	if err := h.stream(); err != nil {
		return err
	}
	h.status = cmp.Or(h.status, http.StatusOK)
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (h *response) Flush() { _ = h.FlushError() }

// Hijack implements http.Hijacker.
func (h *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := h.finish(); err != nil {
		return nil, nil, err
	}
	if h.status != 0 {
		h.send() // the answer to a handshake
	}
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil { // over HTTP/2 the handler can still answer that it cannot
		h.sent, h.status = true, cmp.Or(h.status, http.StatusSwitchingProtocols)
	}
	return conn, buffered, err
}

// Unwrap lets http.ResponseController reach deadlines and full duplex.
func (h *response) Unwrap() http.ResponseWriter { return h.ResponseWriter }
