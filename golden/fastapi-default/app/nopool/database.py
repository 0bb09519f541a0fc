"""Open sessions of SQLAlchemy, each with a connection and a transaction of its own."""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection as SQLConnection
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import IllegalStateChangeError
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker
from sqlalchemy.pool import NullPool

from app.nopool.dbapi import Connection
from app.nopool.errors import CommitUnknown, DeadlineExceeded, Misconfigured, RolledBack, server_error
from app.nopool.events import Snapshot
from app.nopool.opening import Core, Limits
from app.nopool.unit import Tx, Unit, current
from app.nopool.url import Target
from app.nopool.wire import CLOSE_TIMEOUT

__all__ = ["Database", "Limits"]

T = TypeVar("T")
RETRIES = 3  # of run_with_retry, in all


class Database:
    """Opens sessions. It holds no connection of its own."""

    def __init__(self, target: Target, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        if min(limits.max_sessions, limits.session_wait, limits.connect_timeout) <= 0 or limits.max_waiting < 0:
            raise Misconfigured("max_sessions, session_wait and connect_timeout must be positive")
        timeouts = (limits.statement_timeout, limits.lock_timeout, limits.idle_in_transaction_timeout)
        if not all(0.001 <= seconds < 2**31 / 1000 for seconds in timeouts):
            raise Misconfigured("the server counts milliseconds in 31 bits, and reads 0 as no limit")
        self.limits = limits
        self._core = Core(target, limits)
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: Connection(self._core),
            poolclass=NullPool,
            pool_reset_on_return=None,  # our connection rolls back when it is closed
            hide_parameters=True,  # errors would quote what a user typed
            use_native_hstore=False,  # it would be asked for at the first connection
        )
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self._sessions, "after_begin", _hand_over)  # one of the engine's would make each statement slower

    def new_session(self, unit: Unit) -> Session:
        """Return a session that opens its connection at its first statement, for finish() to end."""
        return self._sessions(info={"unit": unit})

    @contextlib.contextmanager
    def session(self, tx: Tx | None = None, deadline: float = math.inf) -> Iterator[Session]:
        """Give a session of its own to work outside a request.

        It is committed at the end of the block, which returns when COMMIT is acknowledged, rolled
        back when the block raises, and closed in every case. Inside a request, or another session, it
        begins with the settings of that, such as the role.
        """
        tx, outer = tx or Tx(), current.get()
        if outer is not None:
            tx = replace(tx, settings=(*outer.tx.settings, *tx.settings))
            outer.inner += 1
        unit = Unit(tx, deadline, outer=outer)
        session = self.new_session(unit)
        token = current.set(unit)
        try:
            yield session
            self._commit(session, unit)
        except BaseException as err:
            self.log(err)
            session.rollback()
            raise
        finally:
            unit.ended = True
            session.close()
            if outer is not None:
                outer.inner -= 1
            with contextlib.suppress(ValueError):  # each step of a generator in a thread has another context
                current.reset(token)

    def run(self, work: Callable[[Session], T], tx: Tx | None = None) -> T:
        """Return what work returns, when what it did is committed."""
        with self.session(tx) as session:
            return work(session)

    def run_with_retry(self, work: Callable[[Session], T], tx: Tx | None = None) -> T:
        """Run the whole of work again, at most three times in all, after 40001 or 40P01.

        Work must have no effect outside its session. Every other error is raised at once, and so is
        what comes after a commit of its own: after BEGIN nothing else is safe to repeat.
        """
        unit = Unit()

        def once(session: Session) -> T:
            nonlocal unit
            unit = session.info["unit"]
            return work(session)

        for attempt in range(1, RETRIES):
            try:
                return self.run(once, tx)
            except Exception as err:
                cause = server_error(err)
                if unit.committed or cause is None or cause.sqlstate not in ("40001", "40P01"):
                    raise
            time.sleep(random.uniform(0, 0.05 * attempt))
        return self.run(work, tx)

    def finish(self, session: Session, unit: Unit, keep: bool) -> "Future[None]":
        """End a request's session: its result is there when the response may leave.

        That is when COMMIT is acknowledged; for a read, where nothing can be lost, at once. It
        happens in a thread of its own: those of the handlers may all be waiting for a slot.
        """
        at_once: Future[None] = Future()
        at_once.set_result(None)
        if not session.in_transaction() and unit.failure is None:
            unit.ended = True
            session.close()
            return at_once
        early = not keep or _nothing_to_lose(session, unit)
        unit.ended = early
        ending = self._core.spawn(self._end, session, unit, keep, early)
        return at_once if early else ending

    def _end(self, session: Session, unit: Unit, keep: bool, early: bool) -> None:
        try:
            if keep:
                self._commit(session, unit)
        except BaseException as err:
            self.log(err)
            if early:
                self._core.events.count("read_commit_errors")
            raise
        finally:
            unit.ended = True
            _close(session)

    @staticmethod
    def _commit(session: Session, unit: Unit) -> None:
        if unit.failure is None:
            session.commit()
        if unit.failure is not None:  # of a COMMIT that the caller has made and not looked at
            raise unit.failure

    def log(self, err: BaseException) -> None:
        """Log an error of a session; what opening it met has been logged."""
        own = isinstance(err, (CommitUnknown, RolledBack, DeadlineExceeded))
        if own or server_error(err) is not None:
            self._core.events.error(err)

    def abort(self, unit: Unit) -> None:
        """Cut off what a unit's session is doing in another thread, its first statement included."""
        if unit.line is not None:
            unit.line.abort()

    def version(self) -> str:
        """Ask a session like any other for the server's version."""
        with self.session(Tx(read_only=True)) as session:
            return str(session.scalar(text("select version()")))

    def close(self, timeout: float) -> bool:
        """Refuse new sessions, and wait until those that have a connection have ended.

        After the timeout the rest is cut off. It reports whether no connection is left.
        """
        core = self._core
        core.slots.close()
        idle = core.slots.wait_idle(timeout)
        if not idle:
            for line in list(core.lines):
                line.abort()
            idle = core.slots.wait_idle(CLOSE_TIMEOUT + 1)
        core.stop()
        return idle

    def snapshot(self) -> Snapshot:
        """Return the database's state and totals."""
        now = self._core.events.totals()
        slots = self._core.slots
        now.max_sessions, now.in_use, now.waiting = slots.size, slots.in_use, slots.waiting
        return now


def _hand_over(session: Session, _: SessionTransaction, connection: SQLConnection) -> None:
    """Tell a connection on whose behalf it works, before its first statement."""
    ours = connection.connection.driver_connection
    assert isinstance(ours, Connection)
    ours.unit = session.info["unit"]


def _close(session: Session) -> None:
    """Roll back what is left, and give the connection back: when another thread, cut off, has left the session."""
    for _ in range(100):
        try:
            session.close()
        except IllegalStateChangeError:
            time.sleep(0.05)
        else:
            return


def _nothing_to_lose(session: Session, unit: Unit) -> bool:
    pending = session.new or session.deleted or session.dirty
    return unit.connection is not None and not pending and unit.failure is None and unit.connection.nothing_to_lose()
