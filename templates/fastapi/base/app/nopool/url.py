"""Which database URLs are accepted, and what they may ask for."""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from functools import cached_property

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.nopool.errors import Misconfigured

# The connection parameters taken from a URL. Everything else libpq would send to the server at
# start-up, which poolers refuse or drop.
ALLOWED = (
    "host", "port", "user", "password", "dbname", "application_name", "connect_timeout",
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslsni", "sslnegotiation",
    "channel_binding", "require_auth",
)  # fmt: skip

# Parameters that other clients invented and providers print in their example URLs. They mean
# nothing here and are dropped.
_FOREIGN = re.compile(
    "(?<=[?&])(?:pgbouncer|supa|schema|connection_limit|pool_timeout|pool_max_conns|pool_min_conns)=[^&]*&?"
)

# Parameters of libpq that say nothing new, where they have these values.
_HARMLESS = {"gssencmode": ("disable", "prefer"), "target_session_attrs": ("any", "read-write", "primary")}

ONLY_SCRAM = "scram-sha-256"
MALFORMED = (
    f"malformed, or a parameter is not one of {', '.join(ALLOWED)}; percent-encode special characters in the password"
)
WEAK_MODES = ("disable", "allow", "prefer")
STRONG_MODES = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Target:
    """Where a database is, and how a connection to it is made. Printing it shows the host only."""

    host: str
    port: int
    params: dict[str, str] = field(repr=False)  # of libpq, the password among them

    @cached_property
    def conninfo(self) -> str:
        """All of it in libpq's form, made once."""
        return make_conninfo(host=self.host, **self.params)

    @property
    def verified(self) -> bool:
        """Report whether the server must prove who it is with a certificate."""
        return self.params["sslmode"] in ("verify-ca", "verify-full")


def parse(url: str, app_name: str = "", allow_plaintext: bool = False, allow_plain_auth: bool = False) -> Target:
    """Return what connects to a postgres:// URL or keyword=value string.

    There is no fallback to another host or to plaintext, and nothing is sent at start-up but the
    name of the application. Without a verified certificate only SCRAM is spoken, unless allowed
    otherwise, since any other method would hand the password to whoever answers. What libpq
    would take from PG* variables is set here, as far as it can be. The text of an error quotes
    nothing of the URL: a mistyped one has its password in odd places.
    """
    params = _params(url.strip())
    host = params.get("host", "")
    if "," in host + params.get("port", ""):
        raise _invalid("names several hosts; name one")
    if not host:
        raise _invalid("names no host")
    port = params.setdefault("port", "5432")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536 or re.search("[/@]", params.get("dbname", "")):
        raise _invalid(MALFORMED)
    params["sslmode"] = _sslmode(params.get("sslmode", "prefer"), host, allow_plaintext)
    for name in ("sslrootcert", "sslcert", "sslkey"):
        path = params.get(name, "")
        if path and path != "system" and not os.access(path, os.R_OK):
            raise _invalid("a file that it names, as by sslrootcert, cannot be read from where the program starts")
    if params["sslmode"] == "verify-full" and "sslrootcert" not in params:
        params["sslrootcert"] = "system"
    if params.get("require_auth", ONLY_SCRAM) != ONLY_SCRAM:
        raise _invalid(f"require_auth can only be {ONLY_SCRAM}")
    if params["sslmode"] not in ("verify-ca", "verify-full") and not allow_plain_auth:
        params["require_auth"] = ONLY_SCRAM
    name = app_name or params.get("application_name") or "nopool"  # an empty one is malformed to Supavisor
    user = params.setdefault("user", "postgres")
    params |= {"application_name": name, "dbname": params.get("dbname") or user, "gssencmode": "disable"}
    params.setdefault("password", "")
    del params["host"]
    params.pop("connect_timeout", None)  # the session's own deadline covers more
    return Target(host, int(port), params)


def _params(url: str) -> dict[str, str]:
    """Read the string as libpq does, without a look at what it asks for, but for unknown parameters."""
    scheme, is_url, _ = url.partition("://")
    if is_url and "=" not in scheme:
        if scheme not in ("postgres", "postgresql"):
            raise _invalid("the scheme must be postgres:// or postgresql://")
        url = _FOREIGN.sub("", url)
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url).items() if value}
    except psycopg.Error:  # whose text quotes the string
        raise _invalid(MALFORMED) from None
    for name, harmless in _HARMLESS.items():
        if found.get(name) in harmless:
            del found[name]
    unknown = sorted(set(found) - set(ALLOWED))  # they are libpq's names, since it has read them
    if unknown:
        raise _invalid(f"{', '.join(unknown)} cannot be set here: leave it out, or set it by ALTER ROLE")
    return found


def _sslmode(mode: str, host: str, allow_plaintext: bool) -> str:
    """Return the one mode that is tried: there is no second attempt with another."""
    if mode not in WEAK_MODES + STRONG_MODES:
        raise _invalid(f"sslmode is none of {', '.join(WEAK_MODES + STRONG_MODES)}")
    if mode in STRONG_MODES and not host.startswith("/"):
        return mode
    if not (allow_plaintext and is_local(host)):
        raise _invalid(
            "sslmode must be require, verify-ca or verify-full (weaker is for APP_ENV=local and a host on this machine)"
        )
    return "require" if mode == "prefer" and not host.startswith("/") else "disable"


def is_local(host: str) -> bool:
    """Report whether host is this machine: a Unix socket's folder, localhost, or a loopback address."""
    try:
        return host.startswith("/") or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _invalid(reason: str) -> Misconfigured:
    return Misconfigured(f"the database URL is invalid: {reason}")
