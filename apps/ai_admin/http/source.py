"""Where a request comes from: the one place that decides which address `request.remote_addr` is."""

from flask import Flask, request

from ai_admin.access.proxies import networks, source_of


def install(app: Flask, trusted_proxies: str) -> None:
    """Let the address that trusted proxies name be the request's, for all that looks at it afterwards.

    Comes first, before anything that looks. Without a trusted proxy the address stays the connection's.
    """
    trusted = networks(trusted_proxies)

    def _set_source() -> None:
        request.remote_addr = source_of(request.remote_addr or "", request.headers.get("X-Forwarded-For", ""), trusted)

    if trusted:
        app.before_request(_set_source)
