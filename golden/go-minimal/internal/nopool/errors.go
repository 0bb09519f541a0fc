package nopool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"example.org/team/tiny-shop/internal/nopool/dialer"
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
	// ErrNested: a session was asked for where its caller holds one, and could wait for ever for a second connection.
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
	var opening *sessionError
	if errors.As(err, &opening) && err == error(opening) {
		return err.Error()
	}
	var connectErr *pgconn.ConnectError
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && (errors.As(err, &connectErr) || slices.Contains(fatal, pgErr.SeverityUnlocalized)):
		return fmt.Sprintf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
	case errors.As(err, &pgErr) && pgErr.ConstraintName != "":
		return fmt.Sprintf("SQLSTATE %s, constraint %s", pgErr.Code, pgErr.ConstraintName)
	case errors.As(err, &pgErr):
		return "SQLSTATE " + pgErr.Code
	case errors.As(err, &connectErr):
		return strings.Join(strings.Fields(connectErr.Unwrap().Error()), " ")
	case strings.Contains(err.Error(), "failed to encode args["): // pgx quotes the value
		return "an argument of the statement cannot be encoded"
	}
	return err.Error()
}

// fatal are the severities after which the server closes the connection. Such
// errors speak of the connection, not of data.
var fatal = []string{"FATAL", "PANIC"}

// refusal tells errors of the same SQLSTATE apart by their text: Supavisor
// gives all of its own XX000 and PgBouncer 08P01.
type refusal struct {
	code string // "" matches any
	text string // "" matches any
	kind error
}

// refusals are tried in order. The texts are those of Supavisor
// (lib/supavisor/errors, client_handler), PgBouncer (client.c, objects.c,
// janitor.c) and the SQLSTATEs of appendix A of the Postgres manual.
var refusals = []refusal{
	{"XX000", "EMAXCONN", ErrPoolerFull}, // and EMAXCONNSESSION
	{"XX000", "MaxClientsInSessionMode", ErrPoolerFull},
	{"XX000", "Max client connections reached", ErrPoolerFull},
	{"XX000", "ECHECKOUT", ErrPoolerFull}, // ECHECKOUTTIMEOUT, ECHECKOUTRETRIES
	{"XX000", "ESUBSCRIBERETRIES", ErrPoolerFull},
	{"XX000", "EPOOL", ErrPoolerFull}, // EPOOLCHECKOUT, EPOOLRANCHNOTFOUND
	{"XX000", "ECIRCUITBREAKER", ErrConfiguration},
	{"XX000", "ENOTFOUND", ErrConfiguration},
	{"XX000", "Tenant or user not found", ErrConfiguration},
	{"XX000", "ESSLREQUIRED", ErrConfiguration},
	{"XX000", "EADDRNOTALLOWED", ErrConfiguration},
	{"XX000", "EBANNED", ErrConfiguration},
	{"XX000", "EINVALIDUSERINFO", ErrConfiguration},
	{"08P01", "no more connections allowed", ErrPoolerFull},
	{"08P01", "query_wait_timeout", ErrPoolerFull},
	{"08P01", "server login has been failing", ErrUnavailable},
	{"08P01", "authentication failed", ErrConfiguration},
	{"08P01", "no such", ErrConfiguration}, // database, user
	{"08P01", "unsupported startup parameter", ErrConfiguration},
	{"08P01", "SSL required", ErrConfiguration},
	{"53300", "", ErrPoolerFull},
	{"28", "", ErrConfiguration}, // invalid authorization
	{"3D", "", ErrConfiguration}, // unknown database
	{"42", "", ErrConfiguration}, // privilege, unknown parameter
	{"22", "", ErrConfiguration}, // value of a setting
	{"0A", "", ErrConfiguration}, // protocol feature
	{"", "", ErrUnavailable},     // 57P01-03, 53xxx, and what nobody has met yet
}

// openKind says what an error between dial and the answer to BEGIN means.
// Nothing has happened by then, so a transient one may always be retried.
func openKind(err error) error {
	if errors.Is(err, dialer.ErrBlocked) {
		return ErrConfiguration
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, r := range refusals {
			if strings.HasPrefix(pgErr.Code, r.code) && strings.Contains(pgErr.Message, r.text) {
				return r.kind
			}
		}
	}
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	if errors.As(err, &certificate) || errors.As(err, &authority) || dialer.IsAlert(err) || errors.As(err, &record) {
		return ErrConfiguration
	}
	for _, text := range []string{"server refused TLS", "authentication method requirement", "channel binding", "SCRAM", "SASL"} {
		if strings.Contains(err.Error(), text) {
			return ErrConfiguration
		}
	}
	return ErrUnavailable
}

// IsAuthentication reports whether err is a refused user or password, or the
// pooler's block that follows too many of them.
func IsAuthentication(err error) bool { return dialer.IsAuthentication(err) }

// connectionLost reports whether err leaves open what became of the statement,
// as opposed to an error that the server answered with. 25P03 is an answer too:
// the server had waited too long for a statement and ended the session.
func connectionLost(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || slices.Contains(fatal, pgErr.SeverityUnlocalized) && pgErr.Code != "25P03"
}
