"""Migrations: one connection, one run at a time."""

import io
import shutil
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import psycopg
import pytest
from sqlalchemy import text

from app import CommandError, migrations, nopool
from app.settings import Settings
from tests.verify.servers import query


@pytest.fixture
def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("APP_ENV", "local")
    monkeypatch.setenv("DB_ALLOW_PLAIN_AUTH", "true")
    return Settings()


def run(settings: Settings, command: str) -> str:
    out = io.StringIO()
    migrations.run(settings, command, out)
    return out.getvalue()


# There is the one that asks.
CONNECTIONS = "select count(*) - 1 from pg_stat_activity where datname = current_database()"


@pytest.mark.rule("NP02", "NP30")
def test_up_and_down(settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is applied is committed, over one connection for each run, and none is left."""
    dial = Mock(wraps=migrations._dial)
    monkeypatch.setattr(migrations, "_dial", dial)
    every = len(list(migrations.scripts_of_project().walk_revisions()))
    assert run(settings, "status").count("pending") == every
    assert run(settings, "up").count("up  ") == every
    assert run(settings, "status").count("applied") == every
    assert run(settings, "up") == "nothing to do\n"
    for _ in range(every):
        assert run(settings, "down").startswith("down")
    assert run(settings, "down") == "nothing to do\n"
    assert dial.call_count == 5 + every
    with migrations.connected(settings) as connection:
        found = [connection.scalar(text(f"show {kind}_timeout")) for kind in ("lock", "statement")]
    assert found == ["5s", "15min"]  # whatever the role's are
    assert query(database_url, CONNECTIONS) == 0
    query(database_url, "drop table if exists alembic_version")  # there is one where there are migrations
    query(database_url, "create table alembic_version as select 'gone' as version_num")
    with pytest.raises(CommandError, match="no file has the database's revision gone"):
        run(settings, "up")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a project that has these files alone."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FOLDER, folder, ignore=lambda at, names: names if at.endswith("versions") else [])
    monkeypatch.setattr(migrations, "FOLDER", folder)

    def write(*bodies: str) -> None:
        for number, body in enumerate(bodies):
            before = repr(str(number - 1)) if number else None
            head = f"from alembic import op\nrevision, down_revision = '{number}', {before}\ndef upgrade():\n"
            (folder / "versions" / f"{number}_x.py").write_text(head + textwrap.indent(body, "    "))

    return write


@pytest.mark.rule("NP30")
def test_each_file_begins_afresh(settings: Settings, write: Callable[..., None]) -> None:
    """What one has set fails neither its own record nor the next, and an error names its file."""
    first = """op.execute("set statement_timeout = 50; select set_config('search_path', '', false)")"""
    write(first, """op.execute("select pg_sleep(0.2)")""", """op.execute("select broken")""")
    with pytest.raises(CommandError, match=r"^2_x.py: SQLSTATE 42703"):
        run(settings, "up")
    assert run(settings, "status").count("applied") == 2


@pytest.mark.rule("NP30")
def test_indexes(settings: Settings, database_url: str, write: Callable[..., None]) -> None:
    """Their build waits for locks as long as it takes, and one that is invalid is not taken for done."""
    query(database_url, "create table things as select 1 as a from generate_series(1, 2)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        query(database_url, "create unique index concurrently one on things (a)")
    block = """with op.get_context().autocommit_block():
    assert op.get_bind().exec_driver_sql("show lock_timeout").scalar() == "0"
    op.execute("create unique index concurrently if not exists one on things (a)")
assert op.get_bind().exec_driver_sql("show lock_timeout").scalar() == "5s"
"""
    write(block)
    with pytest.raises(CommandError, match=r"^0_x.py: invalid index one"):
        run(settings, "up")
    assert run(settings, "status").count("pending") == 1


@pytest.mark.rule("NP30")
@pytest.mark.usefixtures("write")
@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["nothing"], "0.py: NameError"), (["def f(:"], "0.py, line 1"),
        (["revision, down_revision = '1', '9'"], "Revision 9 .* not present"),
        (["revision, down_revision = '1', None"] * 2, "Revision 1 .* more than once"),
        ([f"revision, down_revision = '{number}', None" for number in "12"], "none follows 1 or 2"),
    ],
)  # fmt: skip
def test_odd_files(files: list[str], said: str) -> None:
    """What cannot be read is named, and none of two with one number is left out."""
    for number, file in enumerate(files):
        (migrations.FOLDER / "versions" / f"{number}.py").write_text(file)
    with pytest.raises(CommandError, match=said):
        migrations.scripts_of_project()


@pytest.mark.rule("NP30")
@pytest.mark.usefixtures("write")
def test_warning() -> None:
    """What a file imports may warn of something."""
    warns = "import warnings\nwarnings.warn('old')\nrevision, down_revision = '1', None\n"
    (migrations.FOLDER / "versions" / "1.py").write_text(warns)
    with pytest.warns(UserWarning, match="old"):
        assert migrations.scripts_of_project().get_heads() == ["1"]


@pytest.mark.rule("NP30", "NP02")
def test_together(settings: Settings, database_url: str) -> None:
    """Runs at the same time wait for each other."""
    with ThreadPoolExecutor(3) as pool:
        said = "".join(pool.map(lambda _: run(settings, "up"), range(3)))
    assert said.count("up  ") == len(list(migrations.scripts_of_project().walk_revisions()))


@pytest.fixture
def locked(database_url: str) -> Iterator[None]:
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(f"select pg_advisory_lock({migrations.LOCK_KEY})")
        yield


@pytest.mark.rule("NP30")
@pytest.mark.usefixtures("locked")
def test_locked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT", 0.1)
    with pytest.raises(CommandError, match="another run"):
        run(settings, "up")


@pytest.mark.rule("NP30")
@pytest.mark.parametrize(
    ("host", "port", "refused"),
    [
        ("aws-0-eu.pooler.supabase.com", 6543, True), ("aws-0-eu.pooler.supabase.com", 5432, False),
        ("db.x.supabase.co.", 6543, True), ("ep-x-pooler.eu.aws.neon.tech", 5432, True), ("db.example.com", 6543, False),
    ],
)  # fmt: skip
def test_transaction_pooler(host: str, port: int, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler in transaction mode is refused before anything is dialled."""
    assert bool(migrations.transaction_pooler(host, port)) == refused
    if refused:
        monkeypatch.setenv("DATABASE_URL", f"postgres://app:x@{host}:{port}/db?sslmode=require")
        with pytest.raises(nopool.Misconfigured, match="MIGRATION_DATABASE_URL"):
            run(Settings(), "up")
