"""The program as a process."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.verify.servers import SOON, within

ROOT = Path(__file__).parent.parent.parent


class Process:
    """A run of the program, with settings of its own and no other."""

    def __init__(self, command: str, **settings: str) -> None:
        env = {"PATH": os.environ["PATH"], "APP_ENV": "local", "LOG_FORMAT": "json", "HTTP_ADDR": "127.0.0.1:0"}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.verify.program", *command.split()],
            cwd=ROOT, env=env | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stderr
        for line in self.child.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return "\n".join(self.lines)

    def records(self, message: str) -> list[dict[str, Any]]:
        """Return the log's records with a message."""
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [record for record in found if record["msg"] == message]

    def errors(self) -> list[str]:
        """Return the lines for people, log lines left out."""
        return [line for line in self.lines if not line.startswith("{")]

    def port(self) -> int:
        """Wait until it listens, and return where."""
        assert within(SOON, lambda: self.records("listening") or self.child.poll() is not None)
        assert self.records("listening"), self.stderr[-2000:]
        return int(self.records("listening")[0]["addr"].rsplit(":", 1)[1])

    def wait(self) -> int:
        """Wait for its end, and return its status."""
        status = self.child.wait(SOON)
        self._reader.join(SOON)
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait."""
        self.child.send_signal(number)
        return self.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        if self.child.stdout:
            self.child.stdout.close()
        self._reader.join(SOON)
        if self.child.stderr:
            self.child.stderr.close()
