"""What one unit of work, such as a request, asks of its session, and what became of it."""

import math
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.nopool.dbapi import Connection
    from app.nopool.wire import Line

Isolation = Literal["read committed", "repeatable read", "serializable"]


@dataclass(frozen=True)
class Tx:
    """The properties of a session's transaction.

    Settings are parameters of the server for this transaction, as by SET LOCAL, made in their
    order after the timeouts. They travel with BEGIN, at no round trip. The role is one of them
    ("role"), and so are those that row-level security policies read, such as Supabase's
    "request.jwt.claims".

    The answer to a read does not wait for its COMMIT. wait_for_commit asks for it, where a read
    does what it can do all the same: NOTIFY, advisory locks, large objects (Postgres 15 and
    older), SET without LOCAL, what a function does on another server.
    """

    read_only: bool = False
    isolation: Isolation | None = None  # None leaves it to the server
    settings: tuple[tuple[str, str], ...] = ()
    wait_for_commit: bool = False


@dataclass
class Unit:
    """One unit of work. Its session opens at its first statement and ends once."""

    tx: Tx = field(default_factory=Tx)
    deadline: float = math.inf  # by time.monotonic: no statement waits longer
    ended: bool = False  # a session that is used after it gets SessionDone
    connection: "Connection | None" = None  # while it holds one
    line: "Line | None" = None  # of its last BEGIN, to be cut off
    failure: BaseException | None = None  # of a COMMIT that its caller may have swallowed
    committed: bool = False  # something, or nobody knows
    outer: "Unit | None" = None  # on whose behalf this one works
    inner: int = 0  # how many work on behalf of this one

    def holds_connection(self) -> bool:
        """Report whether this unit, or one around it, holds a connection."""
        own = self.connection is not None and not self.ended  # an end that is under way waits for nobody
        return own or (self.outer is not None and self.outer.holds_connection())


current: ContextVar[Unit | None] = ContextVar("current unit of work", default=None)
