"""The running process: an HTTP server, and the database to which each of its requests opens a connection."""

import asyncio
import contextlib
import logging
import math
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import CommandError
from app.api.app import create_app
from app.nopool import Database, Misconfigured, describe
from app.nopool.refusals import once_more
from app.settings import Settings

log = logging.getLogger("app.serve")

PATIENCE = 2.0  # at most, for a moment in which no connection waits to be accepted
NOTICE = 0.2  # for a request that is on its way on a connection that was accepted
CLIENT_TIMEOUT = 10.0  # for the head of a request, and for a client that takes nothing of its response
MAX_HEAD = 1 << 16  # bytes


class _Server(uvicorn.Server):
    """uvicorn, without its handling of signals: it would end the process by the signal, not with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us, and the end of a lifespan that fails, on which newer uvicorns exit."""
        with contextlib.suppress(SystemExit):
            yield


class _Protocol(HttpToolsProtocol):
    """uvicorn's, which would wait for ever for the head of a request, and keep one of any size."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._expect()

    def _expect(self) -> None:
        self._head = 0.0  # bytes of it so far
        self._late = self.loop.call_later(CLIENT_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else it is early, behind another request
            self.transport.close()

    def on_message_begin(self) -> None:
        """Expect the next head."""
        super().on_message_begin()
        self._late.cancel()
        self._expect()

    def on_headers_complete(self) -> None:
        """Leave the body to those who read it."""
        self._late.cancel()
        self._head = -math.inf
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        head = self._late
        super().data_received(data)
        if self._late is head:  # else what came before it was another request's
            self._head += len(data)
        if self._head > MAX_HEAD:
            self.transport.close()


class _Threads(ThreadPoolExecutor):
    """Those of asyncio.to_thread, which asyncio would wait for at the end, though nothing interrupts them."""

    def shutdown(self, *_: object, **__: object) -> None:
        """Let them end when they can."""
        super().shutdown(wait=False)


def serve(settings: Settings) -> None:
    """Answer requests until a signal, then let requests and sessions finish."""
    db = Database(settings.database_url, settings.limits)
    _warn(settings, db)
    _check_database(settings, db)
    try:
        asyncio.run(_run(settings, db))
    except SystemExit as err:
        raise CommandError("the server has ended by a call of sys.exit()") from err


def _warn(settings: Settings, db: Database) -> None:
    """Say how many connections this process may hold: all replicas together must fit the pooler."""
    budget = {"max_sessions": db.limits.max_sessions, "max_waiting": db.limits.max_waiting}
    log.info("database budget", extra={**budget, "replicas": settings.db_replicas})
    if settings.budget_guessed:
        log.warning("database budget is a guess: set DB_POOL_SIZE and DB_REPLICAS, or DB_MAX_SESSIONS")
    if not settings.database_url.verified:
        log.warning("database certificate is not verified: set sslmode=verify-full and sslrootcert")


def _check_database(settings: Settings, db: Database) -> None:
    """Run a query in a session like any other.

    It is tried again until the time is over, unless the database refuses us for a reason that will
    not pass by itself.
    """
    deadline, pause = time.monotonic() + settings.db_startup_timeout, 0.25
    sessions = logging.getLogger("app.database")
    while True:
        sessions.disabled = True  # what they meet is told once, here
        try:
            version = once_more(db.version)
        except Misconfigured:
            raise
        except Exception as err:
            text = describe(err)
        else:
            log.info("database ready", extra={"version": version})
            return
        finally:
            sessions.disabled = False
        if time.monotonic() + pause >= deadline:
            raise CommandError(f"gave up after {settings.db_startup_timeout:g}s (DB_STARTUP_TIMEOUT): {text}")
        log.warning("database not ready", extra={"error": text})
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


async def _run(settings: Settings, db: Database) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_Threads())
    stopping = loop.create_future()

    def on_signal() -> None:
        if stopping.done():  # the second ends the process, whatever it is waiting for
            os._exit(130)
        stopping.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    app = create_app(settings, db)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, http=_Protocol)
    with listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        server = _Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started and not serving.done():  # noqa: ASYNC110 (uvicorn tells nobody)
            await asyncio.sleep(0.01)
        if not server.started:
            raise CommandError("the application did not start: its lifespan failed")
        log.info("listening", extra={"addr": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"})
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        await _stop(settings, db, app, listener, server, serving)
    if not stopping.done():
        raise CommandError("the server has ended by itself")
    log.info("stopped")


async def _stop(
    settings: Settings,
    db: Database,
    app: FastAPI,
    listener: socket.socket,
    server: uvicorn.Server,
    serving: "asyncio.Task[None]",
) -> None:
    """Fail the readiness probe, give load balancers time to see it, and let requests and sessions finish.

    There is one deadline for all, since whoever stops us has one for the process.
    """
    deadline = time.monotonic() + settings.shutdown_delay + settings.shutdown_timeout
    app.state.draining = True
    await asyncio.sleep(settings.shutdown_delay)
    # A close resets connections that only the kernel has accepted, and those that asyncio has in this turn or the last.
    turns, patience = 0, min(deadline, time.monotonic() + PATIENCE)
    while turns < 2 and time.monotonic() < patience and not serving.done():  # else uvicorn has closed it
        await asyncio.sleep(0)
        turns = 0 if select.select([listener], [], [], 0)[0] else turns + 1
    for one in server.servers:
        one.close()
    await asyncio.sleep(NOTICE)
    left = max(0.1, deadline - time.monotonic())
    # A whole number, and after ours: uvicorn cuts what is left then, tells nobody, and ends the lifespan in good order.
    server.config.timeout_graceful_shutdown = int(left) + 1
    server.should_exit = True
    _, cut = await asyncio.wait({serving}, timeout=left)
    left = max(0.0, deadline - time.monotonic())
    closed = await asyncio.get_running_loop().run_in_executor(_Threads(1), db.close, left)
    await asyncio.wait({serving}, timeout=2)
    if cut or not closed:
        raise CommandError("requests were cut short" if cut else "sessions were still open at the end")
    await serving  # which may have failed


def listen(settings: Settings) -> socket.socket:
    """Return the socket that HTTP_ADDR or PORT asks for."""
    host, port = settings.listen_at
    try:
        both = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, dualstack_ipv6=both, backlog=2048)
        # What it accepts inherits it; asyncio sees to that for listeners of its own alone. Without, a
        # response's body waits 40 ms for the client to acknowledge its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # of Linux; uvicorn would hold the response for such a client for ever
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(CLIENT_TIMEOUT * 1000))
        return listener
    except OSError as err:
        why = str(err.strerror).partition(" (while")[0]  # else with the address again
        raise CommandError(f"cannot listen on {host}:{port}: {why}") from err
