"""A pooler that speaks the protocol, and is full, slow or broken on demand.

It has no database: INSERT counts a row, which COMMIT keeps. What it was told and how its clients
went is there to be looked at.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from tests.verify.servers import within

VALUES = {  # of what SQLAlchemy asks; the value of all else is 1
    "version()": "PostgreSQL 17.0",
    "standard_conforming": "on",
    "current_schema": "public",
    "isolation": "read committed",
}
FULL = ("XX000", "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15")


@dataclass
class Reply:
    """What a statement is answered with."""

    tag: str = "SELECT 0"
    row: tuple[str, ...] = ()
    oids: tuple[int, ...] = ()  # of its columns' types, where they are not text
    error: tuple[str, ...] | None = None  # SQLSTATE, text, and the routine of the server
    fatal: bool = False  # with the error the connection ends
    drop: bool = False  # the connection ends without an answer
    hang: bool = False  # there is no answer at all
    leave: bool = False  # the connection ends behind the answer
    after: float = 0.0  # seconds to the answer


@dataclass
class Client:
    """A connection as the pooler saw it."""

    number: int
    statements: list[str] = field(default_factory=list)
    flights: list[int] = field(default_factory=list)  # how many statements came in each
    status: str = "I"
    pending: int = 0  # rows that COMMIT would keep
    end: str = ""  # how the client went: "terminated" or "dropped"


Answer = Callable[[Client, str], Reply | None]


class Standin:
    """The pooler, in a thread of its own."""

    def __init__(
        self,
        size: int = 1000,
        answer: Answer | None = None,
        refuse: Callable[[int], tuple[str, str] | None] | None = None,
    ) -> None:
        self.size = size
        self.clients: list[Client] = []
        self.open = 0
        self.most = 0  # connections at once
        self.refused = 0
        self.rows = 0
        self.scram = False  # the password is proved before anything is said
        self.believes = True  # the proof
        self.tls: ssl.SSLContext | None = None
        self.cleartext = False  # the password itself is asked for
        self.release_lag = 0.0  # seconds for which a place is taken after its client's goodbye
        self._answer = answer or (lambda client, sql: None)
        self._refuse = refuse or (lambda number: None)
        self._started: Future[asyncio.Event] = Future()  # by which it is stopped
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.port = 0

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        self._loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set_result(stop)
        await stop.wait()
        self._loop.remove_reader(server.sockets[0])  # a server that is closed forgets those that it has just accepted
        for _ in range(10):  # a conversation that is cancelled before it began would not close its socket
            await asyncio.sleep(0)
        server.close()

    def __enter__(self) -> "Standin":
        self._thread.start()
        self._started.result()
        return self

    def within(self, condition: Callable[[], object], seconds: float = 20) -> bool:
        """Wait until a condition is true."""
        return within(seconds, condition)

    def __exit__(self, *_: object) -> None:
        self.within(lambda: self.open == 0, 0.5)  # else a connection that is about to end would be left behind
        self._loop.call_soon_threadsafe(self._started.result().set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgres://app:s3cret@127.0.0.1:{self.port}/app?sslmode=disable"

    @property
    def statements(self) -> list[str]:
        """All that was said, in lower case."""
        return [sql.lower() for client in self.clients for sql in client.statements]

    # -- the protocol ---------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(len(self.clients) + 1)
        self.clients.append(client)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self._talk(client, reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            client.end = client.end or "dropped"
        finally:
            client.end = client.end or "dropped"
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(self.release_lag)
            self.open -= 1
            writer.close()

    async def _talk(self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.tls is not None:
            await reader.readexactly(8)  # its request
            writer.write(b"S")
            await writer.start_tls(self.tls)
            await asyncio.sleep(0.05)  # its tickets arrive alone
        await _body(reader)
        if self.cleartext:
            writer.write(_message("R", struct.pack("!i", 3)))
            await reader.readexactly(1)
        if self.scram:
            await _prove(reader, writer, self.believes)
        refusal = self._refuse(client.number) or (FULL if self.open > self.size else None)
        if refusal:
            self.refused += 1
            writer.write(_error("FATAL", *refusal))
            await writer.drain()
            client.end = "refused"
            return
        writer.write(_message("R", struct.pack("!i", 0)))
        for name, value in (("server_version", "17.0"), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on"),
                            ("integer_datetimes", "on"), ("TimeZone", "UTC"), ("DateStyle", "ISO, MDY")):  # fmt: skip
            writer.write(_message("S", f"{name}\0{value}\0".encode()))
        writer.write(_message("K", struct.pack("!ii", client.number, 1)) + _ready(client))
        await self._statements(client, reader, writer)

    async def _statements(self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sql, failed, flight, described, reply = "", False, 0, False, Reply()
        while True:
            kind = (await reader.readexactly(1)).decode()
            body = await _body(reader)
            if kind == "X":
                client.end = "terminated"
                return
            if kind == "S":
                client.flights.append(flight)
                failed, flight = False, 0
            elif failed:
                continue
            elif kind == "P":
                sql = body.split(b"\0")[1].decode()
                writer.write(_message("1"))
            elif kind == "B":
                writer.write(_message("2"))
            elif kind == "D":
                described = True
            elif kind in "EQ":
                if kind == "Q":
                    sql, described = body.rstrip(b"\0").decode(), True
                    client.flights.append(1)
                client.statements.append(sql)
                reply = self._answer(client, sql) or default(client, sql)
                flight += kind == "E"
                if reply.hang:
                    while await reader.read(1 << 16):
                        pass
                    return
                if not await self._write(client, writer, sql, reply, described):
                    return
                failed, described = reply.error is not None and kind == "E", False
            if kind in "SQ":
                writer.write(_ready(client))
                if reply.leave:
                    return
            await writer.drain()

    async def _write(
        self, client: Client, writer: asyncio.StreamWriter, sql: str, reply: Reply, described: bool
    ) -> bool:
        await asyncio.sleep(reply.after)
        if reply.drop:
            return False
        if reply.error:
            if client.status == "T":
                client.status = "I" if sql == "commit" else "E"
            writer.write(_error("FATAL" if reply.fatal else "ERROR", *reply.error))
            await writer.drain()
            return not reply.fatal
        if described:
            oids = reply.oids or [25] * len(reply.row)
            columns = [b"c\0" + struct.pack("!ihihih", 0, 0, oid, -1, -1, 0) for oid in oids]
            writer.write(_counted("T", columns) if reply.row else _message("n"))
        if reply.row:
            values = (text.encode() for text in reply.row)
            writer.write(_counted("D", [struct.pack("!i", len(value)) + value for value in values]))
        self._keep(client, sql, reply)
        writer.write(_message("C", reply.tag.encode() + b"\0"))
        return True

    def _keep(self, client: Client, sql: str, reply: Reply) -> None:
        verb = sql.split(" ")[0].lower()
        if verb == "begin":
            client.status, client.pending = "T", 0
        elif verb == "insert":
            client.pending += 1
        elif verb in ("commit", "rollback"):
            self.rows += client.pending if reply.tag == "COMMIT" else 0
            client.status, client.pending = "I", 0


def default(client: Client, sql: str) -> Reply:
    """Answer as a database would, as far as the service asks."""
    low = sql.lower()
    verb = low.split(" ")[0]
    if client.status == "E" and verb not in ("rollback", "commit"):
        return Reply(error=("25P02", "current transaction is aborted"))
    if verb == "commit":
        return Reply("ROLLBACK" if client.status == "E" else "COMMIT")
    if verb in ("begin", "rollback", "set"):
        return Reply(verb.upper())
    if "set_config" in low:
        return Reply("SELECT 1", ("read committed", *[""] * low.count("set_config")))
    if verb == "show" or (verb == "select" and low != "select"):
        return Reply("SELECT 1", (next((value for part, value in VALUES.items() if part in low), "1"),))
    return Reply("INSERT 0 1" if verb == "insert" else "SELECT 0")


async def _prove(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, believe: bool) -> None:
    """Let the client prove its password by SCRAM (RFC 5802), believe it or not, and prove that it is known here."""

    async def heard() -> str:
        await reader.readexactly(1)
        return (await _body(reader)).decode(errors="replace")

    writer.write(_message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
    first = (await heard()).partition(",,")[2]
    challenge = f"r={first.partition('r=')[2]}ours,s={base64.b64encode(b'salt').decode()},i=4096"
    writer.write(_message("R", struct.pack("!i", 11) + challenge.encode()))
    last = (await heard()).partition(",p=")[0]
    if not believe:
        return
    key = hmac.digest(hashlib.pbkdf2_hmac("sha256", b"s3cret", b"salt", 4096), b"Server Key", "sha256")
    proof = hmac.digest(key, ",".join((first, challenge, last)).encode(), "sha256")
    writer.write(_message("R", struct.pack("!i", 12) + b"v=" + base64.b64encode(proof)))


def _message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def _ready(client: Client) -> bytes:
    return _message("Z", client.status.encode())


def _error(severity: str, state: str, text: str, routine: str = "f") -> bytes:
    fields = (("S", severity), ("V", severity), ("C", state), ("M", text), ("R", routine))
    return _message("E", b"".join(f"{kind}{value}\0".encode() for kind, value in fields) + b"\0")


def _counted(kind: str, parts: list[bytes]) -> bytes:
    return _message(kind, struct.pack("!h", len(parts)) + b"".join(parts))


async def _body(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(struct.unpack("!i", await reader.readexactly(4))[0] - 4)
