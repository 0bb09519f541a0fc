"""What the rendered service is compared with over HTTP: FastAPI and SQLAlchemy with NullPool."""

import os

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://", 1)
engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
SessionLocal = sessionmaker(engine, autoflush=False, expire_on_commit=False)
app = FastAPI()


def get_db():
    session = SessionLocal()
    try:
        yield session
        session.commit()
    except Exception:
        session.rollback()
        raise
    finally:
        session.close()


@app.get("/notes/{note_id}")
def get_note(note_id: int, session: Session = Depends(get_db)):
    row = session.execute(
        text("select id, title, body, created_at, updated_at from notes where id = :id"), {"id": note_id}
    ).one_or_none()
    if row is None:
        raise HTTPException(404)
    return dict(row._mapping)
