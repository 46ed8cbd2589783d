"""Requests of the service itself to the identity provider: bounded in time and size, and led on to nowhere else."""

import time
from http.client import HTTPMessage
from typing import IO
from urllib.request import HTTPRedirectHandler, Request, build_opener

_LARGEST = 256 * 1024
_CHUNK = 64 * 1024


class _NoRedirect(HTTPRedirectHandler):
    """Makes an error of each redirect: an answer comes from the address that was configured, or not at all."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow nothing."""


def fetch(request: Request, timeout_s: float) -> bytes:
    """The body of the answer, 256 KiB at most; the URL has passed `require_https`.

    Raises OSError (HTTPError for a status that is none of success), HTTPException, and ValueError if the answer is too
    large. It comes within `timeout_s`, or within twice that where the last packet is late.
    """
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    with build_opener(_NoRedirect).open(request, timeout=timeout_s) as response:
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > _LARGEST:
                raise ValueError("the answer is too large")
            if time.monotonic() > deadline:
                raise TimeoutError("the answer comes too slowly")
    return bytes(body)
