"""Whether another attempt may be made."""

import random
import threading
import time
from collections import deque

from app.nopool.errors import DatabaseError, Misconfigured, PoolerFull, SettingRefused, Unavailable
from app.nopool.refusals import Refusal, is_password, is_unasked, kind_of

FAILURES = 10  # attempts running, before they are spaced out
PAUSE = 1.0  # at most, between attempts; at least half of it
MAX_REFUSED = 3  # passwords within REFUSED_FOR; afterwards none is given
REFUSED_FOR = 150.0  # Supavisor's window, in which ten refusals block an address
MAX_LOGINS = 6  # under way at once, less those refused of late
ALONE_FOR = 5.0  # after which a login that goes first lets another go ahead
UNASKED_PAUSE = 33.0  # longer than the 30 s for which Supavisor does not ask after five times in vain
LONG_PAUSE = 85.0  # two of them are longer than its window


class Breaker:
    """Decides whether another login may begin, for three reasons not to.

    Attempts at a database that has refused several times running are spaced out. Supavisor blocks
    an address for two minutes after ten refused passwords in 150 s, while a password can change
    under many logins: so those under way and those refused of late are never more than six
    together, and one goes first where the last attempt failed. And to the same ten it counts each
    login whose secret it could not ask the database for: after such an answer nobody dials for a
    pause. Replicas behind one address share nine; but each gives a password twice, since Supavisor
    refuses a new one once.
    """

    def __init__(self, replicas: int = 1) -> None:
        self._share = max(2, 9 // replicas)
        self._lock = threading.Lock()
        self._queue: deque[threading.Condition] = deque()  # of logins that wait for room, the longest first
        self._failures = 1  # none has succeeded yet
        self._last: tuple[type[DatabaseError], str] = (Unavailable, "")  # what the last attempt was told
        self._next = 0.0  # when an attempt is due
        self._unasked = 0.0  # when the pooler could not ask for the secret
        self._in_vain = 0  # such answers in a row; those to logins that went together count as one
        self._logins = 0
        self._began = 0.0  # when the last of them did
        self._refused: list[float] = []  # when passwords were

    def enter(self, deadline: float) -> float:
        """Begin a login, and return when. The caller must leave() it. TimeoutError: there was no room in time."""
        with self._lock:
            self._check()
            turn = threading.Condition(self._lock)
            self._queue.append(turn)
            try:
                while self._queue[0] is not turn or not self._room():
                    if time.monotonic() >= deadline:
                        raise TimeoutError
                    turn.wait(min(1.0, deadline - time.monotonic()))  # there may be room by the time alone
                    self._check()
                self._logins += 1
                self._began = time.monotonic()
                return self._began
            finally:
                self._queue.remove(turn)
                self._wake()

    def _wake(self) -> None:
        """Let the login that has waited longest look whether it may go on; when it goes, the next one does."""
        if self._queue:
            self._queue[0].notify()

    def _check(self) -> None:
        now = time.monotonic()
        self._refused = [at for at in self._refused if now - at < REFUSED_FOR]
        if len(self._refused) >= min(self._share, MAX_REFUSED):
            raise Misconfigured(f"authentication: failed {len(self._refused)} times within {REFUSED_FOR:.0f} s")
        if self._failures >= FAILURES and now < self._next:
            kind, text = self._last
            raise kind(text)
        self._next = now + PAUSE * random.uniform(0.5, 1)

    def _room(self) -> bool:
        if self._failures and self._logins > (time.monotonic() - self._began) // ALONE_FOR:
            return False
        return self._logins + len(self._refused) < min(self._share, MAX_LOGINS)

    def leave(self, began: float, refusal: Refusal | None = None) -> None:
        """End a login, with what it was told if it was not let in."""
        with self._lock:
            self._logins -= 1
            if refusal is not None and is_password(refusal):
                self._refused.append(time.monotonic())
            elif refusal is not None and is_unasked(refusal):
                if began > self._unasked:  # else it went together with one that was told before
                    self._in_vain += 1
                self._unasked = time.monotonic()
                self._next = self._unasked + (UNASKED_PAUSE if self._in_vain < 3 else LONG_PAUSE)
                self._failures = FAILURES
                self._last = (Unavailable, str(refusal))
            self._wake()

    def opened(self, began: float) -> None:
        """Note that BEGIN was acknowledged, behind the login that began then.

        A login alone is no success: PgBouncer lets clients in while it cannot reach the server,
        and says so at their first statement.
        """
        with self._lock:
            if self._failures and began > self._unasked:  # else another has learnt worse meanwhile
                self._failures = self._in_vain = 0
                self._wake()

    def failed(self, refusal: Refusal) -> DatabaseError:
        """Note a failed attempt, and return what it means."""
        kind = kind_of(refusal)
        # A full pooler can be reached; so can a server that refused one caller's setting.
        if kind is not PoolerFull and refusal.fatal:
            with self._lock:
                self._failures += 1
                self._last = (kind, str(refusal))
        refused = kind is Misconfigured and not refusal.fatal  # by the caller's own setting
        return SettingRefused(str(refusal)) if refused else kind(str(refusal))
