"""The bound on connections, first come, first served."""

import threading
import time
from collections import deque
from concurrent.futures import Future

from app.nopool.errors import Busy, Closed, DeadlineExceeded

SETTLE_MOST = 0.01  # that a pooler is given to free a place after its close
SETTLE_STEP = 0.004  # more than was too little
SETTLE_LESS = 2e-6  # less with each attempt: one in 2,000 finds it late


class Slots:
    """A number of slots with a bounded queue, so that overload is refused instead of piling up."""

    def __init__(self, size: int, max_waiting: int) -> None:
        self.size = size
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._free: deque[float] = deque([0.0] * size)  # since when
        self._queue: deque[Future[float]] = deque()  # of threads that wait to hear since when their slot is free
        self._settling = 0.0
        self.closed = False

    @property
    def in_use(self) -> int:
        """The slots that are taken."""
        return self.size - len(self._free)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def acquire(self, wait: float, deadline: float) -> float:
        """Take a slot, after at most so many seconds in the queue, and return since when it is free."""
        with self._lock:
            if self.closed:
                raise Closed
            if self._free:  # never before somebody who waits: while they do, none is free
                return self._free.popleft()
            if len(self._queue) >= self._max_waiting:
                raise Busy
            waiter: Future[float] = Future()
            self._queue.append(waiter)
        left = deadline - time.monotonic()
        try:
            return waiter.result(max(0.0, min(wait, left)))
        except TimeoutError:
            with self._lock:
                if waiter in self._queue:
                    self._queue.remove(waiter)
                    raise (DeadlineExceeded if left <= wait else Busy) from None
        return waiter.result()  # it was called at that instant

    def release(self) -> None:
        """Free a slot whose connection is gone."""
        with self._lock:
            now = time.monotonic()
            if self._queue:
                self._queue.popleft().set_result(now)
            else:
                self._free.append(now)
                self._idle.notify_all()

    def settle(self, freed: float) -> None:
        """Wait until a pooler will have noticed the room that the last connection of a slot has left.

        Some free a place a little after they have closed its connection, and refuse who comes in between.
        """
        early = freed + self._settling - time.monotonic()
        if early > 0:
            time.sleep(early)
        self._settling = max(0.0, self._settling - SETTLE_LESS)

    def late(self, age: float) -> None:
        """Note that the pooler refused a connection that was dialled so long after a slot was freed."""
        if age < SETTLE_MOST:
            self._settling = max(self._settling, min(age + SETTLE_STEP, SETTLE_MOST))

    def close(self) -> None:
        """Refuse further sessions, those that wait included."""
        with self._lock:
            self.closed = True
            while self._queue:
                self._queue.popleft().set_exception(Closed())

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no slot is in use, and report whether none is."""
        with self._idle:
            return self._idle.wait_for(lambda: len(self._free) == self.size, max(0.0, seconds))
