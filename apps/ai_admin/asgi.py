"""The application (WSGI, PEP 3333) under an event loop (ASGI 3): no request holds a thread while its body arrives.

A caller who sends slowly, or not at all, holds a socket and no thread, and a body that broke off is told from one that
ended. `http/admission.py` decides which bodies are collected, and how many bytes of them are held. Probes have threads
of their own and answer however many requests wait. asgiref's WsgiToAsgi and a2wsgi do a part of this, at a third of the
rate (docs/dependencies.md).
"""

import asyncio
import io
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask

from ai_admin.errors import ApiError, BadRequest, RequestTimeout
from ai_admin.http.admission import Awaited, Bodies, BodyAwaited, Held, admitted, limit_of
from ai_admin.http.body import CUT_SHORT
from ai_admin.http.heads import LONGEST_HEADER

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Head = tuple[int, list[tuple[bytes, bytes]]]
# The head of an answer, and its body, or else the chunks of one whose length is not known.
Answer = tuple[Head, bytes, Iterable[bytes] | None]

# Methods whose body means something here; that of another is left unread (RFC 9110, 9.3).
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# Granian calls HTTP/1.0 `1`, ASGI `1.0`.
_PROTOCOLS = {"1": "HTTP/1.0", "1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2"}
_LENGTH = re.compile(r"[0-9]{1,20}")
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_PROBE_THREADS = 2
# How long an HTTP/2 stream whose body is left unread stays open after its answer, in seconds.
_LINGER_S = 0.1
# Octets of a streamed answer that are sent at once: a few of them wait in the server for a slow caller.
_PART = 1 << 16


class AsgiApplication:
    """Serves a Flask application to an ASGI server, with `threads` requests at work at once.

    A body is awaited for `body_timeout_s` seconds and kept up to `max_body_bytes` and what its last message adds,
    by which the application sees that it is too large. All bodies take `body_memory_bytes` together, and at least as
    many as four of the largest. Paths that are `streamed` read theirs as it arrives, each part awaited for as long:
    they keep their thread meanwhile, and have to see to how many do.
    """

    def __init__(
        self,
        app: Flask,
        *,
        threads: int,
        max_body_bytes: int,
        body_timeout_s: float,
        body_memory_bytes: int = 0,
        streamed: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(threads, "request")
        self._probe_threads = ThreadPoolExecutor(_PROBE_THREADS, "probe")
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._bodies = Bodies(max(body_memory_bytes, 4 * max_body_bytes))
        self._streamed = streamed

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        environ = _environ(scope)
        arriving = _Receiver(receive, has_more=_has_body(environ))
        (status, headers), body, rest = await self._answer(environ, arriving)
        if arriving.has_more and environ["SERVER_PROTOCOL"] != "HTTP/2":
            # What is left of the body ends the connection: a caller who is not told sends its next request into it.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if rest is not None:
            await self._stream(rest, receive, send)
        await send({"type": "http.response.body", "body": body})
        if arriving.has_more and environ["SERVER_PROTOCOL"] == "HTTP/2":
            # A stream that ends before its answer is on its way is cancelled, answer and all.
            await asyncio.sleep(_LINGER_S)

    async def _answer(self, environ: dict[str, Any], arriving: "_Receiver") -> Answer:
        """The application's answer to a request, whose body is read as far as that needs it."""
        if environ["PATH_INFO"] in self._streamed:
            streamed = _Arriving(arriving, asyncio.get_running_loop(), self._body_timeout_s)
            return await self._run_with(environ, streamed)
        if environ["REQUEST_METHOD"] not in _WITH_BODY or not arriving.has_more:
            return await self._run_with(environ, io.BytesIO())
        held = self._bodies.hold_small(_length(environ), environ.get("HTTP_EXPECT", ""))
        if held is None:
            try:
                return await self._run_with(environ, Awaited())
            except BodyAwaited:
                held = self._bodies.hold_admitted(admitted(environ))
        with held:
            return await self._run_with(environ, await self._body(environ, arriving, held))

    async def _run_with(self, environ: dict[str, Any], body: io.IOBase) -> Answer:
        """Run the application in a thread. Raises `BodyAwaited`."""
        environ["wsgi.input"] = body
        threads = self._probe_threads if environ["PATH_INFO"] in _PROBES else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, self._run, environ)

    async def _stream(self, chunks: Iterable[bytes], receive: Receive, send: Send) -> None:
        """Send chunks as they are made, until the caller has gone; then the next one is not asked for.

        Raises what making them raises, and `TimeoutError` where the caller takes a part not in `body_timeout_s`
        seconds: the answer then lacks its end, and is seen to be cut short (RFC 9112, 8).
        """
        in_thread = asyncio.get_running_loop().run_in_executor
        gone = asyncio.ensure_future(_disconnected(receive))
        made = iter(chunks)
        try:
            while not gone.done() and (chunk := await in_thread(self._threads, next, made, b"")):
                for start in range(0, len(chunk), _PART):
                    part = {"type": "http.response.body", "body": chunk[start : start + _PART], "more_body": True}
                    await asyncio.wait_for(send(part), self._body_timeout_s)
        finally:
            gone.cancel()
            await in_thread(self._threads, _close, chunks)

    async def _body(self, environ: dict[str, Any], receive: "_Receiver", held: Held) -> io.IOBase:
        """The body as a file; reading the file of one that did not arrive whole, or has no room, raises why."""
        limit = limit_of(environ) or self._max_body_bytes
        try:
            held.cover(min(_length(environ) or 0, limit))
            return await asyncio.wait_for(_collected(receive, held, limit), self._body_timeout_s)
        except asyncio.TimeoutError:
            return _Unreadable(RequestTimeout())
        except ApiError as error:
            return _Unreadable(error)

    def _run(self, environ: dict[str, Any]) -> Answer:
        """The application's answer. Raises `BodyAwaited`."""
        heads: list[Head] = []

        def start(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], object]:
            encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            heads.append((int(status[:3]), encoded))
            return io.BytesIO().write

        chunks = self._app(environ, start)
        (head,) = heads
        if not any(name == b"content-length" for name, _ in head[1]):
            return head, b"", chunks
        try:
            return head, b"".join(chunks), None
        finally:
            _close(chunks)


class _Receiver:
    """An ASGI `receive` that remembers whether there is more of the body to come."""

    def __init__(self, receive: Receive, *, has_more: bool) -> None:
        self._receive = receive
        self.has_more = has_more

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.has_more = message["more_body"]
        return message


class _Arriving(io.RawIOBase):
    """A body that is read, by a thread, as it arrives at the event loop."""

    def __init__(self, receive: _Receiver, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._receive = receive
        self._loop = loop
        self._timeout_s = timeout_s
        self._part = b""

    def read(self, size: int = -1, /) -> bytes:
        """So many octets or fewer; none at the end. Raises `RequestTimeout`, and `BadRequest` where it breaks off."""
        while not self._part and self._receive.has_more:
            message = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            if message["type"] != "http.request":
                raise BadRequest(CUT_SHORT)
            self._part = message["body"]
        part = self._part if size < 0 else self._part[:size]
        self._part = self._part[len(part) :]
        return part

    async def _next(self) -> Message:
        try:
            return await asyncio.wait_for(self._receive(), self._timeout_s)
        except asyncio.TimeoutError:
            raise RequestTimeout from None


class _Unreadable(io.RawIOBase):
    """The body of a request that did not arrive whole: reading it raises why."""

    def __init__(self, error: ApiError) -> None:
        self._error = error

    def read(self, _size: int = -1, /) -> bytes:
        raise self._error


async def _collected(receive: Receive, held: Held, limit: int) -> io.BytesIO:
    """The body; the first part beyond the limit is its last.

    Raises `BadRequest` where the body breaks off, and what `Held.cover` raises.
    """
    body = io.BytesIO()
    while body.tell() <= limit:
        message = await receive()
        if message["type"] != "http.request":
            raise BadRequest(CUT_SHORT)
        held.cover(body.tell() + len(message["body"]))
        body.write(message["body"])
        if not message["more_body"]:
            break
    body.seek(0)
    return body


async def _disconnected(receive: Receive) -> None:
    """Come back once the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _close(chunks: Iterable[bytes]) -> None:
    """PEP 3333: the server calls `close` of an answer's body, where it has one."""
    if close := getattr(chunks, "close", None):
        close()


def _has_body(environ: dict[str, Any]) -> bool:
    """Whether a body follows the head. HTTP/2 needs neither of the two headers by which HTTP/1.1 says so."""
    has_length = environ.get("CONTENT_LENGTH", "0") != "0"
    return has_length or "HTTP_TRANSFER_ENCODING" in environ or environ["SERVER_PROTOCOL"] == "HTTP/2"


def _length(environ: dict[str, Any]) -> int | None:
    """The length of the body, in bytes, where the head declares one number.

    HTTP/1.1 may write it with thousands of zeros, more than Python converts; HTTP/2 in two lines.
    """
    length = _LENGTH.fullmatch(environ.get("CONTENT_LENGTH", ""))
    return int(length[0]) if length else None


def _path(raw: bytes) -> str:
    """The decoded path. An encoded slash separates nothing (RFC 3986, 2.2): it becomes two, which no route has."""
    return "//".join(unquote_to_bytes(part).decode("latin-1") for part in re.split(rb"%2[Ff]", raw))


def _environ(scope: Message) -> dict[str, Any]:
    """The CGI variables of a request (PEP 3333; RFC 3875, 4.1), without the body."""
    host, port = scope["server"]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": _path(scope["raw_path"]),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": _PROTOCOLS[scope["http_version"]],
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        # X_Y would become the same variable as X-Y, and so pass for a header that a proxy has checked.
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        if name not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            name = f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        # Lines of one name are one list (RFC 9110, 5.3); cookies alone are joined otherwise (RFC 9113, 8.2.3).
        separator = "; " if name == "HTTP_COOKIE" else ", "
        # A header that is too long already is refused: to go on would take time with the square of the lines.
        if name not in environ:
            environ[name] = value
        elif len(environ[name]) <= LONGEST_HEADER:
            environ[name] = f"{environ[name]}{separator}{value}"
    return environ
