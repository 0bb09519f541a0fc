"""What the rendered services are compared with over HTTP: FastAPI and SQLAlchemy with NullPool, as once audited."""

import os

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg2://", 1)
engine = create_engine(url, poolclass=NullPool, pool_pre_ping=True, connect_args={"connect_timeout": 10})
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


@app.post("/notes", status_code=201)
def create_note(note: dict, session: Session = Depends(get_db)):
    row = session.execute(
        text("insert into notes (title) values (:title) returning id, title, body, created_at, updated_at"), note
    ).one()
    return dict(row._mapping)
