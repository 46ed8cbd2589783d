"""CORS (Fetch standard, 3.2): headers on every answer of the API, and the answer to preflight requests.

Pages and their files have none of them: no other origin has a reason to read a page, whatever `ALLOWED_ORIGINS` says.
"""

from flask import Flask, Response, current_app, request

from ai_admin import __version__
from ai_admin.operations import PAGES
from ai_admin.services import services

# On answers to OPTIONS, by which `ai-admin deploy verify` knows the application and its version.
VERSION_HEADER = "AI-Admin-Version"
# What the seed names: the headers for an API that any origin may call.
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
    "X-Fission-Request-ID",
    "Access-Control-Expose-Headers": "Allow, ETag, Idempotent-Replayed, Location, Retry-After, X-Fission-Request-ID",
    "Access-Control-Max-Age": "600",
}


def _preflight() -> Response | None:
    """Answer OPTIONS for every route alike; an unknown path goes on to its 404."""
    if request.method != "OPTIONS" or request.url_rule is None:
        return None
    # A rule knows its own methods; those of a path are the methods of all its rules.
    adapter = current_app.create_url_adapter(request)
    methods = adapter.allowed_methods() if adapter else ()
    return Response(status=204, headers={"Allow": ", ".join(sorted(methods)), VERSION_HEADER: __version__})


def _add_headers(response: Response) -> Response:
    if request.path == PAGES or request.path.startswith(f"{PAGES}/"):
        return response
    allowed = services().settings.config.allowed_origins.split()
    # Nobody has set these before, and `add` does not look for that.
    for name, value in CORS_HEADERS.items():
        response.headers.add(name, value)
    if "*" not in allowed:
        origin = request.headers.get("Origin", "")
        response.vary.add("Origin")
        if origin in allowed:
            response.headers["Access-Control-Allow-Origin"] = origin
        else:
            del response.headers["Access-Control-Allow-Origin"]
    return response


def install(app: Flask) -> None:
    """Add the headers to every answer of the API, errors included."""
    app.before_request(_preflight)
    app.after_request(_add_headers)
