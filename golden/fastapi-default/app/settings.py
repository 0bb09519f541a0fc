"""Turn the environment into Settings.

Every setting is a field with its default and its bound, every problem is reported at once, and
nothing secret can be printed by accident.
"""

import os
import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import NAME, CommandError
from app.nopool import Limits, Misconfigured, Target, parse

GUESSED_SESSIONS = 10  # connections, when nothing says how many there are

_DURATION = re.compile(r"0|(?:\d+(?:\.\d+)?(?:ms|h|m|s))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _duration(value: Any) -> Any:
    if not isinstance(value, str):  # a number of seconds, from code
        return value
    if not _DURATION.fullmatch(value.strip()):
        raise ValueError("not a duration, such as 500ms, 30s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))


def _address(text: str) -> str:
    if not re.fullmatch(r"(?:[^:\s]*|\[[^\]\s]+\]):[0-9]{1,5}", text) or int(text.rpartition(":")[2]) > 65535:
        raise ValueError("not an address such as :8080 or 127.0.0.1:8080")
    return text


def _url(value: Any, info: ValidationInfo) -> Target:
    if isinstance(value, Target):
        return value
    given = info.data  # the settings before it that are valid
    local, plain_auth = given.get("app_env") == "local", given.get("db_allow_plain_auth", False)
    try:
        return parse(str(value), given.get("app_name", ""), local, plain_auth)
    except Misconfigured as err:
        raise ValueError(str(err).rpartition("is invalid: ")[2]) from None


_lower = BeforeValidator(lambda value: value.strip().lower())
Url = Annotated[Target, NoDecode, PlainValidator(_url)]
Seconds = Annotated[float, BeforeValidator(_duration), Field(ge=0.001, le=24 * 3600)]
SecondsOrZero = Annotated[float, BeforeValidator(_duration), Field(ge=0, le=24 * 3600)]
Count = Annotated[int, Field(ge=1, le=100_000)]
CountOrZero = Annotated[int, Field(ge=0, le=100_000)]
Name = Annotated[str, Field(pattern=r"^[!-~]{1,63}$")]
Address = Annotated[str, AfterValidator(_address)]
Level = Annotated[Literal["debug", "info", "warn", "error"], _lower]
Format = Annotated[Literal["json", "text"], _lower]

for name in [name for name in os.environ if name.startswith("PG")]:
    del os.environ[name]  # libpq would add them to what the URL says


class Settings(BaseSettings):
    """The service's settings, checked."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    migration_allow_pooler: bool = False
    app_name: Name = NAME
    app_env: Name = "production"
    log_level: Level = "info"
    log_format: Format | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    http_addr: Address | None = None
    http_max_body: Annotated[int, Field(ge=1, le=1 << 30)] = 1048576
    request_timeout: Seconds = 60.0
    shutdown_delay: SecondsOrZero = 0.0
    shutdown_timeout: Seconds = 20.0
    db_max_sessions: Count | None = None
    db_pool_size: Count | None = None
    db_replicas: Count = 1
    db_reserve: CountOrZero = 2
    db_max_waiting: CountOrZero | None = None
    db_session_wait: Seconds = 5.0
    db_connect_timeout: Seconds = 10.0
    db_startup_timeout: Seconds = 30.0
    db_statement_timeout: Seconds = 30.0
    db_lock_timeout: Seconds = 5.0
    db_idle_in_transaction_timeout: Seconds = 30.0
    db_allow_plain_auth: bool = False
    # The last, since what they may ask for depends on the others.
    database_url: Url
    migration_database_url: Url | None = None

    @property
    def budget_guessed(self) -> bool:
        """Report whether nothing says how many connections there are."""
        return self.db_max_sessions is None and self.db_pool_size is None

    @property
    def max_sessions(self) -> int:
        """The connections that this process may hold: a share of the pooler's size is the safe answer."""
        if self.db_max_sessions is not None:
            return self.db_max_sessions
        if self.db_pool_size is not None:
            return max(1, (self.db_pool_size - self.db_reserve) // self.db_replicas)
        return GUESSED_SESSIONS

    @property
    def limits(self) -> Limits:
        """How much of the database this process may use."""
        return Limits(
            max_sessions=self.max_sessions,
            max_waiting=4 * self.max_sessions if self.db_max_waiting is None else self.db_max_waiting,
            session_wait=self.db_session_wait,
            connect_timeout=self.db_connect_timeout,
            statement_timeout=self.db_statement_timeout,
            lock_timeout=self.db_lock_timeout,
            idle_in_transaction_timeout=self.db_idle_in_transaction_timeout,
            replicas=self.db_replicas,
        )

    @property
    def listen_at(self) -> tuple[str, int]:
        """HTTP_ADDR, else PORT, as host, which may be empty, and port."""
        host, _, port = (self.http_addr or f":{self.port}").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def migrations_url(self) -> Target:
        """Where migrations go: the same, unless MIGRATION_DATABASE_URL is another."""
        return self.migration_database_url or self.database_url

    def contradictions(self) -> list[str]:
        """Look at settings that only make sense together.

        A request that ends before its session could open would blame the wrong party.
        """
        whole, statement, size = self.request_timeout, self.db_statement_timeout, self.db_pool_size
        opening = self.db_session_wait + self.db_connect_timeout
        connections = self.db_replicas * self.max_sessions + self.db_reserve
        found = []
        if whole <= opening:
            sum_of = "DB_SESSION_WAIT + DB_CONNECT_TIMEOUT"
            found.append(f"REQUEST_TIMEOUT: {whole:g}s must be more than {sum_of}, which is {opening:g}s")
        if whole < statement:
            found.append(f"REQUEST_TIMEOUT: {whole:g}s must be at least DB_STATEMENT_TIMEOUT, which is {statement:g}s")
        if size is not None and connections > size:
            sum_of = "DB_REPLICAS x DB_MAX_SESSIONS + DB_RESERVE"
            found.append(f"DB_POOL_SIZE: {size} must not be less than {sum_of}, which is {connections}")
        return found


def load() -> Settings:
    """Read the environment, or raise CommandError with all that is wrong with it, which quotes nothing secret."""
    found = _slips()
    try:
        settings = Settings()
        found += settings.contradictions()
    except ValidationError as err:
        found += map(_explain, err.errors(include_url=False, include_input=False))
    if found:
        raise CommandError("\n".join(found))
    return settings


def _slips() -> list[str]:
    """Find names that are almost those of settings, and values in quotes."""
    names, found = [name.upper() for name in Settings.model_fields], []
    for name, value in os.environ.items():
        near = get_close_matches(name.upper(), names, 1, 0.9)
        if near and near[0] != name.upper() and not os.environ.get(near[0]):  # else it may be somebody else's
            found.append(f"{name}: no setting, but {near[0]} is one")
        elif near and re.fullmatch(r"'.*'|\".*\"", value):
            found.append(f"{name}: in quotes, which Docker's --env-file keeps: leave them out")
    return found


def _explain(problem: Any) -> str:
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        text = 'not set: give it a postgres:// URL, or run "python -m app dev" for a private local database'
    return f"{str(problem['loc'][0]).upper()}: {text}"
