"""Measure the rendered FastAPI service beside the backend it began with, psycopg2 and get_db, which is fastapi_app.py.

    python golden/benchmark/fastapi_compare.py [ROUNDS] [SECONDS]

It runs with a Python that has ../fastapi-default/requirements.lock and psycopg2-binary. All is from one run, in which the
two take turns on one database, the load's own cost included.
"""

import asyncio
import contextlib
import itertools
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent / "fastapi-default"
sys.path.insert(0, str(PROJECT))
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
sys.dont_write_bytecode = True

from app import localpg  # noqa: E402
from tests.servers import Postgres  # noqa: E402
from tests.verify.load import hammer  # noqa: E402
from tests.verify.servers import pgbouncer, query, within  # noqa: E402
from tests.verify.standin import Reply, Standin  # noqa: E402

READ, WRITE = ("GET", "/notes/1", b""), ("POST", "/notes", b'{"title": "one"}')
NOW = "2026-01-01 00:00:00+00"
TICKS = os.sysconf("SC_CLK_TCK")


class Service:
    """One of the two, as a process."""

    def __init__(self, ours: bool, url: str, **settings: str) -> None:
        self.port = localpg.free_port()
        command = ["app", "serve"] if ours else ["uvicorn", "--no-access-log", "--port", str(self.port), "fastapi_app:app"]
        env = {"PATH": os.environ["PATH"], "APP_ENV": "local", "LOG_LEVEL": "error", "HTTP_ADDR": f"127.0.0.1:{self.port}",
               "DATABASE_URL": url, "DB_SESSION_WAIT": "20s", "DB_MAX_WAITING": "200", "DB_ALLOW_PLAIN_AUTH": "true"}
        self.child = subprocess.Popen([sys.executable, "-m", *command], cwd=PROJECT if ours else HERE, env=env | settings,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not within(30, lambda: hammer(self.port, 1, [("GET", "/nothing", b"")])["404"]):
            raise SystemExit(f"{command} does not start")

    def cpu(self) -> float:
        """Return the seconds of processor so far."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Return the most memory so far, in MB."""
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.child.pid}/status").read_text())[1]) / 1024

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()


def measure(service: Service, clients: int, seconds: float) -> dict[str, float]:
    """Load a service with reads and writes, half and half."""
    began, before = time.monotonic(), service.cpu()
    calls = itertools.takewhile(lambda _: time.monotonic() - began < seconds, itertools.cycle((READ, WRITE)))
    counts = hammer(service.port, clients, calls)
    good, took = counts["200"] + counts["201"], time.monotonic() - began
    every = sum(count for name, count in counts.items() if name.isdecimal() or name[0].isupper())
    return {"good/s": good / took, "failed": 1 - good / every, "ms CPU": 1000 * (service.cpu() - before) / max(1, good)}


def rounds(url: str, clients: int, count: int, seconds: float, **settings: str) -> None:
    """Print the medians of so many paired rounds."""
    with Service(True, url, **settings) as ours, Service(False, url) as audited:
        for service in (ours, audited):
            measure(service, clients, 0.5)
        pairs = []
        for number in range(count):
            order = (ours, audited) if number % 2 else (audited, ours)
            found = {service: measure(service, clients, seconds) for service in order}
            pairs.append((found[ours], found[audited]))
        for name in ("good/s", "failed", "ms CPU"):
            own, other = ([pair[side][name] for pair in pairs] for side in (0, 1))
            ratios = [a / b for a, b in zip(own, other, strict=True) if b]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
            print(f"{clients} clients, {name}: {statistics.median(own):.3f}, {statistics.median(other):.3f}, ratio {spread}", flush=True)
        print(f"{clients} clients, MB: {ours.memory():.0f}, {audited.memory():.0f}", flush=True)


def truth(ours: bool, fault: str, reply: Reply, every: int) -> None:
    """Print what 200 writes were told of which every so many's COMMIT fails."""
    commits: list[int] = []

    def answer(_: object, sql: str) -> Reply | None:
        if sql.lower().startswith("insert"):
            note = Reply("INSERT 0 1", ("1", "one", "", NOW, NOW), (20, 25, 25, 1184, 1184))
            return note if ours else Reply("INSERT 0 1", ("1",))  # the other looks at names, and all columns have one
        if "typarray" in sql:  # SQLAlchemy asks for hstore
            return Reply("SELECT 1", ("0", "0"), (20, 20))
        if sql.lower() == "commit" and commits.append(1) is None and len(commits) % every == 0:
            return reply
        return None

    with Standin(answer=answer) as pooler, Service(ours, pooler.url) as service:
        counts = hammer(service.port, 8, itertools.repeat(WRITE, 200))
        print(f"COMMIT {fault}, {'ours' if ours else 'audited'}: {counts['201']} of 200 answered 201, {pooler.rows} rows, "
              f"{counts['500'] + counts['503']} errors", flush=True)


@contextlib.contextmanager
def relay(port: int, bursts: Counter[str]):
    """Pass connections on to a port, and count the client's bursts and the connections."""
    loop, ready, at = asyncio.new_event_loop(), threading.Event(), localpg.free_port()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        last = [""]

        async def pass_on(side: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    bursts["bursts"] += side == "client" != last[0]
                    last[0] = side
                    sink.write(data)
                    await sink.drain()
                sink.close()

        bursts["connections"] += 1
        await asyncio.gather(pass_on("client", reader, up_writer), pass_on("server", up_reader, writer))

    async def run() -> None:
        await asyncio.start_server(serve, "127.0.0.1", at)
        ready.set()

    threading.Thread(target=lambda: (loop.run_until_complete(run()), loop.run_forever()), daemon=True).start()
    ready.wait()
    yield at
    loop.call_soon_threadsafe(loop.stop)


def trips(url: str) -> None:
    """Print the bursts of the client for a read and for a write, those of TLS included."""
    for ours in (True, False):
        bursts: Counter[str] = Counter()
        port = int(re.search(r":(\d+)/", url)[1])
        with relay(port, bursts) as at, Service(ours, url.replace(f":{port}/", f":{at}/")) as service:
            for call in (READ, WRITE):
                hammer(service.port, 1, [call])
                time.sleep(0.5)
                bursts.clear()
                hammer(service.port, 1, [call] * 20)
                time.sleep(0.5)
                print(f"{'ours' if ours else 'audited'}, {call[0]}: {bursts['bursts'] / bursts['connections']:.1f} bursts", flush=True)


def main() -> None:
    """Measure all."""
    count, seconds = int([*sys.argv, "10"][1]), float([*sys.argv, "", "2"][2] or 2)
    postgres = Postgres()
    try:
        with postgres.database() as url:
            subprocess.run([sys.executable, "-m", "app", "migrate", "up"], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL,
                           env={"PATH": os.environ["PATH"], "APP_ENV": "local", "DATABASE_URL": url})
            query(url, "insert into notes (title) values ('one')")
            with pgbouncer(postgres.server, url, 100) as roomy:
                trips(roomy)
                rounds(roomy, 1, count, seconds)
                rounds(roomy, 8, count, seconds)
            with pgbouncer(postgres.server, url, 15) as tight:
                rounds(tight, 64, count, seconds, DB_MAX_SESSIONS="15")
        lost, refused, silent = Reply(drop=True), Reply(error=("40001", "x")), Reply(hang=True)
        for fault, reply, every in (("lost", lost, 2), ("refused", refused, 2), ("unanswered", silent, 20)):
            for ours in (True, False):
                truth(ours, fault, reply, every)
    finally:
        postgres.stop()


if __name__ == "__main__":
    main()
