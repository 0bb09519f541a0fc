"""The command line."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from app import NAME
from app.localpg import free_port
from tests.servers import Postgres

ROOT = Path(__file__).parent.parent
ALEMBIC = Path(sys.executable).parent / "alembic"


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("--help", 0, "serve"),
        ("version", 0, NAME),
        ("sreve", 2, "usage:"),
        ("migrate", 2, "usage:"),
        ("migrate sideways", 2, "usage:"),
        ("serve", 1, "DATABASE_URL: not set"),
        ("migrate up", 1, "DATABASE_URL: not set"),
        ("dev", 1, "dev is for development"),
    ],
)
def test_command_line(line: str, status: int, text: str) -> None:
    command, env = [sys.executable, "-m", "app", *line.split()], {"APP_ENV": "production"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert text in done.stdout + done.stderr


def test_nobody_reads() -> None:
    """A reader such as head, who has left, is no error."""
    reads, writes = os.pipe()
    os.close(reads)
    line = [sys.executable, "-m", "app", "version"]
    done = subprocess.run(line, cwd=ROOT, env={}, stdout=writes, stderr=subprocess.PIPE, check=True)
    os.close(writes)
    assert done.stderr == b""


def test_alembic() -> None:
    """Its own command finds the service's settings."""
    done = subprocess.run([ALEMBIC, "check"], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert "DATABASE_URL: not set" in done.stderr


def test_another_server() -> None:
    """The application can be imported, as "uvicorn app.main:app" does."""
    load = "import os; from app.main import app; assert 'PGOPTIONS' not in os.environ"  # which libpq would add
    env = {"DATABASE_URL": "postgres://h/db?sslmode=require", "PGOPTIONS": "-c geqo=off"}
    done = subprocess.run([sys.executable, "-c", load], cwd=ROOT, env=env, capture_output=True, check=True)
    assert b"no orderly end" in done.stderr


def test_exported_settings() -> None:
    """Tests have settings of their own: those of the shell may name a database that matters."""
    only = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_settings.py", "-k", "defaults"]
    env = {**os.environ, "MIGRATION_DATABASE_URL": "postgres://h/matters?sslmode=require", "port": "1"}
    subprocess.run(only, cwd=ROOT, env=env, capture_output=True, check=True)


def test_dev(postgres: Postgres) -> None:
    """It serves on a Postgres of its own, migrated, and stops both at Ctrl-C."""
    if postgres.server is None:
        pytest.skip("TEST_DATABASE_URL does not say where there is a Postgres to start")
    port, line = free_port(), [sys.executable, "-m", "app", "dev"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PORT": str(port)}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # Postgres may run as another user
        with subprocess.Popen(line, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
            try:
                assert child.stdout
                said: list[bytes] = list(itertools.takewhile(lambda text: b"listening" not in text, child.stdout))
                assert any(text.startswith((b"up ", b"nothing to do")) for text in said)  # of its migrations
                with urlopen(f"http://127.0.0.1:{port}/ready") as response:
                    assert response.status == 200
                child.send_signal(signal.SIGINT)
                assert child.wait(30) == 0
            finally:
                child.kill()
        assert not Path(folder, ".dev/postgres/postmaster.pid").exists()
