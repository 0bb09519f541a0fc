"""Queries of notes. Whoever calls them has the session."""

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from app.notes.models import Note


def create(session: Session, title: str, body: str) -> Note:
    """Store a note and return it."""
    return session.scalars(insert(Note).values(title=title, body=body).returning(Note)).one()


def get(session: Session, note_id: int) -> Note:
    """Return a note, or raise NoResultFound."""
    return session.scalars(select(Note).where(Note.id == note_id)).one()


def replace(session: Session, note_id: int, title: str, body: str) -> Note:
    """Replace a note's content and return it, or raise NoResultFound."""
    changed = update(Note).where(Note.id == note_id).values(title=title, body=body, updated_at=func.now())
    return session.scalars(changed.returning(Note)).one()


def remove(session: Session, note_id: int) -> None:
    """Remove a note, or raise NoResultFound."""
    session.scalars(delete(Note).where(Note.id == note_id).returning(Note.id)).one()


def page(session: Session, limit: int, after: int) -> tuple[Sequence[Note], int | None]:
    """Return up to limit notes whose id is above after, and what the next page comes after."""
    found = session.scalars(select(Note).where(Note.id > after).order_by(Note.id).limit(limit + 1)).all()
    if len(found) <= limit:
        return found, None
    return found[:limit], found[limit - 1].id
