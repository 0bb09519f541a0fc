"""Find the Postgres that is installed on this machine and run a private server of it.

It is for the dev command and for tests. Its servers speak SCRAM, and TLS where openssl is there to
make a certificate, so that what works here works against a real one.
"""

import ctypes
import glob
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from app import CommandError

START_TIMEOUT = 90.0  # of initdb and the server's start together; both take seconds on a busy machine

# Where packages put their binaries: Debian and PGDG, Red Hat, Homebrew, Postgres.app.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


class NotFound(CommandError):
    """There is no Postgres on this machine."""


def find_binaries() -> Path:
    """Return the folder that holds postgres and initdb."""
    named = os.environ.get("EMBEDDED_PG")
    on_path = Path(shutil.which("postgres") or "/").resolve().parent
    for pattern in (named, f"{named}/bin") if named else (str(on_path), *_FOLDERS):
        for place in sorted(map(Path, glob.glob(pattern)), reverse=True):
            if os.access(place / "postgres", os.X_OK) and os.access(place / "initdb", os.X_OK):
                return place.absolute()
    raise NotFound(
        f"EMBEDDED_PG {named!r} holds no postgres and initdb: name a folder that does, or unset it"
        if named
        else "no Postgres is installed here (apt-get install postgresql, brew install postgresql@17), "
        "or name its folder in EMBEDDED_PG"
    )


def account() -> pwd.struct_passwd | None:
    """Return the user that children run as, None for our own: Postgres refuses to run as root."""
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres", known.get("nobody")) if os.getuid() == 0 else None


def own(path: Path) -> None:
    """Give a file or folder to the account that children run as."""
    user = account()
    if user:
        os.chown(path, user.pw_uid, user.pw_gid)


def write_file(path: Path, text: str) -> None:
    """Write a file that children, and nobody else but root, can read."""
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    own(path)


def start_process(log: Path, *command: str | Path) -> "subprocess.Popen[bytes]":
    """Start a child as an unprivileged user, its output appended to a log, in English, which we read.

    It has a session of its own, so that Ctrl-C on the terminal reaches us alone; on Linux it ends
    when we are killed.
    """
    user, libc = account(), ctypes.CDLL(None)
    as_user: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with log.open("ab") as out:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=tempfile.gettempdir(),  # the account may have no access to our own
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            preexec_fn=(lambda: libc.prctl(1, signal.SIGINT)) if sys.platform == "linux" else None,  # PR_SET_PDEATHSIG
            **as_user,
        )


def free_port() -> int:
    """Return a free port below those that outgoing connections get, which could connect to themselves."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """A running Postgres, reachable at 127.0.0.1 alone."""

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self.durable = durable
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self._binaries = Path()

    def start(self) -> "Server":
        """Make the cluster if there is none yet, start its server, and return once it answers."""
        self._binaries = find_binaries()
        deadline = time.monotonic() + START_TIMEOUT
        password = self.folder / "password"
        try:
            if not password.exists():
                self._initialize(deadline)
            self._password = password.read_text(encoding="utf-8")
            self._launch(deadline)
        except (CommandError, OSError, subprocess.SubprocessError) as err:
            text = str(err)
            if os.getuid() == 0 and "ermission denied" in text:
                text += (
                    " (Postgres does not run as root, and as another user it cannot go there: "
                    "run this as an ordinary user, or from a folder that is open to others)"
                )
            raise CommandError(f'start Postgres on "{self.folder}": {text}') from err
        return self

    def _initialize(self, deadline: float) -> None:
        """Make a cluster beside its folder and move it there when complete, so that nothing is left half made."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-cluster-", dir=self.folder.parent))
        try:
            own(draft)
            data, password, log = draft / "data", draft / "password", draft / "log"
            write_file(password, secrets.token_urlsafe(20))
            initdb = start_process(
                log, self._binaries / "initdb", "-D", data, "-U", "postgres", "--pwfile", password,
                "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync",
            )  # fmt: skip
            if initdb.wait(deadline - time.monotonic()) != 0:
                raise CommandError(f"make a cluster: {complaint(log)}")
            kind = "hostssl" if self._make_certificate(data) else "host"
            write_file(data / "pg_hba.conf", f"{kind} all all 127.0.0.1/32 scram-sha-256\n")
            password.rename(data / "password")
            data.rename(self.folder)  # which fails where there is something else
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @staticmethod
    def _make_certificate(data: Path) -> bool:
        """Make a certificate that is its own authority, so that who names it trusts this one server."""
        openssl = shutil.which("openssl")
        if not openssl:
            return False
        key, certificate = data / "server.key", data / "server.crt"
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        for file in (key, certificate):
            file.chmod(0o600)
            own(file)
        return True

    def _launch(self, deadline: float) -> None:
        options = ["-c", "ssl=on"] if self.tls else []
        if not self.durable:
            options += ["-F", "-c", "full_page_writes=off"]
        log = self.folder / "server.log"
        log.unlink(missing_ok=True)
        self.process = start_process(
            log, self._binaries / "postgres", "-D", self.folder, "-h", "127.0.0.1", "-p", str(self.port),
            "-k", "", *options,
        )  # fmt: skip
        while True:
            try:
                self._execute(sql.SQL("create role app login password {}").format(self._password), "42710")
                return
            except psycopg.OperationalError as err:
                if self.process.poll() is not None:
                    raise CommandError(complaint(log)) from err
                if time.monotonic() > deadline:
                    self.stop()
                    raise CommandError("no answer in time") from err
            time.sleep(0.02)

    @property
    def tls(self) -> bool:
        """Report whether the server has a certificate."""
        return (self.folder / "server.crt").exists()

    def create_database(self, name: str) -> None:
        """Make a database that belongs to the role app, unless there is one of that name."""
        self._execute(sql.SQL("create database {} owner app template template0").format(sql.Identifier(name)), "42P04")

    def _execute(self, statement: sql.Composed, done: str) -> None:
        with psycopg.connect(self.admin_url("postgres"), autocommit=True) as connection:
            try:
                connection.execute(statement)
            except psycopg.Error as err:
                if err.sqlstate != done:
                    raise

    def url(self, database: str, role: str = "app") -> str:
        """Return the address, password included, of a database for a role: app owns it and is no superuser."""
        at = f"postgres://{role}:{quote(self._password)}@127.0.0.1:{self.port}/{quote(database)}"
        if self.tls:
            return f"{at}?sslmode=verify-full&sslrootcert={quote(str(self.folder / 'server.crt'))}"
        return f"{at}?sslmode=disable"

    def admin_url(self, database: str) -> str:
        """Return the address for the superuser."""
        return self.url(database, "postgres")

    def stop(self) -> None:
        """Stop the server, and kill it where it does not in time."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def complaint(log: Path) -> str:
    """Return the last fatal error in a log, with what is added to it, else the last line."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    fatal = re.findall(r"FATAL:? +(.*)(?:\n.*(?:DETAIL|HINT): +(.*))?", text)
    return ": ".join(filter(None, fatal[-1])) if fatal else text.rpartition("\n")[2]
