"""Say hello to whoever comes."""

from fastapi import APIRouter

router = APIRouter(tags=["ping"])


@router.get("/ping")
def greet() -> str:
    """Return the greeting."""
    return "hello"
