"""Logs: one JSON object a line on standard output, which is where Kubernetes and Fission collect them."""

import logging
import sys
import traceback
from datetime import datetime, timezone

import orjson


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; `extra={"fields": {...}}` adds members of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end. Line breaks inside a value are escaped, so nobody can forge a line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc),
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            # The outermost error and where it arose. Its causes stay out: a driver quotes the values.
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["sqlstate"] = getattr(error, "sqlstate", None)
            line["at"] = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][-8:]
        return orjson.dumps(line, option=orjson.OPT_UTC_Z, default=str).decode()


def configure(level: str) -> None:
    """Send the package's log to standard output at this level."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    package = logging.getLogger("ai_admin")
    package.handlers = [handler]
    package.setLevel(level)
    package.propagate = False
