"""The rules: what this service promises about its database connections.

What can be seen of them from a configured database, without changing anything there, is checked by
live.py, which "python -m app verify" calls. Everything else, the checks of the source among them, is in
tests/verify: "pytest tests/verify" prints the same report with every rule in it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One promise. Its number never changes, so that code, tests, log lines and issues can name it."""

    id: str  # NP01 to NP31
    area: str  # one of the six areas of the score, or "further"
    title: str  # the promise in a few words
    why: str  # one sentence: what goes wrong without it
    do: str  # one sentence: what to do when it fails
    limitation: str = ""  # what Python cannot have of it, in every report


FURTHER = "further"  # what lies beyond the score

# All rules in the order of the report: the fifteen checks of the score (NP01 to NP15), area by area,
# then the sixteen further ones. An area has passed when all its rules have.
# fmt: off
_RULES = {
    "pool type": (
        ("NP01", "no pool in the main engine",
         "A connection handed from one session to another carries its settings, locks and failures along.",
         "Keep NullPool; nothing in app/nopool may hand a connection on."),
        ("NP14", "no pooled engine anywhere",
         "A second pool, added with good intent, takes connections that the pooler's budget does not have.",
         "Remove the pool and use a session, or allow it by a comment that says why.",
         "Seen by names in the source, which has no types."),
        ("NP15", "no shared connection anywhere",
         "A connection kept beyond its session is a pool of one: it holds a slot and goes stale unseen.",
         "Take a session where it is used, from the request or from Database.session, and keep it nowhere.",
         "Seen by names in the source, which has no types."),
    ),
    "migrations": (
        ("NP02", "no pool in migrations",
         "Locks and settings of a migration belong to one connection; a second one does not have them.",
         "Keep NullPool and the single connection in app/migrations.py, and close it."),
    ),
    "one engine": (
        ("NP03", "one engine, used from one place",
         "A connection opened beside the engine is not bounded, not logged and not closed by it.",
         "Use the session you are given; for work beside it, Database.session.",
         "There is no race detector: two threads in one session are told so where they meet."),
    ),
    "session management": (
        ("NP04", "sessions always close",
         "A session that stays open after an error or a disconnect takes its slot away for good.",
         "Keep the end of the session in app/api/exchange.py, and use Database.session as a context manager.",
         "A thread cannot be interrupted: a handler ends by itself, or at a statement when its time is over."),
        ("NP05", "commit on success",
         "A success answered before its COMMIT can turn out to be a write that never happened.",
         "Commit before anything of the response leaves, in app/api/exchange.py."),
        ("NP06", "rollback on error",
         "Half of a failed request's writes would be kept.",
         "End a failed session with rollback, whatever the failure was.",
         "A client that has left is noticed when the response begins, not before."),
        ("NP07", "a session for background work",
         "Work outside HTTP would otherwise open connections of its own, without these guarantees.",
         "Let Database.session commit only when its block has ended without an error."),
        ("NP08", "global error handler",
         "An error that escapes a handler would reach the client as it is, or as nothing at all.",
         "Keep the middleware outermost, and answer errors with respond()."),
    ),
    "lifecycle and monitoring": (
        ("NP09", "start-up health check",
         "A service that starts without its database fails at its first user instead of at its deploy.",
         "Set DATABASE_URL to a database that answers, and keep the check before listening.",
         "Only python -m app serve checks: uvicorn app.main:app and fastapi run do not."),
        ("NP10", "shutdown cleanup",
         "A stopped service whose connections stay behind starves the one that replaces it.",
         "Keep the order of _stop in app/serve.py, and raise SHUTDOWN_TIMEOUT if sessions need longer.",
         "Only python -m app serve ends like this: uvicorn by itself ends by the signal."),
        ("NP11", "connection monitoring",
         "A leak that nobody can see is found when the pooler is full.",
         "Keep the events and counters in app/nopool/events.py."),
    ),
    "configuration": (
        ("NP12", "TLS enforced",
         "Without it the password and every row travel readable, or to whoever answers.",
         "Use sslmode=verify-full with the provider's certificate in sslrootcert.",
         "That SCRAM alone is accepted needs libpq 16 or later, which psycopg[binary] has."),
        ("NP13", "timeouts",
         "One statement or one lock without a bound holds its connection, and those behind it, for ever.",
         "Set each timeout above zero, and let them travel with BEGIN.",
         "uvicorn has no bound on slow clients, nor Python on a thread: the former are a proxy's to bound."),
    ),
    FURTHER: (
        ("NP16", "explicit transactions",
         "A setting made outside the transaction stays in the pooler's backend for the next client.",
         "Begin with the options asked for, and set parameters for the transaction only."),
        ("NP17", "bounded",
         "More connections than the pooler admits turn load into errors.",
         "Lower DB_MAX_SESSIONS or DB_REPLICAS, or give the role and the pooler more.",
         "The bound is one process's: each worker process is a replica."),
        ("NP18", "lazy",
         "A request that never asks the database must not wait for a connection.",
         "Open the session at its first statement, not before."),
        ("NP19", "truthful",
         "A client that was told of success stops trying.",
         "Look at COMMIT's tag, and keep an unknown outcome apart."),
        ("NP20", "survives exhaustion",
         "A full pooler passes; a wrong password does not, and trying it again locks everybody out.",
         "Add the pooler's wording to app/nopool/refusals.py.",
         "libpq tells no SQLSTATE of a refused login, so localized texts are not understood."),
        ("NP21", "one dial per attempt",
         "Fallbacks multiply the load on a pooler exactly when it is full.",
         "Keep one address and no fallbacks for each attempt."),
        ("NP22", "slot held to the end",
         "A slot freed before the server has closed lets the next session be refused.",
         "Free the slot after the server's close, in the background."),
        ("NP23", "kind to the pooler",
         "A connection dropped inside a transaction costs the pooler its warm backend.",
         "Send COMMIT or ROLLBACK before the close, with a time of its own."),
        ("NP24", "nothing leaks",
         "Errors of a database quote hosts, SQL and the values of rows.",
         "Send fixed texts to clients, and log errors with nopool.describe."),
        ("NP25", "the right status",
         "A client decides by the status whether to correct, retry or give up.",
         "Correct the table in app/api/problems.py."),
        ("NP26", "correlation",
         "A report from a user must lead to the log lines of that request.",
         "Keep the middleware outermost, and let threads have the context of their request."),
        ("NP27", "probes cost nothing",
         "Probes that open connections finish off a database that is only busy.",
         "Keep the database out of /health, and the cache in /ready."),
        ("NP28", "streaming",
         "Bytes that have left cannot be taken back when the COMMIT fails.",
         "Commit when the response begins, before the first byte."),
        ("NP29", "retry by the caller's word",
         "Only the caller knows whether running a function twice is right.",
         "Repeat only whole functions, in run_with_retry, on 40001 and 40P01."),
        ("NP30", "migrations are safe",
         "Two replicas that migrate at once, or one behind the wrong pooler, break the schema for all.",
         "Run migrate up, through a direct or session-mode address in MIGRATION_DATABASE_URL."),
        ("NP31", "few round trips",
         "Every round trip is time in which the slot serves nobody else.",
         "Send BEGIN, the timeouts and the first statement in one flight.",
         "libpq resumes no TLS session."),
    ),
}
# fmt: on
RULES = tuple(Rule(name, area, *texts) for area, rules in _RULES.items() for name, *texts in rules)
