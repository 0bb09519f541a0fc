"""Log lines as JSON or text, each with the correlation id of the request that it belongs to."""

import json
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any

from app.settings import Settings

correlation_id: ContextVar[str] = ContextVar("correlation id", default="")

# What every record has; the rest was given as extra=.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    line: dict[str, Any] = {
        "time": f"{moment}.{int(record.msecs):03d}Z",
        "level": _LEVELS.get(record.levelname, record.levelname),
        "msg": record.getMessage(),
    }
    for name, value in vars(record).items():
        if name not in _STANDARD:
            line[name] = round(value, 6) if isinstance(value, float) else value
    if record.exc_info and record.exc_info[2] and "stack" not in line:  # without the text, which may quote anything
        line["stack"] = "".join(traceback.format_tb(record.exc_info[2]))
    if "correlation_id" not in line and correlation_id.get():
        line["correlation_id"] = correlation_id.get()
    return line


class Formatter(logging.Formatter):
    """JSON objects, or name=value pairs for people, one line for each record."""

    def __init__(self, for_people: bool) -> None:
        super().__init__()
        self._for_people = for_people

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        fields = _fields(record)
        if self._for_people:
            return " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items())
        return json.dumps(fields, default=str, ensure_ascii=False)


def _quoted(text: str) -> str:
    plain = text.isprintable()  # what is not might write lines of its own
    return text if text and plain and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=not plain)


def configure(settings: Settings) -> None:
    """Send all logs to stderr. Libraries keep their warnings; what they say below that is theirs."""
    form = settings.log_format or ("text" if settings.app_env == "local" else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(for_people=form == "text"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("app").setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # sessions log their own errors
