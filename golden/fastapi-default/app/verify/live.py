"""Check what can be seen of the rules in the database that the settings name.

It opens at most two sessions at a time, only reads, and leaves nothing behind.
"""

import json
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.migrations import applied_to, scripts_of_project
from app.nopool import Database, Target, Tx, describe
from app.nopool.errors import server_error
from app.settings import Settings
from app.verify.report import ELSEWHERE, Report, Status

# What a session sees. All values are text: every server, pooler and stand-in gives that alike.
FACTS = """with tables as (
    select oid, relnamespace,
        relrowsecurity or coalesce(reloptions::text, '') ~* 'security_invoker=(t|on|y|1)' as guarded
    from pg_class where relkind in ('r', 'p', 'v', 'm', 'f') and relowner in (
        select relowner from pg_class where oid = to_regclass('alembic_version')
        union select oid from pg_roles where rolname = current_user))
select json_object_agg(name, value)::text from (values
    ('version', split_part(version(), ' on ', 1)),
    ('pooler', (select reset_val from pg_settings where name = 'application_name')),
    ('tls', (select version from pg_stat_ssl where pid = pg_backend_pid() and ssl)),
    ('timeouts', (select string_agg(setting, ' ' order by name) from pg_settings where name in
        ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout'))),
    ('kind', concat_ws(', ', current_setting('transaction_read_only'), current_setting('transaction_isolation'))),
    ('allowed', (select least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1),
            current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)::text
        from pg_roles, pg_database where rolname = current_user and datname = current_database())),
    ('port', inet_client_port()::text),
    ('open', (select string_agg(oid::regclass::text, ', ') from tables t where not guarded and exists (
        select from pg_roles r where rolname in ('anon', 'authenticated')
            and has_schema_privilege(r.oid, relnamespace, 'usage') and (
                has_any_column_privilege(r.oid, t.oid, 'select, insert, update')
                or has_table_privilege(r.oid, t.oid, 'delete, truncate'))))),
    ('shut', (select string_agg(oid::regclass::text, ', ') from tables t where row_security_active(oid)
        and has_any_column_privilege(oid, 'select, insert, update') and (
            select coalesce(bool_or(polpermissive and lets), false) and bool_and(polpermissive or lets or polcmd <> '*')
            from (select polpermissive, polcmd, 'false' <> any(array[ -- false and nothing let nobody through
                    coalesce(pg_get_expr(polqual, polrelid), 'false'),
                    coalesce(pg_get_expr(polwithcheck, polrelid), 'false')]) as lets
                from pg_policy where polrelid = t.oid and (0 = any(polroles) or exists (
                    select from pg_roles r where r.oid = any(polroles) and pg_has_role(r.oid, 'usage')))) as policies
        ) is not true))
) as facts (name, value)"""
WHO_AM_I = "select pg_backend_pid()::text"
Found = tuple[Status, str]  # whether a rule holds, and what was seen of it
ASKED = Tx(read_only=True, isolation="repeatable read")  # more than a plain session has, to see whether it is given


class Live:
    """An engine whose connections are watched.

    It has a name of its own in the server's list, since the service may be running beside it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.target: Target = settings.database_url
        params = {**self.target.params, "application_name": f"verify-{secrets.token_hex(8)}"}
        self.db = Database(replace(self.target, params=params), settings.limits)
        self.facts: dict[str, Any] = {}
        self.direct = False  # no pooler is in between
        self.moved = False  # a pooler gave a connection another backend

    def read(self, sql: str) -> str:
        """Run a query of one value in a session of its own."""
        with self.db.session(ASKED) as session:
            return str(session.scalar(text(sql)))

    def answers(self) -> Found:
        """Want the database to answer at all."""
        with self.db.session(ASKED) as session:
            self.facts = json.loads(str(session.scalar(text(FACTS))))
            port = self._port(session)
        self.direct = self.facts["port"] == port
        how = ", through PgBouncer or another pooler or proxy"
        if self.direct:
            how = ", directly"
        elif str(self.facts["pooler"]).startswith("Supavisor"):
            how = ", through Supavisor"
        return "passed", f"{self.facts['version']}{how}"

    @staticmethod
    def _port(session: Any) -> str | None:
        """Return the local port of a session's connection, None of a Unix socket."""
        real = session.connection().connection.driver_connection.real
        with socket.socket(fileno=socket.dup(real.pgconn.socket)) as ours:
            name = ours.getsockname()
        return str(name[1]) if isinstance(name, tuple) else None

    def distinct(self) -> Found:
        """Want a dial for each session, one after the other and, where the settings admit two, at the same time.

        A pooler in transaction mode shows itself: it gives the first another backend for its second transaction,
        while the one of its first is taken.
        """
        before, after, other = "", "", self.read(WHO_AM_I)  # answers has had a session before
        if self.db.limits.max_sessions > 1:
            with self.db.engine.connect() as first, self.db.session(ASKED) as second:
                before = str(first.scalar(text(WHO_AM_I)))
                first.commit()
                other = str(second.scalar(text(WHO_AM_I)))
                after = str(first.scalar(text(WHO_AM_I)))
        self.moved = before != after
        now = self.db.snapshot()
        if after == other:
            return "failed", "two sessions had the same connection"
        if now.dials != now.opened + now.open_retries:
            return "failed", f"{now.opened} sessions dialled {now.dials} times"
        return "passed", f"{now.opened} sessions, {now.dials} dials"

    def encrypted(self) -> Found:
        """Look at what the engine insists on and, without a pooler in between, at what the server says."""
        if self.target.params["sslmode"] == "disable":
            return "warned", "plaintext, which APP_ENV=local allows to this machine"
        seen = self.facts["tls"] if self.direct else "TLS"
        if not seen:
            return "failed", "the server says that the connection is not encrypted"
        if not self.target.verified:
            return "warned", f"{seen}\nthe certificate is not verified: set sslmode=verify-full and sslrootcert"
        return "passed", f"{seen}, certificate verified"

    def timeouts(self) -> Found:
        """Compare what is in force inside a session with the settings."""
        limits = self.db.limits
        asked = (limits.idle_in_transaction_timeout, limits.lock_timeout, limits.statement_timeout)
        want = " ".join(str(int(seconds * 1000)) for seconds in asked)
        return self._same("idle in transaction, lock, statement, in ms: ", self.facts["timeouts"], want)

    def explicit(self) -> Found:
        """Want the transaction to be of the kind that was asked for."""
        return self._same("read only, isolation: ", self.facts["kind"], "on, repeatable read")

    @staticmethod
    def _same(what: str, seen: str, want: str) -> Found:
        return ("passed", f"{what}{seen}") if seen == want else ("failed", f"{what}{seen}, asked for {want}")

    def budgeted(self) -> Found:
        """Compare what all processes together may open with what the server allows this role and database."""
        replicas, sessions = self.settings.db_replicas, self.db.limits.max_sessions
        allowed = int(self.facts["allowed"])
        seen = f"{replicas} x {sessions} sessions, the server allows this role {allowed}"
        if replicas * sessions > allowed:
            return "failed", f"DB_REPLICAS x DB_MAX_SESSIONS is {seen}"
        if self.settings.budget_guessed:
            return "warned", f"{seen}\nDB_MAX_SESSIONS is a guess: set DB_POOL_SIZE and DB_REPLICAS"
        return "passed", seen

    def migrated(self) -> Found:
        """Compare the migrations of this program with those that the database has, and look who can use its tables."""
        own = self.settings
        if self.moved and own.migrations_url == own.database_url and not own.migration_allow_pooler:
            return "failed", "the pooler is in transaction mode, where the lock that keeps two runs apart does not hold"
        if self.facts["shut"]:
            return "failed", f"row-level security shuts this role out, for want of a policy: {self.facts['shut']}"
        scripts = scripts_of_project()
        every = [script.revision for script in scripts.walk_revisions()]
        try:
            with self.db.session(ASKED) as session:
                applied = applied_to(session.connection(), scripts)
        except DBAPIError as err:
            cause = server_error(err)
            if cause is None or cause.sqlstate != "42501":
                raise
            return "warned", f"the table alembic_version cannot be read: {describe(err)}"
        missing = [revision for revision in reversed(every) if revision not in applied]
        warned = f"{len(missing)} of {len(every)} migrations are not applied: {', '.join(missing)}" if missing else ""
        if self.facts["open"]:
            warned += f"\nopen to Supabase's public API, without row-level security: {self.facts['open']}"
        if warned:
            return "warned", warned.strip()
        return "passed", f"all {len(every)} migrations are applied"

    def closed(self) -> Found:
        """Want none of the connections to be left: here, and in the server's own list."""
        deadline = time.monotonic() + 10
        while self.db.snapshot().in_use and time.monotonic() < deadline:
            time.sleep(0.01)
        now = self.db.snapshot()
        if now.in_use or now.close_timeouts:
            return "failed", f"{now.in_use} sessions are open, the close of {now.close_timeouts} was not seen"
        if not self.direct:
            return "passed", "none here; what the pooler keeps is its own"
        left = self.read(
            "select count(*)::text from pg_stat_activity where pid <> pg_backend_pid() and application_name = "
            "current_setting('application_name')"
        )
        if left != "0":
            return "failed", f"the server counts {left} connections"
        return "passed", "none here, none at the server"


def check(settings: Settings) -> Report:
    """Return the report. Every rule that could not be looked at says why not."""
    report = Report(
        f"self-verification of {settings.app_name} against its database\n"
        "what cannot be seen here is for pytest tests/verify"
    )
    for rule in report.results:
        report.set(rule, "not run", ELSEWHERE)
    live = Live(settings)
    # closed is last: it looks at what the others left behind.
    checks: tuple[tuple[str, Callable[[], Found]], ...] = (
        ("NP09", live.answers),
        ("NP01", live.distinct),
        ("NP12", live.encrypted),
        ("NP13", live.timeouts),
        ("NP16", live.explicit),
        ("NP17", live.budgeted),
        ("NP30", live.migrated),
        ("NP04", live.closed),
    )
    for rule, _ in checks:
        report.set(rule, "not run", "the database could not be reached")
    for rule, run in checks:
        try:
            report.set(rule, *run())
        except Exception as err:
            report.set(rule, "failed", describe(err))
        if not live.facts:  # answers saw nothing
            break
    live.db.close(10)
    return report


def verify(settings: Settings, as_json: bool, strict: bool) -> int:
    """Print the report, and return 1 when a check fails, or with strict when one warns."""
    report = check(settings)
    if strict:
        report.strict()
    print(report.json() if as_json else report.text())
    return int(report.failed)
