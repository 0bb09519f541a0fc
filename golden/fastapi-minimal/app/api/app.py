"""Put the application together. Include your routers here."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.api.exchange import ExchangeMiddleware
from app.api.health import Readiness
from app.api.health import router as probes
from app.api.problems import Problem, Service, on_http_error, on_invalid_request
from app.nopool import Database
from app.settings import Settings


def create_app(settings: Settings, db: Database) -> FastAPI:
    """Return the application. It does not touch the network."""
    app = Service(
        title=settings.app_name,
        exception_handlers={HTTPException: on_http_error, RequestValidationError: on_invalid_request},
        responses={"default": {"model": Problem, "description": "Every error is a problem (RFC 9457)"}},
    )
    app.state.draining = False
    app.state.readiness = Readiness(db)
    app.include_router(probes)
    # What is added below this, such as CORSMiddleware, is around it: the answers to errors pass that, too.
    app.add_middleware(
        ExchangeMiddleware, db=db, request_timeout=settings.request_timeout, max_body=settings.http_max_body
    )
    return app
