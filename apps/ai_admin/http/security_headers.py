"""Headers by which browsers and caches keep an answer to its caller (OWASP REST Security Cheat Sheet).

Strict-Transport-Security is the ingress's, which ends TLS: from here it would reach whatever else its host serves.
"""

from flask import Flask, Response

# A view that needs another value sets it itself.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def _add_headers(response: Response) -> Response:
    present = {name.lower() for name, _ in response.headers}
    for name, value in SECURITY_HEADERS.items():
        if name.lower() not in present:
            response.headers.add(name, value)
    return response


def install(app: Flask) -> None:
    """Add the headers to every answer of the application, errors included."""
    app.after_request(_add_headers)
