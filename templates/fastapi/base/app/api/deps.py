"""What handlers ask for by Annotated dependencies."""

from typing import Annotated, Any, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from app.api.exchange import EXCHANGE, Exchange
from app.nopool import Database, Tx

READ = Tx(read_only=True)
WRITE = Tx()


async def get_tx(connection: HTTPConnection) -> Tx:
    """Say what kind of transaction a request gets: read only for GET and HEAD. A WebSocket has no method.

    This is the place for row-level security: ask here for the caller whom another dependency has
    authenticated, and return Tx(settings=(("role", "authenticated"), ("request.jwt.claims", claims))).
    """
    return READ if connection.scope.get("method") in ("GET", "HEAD") else WRITE


async def get_session(request: Request, tx: Annotated[Tx, Depends(get_tx)]) -> Session:
    """Give a request its session."""
    return _exchange(request).session(tx)


DbSession = Annotated[Session, Depends(get_session)]
"""The request's session: one connection and one transaction, from the first statement on.

It is committed when the response begins, with a status below 400, and rolled back otherwise. A
handler should have read the body before its first statement; FastAPI has, where it is a parameter.
"""


async def get_db(connection: HTTPConnection, tx: Annotated[Tx, Depends(get_tx)]) -> Database:
    """Give what opens sessions of their own, with the settings that get_tx asks for."""
    _exchange(connection).inherit(tx)
    return _exchange(connection).db


Db = Annotated[Database, Depends(get_db)]
"""The database, for WebSockets, streams and background tasks: they go on when the request's session has ended."""


def session_with(tx: Tx) -> Any:
    """Ask for another kind of transaction.

    As in Annotated[Session, session_with(Tx(isolation="serializable"))].
    """

    async def dependency(request: Request) -> Session:
        return _exchange(request).session(tx)

    return Depends(dependency)


def within(seconds: float) -> Any:
    """Give a route its own time instead of REQUEST_TIMEOUT: dependencies=[within(3600)]."""

    async def dependency(request: Request) -> None:
        _exchange(request).within(seconds)

    return Depends(dependency)


def _exchange(connection: HTTPConnection) -> Exchange:
    return cast(Exchange, connection.scope[EXCHANGE])
