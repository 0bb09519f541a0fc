package nopool

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What a session's error means for its caller, to be asked with errors.Is.
var (
	// ErrBusy: no slot was free in time, or the queue for one is full.
	ErrBusy = errors.New("too many database sessions")
	// ErrPoolerFull: the pooler or server admitted no more connections until ConnectTimeout.
	ErrPoolerFull = errors.New("database pooler is full")
	// ErrUnavailable: the database could not be reached, or the connection was lost, for a reason that may pass.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrConfiguration: the database refused us for a reason that will not pass by itself, or a Config is invalid.
	ErrConfiguration = errors.New("database configuration")
	// ErrSetting: the server refused one of TxOptions.Settings, such as a role that does not exist.
	ErrSetting = errors.New("a setting of the session was refused")
	// ErrOutcomeUnknown: COMMIT was sent, and its answer lost or not there within 5 s. It may have happened: do not repeat it.
	ErrOutcomeUnknown = errors.New("commit outcome unknown")
	// ErrRolledBack: COMMIT was answered with ROLLBACK, since an earlier error was ignored.
	ErrRolledBack = errors.New("transaction was rolled back: an earlier statement had failed")
	// ErrNoTransaction: a statement of the caller, such as commit or rollback, had ended the transaction.
	ErrNoTransaction = errors.New("the session's transaction was ended by one of its statements")
	// ErrNested: the caller already holds a session, and could wait in vain for a second connection.
	ErrNested = errors.New("a database session is open already: use it, or end it first")
	// ErrSessionDone: the session was used after its end, or ended under a statement.
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

// quoting matches what pgx says before it quotes a value.
var quoting = regexp.MustCompile(`can't scan into dest\[\d+\]( \(col: [^)]+\))?|failed to encode args\[\d+\]|unable to encode`)

// named matches a user or a database in the words of Postgres, PgBouncer or Supavisor.
var named = regexp.MustCompile(`((?:user|role|database) )"[^"]*"|((?:user:|database:|tenant/user|matched for) )\S+`)

// Describe returns err as a line fit for a log: of an error that the server sent once a session was
// open no more than SQLSTATE and constraint or column, since its message and detail can quote what
// the user typed. Refused connections keep their message, which names at most host and port.
func Describe(err error) string {
	if described, ok := errors.AsType[*sessionError](err); ok {
		return described.Error()
	}
	connectErr, connecting := errors.AsType[*pgconn.ConnectError](err)
	pgErr, fromServer := errors.AsType[*pgconn.PgError](err)
	switch {
	case fromServer && (connecting || isFatal(pgErr)):
		return fmt.Sprintf("%s (SQLSTATE %s)", named.ReplaceAllString(pgErr.Message, "$1$2…"), pgErr.Code)
	case fromServer && pgErr.ConstraintName != "":
		return fmt.Sprintf("SQLSTATE %s, constraint %s", pgErr.Code, pgErr.ConstraintName)
	case fromServer && pgErr.ColumnName != "": // which is null
		return fmt.Sprintf("SQLSTATE %s, column %s of %s", pgErr.Code, pgErr.ColumnName, pgErr.TableName)
	case fromServer:
		return "SQLSTATE " + pgErr.Code
	case connecting: // several lines, the hook's name among them
		text := strings.ReplaceAll(connectErr.Unwrap().Error(), "AfterNetConnect failed: ", "")
		return strings.Join(strings.Fields(text), " ")
	case quoting.MatchString(err.Error()):
		return quoting.FindString(err.Error())
	}
	return err.Error()
}

// input matches the SQLSTATEs of values that are refused, as they are or by a constraint, a view or the size of an index.
var input = regexp.MustCompile(`^(22|23|44|54000)`)

// RefusedByPolicy reports whether a row-level policy does not let a row in. A missing right, which has
// the same SQLSTATE, is ours.
func RefusedByPolicy(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "42501" && pgErr.Routine == "ExecWithCheckOptions"
}

// ConnectionLost reports whether err is the server's or the pooler's word that it closes
// the connection, whatever its SQLSTATE: Supavisor tells all clients of a pool what one of
// its connections was told. It is false of a session that took too long, and of connections
// that only broke, which are ErrUnavailable.
func ConnectionLost(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && isFatal(pgErr) && !slices.Contains([]string{"25P03", "25P04", "57014"}, pgErr.Code)
}

// isFatal reports whether the server closes the connection with err. Such errors
// speak of the connection, not of data.
func isFatal(err *pgconn.PgError) bool {
	severity := cmp.Or(err.SeverityUnlocalized, err.Severity) // some poolers know the old one alone
	return severity == "FATAL" || severity == "PANIC"
}
