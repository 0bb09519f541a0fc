"""How a session gets its connection."""

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.errors import Diagnostic

from app.nopool.breaker import Breaker
from app.nopool.errors import DatabaseError, DeadlineExceeded, PoolerFull, Unavailable
from app.nopool.events import Events
from app.nopool.refusals import Refusal, is_unasked
from app.nopool.slots import Slots
from app.nopool.unit import Unit
from app.nopool.url import Target
from app.nopool.wire import STATEMENT_MARGIN, Addresses, Line, Real

FULL_PAUSE = 0.25  # at most, before a pooler that is full is asked again
TRANSIENT_TRIES = 3  # attempts at a database that cannot be reached
RETRY_PAUSE = 0.02  # at most, before the second of them, doubled before the third

# What the text of results and of arrays depends on, which role and database can have changed.
PINNED = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "array_nulls": "on",
    "extra_float_digits": "3",
    "bytea_output": "hex",
}

log = logging.getLogger("app.database")
T = TypeVar("T")
Operation = Callable[[psycopg.Cursor[Any]], object]


@dataclass(frozen=True)
class Limits:
    """How much of the database may be used. Times are seconds."""

    max_sessions: int = 10  # connections that may exist at any instant
    max_waiting: int = 40  # sessions that may queue for one; 0 refuses at once
    session_wait: float = 5.0  # the longest wait in that queue
    connect_timeout: float = 10.0  # from the first dial to the answer to BEGIN, retries included
    statement_timeout: float = 30.0  # per statement, enforced by the server, and 3 s later by us
    lock_timeout: float = 5.0  # per wait for a lock, enforced by the server
    idle_in_transaction_timeout: float = 30.0  # between two statements, enforced by the server
    replicas: int = 1  # processes behind one address, which share the logins that a pooler may refuse


class Core:
    """What the sessions of a database share."""

    def __init__(self, target: Target, limits: Limits) -> None:
        self.target = target
        self.limits = limits
        self.slots = Slots(limits.max_sessions, limits.max_waiting)
        self.breaker = Breaker(limits.replicas)
        self.addresses = Addresses(target)
        self.events = Events()
        self.lines: set[Line] = set()
        # Sessions end in threads of their own: those of handlers may all be waiting for a slot. A slot
        # is held until its session is gone, so there are never more than two tasks for each, and those
        # of sessions that have only been added to, which open by their end and may wait for a slot.
        self._threads = ThreadPoolExecutor(3 * limits.max_sessions + limits.max_waiting + 1, "session-end")
        name = target.params["application_name"].replace("'", "''")
        # Start-up parameters would not do: PgBouncer refuses timeouts there, Supavisor drops them and
        # gives all clients its own name.
        settings = {
            "statement_timeout": _ms(limits.statement_timeout),
            "lock_timeout": _ms(limits.lock_timeout),
            "idle_in_transaction_session_timeout": _ms(limits.idle_in_transaction_timeout),
            "application_name": name,
            **PINNED,
        }
        self.first_settings = ", ".join(f"set_config('{key}', '{value}', true)" for key, value in settings.items())

    def spawn(self, work: Callable[..., T], *args: object) -> "Future[T]":
        """Do something in a thread of its own, with the context, such as a correlation id, of its caller."""
        return self._threads.submit(copy_context().run, work, *args)

    def stop(self) -> None:
        """Let the threads end when they have nothing more to do."""
        self._threads.shutdown(wait=False)

    def hang_up(self, line: Line) -> None:
        """Wait until the server has closed a connection."""
        if not line.hang_up():
            self.events.count("close_timeouts")
            log.warning("database connection close not confirmed by the server")
        self.lines.discard(line)

    def give_back(self, line: Line | None) -> None:
        """Free a slot when the server has closed its connection."""
        if line is not None:
            self.hang_up(line)
        self.slots.release()


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


@dataclass
class Opened:
    """A session's connection, its transaction begun, and the cursor of its first statement."""

    line: Line
    cursor: psycopg.Cursor[Any]
    isolation: str
    error: BaseException | None  # of the first statement


class _Heard(psycopg.Cursor[Any]):
    """A cursor that remembers what the server has refused.

    In a pipeline psycopg forgets it when the connection is closed behind it, and tells of that alone.
    """

    refusal: Refusal | None = None

    def _check_results(self, results: Any) -> None:  # not public: never called, a refusal would pass for a lost line
        try:
            super()._check_results(results)
        except psycopg.Error as err:
            self.refusal = self.refusal or Refusal.of(err)
            raise


def _unread(real: Real) -> Refusal | None:
    """Return what the server said before it closed the connection, where the flight could not be sent to its end."""
    try:
        result = real.pgconn.get_result()
    except psycopg.Error:  # it was silent, and is closed
        return None
    if result is None or result.status != pq.ExecStatus.FATAL_ERROR:
        return None
    said = Diagnostic(result)
    return Refusal.said(said) if said.sqlstate else None  # else they are libpq's own words


def _reads_as_pinned(real: Real) -> bool:
    """Report whether the role's own settings, as far as the server tells them, are those that are pinned."""
    found = ((real.pgconn.parameter_status(name.encode()), value) for name, value in PINNED.items())
    return all(own is None or own.decode().startswith(value) for own, value in found)


def begin(core: Core, line: Line, unit: Unit, first: Operation, begin_by: float) -> Opened | Refusal:
    """Send BEGIN, the settings and the first statement in one flight.

    It returns a refusal where BEGIN or a setting was not acknowledged: then nothing has happened,
    unless the refusal is no answer, when the statement may have run.
    """
    real, tx, unit.line = line.real, unit.tx, line
    assert real is not None
    heard, cursor = _Heard(real), real.cursor()  # of BEGIN and the settings, and of the statement
    real.begin, real.begin_by, real.deadline = heard, begin_by, unit.deadline
    real.patience = core.limits.statement_timeout + STATEMENT_MARGIN
    error: BaseException | None = None
    try:
        with real.pipeline() as flight:
            isolation = f" isolation level {tx.isolation}" if tx.isolation else ""
            heard.execute(f"begin{isolation}{' read only' if tx.read_only else ''}")
            more = "".join(", set_config(%s, %s, true)" for _ in tx.settings)
            heard.execute(
                f"select current_setting('transaction_isolation'), {core.first_settings}{more}",
                [text for setting in tx.settings for text in setting] or None,
            )
            if not _reads_as_pinned(real):
                flight.sync()  # psycopg must know of it before it encodes the statement and decodes its result
            first(cursor)
    except BaseException as err:
        if heard.description is None:  # the settings, which have one, were not answered
            said = heard.refusal or _unread(real)
            if said is None and isinstance(err, psycopg.OperationalError):  # not one of a value that cannot be sent
                said = Refusal.of(err)
            if said is None:
                raise
            return said
        error = err
    real.begin = None
    row = heard.fetchone()
    return Opened(line, cursor, row[0] if row else "", error)


def open_session(core: Core, unit: Unit, first: Operation) -> Opened:
    """Take a slot, dial, begin, and do first.

    The connect timeout bounds all that follows the wait for the slot, up to the answer to BEGIN:
    PgBouncer admits a client and says only at its first statement that it is full. When BEGIN was
    refused nothing has happened, and first is done again on another connection: on a full pooler
    until the deadline, on a database out of reach a few times, after any other refusal never; nor
    when the connection was lost while first may have run behind BEGIN.
    """
    asked = time.monotonic()
    try:
        freed = core.slots.acquire(core.limits.session_wait, unit.deadline)
    except DatabaseError as err:
        core.events.count("rejected")
        log.warning("database session rejected", extra={"error": str(err)})
        raise
    opening = _Opening(core, unit, first, freed)
    try:
        opened = opening.run()
    except BaseException as err:
        core.events.count("open_errors")
        if isinstance(err, DatabaseError) and not isinstance(err, DeadlineExceeded):
            core.events.error(err)
        core.spawn(core.give_back, opening.line)
        raise
    now = time.monotonic()
    core.events.count("opened")
    more = {"waited": opening.began - asked, "took": now - asked, "attempts": opening.attempts}
    log.debug("database session opened", extra={**more, "read_only": unit.tx.read_only})
    return opened


class _Opening:
    """The attempts of one session that has a slot."""

    def __init__(self, core: Core, unit: Unit, first: Operation, freed: float) -> None:
        self._core = core
        self._unit = unit
        self._first = first
        self._freed = freed
        self.began = time.monotonic()
        self._deadline = min(self.began + core.limits.connect_timeout, unit.deadline)
        self._login = 0.0  # when the last one began
        self._transient = 0
        self._reason: DatabaseError | None = None
        self.attempts = 0
        self.line: Line | None = None  # of the attempt that is under way

    def run(self) -> Opened:
        """Try until a connection is open, or no other attempt may be made."""
        core = self._core
        core.slots.settle(self._freed)
        while True:
            self.attempts += 1
            self.line = line = Line(core.target)
            core.lines.add(line)
            age = time.monotonic() - self._freed
            said = self._attempt(line)
            if isinstance(said, Opened):
                core.breaker.opened(self._login)
                return said
            if time.monotonic() >= self._unit.deadline < self.began + core.limits.connect_timeout:
                raise DeadlineExceeded  # the caller had less time than the database may take
            error = core.breaker.failed(said)
            if isinstance(error, PoolerFull):
                core.slots.late(age)
            pause = self._pause(said, error)
            if pause is None:
                if time.monotonic() >= self._unit.deadline:
                    raise DeadlineExceeded
                raised = self._reason if time.monotonic() >= self._deadline and self._reason else error
                raise raised
            core.events.count("open_retries")
            core.hang_up(line)  # it counts until it is gone
            time.sleep(max(0.0, min(random.uniform(0, pause), self._deadline - time.monotonic())))

    def _attempt(self, line: Line) -> Opened | Refusal:
        core = self._core
        try:
            self._login = core.breaker.enter(self._deadline)
        except TimeoutError:
            return Refusal("no login could begin in time", before_begin=True)
        refusal = Refusal("interrupted")
        try:
            core.events.count("dials")
            core.addresses.prefer(line.connect(core.addresses.get(self._deadline), self._deadline))
        except psycopg.Error as err:
            refusal = replace(Refusal.of(err), before_begin=True, admitted=line.admitted)
            return refusal
        finally:
            core.breaker.leave(self._login, None if line.real else refusal)
        return begin(core, line, self._unit, self._first, self._deadline)

    def _pause(self, refusal: Refusal, error: DatabaseError) -> float | None:
        """Say for how long to wait at most before another attempt, None where there may be none.

        The wait is random below that ("full jitter": those refused together do not return together).
        """
        full = isinstance(error, PoolerFull)
        if full or self._reason is None:
            self._reason = error  # which says more than the end of the time for other attempts
        if time.monotonic() >= self._deadline or self._core.slots.closed:
            return None
        if full:
            return FULL_PAUSE
        lost = "has been failing" in refusal.text or not (refusal.answered or refusal.before_begin)
        if not isinstance(error, Unavailable) or is_unasked(refusal) or lost:
            return None
        if "terminating connection due to administrator command" in refusal.text:
            return FULL_PAUSE  # a pool that drains refuses everybody for a moment
        self._transient += 1
        return RETRY_PAUSE * self._transient if self._transient < TRANSIENT_TRIES else None
