"""What SQLAlchemy sees of a connection: one that is dialled by its first statement.

SQLAlchemy asks its pool for a connection before it has a statement; here nothing is dialled until
there is one, so that BEGIN, the settings and the statement can travel together, and be repeated on
another connection where a full pooler refuses BEGIN. It is the way in which SQLAlchemy's own
asyncio adapters stand for a connection.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.waiting import Wait

from app.nopool.errors import (
    CommitUnknown,
    DatabaseError,
    DeadlineExceeded,
    NestedSession,
    OnEventLoop,
    RolledBack,
    SessionBusy,
    SessionDone,
    Unavailable,
    connection_lost,
    describe,
)
from app.nopool.opening import Core, Opened, Operation, begin, log, open_session
from app.nopool.refusals import Refusal
from app.nopool.unit import Unit, current
from app.nopool.wire import Line, Real, wait_for

FINISH_TIMEOUT = 5.0  # for COMMIT and ROLLBACK, which run to their end even when the caller has gone


def _refuse(_: object, __: object) -> None:
    raise NotImplementedError("BEGIN is the engine's: ask for another kind of transaction by Tx")


class Connection:
    """A DBAPI connection, real from its first statement to close()."""

    # What the dialect of SQLAlchemy looks at, and sets by execution_options, which would be lost: BEGIN is ours.
    autocommit = isolation_level = read_only = deferrable = property(lambda _: None, _refuse)

    def __init__(self, core: Core) -> None:
        self._core = core
        self._line: Line | None = None
        self._real: Real | None = None
        self._dialled = 0.0
        self._how = "rolled_back"
        self._closed = threading.Lock()  # taken once: two threads may close
        self._used = threading.Lock()  # by the thread that does something, and never waited for
        self._refused: BaseException | None = None  # why a statement could not be begun
        self.unit = Unit()
        self.isolation = ""  # the level in force

    # -- what SQLAlchemy calls ------------------------------------------------

    @property
    def closed(self) -> bool:
        """Report whether the connection is of no more use."""
        return self._closed.locked() or (self._real is not None and self._real.closed)

    @property
    def broken(self) -> bool:
        """Report whether it was lost."""
        return self._real is not None and self._real.broken

    @property
    def info(self) -> psycopg.ConnectionInfo:
        """What is known of the real connection."""
        return self.real.info

    def add_notice_handler(self, _: object) -> None:
        """Leave the server's notices alone, which SQLAlchemy would log."""

    def cursor(self, name: str = "", **options: Any) -> Any:
        """Return a cursor; one with a name is the server's."""
        return self.real.cursor(name, **options) if name else Cursor(self)

    def commit(self) -> None:
        """End the transaction. When it returns the server has acknowledged COMMIT, or there was nothing to commit."""
        try:
            with self._alone():
                if self._refused is not None:
                    raise self._refused
                if self._real is None:
                    return
                self._commit(self._real)
        except BaseException as err:
            self.unit.failure = err
            raise
        if not isinstance(self.unit.failure, CommitUnknown):
            self.unit.failure = None  # it was tried again
        self._how = "committed"

    def rollback(self) -> None:
        """End the transaction with nothing persisted. The server does so by itself where the connection is lost."""
        with self._alone():
            self._rollback()

    def _rollback(self) -> None:
        real = self._real
        if real is None or real.closed or real.pgconn.transaction_status == TransactionStatus.IDLE:
            return
        try:
            self._say(real, "rollback")
            self._how = "rolled_back"
        except psycopg.Error:
            self._how = "aborted"

    def close(self) -> None:
        """Give the connection back. Its slot is free when the server has closed it."""
        if not self._closed.acquire(blocking=False):
            return
        try:
            with self._alone():
                pass  # which ends it
        except SessionBusy:
            self.abort()  # so does the thread that uses it

    def _end(self) -> None:
        line, self._line = self._line, None
        if self.unit.connection is self:
            self.unit.connection = None
        if line is not None:
            if self._real is not None and self._real.closed and self._how != "committed":
                self._how = "aborted"
            self._rollback()
            self._how = self._how or "aborted"  # a statement of the caller had ended the transaction
            self._core.events.count(self._how)
            self._core.spawn(self._hang_up, line, time.monotonic())

    def abort(self) -> None:
        """End what is under way, from another thread."""
        if self._line is not None:
            self._line.abort()

    # -- statements -----------------------------------------------------------

    @property
    def real(self) -> Real:
        """The connection of psycopg, in its transaction, for what this class does not have, such as COPY."""
        if self._real is None or self._real.pgconn.transaction_status == TransactionStatus.IDLE:
            self.perform(lambda cursor: cursor.execute("select"))
        assert self._real is not None
        return self._real

    def perform(self, operation: Operation) -> "psycopg.Cursor[Any]":
        """Do something with a cursor, after BEGIN if need be, and return the cursor."""
        if self.unit.ended or self._closed.locked():
            raise SessionDone
        try:
            with self._alone():
                return self._perform(operation)
        except BaseException as err:
            if self._real is None or isinstance(err, DatabaseError):  # the server knows nothing of it
                for unit in (self.unit, current.get() or self.unit):  # SQLAlchemy's own questions have none
                    unit.failure = unit.failure or err
                self._refused = err
            raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads out, which are told so, and end what was closed meanwhile."""
        if not self._used.acquire(blocking=False):
            raise SessionBusy
        try:
            yield
        finally:
            self._used.release()
            if self._closed.locked() and self._used.acquire(blocking=False):
                self._end()
                self._used.release()

    def _begun(self, operation: Operation) -> Opened | None:
        """Begin a transaction with operation, where there is none."""
        real = self._real
        if real is None:
            opened: Opened | Refusal = open_session(self._core, self.unit, operation)
            self._dialled = time.monotonic()
        elif real.pgconn.transaction_status != TransactionStatus.IDLE or self._line is None or not self._how:
            return None
        else:
            opened = begin(self._core, self._line, self.unit, operation, time.monotonic() + FINISH_TIMEOUT)
        if isinstance(opened, Refusal):
            raise Unavailable(str(opened))
        self._line, self._real, self.isolation = opened.line, opened.line.real, opened.isolation
        self._how = ""  # in a transaction
        self.unit.connection = self
        return opened

    def _perform(self, operation: Operation) -> "psycopg.Cursor[Any]":
        self._admit()
        try:
            opened = self._begun(operation)
            if opened is None:
                assert self._real is not None
                cursor = self._real.cursor()
                operation(cursor)
                return cursor
            if opened.error is not None:
                raise opened.error
            return opened.cursor
        except UnicodeEncodeError as err:
            raise psycopg.DataError("a value cannot be encoded") from err
        except psycopg.Error as err:
            if time.monotonic() >= self.unit.deadline and err.sqlstate is None:
                raise DeadlineExceeded from err
            raise

    def _admit(self) -> None:
        unit = self.unit
        if self._refused is not None:
            raise self._refused
        if unit.connection is None and unit.outer is not None and unit.outer.holds_connection():
            raise NestedSession
        with contextlib.suppress(RuntimeError):  # there is none, as it should be
            asyncio.get_running_loop()
            raise OnEventLoop

    # -- the end --------------------------------------------------------------

    def nothing_to_lose(self) -> bool:
        """Report whether COMMIT can change neither what was read nor what is stored.

        The levels below serializable fail no read at COMMIT. A transaction that has failed, was
        ended or lost its connection is for COMMIT to tell.
        """
        tx, real = self.unit.tx, self._real
        return (
            tx.read_only
            and not tx.wait_for_commit
            and self.isolation not in ("", "serializable")
            and real is not None
            and real.pgconn.transaction_status == TransactionStatus.INTRANS
            and not _readable(real)
        )

    def _commit(self, real: Real) -> None:
        # Asked before, since psycopg tells of a connection that is lost after COMMIT was sent in the same way.
        if not real.closed and real.pgconn.transaction_status == TransactionStatus.IDLE:
            if self._how:
                return  # nothing since the last COMMIT or ROLLBACK
            self._how = "aborted"
            raise RolledBack
        unsent = real.closed or (not self.unit.tx.read_only and _is_lost(real))
        try:
            if unsent:
                raise psycopg.OperationalError("the connection is closed")
            tag = self._say(real, "commit")
        except psycopg.Error as err:
            if err.sqlstate is not None and not connection_lost(err):
                self._how = "rolled_back"
                raise
            self._how = "aborted"
            if unsent or self.unit.tx.read_only:
                raise Unavailable(describe(err)) from err
            self._core.events.count("commit_unknown")
            self.unit.committed = True
            raise CommitUnknown(describe(err)) from err
        if tag != "COMMIT":
            self._how = "rolled_back"
            raise RolledBack
        self.unit.committed = True

    def _say(self, real: Real, last: str) -> str:
        """Send COMMIT or ROLLBACK, whatever time the caller has left."""
        real.patience, real.deadline = FINISH_TIMEOUT, math.inf
        return real.execute(last).statusmessage or ""

    def _hang_up(self, line: Line, ended: float) -> None:
        core = self._core
        core.hang_up(line)
        core.events.count("closed")
        more = {"outcome": self._how, "duration": ended - self._dialled, "close": time.monotonic() - ended}
        log.debug("database session closed", extra=more)
        core.slots.release()


class Cursor:
    """A DBAPI cursor, real from its first statement."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._real: psycopg.Cursor[Any] | None = None

    def execute(self, query: Any, params: Any = None, **options: Any) -> "Cursor":
        """Run a statement."""
        self._real = self.connection.perform(lambda cursor: cursor.execute(query, params, **options))
        return self

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Run a statement for each of many parameters."""
        _ = self.connection.real  # while BEGIN's flight is sent nothing is read: with many answers both would wait
        self._real = self.connection.perform(lambda cursor: cursor.executemany(query, params_seq, **options))

    def close(self) -> None:
        """Close the cursor."""
        if self._real is not None:
            self._real.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._real or ())

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if self._real is None:
            self._real = self.connection.real.cursor()
        return getattr(self._real, name)


def _readable(real: Real) -> bool:
    return wait_for(real.pgconn.socket, Wait.R, 0) is not None


def _is_lost(real: Real) -> bool:
    """Read what the server has said since its last answer, such as that it closes the connection."""
    try:
        while _readable(real) and real.pgconn.status != ConnStatus.BAD:
            real.pgconn.consume_input()  # the status is bad only when the end behind an error has been read
    except psycopg.Error:
        return True
    return real.pgconn.status == ConnStatus.BAD
