"""A real Postgres for tests."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from app import localpg


class Postgres:
    """The server of TEST_DATABASE_URL, whose user may create databases, or a private one."""

    def __init__(self) -> None:
        self._given = os.environ.get("TEST_DATABASE_URL", "")
        self._folder = tempfile.mkdtemp()
        os.chmod(self._folder, 0o755)
        self.server = None if self._given else localpg.Server(Path(self._folder, "cluster"), durable=False).start()

    def stop(self) -> None:
        """Stop what was started."""
        if self.server is not None:
            self.server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make a database, and give its URL."""
        name = f"test_{secrets.token_hex(6)}"
        admin_url = self.server.admin_url("postgres") if self.server else self._given
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
            if self.server:
                admin.execute(sql.SQL("alter database {} owner to app").format(sql.Identifier(name)))
            try:
                yield self.server.url(name) if self.server else make_conninfo(self._given, dbname=name)
            finally:
                admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
