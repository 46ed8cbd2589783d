"""The request id, and one JSON line in the log for each request.

A line names the route and those of the query's parameters that the route has, never their values: those are people's
names and addresses. A name that the route does not have may be anything, a secret in the wrong place too.
"""

import logging
import re
import time
from urllib.parse import unquote_plus

from flask import Flask, Response, current_app, g, request
from uuid_utils import uuid7

from ai_admin.operations import operation_of

HEADER = "X-Fission-Request-ID"
VARIABLE = "HTTP_X_FISSION_REQUEST_ID"
# What Fission's router takes from a client (pkg/utils/correlation): it answers with that, so the log must have it too.
FORM = r"[!-~]{1,192}"
_FORM = re.compile(FORM)
_PARAMETER = re.compile(r"([A-Za-z]{1,32})(\[\w{1,32}\])?")
# The longest of these with each letter percent-encoded; those of a member may take four octets.
_LONGEST_NAME = (32 + 2 + 32 * 4) * 3
_log = logging.getLogger("ai_admin.request")


def request_id() -> str:
    """The current request's id: the caller's or the router's, where it has a harmless form, or a new one."""
    known: str | None = g.get("request_id")
    if known is None:
        given = request.environ.get(VARIABLE, "")
        known = g.request_id = given if _FORM.fullmatch(given) else str(uuid7())
        # A request that is judged by its head first runs twice, under one id.
        request.environ[VARIABLE] = known
    return known


def elapsed() -> float:
    """Seconds since the current request began."""
    return time.perf_counter() - float(g.started)


def _start() -> None:
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    response.headers.add(HEADER, request_id())
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
    operation = operation_of(current_app, request.url_rule.endpoint) if request.url_rule else None
    if operation is None:
        return []
    known = {(field.alias or name).partition("[")[0] for name, field in operation.query.model_fields.items()}
    # Values are not looked at: each percent sign of a stranger's would take time.
    written = {pair.partition("=")[0] for pair in request.query_string.decode("latin-1").split("&")}
    matches = [_PARAMETER.fullmatch(unquote_plus(name)) for name in written if len(name) <= _LONGEST_NAME]
    return sorted({match[0] for match in matches if match and match[1] in known})


def install(app: Flask) -> None:
    """Give every request of the application an id, its answer the header, and the log its line."""
    app.before_request(_start)
    app.after_request(_finish)
