"""Which settings are accepted, and what they make of a connection."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app import nopool
from app.nopool import Database, Limits, parse
from tests.conftest import MakeDatabase, missing
from tests.verify.servers import query
from tests.verify.standin import Standin

AT = "postgres://app:p%40ss@db.example.com:5432/shop"


@pytest.mark.rule("NP12", "NP24")
@pytest.mark.parametrize(
    ("url", "local", "mode"),
    [
        (f"{AT}?sslmode=require", False, "require"),
        (f"{AT}?sslmode=verify-full", False, "verify-full"),
        (f"{AT}?sslmode=require&pgbouncer=true", False, "require"),
        (f"{AT}?sslmode=require&gssencmode=disable&target_session_attrs=any", False, "require"),
        ("postgres://app:p#ss@h/db?supa=x&sslmode=require", False, "require"),
        ("host=db.example.com user=app password=x sslmode=require", False, "require"),
        ("postgres://app@localhost/shop", True, "require"),
        ("postgres://app@127.0.0.1/shop?sslmode=disable", True, "disable"),
        ("postgres://app@/shop?host=/run/postgresql", True, "disable"),
    ],
)
def test_accepted(url: str, local: bool, mode: str) -> None:
    target = parse(url, allow_plaintext=local)
    assert target.params["sslmode"] == mode
    assert target.params["gssencmode"] == "disable"
    assert ("require_auth" in target.params) == (not target.verified)
    assert "p@ss" not in repr(target)


@pytest.mark.rule("NP12", "NP21", "NP24")
@pytest.mark.parametrize(
    "url",
    [
        "", "s3cret", "mysql://app:s3cret@h/db", AT, f"{AT}?sslmode=prefer", f"{AT}?sslmode=no-verify",
        f"{AT}?sslmode=require&s3cret=1", f"{AT}?sslmode=require&options=-c%20x", "postgres://app:12/s3cret@h/db?sslmode=require",
        "postgres://app:12/s3cret@h?sslmode=require", "postgres://app:s3cret@a,b/db?sslmode=require", "host=a,b user=app password=s3cret sslmode=require",
        "postgres://app:s3cret@h:port/db?sslmode=require", "postgres:///db?sslmode=require",
        f"{AT}?sslmode=verify-full&sslrootcert=/no/such/s3cret", f"{AT}?sslmode=require&require_auth=password",
        "postgres://app:%zz@h/db?sslmode=require&%zz", "host=h password='s3cret sslmode=require",
        "postgres://app:s3cret@localhost/db?sslmode=disable", "postgres://app:s3cret@localhost.example.com/db?sslmode=disable",
        "postgres://app:s3cret/db?sslmode=require",
    ],
)  # fmt: skip
def test_refused(url: str) -> None:
    """A URL that is not safe, or not understood, is refused, in words that quote nothing of it."""
    with pytest.raises(nopool.Misconfigured) as refused:
        parse(url, allow_plaintext="localhost." in url)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.rule("NP24")
@pytest.mark.parametrize("fault", ["sslmode=s3cret", "sslmode=require&options=s3cret"])
def test_fault_is_named(fault: str) -> None:
    """A parameter that is refused is named, without its value."""
    name = fault.split("=")[-2].split("&")[-1]
    with pytest.raises(nopool.Misconfigured, match=rf"invalid: {name} [^3]*$"):
        parse(f"{AT}?{fault}")


@pytest.mark.rule("NP12")
def test_encrypted(database_url: str, make_db: MakeDatabase) -> None:
    """The server's certificate is verified, and another's is refused for good."""
    db = make_db(database_url)
    assert db.version().startswith("PostgreSQL")
    if "verify-full" not in database_url:
        if "TEST_DATABASE_URL" not in os.environ:
            missing("openssl")  # which makes the certificate
        pytest.skip("TEST_DATABASE_URL does not ask for a certificate")
    strange = database_url.split("sslrootcert=")[0] + "sslrootcert=system"
    with pytest.raises(nopool.Misconfigured):
        make_db(strange).version()


@pytest.mark.rule("NP13", "NP16")
def test_in_force(database_url: str, make_db: MakeDatabase) -> None:
    """What the settings say is in force in a session, and in no other."""
    db = make_db(database_url, statement_timeout=7, lock_timeout=3, idle_in_transaction_timeout=4)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name")
    with db.session() as session:
        found = [session.connection().exec_driver_sql(f"show {name}").scalar() for name in names]
        for _ in range(6):  # psycopg would prepare it
            assert session.connection().exec_driver_sql("select count(*) from pg_prepared_statements").scalar() == 0
    assert found == ["7s", "3s", "4s", "nopool"]
    assert query(database_url, "show statement_timeout") == "0"


@pytest.mark.rule("NP16")
@pytest.mark.parametrize("first", [True, False])
def test_pinned(first: bool, database_url: str, make_db: MakeDatabase) -> None:
    """What text results depend on is ours, whatever role and database say, from the first statement on."""
    name = query(database_url, "select current_database()")
    for setting in ("client_encoding=latin1", "datestyle=german", "intervalstyle=iso_8601", "array_nulls=off",
                    "extra_float_digits=0", "bytea_output=escape"):  # fmt: skip
        query(database_url, f"alter database {name} set {setting}")
    db = make_db(database_url)
    db.version()
    asked = "select :a, '2026-02-03 04:05Z'::timestamptz, interval '1 day', '{NULL}'::text[], 0.1::float8 + 0.2, '\\x00ff'::bytea"
    with db.session() as session:
        if not first:
            session.execute(text("select 1"))
        found = session.execute(text(asked), {"a": "€"}).one()
    day = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    assert tuple(found) == ("€", day, timedelta(days=1), [None], 0.1 + 0.2, b"\0\xff")


@pytest.mark.rule("NP16")
@pytest.mark.parametrize(("option", "value"), [("isolation_level", "SERIALIZABLE"), ("postgresql_readonly", True)])
def test_kind_is_asked_for_by_tx(option: str, value: object, standin: Standin, make_db: MakeDatabase) -> None:
    """What SQLAlchemy would have set is not silently lost."""
    with pytest.raises(NotImplementedError, match="by Tx"), make_db(standin.url).session() as session:
        session.connection(execution_options={option: value})


@pytest.mark.rule("NP06", "NP16")
def test_copy(database_url: str, make_db: MakeDatabase) -> None:
    """COPY, which does not come by execute, is in the transaction, too."""
    query(database_url, "create table things (title text)")
    with pytest.raises(KeyError), make_db(database_url).session() as session:
        driver = session.connection().connection.driver_connection
        assert driver
        with driver.cursor() as cursor, cursor.copy("copy things from stdin") as rows:
            rows.write_row(["a"])
        assert session.scalar(text("select count(*) from things")) == 1
        raise KeyError
    assert query(database_url, "select count(*) from things") == 0


@pytest.mark.rule("NP13")
@pytest.mark.parametrize("limits", [{"statement_timeout": 0.0}, {"lock_timeout": 1e9}, {"session_wait": 0.0}])
def test_no_limit_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(nopool.Misconfigured):
        Database(parse(f"{AT}?sslmode=require"), Limits(**limits))  # type: ignore[arg-type]
