"""Probes."""

import threading
import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import text

from app.api.problems import SHUTTING_DOWN, ApiError, answer
from app.nopool import Busy, Database, DeadlineExceeded, PoolerFull, Tx

READY_FOR = 3.0  # seconds that an answer is kept
READY_TIMEOUT = 3.0  # of the check itself: some databases are far away
BUSY_FOR = 30.0  # after the last session opened, a wait still means ready
BUSY_TIMEOUT = 0.5  # of the check, then


class Readiness:
    """Keeps the last answer for a while and has at most one check under way.

    Probes come from many places and must not cost connections.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._checked = -READY_FOR
        self._error: Exception | None = None

    def check(self) -> Exception | None:
        """Return why requests should not be sent here, None if they should."""
        with self._lock:  # later callers wait for the check that runs, and share its answer
            if time.monotonic() - self._checked >= READY_FOR:
                self._error = self._reach()
                self._checked = time.monotonic()
            return self._error

    def _reach(self) -> Exception | None:
        """Run a query in a session of its own.

        It is not tried where all slots are in use and one was taken of late: that is proof enough
        that the database answers. So is then a queue that makes us wait, and always a full pooler.
        """
        now = self._db.snapshot()
        busy = time.monotonic() - now.last_opened < BUSY_FOR and now.last_opened > 0
        if busy and now.in_use >= now.max_sessions:
            return None
        try:
            deadline = time.monotonic() + (BUSY_TIMEOUT if busy else READY_TIMEOUT)
            with self._db.session(Tx(read_only=True), deadline) as session:
                session.execute(text("select 1"))
        except PoolerFull:
            return None
        except Exception as err:  # whatever else it is, the answer is no
            # PgBouncer lets a client wait for its first statement.
            return None if busy and isinstance(err, Busy | DeadlineExceeded) else err
        return None


router = APIRouter(tags=["probes"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Answer that the process lives. It never asks the database: a restart would not mend that."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> dict[str, str]:
    """Answer whether requests should be sent here."""
    if request.app.state.draining:
        raise ApiError(*SHUTTING_DOWN)
    readiness: Readiness = request.app.state.readiness
    err = await run_in_threadpool(readiness.check)
    if err is not None:
        told = answer(err)
        raise told if told.status_code == 503 else ApiError(503, "database_unavailable", "The database is unavailable")
    return {"status": "ready"}
