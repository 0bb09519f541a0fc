"""Turn errors into responses: problems as RFC 9457 has them, with a code for programs."""

from collections.abc import Sequence
from http.client import responses
from typing import Any

from fastapi import FastAPI, HTTPException, Request, params
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.exc import NoResultFound
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from app import nopool
from app.logs import correlation_id
from app.nopool.errors import connection_lost, refused_by_policy, sqlstate


class FieldError(BaseModel):
    """What is wrong with one field of the request."""

    field: str
    detail: str


class Problem(BaseModel):
    """Every error of a route."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str | None = None
    errors: list[FieldError] | None = None
    correlation_id: str


class ApiError(HTTPException):
    """A failure that a handler wants the client to see: all of it is sent."""

    def __init__(self, status: int, code: str, detail: str = "", errors: Sequence[FieldError] = ()) -> None:
        super().__init__(status, detail)
        self.code = code
        self.errors = list(errors)


_CONSTRAINT = (422, "constraint", "A value is not allowed")
_NOT_FOUND = (404, "not_found", "There is nothing here")
_INTERNAL = (500, "internal_error", "Internal error")
_UNKNOWN = (500, "commit_unknown", "The change may or may not have been saved. Check before you repeat it.")
_BUSY = (503, "busy", "The service is busy")
_DATABASE_DOWN = (503, "database_unavailable", "The database is unavailable")
_TIMEOUT = (504, "timeout", "The request took too long")
_BAD_JSON = (400, "bad_json", "The body must be one JSON object without unknown fields")
_NOT_JSON = (415, "unsupported_media_type", "The body must be JSON, not encoded, with Content-Type: application/json")
PROBLEM_TYPE = "application/problem+json"
PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
SHUTTING_DOWN = (503, "shutting_down", "The service is shutting down")
CLIENT_GONE = 499  # nginx's; what the access log shows where nobody reads the answer

# What the database layer says, by what the client is told.
_SESSION_ERRORS: tuple[tuple[type[Exception], tuple[int, str, str]], ...] = (
    (NoResultFound, _NOT_FOUND),
    (nopool.CommitUnknown, _UNKNOWN),
    (nopool.Busy, _BUSY),
    (nopool.PoolerFull, _BUSY),
    (nopool.Unavailable, _DATABASE_DOWN),
    (nopool.Misconfigured, _DATABASE_DOWN),
    (nopool.Closed, SHUTTING_DOWN),
    (nopool.DeadlineExceeded, _TIMEOUT),
    (TimeoutError, _TIMEOUT),
)

# SQLSTATEs, by prefix and in order. They are listed in appendix A of the Postgres manual.
_SQLSTATES: tuple[tuple[str, tuple[int, str, str]], ...] = (
    ("23505", (409, "already_exists", "It exists already")),
    ("23P01", (409, "conflict", "It conflicts with what exists")),
    ("23503", (409, "reference", "It refers to something that does not exist, or is referred to")),
    ("23001", (409, "reference", "It refers to something that does not exist, or is referred to")),
    ("23502", (422, "missing_value", "A value is missing")),
    ("23", _CONSTRAINT),
    ("44", _CONSTRAINT),  # a view's check option
    ("22012", _INTERNAL),  # division by zero: ours
    ("22", (400, "invalid_value", "A value is malformed or out of range")),
    ("40003", _UNKNOWN),
    ("40", (503, "concurrent_change", "Changed by somebody else at the same time; try again")),
    ("25006", (503, "read_only", "The database takes no writes at present")),
    ("55P03", (503, "locked", "Locked by somebody else; try again")),
    ("57014", _TIMEOUT),
    ("25P03", _TIMEOUT),  # idle in its transaction
    ("25P04", _TIMEOUT),  # transaction_timeout, Postgres 17
    ("53", _BUSY),
    ("54000", _CONSTRAINT),  # too long for its index
    ("57P", _DATABASE_DOWN),
    ("08", _DATABASE_DOWN),
)


def answer(err: BaseException) -> ApiError:
    """Decide what the client is told about err. Nothing of err itself is in it, unless it is meant for the client."""
    if isinstance(err, StarletteHTTPException):
        return _of_http_error(err)
    for kind, told in _SESSION_ERRORS:
        if isinstance(err, kind):
            return ApiError(*told)
    if connection_lost(err):
        return ApiError(*_DATABASE_DOWN)
    if refused_by_policy(err):
        return ApiError(403, "forbidden", "This is not allowed")
    for prefix, told in _SQLSTATES:
        if sqlstate(err).startswith(prefix):
            return ApiError(*told)
    return ApiError(*_INTERNAL)


def _of_http_error(err: StarletteHTTPException) -> ApiError:
    """Give FastAPI's and Starlette's own errors a code."""
    if isinstance(err, ApiError):
        return err
    title = responses.get(err.status_code, "Unknown")
    detail = "" if err.detail == title else str(err.detail)
    problem = ApiError(err.status_code, title.lower().replace(" ", "_"), detail)
    if err.status_code == 404 and not detail:
        problem = ApiError(*_NOT_FOUND)
    elif err.status_code == 400 and str(err.detail).startswith("There was an error parsing the body"):
        problem = ApiError(*_BAD_JSON)
    problem.headers = err.headers
    return problem


def respond(problem: ApiError) -> JSONResponse:
    """Return the response of a problem."""
    headers = {"Cache-Control": "no-store", **(problem.headers or {})}
    if problem.status_code == 503:
        headers["Retry-After"] = "1"
    body = Problem(
        title=responses.get(problem.status_code, "Unknown"),
        status=problem.status_code,
        code=problem.code,
        detail=problem.detail or None,
        errors=problem.errors or None,
        correlation_id=correlation_id.get(),
    )
    return JSONResponse(body.model_dump(exclude_none=True), problem.status_code, headers, PROBLEM_TYPE)


class Service(FastAPI):
    """FastAPI, which would describe problems as being of the media type of a route's own answers."""

    def openapi(self) -> dict[str, Any]:
        """Describe the routes."""
        described = super().openapi()
        for path in described["paths"].values():
            for operation in path.values():
                content = operation["responses"].get("default", {}).get("content", {})
                for kind in [kind for kind, of in content.items() if of.get("schema") == PROBLEM_SCHEMA]:
                    content[PROBLEM_TYPE] = content.pop(kind)
        return described


async def on_http_error(request: Request, err: Exception) -> JSONResponse:
    """Answer an HTTPException; to a method that a path does not have, with those of all its routes."""
    told = answer(err)
    if told.code == "bad_json" and "content-encoding" in request.headers:
        told = ApiError(*_NOT_JSON)
    if told.status_code == 405:
        scopes = [{**request.scope, "method": name} for name in ("GET", "POST", "PUT", "PATCH", "DELETE")]
        matching = [s["method"] for s in scopes if any(r.matches(s)[0] is Match.FULL for r in request.app.routes)]
        told.headers = {"Allow": ", ".join(matching).replace("GET", "GET, HEAD")}
    return respond(told)


async def on_invalid_request(request: Request, err: Exception) -> JSONResponse:
    """Answer a request that does not validate.

    A path that cannot be parsed names nothing. A query parameter or JSON that cannot be read is
    malformed; a body with values that are not allowed is told by the name of the handler's
    parameter, such as invalid_order.
    """
    assert isinstance(err, RequestValidationError)
    found: Sequence[dict[str, Any]] = err.errors()
    places = {str(problem["loc"][0]) for problem in found}
    fields = [
        FieldError(field=".".join(map(str, problem["loc"][1:])), detail=_lower(problem["msg"]))
        for problem in found
        if problem["loc"][1:] and problem["type"] != "json_invalid"  # which has a position there
    ]
    if "path" in places:
        return respond(ApiError(*_NOT_FOUND))
    if places != {"body"}:
        place = min(places - {"body"})
        return respond(ApiError(400, "bad_query", f"A parameter in the {place} is not valid", fields))
    route = request.scope.get("route")
    body = route.body_field if isinstance(route, APIRoute) else None
    if body is None or not isinstance(body.field_info, params.Form):
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            return respond(ApiError(*_NOT_JSON))
        if any(_malformed(problem) for problem in found):
            return respond(ApiError(*_BAD_JSON, fields))
    name = body.name if body else "body"
    return respond(ApiError(422, f"invalid_{name}", f"The {name.replace('_', ' ')} is not valid", fields))


def _malformed(problem: dict[str, Any]) -> bool:
    kind = str(problem["type"])
    return kind in ("json_invalid", "extra_forbidden") or kind.endswith("_type") or problem["loc"] == ("body",)


def _lower(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
