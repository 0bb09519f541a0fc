package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"example.com/demo/internal/nopool"
)

// SessionHandler handles a request with a database session. The session opens its connection at its
// first query; it is committed when the handler returns nil and has answered with a status below
// 400, and rolled back otherwise; what it has committed itself stands. The response leaves after
// that; that of a read need not wait for COMMIT's answer, as Session.Finish and
// TxOptions.WaitForCommit say. An error that the handler returns becomes the response, in place of
// anything written so far. A handler should have read the request's body before its first query:
// later it holds a connection for as long as the client likes.
type SessionHandler func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error

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
		// For a panic, or runtime.Goexit; after a commit it does nothing.
		defer session.Rollback(ctx)

		r = r.WithContext(nopool.WithSession(ctx, session)) // a second one would be refused
		defer tidy(r)
		held := &response{ResponseWriter: w, request: r, session: session, before: w.Header().Clone(), unsent: &s.unsent}
		defer held.drop()
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
			if said := session.Undo(ctx, err); errors.Is(said, nopool.ErrOutcomeUnknown) { // before the error leaves
				err = said
			}
			if tx.ReadOnly && state("25006")(err) {
				err = fmt.Errorf("%w: %w", internalError, err) // the handler writes
			}
			held.drop()
			s.problem(w, r, err)
		}
	})
}
