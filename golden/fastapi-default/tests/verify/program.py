"""The program with the routes of tests: what "python -m app serve" runs, for tests of the process."""

import asyncio
import time
from collections.abc import Iterator
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from app import __main__, serve
from app.api.app import create_app
from app.api.deps import Db, DbSession
from app.nopool import Database
from app.settings import Settings


class Thing(BaseModel):
    """What tests send."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=1, max_length=200)]


def make_app(db: Database, **settings: object) -> FastAPI:
    """Return the application on a database, with routes of the tests' own."""
    app = create_app(Settings(**{"database_url": "postgres://h/db?sslmode=require", **settings}), db)  # type: ignore[arg-type]

    @app.post("/things", status_code=201)
    def create_thing(thing: Thing, session: DbSession) -> Thing:
        session.execute(text("insert into things (title) values (:title)"), {"title": thing.title})
        return thing

    @app.get("/things/{thing_id}")
    def get_thing(thing_id: int, session: DbSession, limit: Annotated[int, Query(ge=1)] = 1) -> int:
        session.execute(text("select 1"))
        return thing_id + limit

    @app.get("/sleep/{seconds}")
    def sleep(seconds: int, own: Db) -> None:
        own.version()  # so that the test knows that it is here
        time.sleep(seconds)

    @app.get("/rows")
    def rows(own: Db) -> StreamingResponse:
        def steps() -> Iterator[str]:
            with own.session() as session:
                while True:
                    yield str(session.scalar(text("select 1")))
                    time.sleep(0.01)

        return StreamingResponse(steps())

    @app.get("/rest/{seconds}")
    async def rest(seconds: int, own: Db) -> None:
        await asyncio.to_thread(sleep, seconds, own)

    return app


if __name__ == "__main__":
    setattr(serve, "create_app", lambda settings, db: make_app(db, **dict(settings)))  # noqa: B010 (mypy)
    __main__.leave(__main__.main())
