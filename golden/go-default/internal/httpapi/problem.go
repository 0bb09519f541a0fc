package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
)

// Error is a failure that a handler wants the client to see: all of it is sent.
// It becomes an RFC 9457 problem of type about:blank.
type Error struct {
	Status int          `json:"status"`
	Code   string       `json:"code"`             // for programs, stable
	Detail string       `json:"detail,omitempty"` // for people, a fixed text
	Fields []FieldError `json:"errors,omitempty"`
}

// FieldError says what is wrong with one field of the request.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (e *Error) Error() string { return e.Code }

func newError(status int, code, detail string) *Error {
	return &Error{Status: status, Code: code, Detail: detail}
}

// Answers that several causes share. internalError is for all that has no other.
var (
	malformed     = newError(http.StatusBadRequest, "malformed", "The request is malformed")
	notFound      = newError(http.StatusNotFound, "not_found", "There is nothing here")
	slowBody      = newError(http.StatusRequestTimeout, "slow_body", "The body took too long to arrive")
	bodyTooLarge  = newError(http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large")
	internalError = newError(http.StatusInternalServerError, "internal_error", "Internal error")
	busy          = newError(http.StatusServiceUnavailable, "busy", "The service is busy")
	databaseDown  = newError(http.StatusServiceUnavailable, "database_unavailable", "The database is unavailable")
	shuttingDown  = newError(http.StatusServiceUnavailable, "shutting_down", "The service is shutting down")
	timedOut      = newError(http.StatusGatewayTimeout, "timeout", "The request took too long")
	commitUnknown = newError(http.StatusInternalServerError, "commit_unknown",
		"The change may or may not have been saved. Check before you repeat it.")
)

// meanings maps errors, in order, to what the client is told. A handler for which
// a missing row means something else has to look for it. SQLSTATEs are listed in appendix A
// of the Postgres manual.
var meanings = []struct {
	means  func(error) bool
	answer *Error
}{
	{is(pgx.ErrNoRows), notFound},
	{is(nopool.ErrOutcomeUnknown), commitUnknown},
	{is(nopool.ErrBusy, nopool.ErrPoolerFull), busy},
	{is(nopool.ErrUnavailable, nopool.ErrConfiguration), databaseDown},
	{is(nopool.ErrSetting), internalError}, // a role that does not exist
	{is(nopool.ErrClosed), shuttingDown},
	{is(context.DeadlineExceeded), timedOut},
	{nopool.ConnectionLost, databaseDown},
	{state("23505"), newError(http.StatusConflict, "already_exists", "It exists already")},
	{state("23P01"), newError(http.StatusConflict, "conflict", "It conflicts with what exists")},
	{state("23503", "23001"), newError(http.StatusConflict, "reference", "It refers to something that does not exist, or is referred to")},
	{state("23502"), newError(http.StatusUnprocessableEntity, "missing_value", "A value is missing")},
	{nopool.RefusedByPolicy, newError(http.StatusForbidden, "forbidden", "This is not allowed")},
	{state("23", "44", "54000"), newError(http.StatusUnprocessableEntity, "constraint", "A value is not allowed")},
	{state("22012"), internalError}, // division by zero: ours
	{state("22"), newError(http.StatusBadRequest, "invalid_value", "A value is malformed or out of range")},
	{state("40003"), commitUnknown},
	{state("40"), newError(http.StatusServiceUnavailable, "concurrent_change", "Changed by somebody else at the same time; try again")},
	{state("55P03"), newError(http.StatusServiceUnavailable, "locked", "Locked by somebody else; try again")},
	{state("25006"), newError(http.StatusServiceUnavailable, "read_only", "The database takes no writes at present")},
	{state("57014", "25P03", "25P04"), timedOut}, // of a statement, idle in its transaction, of a transaction
	{state("53"), busy},
	{state("08P01"), internalError}, // the number of arguments, for one
	{state("57P", "08"), databaseDown},
}

func is(targets ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
}

// state matches SQLSTATEs by how they begin.
func state(prefixes ...string) func(error) bool {
	return func(err error) bool {
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		return ok && slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(pgErr.Code, prefix) })
	}
}

// answer decides what the client is told about err. Nothing of err itself is in
// it, unless err is an *Error.
func answer(r *http.Request, err error) *Error {
	if stated, ok := errors.AsType[*Error](err); ok {
		return stated
	}
	if errors.Is(r.Context().Err(), context.Canceled) {
		return &Error{Status: 499, Code: "client_gone"} // nginx's, for the access log: nobody reads it
	}
	for _, known := range meanings {
		if known.means(err) {
			return known.answer
		}
	}
	return internalError
}

// problem answers with what err means to the client and logs what it means to us: as an error where
// the cause is in this program, else at debug, since the session has logged what the database did.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	e := answer(r, err)
	log := s.Logger.DebugContext
	if e.Status == http.StatusInternalServerError {
		log = s.Logger.ErrorContext
	}
	log(r.Context(), "request failed", "error", nopool.Describe(err), "status", e.Status)
	s.write(w, r, e)
}

// write sends e as application/problem+json.
func (s *Server) write(w http.ResponseWriter, r *http.Request, e *Error) {
	if e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		w.Header().Del(name) // they speak of what is not sent
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		*Error
		CorrelationID string `json:"correlation_id"`
	}{"about:blank", cmp.Or(http.StatusText(e.Status), "Client Closed Request"), e, CorrelationID(r.Context())})
}
