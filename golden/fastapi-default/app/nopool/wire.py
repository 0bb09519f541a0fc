"""One connection, from its dial to the server's close."""

import contextlib
import math
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import generators
from psycopg.waiting import Ready, Wait

from app.nopool.url import Target

CLOSE_TIMEOUT = 5.0  # for the server to close a connection; past it the network is lost
SILENT_TIMEOUT = 1.0  # the same where the server has owed us an answer for too long
STATEMENT_MARGIN = 3.0  # what an answer may take beyond the server's own timeout
ADDRESS_TTL = 5.0  # how long the addresses of a host are kept; libpq would ask for each connection

# How SCRAM's last message begins, by which a server accepts our password: in plain text, and as a record of TLS 1.3,
# where only its length can be seen, which no other message before it has. libpq tells nobody of it. What comes in
# another shape is not recognized, and a refusal behind it counts as one of our password, which is the safe side.
VERDICTS = (b"R\0\0\0\x36\0\0\0\x0c", b"\x17\x03\x03\0\x48")

_EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


def wait_for(fd: int, state: Wait, deadline: float) -> Ready | None:
    """Return what a socket is ready for, None when the deadline has passed."""
    poll = select.poll()
    poll.register(fd, _EVENTS[state])
    left = deadline - time.monotonic()
    events = poll.poll(None if math.isinf(left) else max(0, math.ceil(left * 1000)))
    if not events:
        return None
    if state != Wait.RW or events[0][1] & ~(select.POLLIN | select.POLLOUT):  # an end is for the caller to find
        return Ready(state)
    return Ready.W if events[0][1] == select.POLLOUT else Ready.R if events[0][1] == select.POLLIN else Ready.RW


class Real(psycopg.Connection[Any]):
    """A connection of psycopg that waits no longer than its deadline for an answer.

    The server's own timeout ends nothing when the network is lost.
    """

    patience: float = math.inf  # seconds, for the answer to one statement
    deadline: float = math.inf  # by time.monotonic, whatever the patience
    begin: psycopg.Cursor[Any] | None = None  # while BEGIN is on its way
    begin_by: float = math.inf
    silent = False

    def _bound(self, started: float) -> float:
        if self.begin is not None and not self.begin.statusmessage:
            return min(self.begin_by, self.deadline)
        return min(self.deadline, started + self.patience)

    def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
        """Consume a generator of psycopg, as its own wait does, within the bounds."""
        started = time.monotonic()
        try:
            state = next(gen)
            while True:
                # While BEGIN's flight is sent nothing is read: psycopg would lose a refusal that comes with the close.
                sending = self.begin is not None and state == Wait.RW
                if sending and not self.pgconn.flush():
                    ready: Ready | None = Ready.W  # there is room for more
                else:
                    ready = wait_for(self.pgconn.socket, Wait.W if sending else state, self._bound(started))
                if ready is None:
                    self.silent = True
                    self.pgconn.finish()
                    raise psycopg.OperationalError("no answer in time", pgconn=self.pgconn)
                if ready & Ready.R:
                    started = time.monotonic()  # it goes on, as with many statements that were sent together
                state = gen.send(ready)
        except StopIteration as end:
            return end.value
        finally:
            with contextlib.suppress(psycopg.Error, RuntimeError):  # of a pipeline that cannot be tidied up
                gen.close()


class Addresses:
    """The addresses of a host, kept for a while, and for longer while the resolver fails.

    A thread of its own asks for them, since nothing ends a call of the resolver: who needs them
    waits for it, but not beyond a deadline, and nobody does while the old ones are good.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Condition()
        self._known: list[str] = [""] if target.host.startswith("/") else []
        self._error = ""
        self._asking = False
        self._until = math.inf if self._known else 0.0

    def get(self, deadline: float) -> list[str]:
        """Return them, the one that answered last before the others."""
        with self._lock:
            if time.monotonic() >= self._until and not self._asking:
                threading.Thread(target=self._ask, name="resolver", daemon=True).start()
                self._asking = True
            if not self._lock.wait_for(lambda: self._known or not self._asking, max(0.0, deadline - time.monotonic())):
                raise psycopg.OperationalError("the resolver has not answered in time")
            if not self._known:
                raise psycopg.OperationalError(f"the name of the host cannot be resolved: {self._error}")
            return self._known

    def _ask(self) -> None:
        found, error = [], ""
        try:
            entries = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except (OSError, UnicodeError) as err:  # the latter of what cannot be a name
            error = str(getattr(err, "strerror", err))
        with self._lock:
            if found and set(found) != set(self._known):
                self._known = found
            self._error, self._asking = error, False
            self._until = time.monotonic() + (ADDRESS_TTL if self._known else 0)
            self._lock.notify_all()

    def prefer(self, address: str) -> None:
        """Put the address first that has answered."""
        with self._lock:
            if address in self._known:
                self._known = [address, *(other for other in self._known if other != address)]


class Line:
    """One TCP connection: dialled once, and gone when the server has closed it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tap: socket.socket | None = None  # our own view of libpq's socket, which outlives it
        self.real: Real | None = None
        self.reached = False
        self.admitted = False  # our password was accepted
        self.aborted = False

    def connect(self, addresses: Sequence[str], deadline: float) -> str:
        """Log in at the first address that accepts a connection, and return it.

        After a refusal by the server no other is tried: a pooler that is full would be asked as
        often as it has addresses.
        """
        error = psycopg.OperationalError("the host has no address")
        for i, address in enumerate(addresses):
            share = (deadline - time.monotonic()) / (len(addresses) - i)  # a silent one must leave time for the others
            try:
                self._dial(address, time.monotonic() + share, deadline)
            except psycopg.OperationalError as err:
                error = err
                if self.reached:
                    break
                if self._tap is not None:
                    self._tap.close()
            else:
                return address
        raise error

    def _dial(self, address: str, reach_by: float, deadline: float) -> None:
        info = self._target.conninfo + (f" hostaddr={address}" if address else "")
        # PGconn.connect_poll would keep the interpreter's lock while it computes for TLS and SCRAM; this does not.
        dialling = generators.connect(info)
        try:
            fd, wants = next(dialling)
            self._tap = socket.socket(fileno=socket.dup(fd))
            while True:
                self.reached = self.reached or wants == Wait.R
                ready = wait_for(fd, wants, deadline if self.reached else reach_by)
                if ready is None or self.aborted:
                    raise psycopg.OperationalError("no answer in time")
                if wants == Wait.R:
                    with contextlib.suppress(OSError):  # libpq finds it too
                        start = self._tap.recv(9, socket.MSG_PEEK)
                        self.admitted = self.admitted or start.startswith(VERDICTS)
                fd, wants = dialling.send(ready)
        except StopIteration as end:
            self.real = Real(end.value)
        finally:
            dialling.close()  # and the socket with it, where there is no connection
        self.real.autocommit = True  # BEGIN is ours
        self.real.prepare_threshold = None

    def abort(self) -> None:
        """End what is under way, from another thread."""
        self.aborted = True
        if self._tap is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._tap.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> bool:
        """Say goodbye, wait for the server to close, and report whether it did.

        A pooler counts a connection until then, so nobody may dial in its place.
        """
        if self.real is not None:
            self.real.pgconn.finish()  # sends Terminate
        if self._tap is None:
            return True
        limit = SILENT_TIMEOUT if self.real is not None and self.real.silent else CLOSE_TIMEOUT
        deadline = time.monotonic() + limit
        with self._tap as tap:
            try:
                tap.shutdown(socket.SHUT_WR)  # wakes a server that waits for us
                while wait_for(tap.fileno(), Wait.R, deadline) is not None:
                    if not tap.recv(1 << 16):
                        return True
            except OSError:
                return True  # it was closed hard
        return self.aborted or not self.reached
