"""Run Alembic over a single connection, one run at a time."""

import contextlib
import math
import re
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.pool import NullPool

from app import CommandError
from app.nopool import Misconfigured, Target, describe
from app.nopool.refusals import Refusal, kind_of, once_more
from app.settings import Settings

FOLDER = Path(__file__).parent.parent / "migrations"
COMMANDS = ("up", "down", "status")

# What a migration may take. SET reaches the server through every session-mode pooler, start-up
# parameters do not. A role's own statement_timeout, made for requests, would cut a long migration
# short; a migration may set either differently.
SESSION = "set lock_timeout = '5s'; set statement_timeout = '15min'; set idle_in_transaction_session_timeout = '5min'"

AFRESH = "set session authorization default; reset role; reset all; discard temp"  # what another file has set
# Where the table of versions is: a file may set search_path, as all of pg_dump do.
SCHEMA = """
    select coalesce(min(nspname::text), current_schema()::text)
    from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = to_regclass('alembic_version')"""
# One on a partitioned table only waits for its partitions.
INVALID = """
    select string_agg(indexrelid::regclass::text, ', ')
    from pg_index join pg_class i on i.oid = indexrelid join pg_class t on t.oid = indrelid
    where not indisvalid and i.relkind = 'i'
        and array[lower(t.relname), regexp_replace(lower(i.relname), '_cc(new|old)[0-9]*$', '')]::text[] && :words"""

# How long a run waits for another one to end. It polls: a blocking wait would hold a snapshot, and
# CREATE INDEX CONCURRENTLY in the other run would wait for that in turn, until one of the two is killed.
LOCK_WAIT = 60.0
LOCK_KEY = 0x6E756C6C706F6F6C


@contextmanager
def connected(settings: Settings) -> Iterator[Connection]:
    """Give the one connection of a run, and close it."""
    target = settings.migrations_url
    pooler = transaction_pooler(target.host, target.port)
    if pooler and not settings.migration_allow_pooler:
        raise Misconfigured(
            f"{pooler} hands each transaction to another connection, so the lock that keeps two runs apart would not "
            "hold: set MIGRATION_DATABASE_URL to the direct or session-mode address (or MIGRATION_ALLOW_POOLER=true)"
        )
    real = once_more(lambda: _dial(target, settings.db_connect_timeout))
    engine = create_engine("postgresql+psycopg://", creator=lambda: real, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "set_connection_execution_options")
    def _(_: Connection, options: Any) -> None:
        """CREATE INDEX CONCURRENTLY waits for all other transactions: no bound in Alembic's autocommit_block."""
        if "isolation_level" in options:
            real.execute(f"set lock_timeout = '{0 if options['isolation_level'] == 'AUTOCOMMIT' else '5s'}'")
            real.commit()

    with contextlib.closing(real), engine.connect() as connection:
        yield connection


def _dial(target: Target, timeout: float) -> "psycopg.Connection[Any]":
    try:
        connection = psycopg.connect(
            make_conninfo(host=target.host, connect_timeout=math.ceil(timeout), **target.params),
            prepare_threshold=None,
        )
    except psycopg.Error as err:
        refusal = Refusal.of(err)
        raise kind_of(refusal)(str(refusal)) from err
    connection.execute(SESSION)
    connection.commit()
    return connection


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """Hold the lock that keeps two runs apart."""
    deadline = time.monotonic() + LOCK_WAIT
    while not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise CommandError(f"another run has held the lock for {LOCK_WAIT:.0f} s: try again when it has ended")
        time.sleep(1)
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.rollback()
            connection.execute(text("select pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
            connection.commit()


def run(settings: Settings, name: str, out: TextIO) -> None:
    """Run one of COMMANDS and write what it did, one line for each migration."""
    config = _config()
    scripts = scripts_of_project()
    with connected(settings) as connection, locked(connection):
        applied = applied_to(connection, scripts)
        newest_first = list(scripts.walk_revisions())
        if name == "status":
            for script in reversed(newest_first):
                state = "applied" if script.revision in applied else "pending"
                out.write(f"{state:8} {Path(script.path).name}\n")
            return
        todo = [script for script in reversed(newest_first) if script.revision not in applied]
        if name == "down":
            todo = [script for script in newest_first if script.revision in applied][:1]
        if not todo:
            out.write("nothing to do\n")
        config.attributes |= {"connection": connection, "schema": connection.scalar(text(SCHEMA))}
        for script in todo:
            file, began = Path(script.path), time.monotonic()
            connection.exec_driver_sql(f"{AFRESH}; {SESSION}")
            connection.commit()  # Alembic would take an open transaction for its caller's, and commit nothing
            config.attributes["on_apply"] = partial(_want_valid_indexes, file)
            try:
                if name == "up":
                    command.upgrade(config, script.revision)
                else:
                    command.downgrade(config, "-1")
            except Exception as err:
                if settings.log_level == "debug":
                    raise
                why = str(err) if isinstance(err, CommandError) else f"{describe(err)} (LOG_LEVEL=debug says more)"
                raise CommandError(f"{file.name}: {why}") from err
            out.write(f"{name:4} {file.name} ({math.ceil((time.monotonic() - began) * 1000)}ms)\n")


def _want_valid_indexes(file: Path, ctx: MigrationContext, **_: Any) -> None:
    """Look at those that a file speaks of, before it is recorded.

    Postgres leaves one behind where CREATE INDEX CONCURRENTLY fails, and takes it for done if it is
    asked again with "if not exists".
    """
    words = re.findall(r"\w+", file.read_text(encoding="utf-8").lower())
    assert ctx.connection is not None
    found = ctx.connection.scalar(text(INVALID), {"words": words})
    if found:
        raise CommandError(f"invalid index {found}: drop it and run this again")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def scripts_of_project() -> ScriptDirectory:
    """Return the migrations of this program."""
    scripts = ScriptDirectory.from_config(_config())
    try:
        with warnings.catch_warnings():
            # A revision that is there twice, or is not; what a file imports may warn of other things.
            warnings.filterwarnings("error", "Revision .* is (present more than once|not present)", UserWarning)
            heads = scripts.get_heads()
    except Exception as err:  # whatever a file does when it is imported
        frames = [Path(frame.filename) for frame in traceback.extract_tb(err.__traceback__)]
        files = [file.name for file in frames if FOLDER in file.parents]
        raise CommandError(f"{files[-1] if files else 'migrations'}: {type(err).__name__}: {err}") from err
    if len(heads) > 1:
        raise CommandError(f"none follows {' or '.join(heads)}: let one follow the other, or run alembic merge heads")
    return scripts


def applied_to(connection: Connection, scripts: ScriptDirectory) -> set[str]:
    """Return the migrations that a database has."""
    heads = MigrationContext.configure(connection).get_current_heads()
    try:
        return {script.revision for head in heads for script in scripts.iterate_revisions(head, "base")}
    except RevisionError as err:
        raise CommandError(f"no file has the database's revision {', '.join(heads)}: is this program older?") from err


def transaction_pooler(host: str, port: int) -> str:
    """Name the pooler in transaction mode that an address belongs to, nothing when it is not known to be one."""
    host = host.lower().rstrip(".")
    if host.endswith(".neon.tech") and "-pooler." in host:
        return "Neon's pooled address (-pooler)"
    if port == 6543 and host.endswith((".pooler.supabase.com", ".supabase.co")):
        return "Supabase's port 6543"
    return ""
