"""The program as a process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.verify.servers import SOON, within

ROOT = Path(__file__).parent.parent.parent


class Process:
    """A service on a database, with settings of its own and no other."""

    def __init__(self, database_url: str, **settings: str) -> None:
        env = {"PATH": os.environ["PATH"], "APP_ENV": "local", "LOG_FORMAT": "json", "HTTP_ADDR": "127.0.0.1:0"}
        env |= {"DATABASE_URL": database_url, "DB_ALLOW_PLAIN_AUTH": "true", **settings}
        self._said = tempfile.NamedTemporaryFile()  # noqa: SIM115 (it is closed below)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.verify.program", "serve"], cwd=ROOT, env=env, stderr=self._said
        )

    @property
    def stderr(self) -> str:
        """What it has said so far, in whole lines."""
        return Path(self._said.name).read_text(encoding="utf-8").rpartition("\n")[0]

    def records(self, message: str) -> list[dict[str, Any]]:
        """Return the log's records with a message."""
        found = [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]
        return [record for record in found if record["msg"] == message]

    def errors(self) -> list[str]:
        """Return the lines for people, log lines left out."""
        return [line for line in self.stderr.splitlines() if not line.startswith("{")]

    def port(self) -> int:
        """Wait until it listens, and return where."""
        assert within(SOON, lambda: self.records("listening") or self.child.poll() is not None)
        assert self.records("listening"), self.stderr[-2000:]
        return int(self.records("listening")[0]["addr"].rsplit(":", 1)[1])

    def wait(self) -> int:
        """Wait for its end, and return its status."""
        return self.child.wait(SOON)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait."""
        self.child.send_signal(number)
        return self.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()  # if it is still there
        self.child.wait()
        self._said.close()
