"""What a session's error means for its caller."""

import psycopg
from psycopg.errors import Diagnostic
from sqlalchemy.exc import DBAPIError, StatementError


class DatabaseError(Exception):
    """A failure with its meaning. Its text is one line, fit for a log."""

    text = "database error"

    def __init_subclass__(cls, text: str) -> None:
        cls.text = text

    def __init__(self, cause: str = "") -> None:
        super().__init__(f"{self.text}: {cause}" if cause else self.text)


class Busy(DatabaseError, text="too many database sessions"):
    """No slot was free in time, or the queue for one is full."""


class PoolerFull(DatabaseError, text="database pooler is full"):
    """The pooler or server admitted no more connections until the connect timeout."""


class Unavailable(DatabaseError, text="database is unavailable"):
    """The database could not be reached, or the connection was lost, for a reason that may pass."""


class Misconfigured(DatabaseError, text="database configuration"):
    """The database refused us for a reason that will not pass by itself."""


class SettingRefused(DatabaseError, text="session setting refused"):
    """The server took the connection, but not a setting of the session, such as its role."""


class CommitUnknown(DatabaseError, text="commit outcome unknown"):
    """COMMIT was sent, and its answer lost or not there within 5 s. Do not repeat it."""


class RolledBack(DatabaseError, text="transaction was rolled back by one of its statements"):
    """There was nothing to commit: an error was ignored, or a statement had ended the transaction."""


class NestedSession(DatabaseError, text="a database session is open already: use it, or end it first"):
    """The caller already holds a session, and could wait in vain for a second connection."""


class SessionDone(DatabaseError, text="database session has ended"):
    """The session was used after its end."""


class SessionBusy(DatabaseError, text="another thread is using the session"):
    """Two threads used a session at the same time."""


class OnEventLoop(DatabaseError, text="a session waits for the database: use it in def, not in async def"):
    """An async function used a session, whose waits would stop all others, those that end sessions among them."""


class Closed(DatabaseError, text="database is closed"):
    """The database has been closed."""


class DeadlineExceeded(DatabaseError, text="out of time"):
    """The time of the request was over."""


# Of a session that took too long, which says nothing of the connection.
_OUT_OF_TIME = ("25P03", "25P04", "57014")


def server_error(err: BaseException | None) -> psycopg.Error | None:
    """Return the server's or libpq's error that err is, or wraps."""
    if isinstance(err, DBAPIError):
        err = err.orig
    return err if isinstance(err, psycopg.Error) else None


def sqlstate(err: BaseException) -> str:
    """Return the SQLSTATE of err, if any: of a value that could not be sent, that of a malformed one."""
    cause = server_error(err)
    # Of a value that could not be read SQLAlchemy names no statement: that is ours.
    unsent = isinstance(cause, psycopg.DataError) and getattr(err, "statement", "") is not None
    return (cause.sqlstate if cause else None) or ("22021" if unsent else "")


def refused_by_policy(err: BaseException) -> bool:
    """Report whether a row-level policy does not let a row in.

    A missing right, which has the same SQLSTATE, is ours.
    """
    cause = server_error(err)
    return cause is not None and cause.sqlstate == "42501" and cause.diag.source_function == "ExecWithCheckOptions"


def connection_lost(err: BaseException) -> bool:
    """Report whether the connection broke, or the server said that it closes it.

    The SQLSTATE does not tell: Supavisor tells all clients of a pool what one of its
    connections was told.
    """
    cause = server_error(err)
    if cause is None:
        return False
    if cause.sqlstate is None:
        return isinstance(cause, psycopg.OperationalError)
    return is_fatal(cause.diag) and cause.sqlstate not in _OUT_OF_TIME


def is_fatal(diag: Diagnostic) -> bool:
    """Report whether the server closes the connection with what it said."""
    severity = diag.severity_nonlocalized or diag.severity  # some poolers know the old one alone
    return severity in ("FATAL", "PANIC")


def describe(err: BaseException) -> str:
    """Return err as a line fit for a log.

    Of an error that the server sent it is no more than SQLSTATE and constraint, since its
    message and detail can quote what a user typed; and SQLAlchemy adds the statement.
    """
    cause = server_error(err)
    if cause is not None and cause.sqlstate is not None:
        constraint = cause.diag.constraint_name
        return f"SQLSTATE {cause.sqlstate}" + (f", constraint {constraint}" if constraint else "")
    if cause is not None:
        return f"{type(cause).__name__}: {one_line(str(cause))}" if cause.pgconn else type(cause).__name__
    if isinstance(err, StatementError):
        return f"{type(err).__name__}: {type(err.orig).__name__}"
    if isinstance(err, DatabaseError):
        return str(err)
    return type(err).__name__


def one_line(text: str) -> str:
    """Return text without its line breaks."""
    return " ".join(text.split())
