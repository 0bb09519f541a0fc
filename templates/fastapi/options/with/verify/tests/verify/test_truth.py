"""Many clients at once, and a database that loses what it was told. LOAD=10 makes it ten times as much."""

import os
import time

import pytest
from sqlalchemy import text

from app import nopool
from tests.conftest import MakeDatabase
from tests.verify.load import hammer, mixed, writes
from tests.verify.process import Process
from tests.verify.servers import query
from tests.verify.standin import Client, Reply, Standin

SCALE = int(os.environ.get("LOAD", "1"))
REFUSED = Reply(error=("40001", "could not serialize access"))
FAULTS = {
    "lost": Reply(drop=True),
    "refused": REFUSED,
    "rolled back": Reply("ROLLBACK"),
    "unanswered": Reply(hang=True),
}


@pytest.mark.rule("NP19", "NP05")
@pytest.mark.parametrize("fault", FAULTS)
def test_truth(fault: str) -> None:
    """There are never more successes than rows, and as many where a COMMIT that fails changes nothing."""
    every = 50 if fault == "unanswered" else 5
    seen: list[int] = []

    def answer(_: Client, sql: str) -> Reply | None:
        if sql == "commit":
            seen.append(1)
            return FAULTS[fault] if len(seen) % every == 0 else None
        return None

    with Standin(size=15) as pooler:
        with Process(pooler.url, DB_MAX_SESSIONS="15") as program:
            port = program.port()
            pooler._answer = answer
            counts = hammer(port, 32, writes(200 * SCALE))
            assert program.stop() == 0
        assert counts["201"] == pooler.rows, counts
        assert counts["201"] + counts["500"] + counts["503"] == 200 * SCALE
        if fault in ("lost", "unanswered"):
            assert counts["commit_unknown"] == counts["500"] > 0


@pytest.mark.rule("NP19")
def test_lost_before_commit(database_url: str, make_db: MakeDatabase) -> None:
    """There is no doubt where the server had said that it ends the connection."""
    db = make_db(database_url)
    with pytest.raises(nopool.Unavailable), db.session() as session:
        pid = session.scalar(text("select pg_backend_pid()"))
        query(database_url, f"select pg_terminate_backend({pid}, 5000)")
        time.sleep(0.2)
    assert db.snapshot().commit_unknown == 0


@pytest.mark.rule("NP17", "NP20", "NP22", "NP01")
def test_load(pooled_url: str, database_url: str) -> None:
    """64 clients on a real pooler that admits 15: none of their requests fails."""
    query(database_url, "create table things (title text)")
    with Process(pooled_url, DB_MAX_SESSIONS="15", DB_SESSION_WAIT="20s", DB_MAX_WAITING="200") as program:
        counts = hammer(program.port(), 64, mixed(1000 * SCALE))
        assert program.stop() == 0
    assert counts == {"201": 500 * SCALE, "200": 500 * SCALE}
    assert query(database_url, "select count(*) from things") == 500 * SCALE
