package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.org/team/tiny-shop/internal/nopool"
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
	notFound      = newError(http.StatusNotFound, "not_found", "There is nothing here")
	internalError = newError(http.StatusInternalServerError, "internal_error", "Internal error")
	busy          = newError(http.StatusServiceUnavailable, "busy", "The service is busy")
	databaseDown  = newError(http.StatusServiceUnavailable, "database_unavailable", "The database is unavailable")
	shuttingDown  = newError(http.StatusServiceUnavailable, "shutting_down", "The service is shutting down")
	timedOut      = newError(http.StatusGatewayTimeout, "timeout", "The request took too long")
	commitUnknown = newError(http.StatusInternalServerError, "commit_unknown",
		"The change may or may not have been saved. Check before you repeat it.")
)

// sessionErrors maps what the database layer says to the client's answer. That a row
// is not there is for a handler to check where it means something else.
var sessionErrors = []struct {
	is     error
	answer *Error
}{
	{pgx.ErrNoRows, notFound},
	{nopool.ErrOutcomeUnknown, commitUnknown},
	{nopool.ErrBusy, busy},
	{nopool.ErrPoolerFull, busy},
	{nopool.ErrUnavailable, databaseDown},
	{nopool.ErrConfiguration, databaseDown},
	{nopool.ErrClosed, shuttingDown},
	{context.DeadlineExceeded, timedOut},
	{os.ErrDeadlineExceeded, newError(http.StatusRequestTimeout, "slow_body", "The body took too long to arrive")},
}

// sqlStates maps SQLSTATEs, by prefix and in order, to the client's answer.
// They are listed in appendix A of the Postgres manual.
var sqlStates = []struct {
	prefix string
	answer *Error
}{
	{"23505", newError(http.StatusConflict, "already_exists", "It exists already")},
	{"23P01", newError(http.StatusConflict, "conflict", "It conflicts with what exists")},
	{"23503", newError(http.StatusConflict, "reference", "It refers to something that does not exist, or is referred to")},
	{"23", newError(http.StatusUnprocessableEntity, "constraint", "A value is not allowed")},
	{"22012", internalError}, // division by zero: ours
	{"22", newError(http.StatusBadRequest, "invalid_value", "A value is malformed or out of range")},
	{"40", newError(http.StatusServiceUnavailable, "concurrent_change", "Changed by somebody else at the same time; try again")},
	{"55P03", newError(http.StatusServiceUnavailable, "locked", "Locked by somebody else; try again")},
	{"57014", timedOut},
	{"25P03", timedOut}, // idle in its transaction
	{"25P04", timedOut}, // transaction_timeout, Postgres 17
	{"53", busy},
	{"57P", databaseDown},
	{"08", databaseDown},
}

// statusClientGone is what the access log shows where nobody reads the answer. It
// is nginx's, and has no text in net/http.
const statusClientGone = 499

// answer decides what the client is told about err. Nothing of err itself is in
// it, unless err is an *Error.
func answer(r *http.Request, err error) *Error {
	if stated, ok := errors.AsType[*Error](err); ok {
		return stated
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return newError(http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large")
	}
	if errors.Is(r.Context().Err(), context.Canceled) {
		return &Error{Status: statusClientGone, Code: "client_gone"}
	}
	for _, known := range sessionErrors {
		if errors.Is(err, known.is) {
			return known.answer
		}
	}
	if nopool.ConnectionLost(err) {
		return databaseDown
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, state := range sqlStates {
			if strings.HasPrefix(pgErr.Code, state.prefix) {
				return state.answer
			}
		}
	}
	return internalError
}

// problem answers with what err means to the client and logs what it means to us:
// as an error where the cause is in this program, else at debug, since the session
// has logged what the database did.
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
