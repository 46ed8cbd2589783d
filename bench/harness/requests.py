"""Requests as the load generators send them: bytes for one, method and target for the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

# Stands for a number that is another in each request; as long as the numbers that take its place, so that
# Content-Length stays right.
NUMBER = "@NUMBER@@@@@"
DIGITS = len(NUMBER)


@dataclass(frozen=True)
class Request:
    """An HTTP/1.1 request, and the status that a right answer has."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: str = ""
    status: int = 200

    @property
    def raw(self) -> str:
        """As it goes over the wire (RFC 9112), but for Host."""
        headers = {**self.headers, "Host": "127.0.0.1"}
        if self.body:
            headers["Content-Length"] = str(len(self.body.encode()))
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines) + "\r\n\r\n" + self.body

    def numbered(self, number: int) -> "Request":
        """The request with its own number."""
        digits = f"{number:0{DIGITS}}"
        return Request(
            self.method,
            self.target.replace(NUMBER, digits),
            self.headers,
            self.body.replace(NUMBER, digits),
            self.status,
        )


def get(target: str, key: str | None = None) -> Request:
    """A GET, by whom the key says."""
    return Request("GET", target, _bearer(key))


def send(method: str, target: str, key: str, body: Mapping[str, Any], status: int = 200) -> Request:
    """A change, in JSON."""
    return Request(
        method, target, {**_bearer(key), "Content-Type": "application/json"}, orjson.dumps(body).decode(), status
    )


def _bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
