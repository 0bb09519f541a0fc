"""What a refusal between dial and the answer to BEGIN means."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg.errors import Diagnostic

from app.nopool.errors import DatabaseError, Misconfigured, PoolerFull, Unavailable, is_fatal, one_line

T = TypeVar("T")


@dataclass(frozen=True)
class Refusal:
    """Why an attempt failed.

    libpq keeps the SQLSTATE of a login's refusal to itself, and gives the text alone: so there
    it is None, and localized texts of Postgres are not understood.
    """

    text: str
    sqlstate: str | None = None
    answered: bool = False  # the server said so
    fatal: bool = True  # the connection is closed, rather than a setting refused
    before_begin: bool = False  # no statement was sent
    admitted: bool = False  # our own password had been accepted

    @classmethod
    def of(cls, err: psycopg.Error) -> "Refusal":
        """Read what psycopg says of a connection that failed, or of BEGIN."""
        if err.sqlstate is not None:
            return cls.said(err.diag)
        text = str(err)
        said = _SAID.search(text)
        if said:
            return cls(one_line(said[1]), None, True)
        return cls(one_line(_WHERE.sub("", text.split("\n", 1)[0])))

    @classmethod
    def said(cls, diag: Diagnostic) -> "Refusal":
        """Read what the server said."""
        return cls(one_line(diag.message_primary or ""), diag.sqlstate, True, is_fatal(diag))

    def __str__(self) -> str:
        return f"{self.text} (SQLSTATE {self.sqlstate})" if self.sqlstate else self.text


# What psycopg and libpq write before libpq's own words.
_WHERE = re.compile(
    r"^connection (?:failed|is bad): |"
    r'connection to server (?:at|on socket) "[^"]*"(?: \([^)]*\))?(?:, port \d+)? failed: '
)

# libpq writes the severity, two spaces, and what the server said.
_SAID = re.compile(r"(?:FATAL|ERROR|PANIC):  (.*)", re.DOTALL)

# What a server's text means: the first line that matches. What is not listed is passing: servers that start or stop,
# and what nobody has met yet.
_TEXTS = (
    # Supavisor: lib/supavisor/errors, client_handler. Its codes have longer forms, such as EMAXCONNSESSION.
    ("full", "EMAXCONN|MaxClientsInSessionMode|Max client connections reached|ECHECKOUT|ESUBSCRIBERETRIES|EPOOL"),
    ("password", "too many authentication failures"),
    ("lasting", "ENOTFOUND|Tenant or user not found|ENOIDENTIFIER|EINVALIDUSERINFO|EMULTIPLEUSERS|ESTARTUP"),
    ("lasting", "ESSLREQUIRED|SSL connection is required|EADDRNOTALLOWED|EBANNED|credentials are invalid"),
    # What the database has for the role is of no use.
    ("password", "user not found in the database|no auth_query"),
    ("password", "wrong format|secret format|parse SCRAM secret|MD5 secrets"),
    # It cannot ask the database for our secret, nor remembers it, and counts that as it does a refused password. The
    # last one says that it does not even try for 30 s.
    ("unasked", r"EAUTH|EJIT|Internal error \(handshake\)|ECIRCUITBREAKER"),
    ("passing", "^Failed to connect to database"),  # for any reason
    # PgBouncer: client.c, objects.c, janitor.c.
    ("full", "no more connections allowed|client connections exceeded|query_wait_timeout|query_timeout"),
    ("passing", "has been failing|^server login failed"),  # its own login at the server
    ("password", "authentication failed"),
    ("lasting", "no such (?:user|database)|unsupported|SSL required|login rejected|^not allowed|no username|too long"),
    ("lasting", "empty password|invalid SASL|no authentication method|not supported by this build"),
    # Postgres: SQLSTATE 53300, classes 28, 3D, 42 and 22, which libpq does not tell.
    ("full", "too many clients|too many connections|remaining connection slots"),
    ("lasting", "pg_hba.conf|certificate|channel binding|does not exist|permission denied|not permitted"),
    ("lasting", "invalid value for|unrecognized|is not currently accepting connections"),
)
_LASTING_STATES = ("28", "3D", "42", "22", "55P02", "25001", "0A")  # beginnings; what BEGIN is told

# What libpq says of a server that does not speak TLS, has the wrong certificate, asks for a method that is not
# allowed, or cannot prove that it knows the password.
_LIBPQ = "does not support SSL|certificate|authentication method requirement|channel binding|SCRAM|SSL error|alert"

# What the owner can do, by what is in the text.
_ADVICE = (
    (
        "ENOIDENTIFIER|EINVALIDUSERINFO|ENOTFOUND|Tenant or user not found",
        "at Supabase's pooler the user is postgres.PROJECTREF",
    ),
    (
        "wrong format|secret format|parse SCRAM secret|MD5 secrets",
        "set the role's password again, with password_encryption = 'scram-sha-256'",
    ),
    ("too many authentication failures", "mend the password, then wait for two minutes"),
    ("authentication failed", "mend user and password; in a URL both are percent-encoded"),
)


def _meaning(refusal: Refusal) -> str:
    if not refusal.answered:
        return "lasting" if re.search(_LIBPQ, refusal.text) else "passing"
    # The text of a setting's refusal can quote anything.
    means = next((means for means, texts in _TEXTS if refusal.fatal and re.search(texts, refusal.text)), "")
    return means or ("lasting" if (refusal.sqlstate or "").startswith(_LASTING_STATES) else "passing")


def kind_of(refusal: Refusal) -> type[DatabaseError]:
    """Say what a refusal means: PoolerFull, Unavailable or Misconfigured."""
    kinds = {"full": PoolerFull, "lasting": Misconfigured, "password": Misconfigured}
    return kinds.get(_meaning(refusal), Unavailable)


def is_unasked(refusal: Refusal) -> bool:
    """Report whether the pooler could not ask for our secret."""
    return _meaning(refusal) == "unasked"


def is_password(refusal: Refusal) -> bool:
    """Report whether the refusal counts as a refused password at the pooler.

    Postgres names the user. Behind a verdict on our password that is said of the pooler's own.
    """
    passed_on = refusal.admitted and " for user " in refusal.text
    return _meaning(refusal) == "password" and not passed_on


def advice(text: str) -> str:
    """Say what to do about a refusal that will not pass, nothing where its own text must do."""
    return next((do for pattern, do in _ADVICE if re.search(pattern, text)), "")


def once_more(connect: Callable[[], T]) -> T:
    """Call connect, and again after 1 to 2 s if the password was refused.

    Supavisor refuses a new one once, out of its cache, and learns it by that.
    """
    try:
        return connect()
    except Misconfigured as err:
        if "password authentication failed" not in str(err):
            raise
    time.sleep(random.uniform(1, 2))
    return connect()
