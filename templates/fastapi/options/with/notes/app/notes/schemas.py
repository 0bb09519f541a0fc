"""What clients say and are told of notes."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.notes.models import MAX_BODY, MAX_TITLE


def _no_nul(text: str) -> str:
    if "\0" in text:  # Postgres stores none in text
        raise ValueError("must not contain a NUL character")
    return text


_NoNul = AfterValidator(_no_nul)


class NoteDraft(BaseModel):
    """What a client says of a note."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE), _NoNul]
    body: Annotated[str, Field(max_length=MAX_BODY), _NoNul] = ""


class NoteOut(BaseModel):
    """A note as clients see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    body: str
    created_at: datetime
    updated_at: datetime


class NotePage(BaseModel):
    """A part of all notes in the order of their ids. next is what the next page comes after."""

    notes: list[NoteOut]
    next: int | None
