"""Heads in many lines, and answers that are streamed to callers who leave or stop reading."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, request

from ai_admin.asgi import AsgiApplication
from ai_admin.http.heads import LONGEST_HEADER

SCOPE = {
    "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "http_version": "1.1",
    "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "headers": [],
}  # fmt: skip


class Endless:
    """A body without an end, which knows how far it was read and whether it was closed."""

    def __init__(self) -> None:
        self.made = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.made += 1
            yield b"x" * 100_000

    def close(self) -> None:
        """What a server calls."""
        self.is_closed = True


def application(body: Endless) -> AsgiApplication:
    """One that answers with this body."""
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: Response(body))
    return AsgiApplication(app, threads=1, max_body_bytes=1, body_timeout_s=0.01)


def test_who_leaves_ends_what_is_made_for_them() -> None:
    """The server takes what is sent to nobody without a word: it has to be asked whether somebody is there."""
    body = Endless()
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if len(sent) == 5:
            gone.set()

    asyncio.run(asyncio.wait_for(application(body)(SCOPE, receive, send), 20))
    assert body.is_closed
    assert body.made <= 10
    assert max(len(message.get("body", b"")) for message in sent) == 1 << 16


def test_who_reads_no_more_gets_no_end() -> None:
    """A snapshot of the database is not held for somebody who takes nothing; nor is the answer a whole one."""
    body = Endless()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if len(sent) == 5:
            await asyncio.Event().wait()

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(application(body)(SCOPE, receive, send))
    assert body.is_closed
    assert all(message.get("more_body", True) for message in sent)


def test_header_in_many_lines_grows_no_longer_than_one_that_is_refused() -> None:
    """HTTP/2 has room for thousands of lines: to join them all took time with the square of their number."""
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: str(len(request.headers["X-Line"])))
    bridge = AsgiApplication(app, threads=1, max_body_bytes=1, body_timeout_s=20)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    lines = [(b"x-line", b"x" * 100)] * 10_000
    asyncio.run(bridge({**SCOPE, "headers": lines}, receive, send))
    assert LONGEST_HEADER < int(sent[-1]["body"]) <= LONGEST_HEADER + 102


@pytest.mark.parametrize("lengths", [["0" * 5000 + "12"], ["12", "12"], ["12", "13"], ["9" * 21]])
def test_length_that_is_no_short_number_is_not_converted(lengths: list[str]) -> None:
    """5,000 zeros before a length, and a length in two lines of HTTP/2, ended in a 500 without an error code."""
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: Response(request.get_data()), methods=["POST"])
    bridge = AsgiApplication(app, threads=1, max_body_bytes=100, body_timeout_s=20)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"name":"k"}', "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-length", length.encode()) for length in lengths]
    asyncio.run(bridge({**SCOPE, "method": "POST", "http_version": "2", "headers": headers}, receive, send))
    assert sent[0]["status"] == 200
    assert sent[-1]["body"] == b'{"name":"k"}'
