package nopool

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What a session's error means for its caller, to be asked with errors.Is.
var (
	// ErrBusy: no slot was free in time, or the queue for one is full.
	ErrBusy = errors.New("too many database sessions")
	// ErrPoolerFull: the pooler or server admitted no more connections until the deadline.
	ErrPoolerFull = errors.New("database pooler is full")
	// ErrUnavailable: the database could not be reached, for a reason that may pass.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrConfiguration: the database refused us for a reason that will not pass by itself.
	ErrConfiguration = errors.New("database configuration")
	// ErrOutcomeUnknown: COMMIT was sent and its answer lost. It may have happened: do not repeat it.
	ErrOutcomeUnknown = errors.New("commit outcome unknown")
	// ErrRolledBack: COMMIT was answered with ROLLBACK, since an earlier error was ignored.
	ErrRolledBack = errors.New("transaction was rolled back: an earlier statement had failed")
	// ErrNoTransaction: a statement of the caller, such as commit or rollback, had ended the transaction.
	ErrNoTransaction = errors.New("the session's transaction was ended by one of its statements")
	// ErrNested: the caller already holds a session, and could wait for ever for a second connection.
	ErrNested = errors.New("a database session is open already: use it, or end it first")
	// ErrSessionDone: the session was used after its end.
	ErrSessionDone = errors.New("database session has ended")
	// ErrSessionBusy: the session was used by two goroutines at once, or with rows still open.
	ErrSessionBusy = errors.New("database session is in use: close its rows first, and use it from one goroutine at a time")
	// ErrClosed: the DB has been closed.
	ErrClosed = errors.New("database is closed")
)

// sessionError is a failure with its meaning: errors.Is sees the kind and
// errors.As the cause, and the text is one line.
type sessionError struct{ kind, cause error }

func (e *sessionError) Error() string   { return e.kind.Error() + ": " + Describe(e.cause) }
func (e *sessionError) Unwrap() []error { return []error{e.kind, e.cause} }

// Describe returns err as a line fit for a log: of an error that the server
// sent once a session was open no more than SQLSTATE and constraint, since its
// message and detail can quote what the user typed. Refused connections keep
// their message, which names at most user, database, host and port.
func Describe(err error) string {
	if described, ok := errors.AsType[*sessionError](err); ok {
		return described.Error()
	}
	connectErr, connecting := errors.AsType[*pgconn.ConnectError](err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && (connecting || slices.Contains(fatal, pgErr.SeverityUnlocalized)):
		return fmt.Sprintf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
	case answered && pgErr.ConstraintName != "":
		return fmt.Sprintf("SQLSTATE %s, constraint %s", pgErr.Code, pgErr.ConstraintName)
	case answered:
		return "SQLSTATE " + pgErr.Code
	case connecting: // several lines, the hook's name among them
		text := strings.ReplaceAll(connectErr.Unwrap().Error(), "AfterNetConnect failed: ", "")
		return strings.Join(strings.Fields(text), " ")
	case strings.Contains(err.Error(), "failed to encode args["): // pgx quotes the value
		return "an argument of the statement cannot be encoded"
	}
	return err.Error()
}

// fatal are the severities after which the server closes the connection. Such
// errors speak of the connection, not of data.
var fatal = []string{"FATAL", "PANIC"}

// refusals tell what an error before the answer to BEGIN means, in this order.
// The SQLSTATE is not enough: Supavisor gives all of its own XX000, and PgBouncer
// 08P01. What is not listed is ErrUnavailable: 57P01 to 57P03, 53xxx, and what
// nobody has met yet.
var refusals = []struct {
	code  string // beginning of the SQLSTATE
	texts string // of which one is in the message, separated by |; "" matches any
	kind  error
}{
	// Supavisor: lib/supavisor/errors, client_handler. Its codes have longer forms, such as EMAXCONNSESSION.
	{"XX000", "EMAXCONN|MaxClientsInSessionMode|Max client connections reached", ErrPoolerFull},
	{"XX000", "ECHECKOUT|ESUBSCRIBERETRIES|EPOOL", ErrPoolerFull},
	{"XX000", "ECIRCUITBREAKER|ENOTFOUND|Tenant or user not found|ESSLREQUIRED", ErrConfiguration},
	{"XX000", "EADDRNOTALLOWED|EBANNED|EINVALIDUSERINFO", ErrConfiguration},
	// PgBouncer: client.c, objects.c, janitor.c.
	{"08P01", "no more connections allowed|query_wait_timeout", ErrPoolerFull},
	{"08P01", "server login has been failing", ErrUnavailable},
	{"08P01", "authentication failed|no such|unsupported startup parameter|SSL required", ErrConfiguration},
	// Postgres: appendix A of the manual.
	{"53300", "", ErrPoolerFull},
	{"28", "", ErrConfiguration}, // invalid authorization
	{"3D", "", ErrConfiguration}, // unknown database
	{"42", "", ErrConfiguration}, // privilege, unknown parameter
	{"22", "", ErrConfiguration}, // value of a setting
	{"0A", "", ErrConfiguration}, // protocol feature
}

// openKind says what an error between dial and the answer to BEGIN means.
// Nothing has happened by then, so a transient one may always be retried.
func openKind(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, r := range refusals {
			if strings.HasPrefix(pgErr.Code, r.code) && containsAny(pgErr.Message, r.texts) {
				return r.kind
			}
		}
		return ErrUnavailable
	}
	if errors.Is(err, errAuthentication) || isAlert(err) || errors.As(err, new(*tls.CertificateVerificationError)) ||
		errors.As(err, new(tls.RecordHeaderError)) || strings.Contains(err.Error(), "server refused TLS") {
		return ErrConfiguration
	}
	return ErrUnavailable
}

func containsAny(text, alternatives string) bool {
	return slices.ContainsFunc(strings.Split(alternatives, "|"), func(part string) bool { return strings.Contains(text, part) })
}

// isAlert reports whether err is the server's refusal of the TLS handshake (RFC
// 8446, section 6). crypto/tls has a type for it in QUIC alone.
func isAlert(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "remote error"
}

// IsAuthentication reports whether err is a refused user or password, or the
// pooler's block that follows too many of them.
func IsAuthentication(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !strings.Contains(pgErr.Message, "server login has been failing") && // PgBouncer's own, at the server
		(strings.HasPrefix(pgErr.Code, "28") || containsAny(pgErr.Message, "authentication failed|ECIRCUITBREAKER"))
}

// connectionLost reports whether err leaves open what became of the statement,
// as opposed to an error that the server answered with. 25P03 is an answer too:
// the server had waited too long for a statement and ended the session.
func connectionLost(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || slices.Contains(fatal, pgErr.SeverityUnlocalized) && pgErr.Code != "25P03"
}
