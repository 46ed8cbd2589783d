"""Bounds on a request's head: what is longer is never parsed, whoever the caller is.

Werkzeug and the console parse queries, cookies and languages before the caller is known, and the request log parses the
query of every request. Each of them takes time with the number of parts, and none has a bound of its own.
"""

from typing import Any

from flask import Flask, current_app, request

from ai_admin.errors import BadRequest, RequestInvalid
from ai_admin.operations import operation_of

# More than the models take together; each of their lists has its own bound.
MOST_PARAMETERS = 1000
LONGEST_QUERY = 65_536
# That of an operation that anybody may call: its longest parameter is an address that is sealed.
_LONGEST_PUBLIC_QUERY = 16_384
# A token of an identity provider has at most 8 KiB, and a browser's cookies for one path are seldom longer.
LONGEST_HEADER = 16_384
LONGEST_PATH = 8192
_LONGEST = {"PATH_INFO": LONGEST_PATH, "HTTP_X_FISSION_FULL_URL": LONGEST_PATH + LONGEST_QUERY}
_BOUNDED = ("HTTP_", "CONTENT_TYPE", "PATH_INFO")
_FAULT = "ai_admin.oversized"


def bounded(environ: dict[str, Any]) -> dict[str, Any]:
    """The variables of a request (PEP 3333), those of its head that are too long emptied: `install` refuses them."""
    cut: dict[str, Any] = {}
    query = environ.get("QUERY_STRING", "")
    if len(query) > LONGEST_QUERY or query.count("&") >= MOST_PARAMETERS:
        cut = {"QUERY_STRING": "", _FAULT: "QUERY_STRING"}
    for name, value in environ.items():
        if name.startswith(_BOUNDED) and len(value) > _LONGEST.get(name, LONGEST_HEADER):
            # No route has two slashes at its start.
            cut |= {name: "//" if name == "PATH_INFO" else "", _FAULT: name}
    return {**environ, **cut} if cut else environ


def _refuse_oversized() -> None:
    name = request.environ.get(_FAULT)
    if name == "QUERY_STRING":
        message = f"More than {MOST_PARAMETERS} parameters, or longer than {LONGEST_QUERY} bytes"
        raise RequestInvalid.at("query", message=message)
    operation = operation_of(current_app, request.url_rule.endpoint) if request.url_rule else None
    is_public = operation is not None and operation.entry == "public"
    if is_public and len(request.environ.get("QUERY_STRING", "")) > _LONGEST_PUBLIC_QUERY:
        raise RequestInvalid.at("query", message=f"Longer than {_LONGEST_PUBLIC_QUERY} bytes")
    if name is not None and name != "PATH_INFO":
        header = name.removeprefix("HTTP_").replace("_", "-").title()
        raise BadRequest(f"The header {header} is longer than {LONGEST_HEADER} bytes.")


def install(app: Flask) -> None:
    """Refuse every request of the application whose head was cut."""
    app.before_request(_refuse_oversized)
