"""The table of notes."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models import Base

MAX_TITLE = 200  # characters
MAX_BODY = 10_000


class Note(Base):
    """A stored note."""

    __tablename__ = "notes"
    __table_args__ = (
        CheckConstraint(f"char_length(title) between 1 and {MAX_TITLE}", name="title_length"),
        CheckConstraint(f"char_length(body) <= {MAX_BODY}", name="body_length"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    title: Mapped[str]
    body: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
