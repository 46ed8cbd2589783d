"""The Host header (RFC 9112, 3.2): a request of HTTP/1.1 names exactly one host.

Two servers on the way of a request that names none, or two, may each take another one for the host.
"""

import re

from flask import Flask, request

from ai_admin.errors import BadRequest

# Name, IPv4 or IPv6 address, and a port (RFC 3986, 3.2.2). A comma, which a server puts between two lines, is in no
# name of DNS.
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[A-Za-z0-9:.%_~-]+\])(?::[0-9]{0,5})?")


def _require_one_host() -> None:
    host = request.environ.get("HTTP_HOST", "")
    if not host and request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        return
    if not _HOST.fullmatch(host):
        raise BadRequest("The request must have one Host header with a valid host.")


def install(app: Flask) -> None:
    """Refuse requests without a host, or with two, before anything else looks at them."""
    app.before_request(_require_one_host)
