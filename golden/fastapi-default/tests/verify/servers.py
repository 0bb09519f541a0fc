"""A PgBouncer before the tests' Postgres, and what tests ask of both."""

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from app import localpg

SOON = 30.0  # far more than anything takes, on a busy machine too


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Report whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def query(url: str, statement: str) -> Any:
    """Return the first value of a statement, if it has any, from a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


@contextlib.contextmanager
def pgbouncer(server: localpg.Server, database_url: str, clients: int, mode: str = "session") -> Iterator[str]:
    """Run a PgBouncer that admits so many clients, and give the URL through it."""
    binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    port, folder = localpg.free_port(), Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    localpg.own(folder)
    match = re.fullmatch(r"\w+://app:([^@]+)@127\.0\.0\.1:(\d+)/(\w+).*", database_url)
    assert match
    secret = query(server.admin_url("postgres"), "select rolpassword from pg_authid where rolname = 'app'")
    localpg.write_file(folder / "users", f'"app" "{secret}"\n')
    localpg.write_file(
        folder / "ini",
        f"""[databases]
* = host=127.0.0.1 port={match[2]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = {mode}
max_client_conn = {clients}
default_pool_size = {clients}
server_tls_sslmode = require
client_tls_sslmode = require
client_tls_key_file = {server.folder}/server.key
client_tls_cert_file = {server.folder}/server.crt
""",
    )
    process = localpg.start_process(folder / "log", binary, folder / "ini")
    try:
        url = re.sub(r"@127\.0\.0\.1:\d+", f"@127.0.0.1:{port}", database_url)
        assert within(SOON, lambda: _answers(url)), localpg.complaint(folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        return bool(query(url, "select 1"))
    except psycopg.Error:
        return False
