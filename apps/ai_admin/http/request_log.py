"""The request id, and one JSON line in the log for each request.

A line names the route and the query's parameters, never their values: those are people's names and addresses.
"""

import logging
import re
import time
from urllib.parse import parse_qsl

from flask import Flask, Response, g, request
from uuid_utils.compat import uuid7

HEADER = "X-Fission-Request-ID"
FORM = r"[A-Za-z0-9._-]{1,64}"
_PARAMETER = re.compile(r"[A-Za-z]{1,32}(\[\w{1,32}\])?")
_log = logging.getLogger("ai_admin.request")


def request_id() -> str:
    """The current request's id: the caller's or the router's, where it has a harmless form, or a new one."""
    if "request_id" not in g:
        given = request.headers.get(HEADER, "")
        g.request_id = given if re.fullmatch(FORM, given) else str(uuid7())
    return str(g.request_id)


def elapsed() -> float:
    """Seconds since the current request began."""
    return time.perf_counter() - float(g.started)


def _start() -> None:
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    response.headers[HEADER] = request_id()
    if _log.isEnabledFor(logging.INFO):
        _log.info(
            "request",
            extra={
                "fields": {
                    "requestId": request_id(),
                    "method": request.method,
                    "route": request.url_rule.rule if request.url_rule else None,
                    "parameters": _parameters(),
                    "status": response.status_code,
                    "bytes": response.content_length,
                    "durationMs": round(elapsed() * 1000, 3),
                    "client": request.remote_addr,
                }
            },
        )
    return response


def _parameters() -> list[str]:
    pairs = parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)
    return sorted({name for name, _ in pairs if _PARAMETER.fullmatch(name)})


def install(app: Flask) -> None:
    """Give every request of the application an id, its answer the header, and the log its line."""
    app.before_request(_start)
    app.after_request(_finish)
