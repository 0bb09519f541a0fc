"""What every request passes: its id, a line in the log, the bounds of its time and body, and the end of its session.

The session is committed when the response begins, before its first byte leaves: that holds for what
handlers return, raise and stream, whatever a dependency with yield would do afterwards. A status of
400 or more, an error and a client that has gone roll it back.
"""

import asyncio
import gc
import inspect
import logging
import re
import secrets
import threading
import time
import traceback
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any, cast

import anyio.to_thread
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import CLIENT_GONE, ApiError, answer, respond
from app.logs import correlation_id
from app.nopool import Database, DatabaseError, Tx, Unit, describe
from app.nopool.dbapi import FINISH_TIMEOUT
from app.nopool.errors import server_error, sqlstate
from app.nopool.unit import current

log = logging.getLogger("app.http")
EXCHANGE = "app.exchange"  # where the scope has it

SPARE_THREADS = 40  # for handlers without a session: what Starlette has for all
LEFT_FOR = 0.1  # seconds after which a request's own objects are garbage
LEFT_AT_MOST = 60.0  # after which nobody looks again
HEADER = "X-Request-ID"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# version-traceid-parentid-flags: https://www.w3.org/TR/trace-context/
_VALID_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def correlate(headers: Headers) -> str:
    """Return the client's id where it is well-formed, else the trace's, else a new one."""
    own = headers.get(HEADER, "")
    if _VALID_ID.fullmatch(own):
        return own
    trace = _VALID_TRACE.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else secrets.token_hex(13)


class ExchangeMiddleware:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, db: Database, request_timeout: float, max_body: int) -> None:
        self.app = app
        self.db = db
        self.request_timeout = request_timeout
        self.max_body = max_body
        self._threads = db.limits.max_sessions + db.limits.max_waiting + SPARE_THREADS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            scope.setdefault("state", {})
            # A thread that has a session needs another one to go on, for the response; so those that wait for
            # a slot must never have all of them.
            limiter = anyio.to_thread.current_default_thread_limiter()
            limiter.total_tokens = max(limiter.total_tokens, self._threads)
            await Exchange(self, scope, receive, send).run()
        else:
            if scope["type"] == "websocket":  # which may ask for Db, and finds this in its scope
                Exchange(self, scope, receive, send)
            await self.app(scope, receive, send)


class Exchange:
    """One request, its unit of work, and its response."""

    def __init__(self, of: ExchangeMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._of = of
        self.db = of.db
        self._scope = scope
        self._app = scope["app"]  # an application that is mounted puts itself there
        self._receive = receive
        self._send = send
        self._status = 0  # 0 until the response has begun
        self._bytes = 0
        self._body = 0  # bytes of the request's body so far
        self._gone = False  # the client, before it could be answered
        self._unread: list[Message] = []  # of the body, seen when we looked whether the client is there
        self._error: Exception | None = None  # of the session's end, which Starlette may wrap
        self._session: Session | None = None
        # Not asyncio.timeout, which would leave a handler's thread behind with the session in its hands.
        self._time = anyio.CancelScope(deadline=anyio.current_time() + of.request_timeout)
        self.unit = Unit(deadline=time.monotonic() + of.request_timeout)
        self._headers = Headers(scope=scope)
        correlation_id.set(correlate(self._headers))
        current.set(self.unit)
        scope[EXCHANGE] = self

    # -- what dependencies use ------------------------------------------------

    def session(self, tx: Tx) -> Session:
        """Return the request's session, which opens its connection at its first statement."""
        if self._session is None:
            self.unit.tx = tx
            self._session = self.db.new_session(self.unit)
        elif self.unit.tx != tx:
            raise RuntimeError("a request has one session, and its dependencies ask for different transactions")
        return self._session

    def inherit(self, tx: Tx) -> None:
        """Have sessions that work on behalf of the request begin with its settings, though it has none of its own."""
        if self._session is None:
            self.unit.tx = replace(self.unit.tx, settings=tx.settings)

    def within(self, seconds: float) -> None:
        """Give the request its own time instead of REQUEST_TIMEOUT, from now on."""
        self.unit.deadline = time.monotonic() + seconds
        self._time.deadline = anyio.current_time() + seconds

    # -- the request ----------------------------------------------------------

    async def run(self) -> None:
        """Answer the request, whatever happens."""
        started = time.monotonic()
        try:
            with self._time:
                length = self._headers.get("content-length", "")
                if length.isdecimal() and int(length) > self._of.max_body:
                    raise _too_large()  # at once, instead of after it has been read
                head = {"method": "GET"} if self._scope["method"] == "HEAD" else {}  # the server drops the body
                await self._of.app({**self._scope, **head}, self.receive, self.send)
            if self._time.cancelled_caught:
                await self._failed(TimeoutError())
        except Exception as err:
            await self._failed(self._error or err)
        finally:
            if self._session is not None and not self.unit.ended:  # cancelled, by the end of the process
                self.db.abort(self.unit)
                self.db.finish(self._session, self.unit, keep=False)
            if self.unit.inner:  # a stream whose client has left keeps its session until the garbage is collected
                _collect(asyncio.get_running_loop(), self.unit, LEFT_FOR)
            self._log(time.monotonic() - started)

    def _log(self, seconds: float) -> None:
        """Write one line for each request, without its query string, which may hold anything."""
        path = self._scope["path"]
        # One every few seconds, from everywhere, would drown the others.
        probe = path in ("/health", "/ready") and self._status < 400
        more = {
            "method": self._scope["method"],
            "path": path,
            "status": self._status,
            "bytes": self._bytes,
            "duration": seconds,
        }
        log.log(logging.DEBUG if probe else logging.INFO, "request", extra=more)

    async def receive(self) -> Message:
        """Pass on the request's body, up to its bound."""
        message = self._unread.pop(0) if self._unread else await self._receive()
        if message["type"] == "http.request":
            self._body += len(message.get("body", b""))
            if self._body > self._of.max_body:
                raise _too_large()
        else:
            self._gone = True
        return message

    # -- the response ---------------------------------------------------------

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Pass on the response: its begin is the commit point."""
        if message["type"] == "http.response.start":
            gone = self._gone  # who leaves within COMMIT has what was answered
            try:
                await self._end_session(keep=message["status"] < 400)
            except Exception as err:
                self._error = err
                raise
            self._status = CLIENT_GONE if gone else message["status"]  # what FastAPI takes for a malformed body
            headers = MutableHeaders(scope=message)
            headers[HEADER] = correlation_id.get()
            if self._app.state.draining:
                headers["Connection"] = "close"
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    async def _end_session(self, keep: bool) -> None:
        session = self._session
        if session is None or self.unit.ended:
            if keep and self.unit.failure is not None:
                raise self.unit.failure
            return
        if keep and self._time.cancel_called:
            raise TimeoutError
        if keep and not self.unit.tx.read_only and await self._client_gone():
            raise ClientDisconnect
        # COMMIT has a bound of its own, and what became of it must be told: that is not the request's time.
        self._time.deadline = max(self._time.deadline, anyio.current_time() + FINISH_TIMEOUT + 1)
        with anyio.CancelScope(shield=True):
            await asyncio.wrap_future(self.db.finish(session, self.unit, keep))

    async def _client_gone(self) -> bool:
        """Look whether the client has left, as Request.is_disconnected does, without waiting."""
        with anyio.CancelScope(shield=True) as scope:
            scope.cancel()
            while (message := await self._receive())["type"] != "http.disconnect":
                self._unread.append(message)
            return True
        return False

    async def _failed(self, err: Exception) -> None:
        """Answer with what err means to the client, and log what it means to us."""
        while isinstance(err, ExceptionGroup) and len(err.exceptions) == 1:  # older Starlettes stream in a task group
            err = err.exceptions[0]
        if not self.unit.ended:  # else its end has been logged
            self.db.log(err)
        if self._status:
            # Left incomplete, the response is cut short by the server, which the client must see.
            more = {"error": describe(err), "stack": _stack(err)}
            log.error("handler failed after its response had begun", extra=more)
            return
        if isinstance(err, ClientDisconnect):
            self._status = CLIENT_GONE
            await self._end_session(keep=False)
            return
        # A GET that writes is a mistake of ours, not a database that takes no writes.
        ours = self.unit.tx.read_only and sqlstate(err) == "25006"
        problem = answer(RuntimeError() if ours else err)
        if problem.code == "internal_error" and server_error(err) is None and not isinstance(err, DatabaseError):
            log.error("panic", extra={"error": describe(err), "stack": _stack(err)})
        level = logging.ERROR if problem.status_code == 500 else logging.DEBUG
        log.log(level, "request failed", extra={"error": describe(err), "status": problem.status_code})
        await (await self._handled(err) or respond(problem))(self._scope, self.receive, self.send)

    async def _handled(self, err: Exception) -> Response | None:
        """Ask the application's own handler of such exceptions, which Starlette does not once a response begins."""
        handlers = self._app.exception_handlers
        handler = next((handlers[kind] for kind in type(err).__mro__ if kind in handlers), None)
        if handler is None:
            return None
        response = await run_in_threadpool(handler, Request(self._scope, self.receive), err)
        return cast(Response, await response if inspect.isawaitable(response) else response)


def _stack(err: BaseException) -> str:
    """Return where err comes from, without its text, which may quote anything."""
    return "".join(traceback.format_tb(err.__traceback__))


def _too_large() -> ApiError:
    return ApiError(413, "body_too_large", "The body is too large")


def _collect(loop: asyncio.AbstractEventLoop, unit: Unit, after: float) -> None:
    """Have the garbage collected until the unit's sessions have ended: within a collection another one does nothing."""

    def look() -> None:
        if unit.inner and after < LEFT_AT_MOST:
            threading.Thread(target=gc.collect, daemon=True).start()  # it waits for what it ends
            _collect(loop, unit, 2 * after)

    loop.call_later(after, look)
