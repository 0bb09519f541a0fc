"""Routes of notes."""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.api.deps import DbSession
from app.notes import queries
from app.notes.models import Note
from app.notes.schemas import NoteDraft, NoteOut, NotePage

MAX_ID = 2**63 - 1

router = APIRouter(prefix="/notes", tags=["notes"])


def _plain(number: object) -> object:
    if isinstance(number, str) and not re.fullmatch("0|-?[1-9][0-9]*", number):
        raise ValueError("not a whole number, in digits alone")
    return number


Number = Annotated[int, BeforeValidator(_plain)]  # not +1, 01 or 1.0, which would be other names of one note
NoteId = Annotated[Number, Path(ge=1, le=MAX_ID)]


class PageQuery(BaseModel):
    """Which page of notes: parameters that it does not have are refused, as unknown fields are."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[Number, Field(ge=1, le=200)] = 50
    after: Annotated[Number, Field(ge=0, le=MAX_ID)] = 0


@router.post("", status_code=201, response_model=NoteOut)
def create_note(note: NoteDraft, session: DbSession, response: Response) -> Note:
    """Create a note."""
    created = queries.create(session, note.title, note.body)
    response.headers["Location"] = f"/notes/{created.id}"
    return created


@router.get("")
def list_notes(session: DbSession, asked: Annotated[PageQuery, Query()]) -> NotePage:
    """Return a page of notes, in order of id."""
    notes, following = queries.page(session, asked.limit, asked.after)
    return NotePage(notes=[NoteOut.model_validate(note) for note in notes], next=following)


@router.get("/{note_id}", response_model=NoteOut)
def get_note(note_id: NoteId, session: DbSession) -> Note:
    """Return a note."""
    return queries.get(session, note_id)


@router.put("/{note_id}", response_model=NoteOut)
def replace_note(note_id: NoteId, note: NoteDraft, session: DbSession) -> Note:
    """Replace title and body."""
    return queries.replace(session, note_id, note.title, note.body)


@router.delete("/{note_id}", status_code=204)
def delete_note(note_id: NoteId, session: DbSession) -> None:
    """Delete a note."""
    queries.remove(session, note_id)
