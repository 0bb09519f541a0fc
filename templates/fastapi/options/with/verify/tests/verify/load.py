"""Clients over HTTP, many at once."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable

Call = tuple[str, str, bytes]  # method, path, body


class Client:
    """One client, which keeps its connection while it may."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and return status and body. ConnectionRefusedError says that nobody listens."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        answered = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((int(line[15:]) for line in answered.split("\r\n") if line.startswith("content-length:")), 0)
        content = await reader.readexactly(length)
        if "connection: close" in answered:
            self.close()
        return int(answered.split(" ", 2)[1]), content

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _run(port: int, clients: int, calls: Iterable[Call]) -> Counter[str]:
    counts: Counter[str] = Counter()
    source = iter(calls)

    async def work() -> None:
        client = Client(port)
        for method, path, body in source:
            try:
                status, content = await client.call(method, path, body)
                counts[str(status)] += 1
                if status >= 500:
                    counts[content.decode(errors="replace").split('"code":"')[-1].split('"')[0]] += 1
            except ConnectionRefusedError:
                counts["refused"] += 1
                return
            except (OSError, EOFError) as err:
                counts[type(err).__name__] += 1
                client.close()
        client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    return counts


def hammer(port: int, clients: int, calls: Iterable[Call]) -> Counter[str]:
    """Make the calls with so many clients at once, and count the statuses and the codes of 5xx."""
    return asyncio.run(_run(port, clients, calls))


def writes(count: int) -> Iterable[Call]:
    """Return calls that create things."""
    return itertools.repeat(("POST", "/things", b'{"title": "one"}'), count)


def mixed(count: int) -> Iterable[Call]:
    """Return reads and writes, half and half."""
    both = (("POST", "/things", b'{"title": "one"}'), ("GET", "/things/1", b""))
    return itertools.islice(itertools.cycle(both), count)
