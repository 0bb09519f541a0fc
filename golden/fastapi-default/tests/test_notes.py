"""The notes, from request to row."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi.testclient import TestClient

from app import migrations
from app.models import Base
from app.settings import Settings


def test_life_of_a_note(client: TestClient) -> None:
    created = client.post("/notes", json={"title": "milk", "body": "ü"})
    assert created.status_code == 201
    at = created.headers["location"]
    assert client.get(at).json() == created.json()
    changed = client.put(at, json={"title": "oat milk"})
    assert (changed.status_code, changed.json()["title"], changed.json()["body"]) == (200, "oat milk", "")
    assert client.delete(at).status_code == 204
    for gone in (client.get(at), client.delete(at), client.put(at, json={"title": "a"})):
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


def test_pages(client: TestClient) -> None:
    for number in range(5):
        client.post("/notes", json={"title": str(number)})
    titles, after = [], 0
    while after is not None:
        page = client.get("/notes", params={"limit": 2, "after": after}).json()
        titles += [note["title"] for note in page["notes"]]
        after = page["next"]
    assert titles == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("note", "field"),
    [({"title": ""}, "title"), ({"title": "x" * 201}, "title"), ({"title": "a", "body": "\0"}, "body"), ({}, "title")],
)
def test_not_valid(note: dict[str, str], field: str, client: TestClient) -> None:
    refused = client.post("/notes", json=note)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_note")
    assert [error["field"] for error in refused.json()["errors"]] == [field]


@pytest.mark.parametrize(("rest", "status"), [("/+1", 404), ("/01", 404), ("?limit=%2B1", 400), ("?limitt=1", 400)])
def test_one_form(rest: str, status: int, client: TestClient) -> None:
    """A number is written in one way, and a parameter by its name."""
    assert client.post("/notes", json={"title": "a"}).status_code == 201
    assert client.get(f"/notes{rest}").status_code == status


def test_models_are_migrated(client: TestClient, database_url: str) -> None:
    """Alembic finds nothing that the models have and the migrations have not."""
    assert client
    with migrations.connected(Settings()) as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
