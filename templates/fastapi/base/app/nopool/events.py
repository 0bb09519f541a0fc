"""Count and log what happens to the sessions of a database."""

import logging
import threading
import time
from dataclasses import dataclass, replace

from app.nopool.errors import describe, refused_by_policy, server_error, sqlstate

log = logging.getLogger("app.database")


@dataclass
class Snapshot:
    """The state of a database and what has happened since its start.

    It is for the service's own code and metrics, not for a public endpoint.
    """

    max_sessions: int = 0
    in_use: int = 0  # slots taken, from dial to the server's close
    waiting: int = 0  # sessions in the queue

    opened: int = 0  # sessions whose BEGIN was acknowledged
    closed: int = 0  # of those, the ones whose connection is gone
    committed: int = 0
    rolled_back: int = 0
    aborted: int = 0  # closed without an answer to COMMIT or ROLLBACK

    dials: int = 0  # connections attempted
    open_retries: int = 0  # attempts after a session's first
    open_errors: int = 0  # sessions that could not be opened
    rejected: int = 0  # sessions that got no slot
    commit_unknown: int = 0  # COMMITs whose answer was lost
    close_timeouts: int = 0  # connections whose close by the server was not seen in time
    read_commit_errors: int = 0  # COMMITs of reads that failed behind the answer

    last_opened: float = 0.0  # by time.monotonic, 0 before the first session


class Events:
    """The totals, and the lines of the log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Snapshot()

    def count(self, name: str) -> None:
        """Add one to a total."""
        with self._lock:
            setattr(self._now, name, getattr(self._now, name) + 1)
            if name == "opened":
                self._now.last_opened = time.monotonic()

    def totals(self) -> Snapshot:
        """Return a copy of the totals."""
        with self._lock:
            return replace(self._now)

    def error(self, err: BaseException) -> None:
        """Log what may be logged at any level.

        The server's own words, which can quote data, are for the level debug alone.
        """
        more: dict[str, object] = {"error": describe(err)}
        cause, state = server_error(err), sqlstate(err)
        if cause is not None and cause.sqlstate is not None:
            more["sqlstate"] = state
            if log.isEnabledFor(logging.DEBUG):
                more |= {"server_message": cause.diag.message_primary, "detail": cause.diag.message_detail}
        # A value that is not allowed is its client's fault; a division by zero is not.
        theirs = state.startswith(("22", "23", "44", "54000")) or refused_by_policy(err)
        own = not theirs or state == "22012"
        log.log(logging.ERROR if own else logging.INFO, "database session error", extra=more)
