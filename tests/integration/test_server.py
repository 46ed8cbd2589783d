"""What only a real server shows: bodies that arrive slowly, in pieces, broken, or never."""

import re
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import AS_OWNER, assert_problem
from tests.serving import HANGS, USERS, own_database, serving

BODY = b'{"tag": "never", "kind": "service"}'
STALLED = 64
SILENT = 1_500


@pytest.fixture(scope="module")
def server(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with one process, whose patience with bodies is short."""
    folder = tmp_path_factory.mktemp("server")
    with (
        own_database(postgres, folder, LOG_LEVEL="WARNING", BODY_TIMEOUT_S="2") as settings,
        serving(settings, folder, workers=1) as client,
    ):
        yield client


def connected(server: httpx.Client) -> socket.socket:
    """A connection to the server, beside the client's own."""
    return socket.create_connection((server.base_url.host, server.base_url.port or 80), timeout=HANGS)


def head(method: str, path: str, *lines: str) -> bytes:
    """A request's head."""
    return "\r\n".join(
        (
            f"{method} {path} HTTP/1.1",
            "Host: x",
            f"Authorization: {AS_OWNER['Authorization']}",
            "Content-Type: application/json",
            *lines,
            "",
            "",
        )
    ).encode()


def rest(connection: socket.socket) -> bytes:
    """What the server says until it closes the connection."""
    said = b""
    try:
        while data := connection.recv(65_536):
            said += data
    except ConnectionResetError:
        pass
    return said


def target(server: httpx.Client, method: str, tag: str) -> str:
    """A path that takes this method with a body; for PUT that of a new user."""
    if method == "POST":
        return USERS
    user = server.post(USERS, json={"tag": tag, "kind": "service"}).json()
    return f"{USERS}/{user['id']}"


def assert_nothing_came_of(server: httpx.Client) -> None:
    """No user has the tag that the broken bodies name."""
    assert server.get(USERS, params={"tag": "never", "count": "none"}).json()["data"] == []


def test_a_chunked_body_of_ten_megabytes(server: httpx.Client) -> None:
    """A body without Content-Length ends at the limit too, and the server goes on."""

    def chunks() -> Iterator[bytes]:
        for _ in range(160):
            yield b" " * 65_536

    for method, path in (("POST", USERS), ("PUT", f"{USERS}/01890a5d-ac96-774b-bcce-b302099a8057")):
        response = server.request(method, path, content=chunks(), headers={"Content-Type": "application/json"})
        assert_problem(response, 413, "PAYLOAD_TOO_LARGE")
        response = server.request(method, path, content=b" " * 10_485_760, headers={"Content-Type": "application/json"})
        assert_problem(response, 413, "PAYLOAD_TOO_LARGE")
    assert server.get("/readyz").status_code == 200


def test_a_chunked_body_that_is_small_is_read(server: httpx.Client) -> None:
    """Chunks are a matter of transport: what they hold counts."""
    body = iter([b'{"tag": "chunked", ', b'"kind": ', b'"service"}'])
    response = server.post(USERS, content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["tag"]) == (201, "chunked")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_that_was_cut_short_changes_nothing(server: httpx.Client, method: str) -> None:
    """What arrived is whole JSON, and yet not what the caller meant to send: the connection broke on the way."""
    path = target(server, method, f"whole-{method.lower()}")
    with connected(server) as connection:
        connection.sendall(head(method, path, f"Content-Length: {len(BODY) + 5}") + BODY)
        connection.shutdown(socket.SHUT_WR)
        rest(connection)
    assert_nothing_came_of(server)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    "after", [b"", b"0", b"0\r\n", b"zz\r\n", b"5\r\nab", b"-1\r\n", b"fffffffffffffffff\r\n"], ids=repr
)
def test_chunks_that_break_off_change_nothing(server: httpx.Client, method: str, after: bytes) -> None:
    """A chunked body ends with an empty chunk (RFC 9112, 7.1); without it nobody knows what is missing."""
    path = target(server, method, f"chunks-{method.lower()}-{after.hex()}")
    chunk = b"%x\r\n%s\r\n" % (len(BODY), BODY)
    with connected(server) as connection:
        connection.sendall(head(method, path, "Transfer-Encoding: chunked") + chunk + after)
        connection.shutdown(socket.SHUT_WR)
        rest(connection)
    assert_nothing_came_of(server)


def test_stalled_bodies_hold_nobody_up(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """However many callers stop in the middle of a body, everybody else is answered."""
    with (
        own_database(postgres, tmp_path, LOG_LEVEL="WARNING", BODY_TIMEOUT_S="600") as settings,
        serving(settings, tmp_path, workers=1) as server,
        ExitStack() as stack,
    ):
        for _ in range(STALLED):
            connection = stack.enter_context(connected(server))
            connection.sendall(head("POST", USERS, f"Content-Length: {len(BODY)}") + BODY[:-1])
        assert server.get("/healthz").status_code == 200
        assert server.get("/readyz").status_code == 200
        assert server.post(USERS, json={"tag": "meanwhile", "kind": "service"}).status_code == 201
        assert server.get(USERS).json()["total"] == 2


def test_a_body_that_does_not_come_is_given_up(server: httpx.Client) -> None:
    """The caller is told so, and nothing has changed."""
    with connected(server) as connection:
        connection.sendall(head("POST", USERS, f"Content-Length: {len(BODY)}") + BODY[:-1])
        said = rest(connection)
    assert said.startswith(b"HTTP/1.1 408 "), said
    assert b"application/problem+json" in said
    assert b'"errorCode":"REQUEST_TIMEOUT"' in said
    assert_nothing_came_of(server)


def test_a_body_nobody_needs_is_not_awaited(server: httpx.Client) -> None:
    """A body has no meaning with GET (RFC 9110, 9.3.1), so the answer does not wait for it."""
    with closing(connected(server)) as connection:
        connection.sendall(head("GET", f"{USERS}?size=1", "Content-Length: 10"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("method", "length", "stays"),
    [("POST", 2_000_000, False), ("GET", 10, False), ("POST", 2, True), ("DELETE", 0, True)],
)
def test_an_answer_says_whether_its_connection_goes_on(
    server: httpx.Client, method: str, length: int, stays: bool
) -> None:
    """One whose body was left unread ends: unless this is said, the next request runs into the end (RFC 9112, 9.6)."""
    body = b" " * length
    answer = server.request(method, f"{USERS}/x", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code >= 400
    assert answer.headers.get("connection") == (None if stays else "close")
    with connected(server) as connection:
        connection.sendall(head(method, f"{USERS}/x", f"Content-Length: {length}") + body[:10])
        if stays:
            connection.sendall(head("GET", USERS, "Connection: close"))
        assert rest(connection).count(b"HTTP/1.1 ") == 1 + stays


def test_lines_of_one_header_are_one_list(server: httpx.Client) -> None:
    """RFC 9110, 5.3: of two If-Match lines either may fit, and two keys are no key."""
    path = target(server, "PUT", "lines")
    for lines, status in (
        (['If-Match: "7"', 'If-Match: "1"'], 200),
        (['If-Match: "1"', 'If-Match: "7"'], 412),
        (["Content-Type: text/plain"], 415),
    ):
        with closing(connected(server)) as connection:
            body = b'{"name": "changed once"}'
            connection.sendall(head("PUT", path, *lines, f"Content-Length: {len(body)}", "Connection: close") + body)
            assert rest(connection).startswith(f"HTTP/1.1 {status} ".encode())
    with closing(connected(server)) as connection:
        lines = ["Idempotency-Key: a", "Idempotency-Key: b", f"Content-Length: {len(BODY)}", "Connection: close"]
        connection.sendall(head("POST", USERS, *lines) + BODY)
        assert rest(connection).startswith(b"HTTP/1.1 400 ")
    assert_nothing_came_of(server)


@pytest.mark.parametrize("method", ["delete", "Delete", "get", "put", "post"])
def test_methods_are_case_sensitive(server: httpx.Client, method: str) -> None:
    """RFC 9110, 9.1: `delete` is not DELETE, and what a proxy lets pass must not become it."""
    path = target(server, "PUT", f"case-{method.encode().hex()}")
    with closing(connected(server)) as connection:
        connection.sendall(head(method, path, "Connection: close"))
        said = rest(connection)
    assert said.startswith(b"HTTP/1.1 405 "), said
    allow = re.search(rb"\nallow: (.+)\r", said)
    assert allow
    assert set(allow[1].split(b", ")) == {b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PUT"}
    assert server.get(path).status_code == 200


def test_a_header_with_an_underscore_passes_for_no_other(server: httpx.Client) -> None:
    """As a CGI variable X_Y is the same as X-Y, and so would get past a proxy that guards X-Y."""
    answer = server.get(USERS, headers={"X_Fission_Request_ID": "smuggled"})
    assert answer.headers["X-Fission-Request-ID"] != "smuggled"


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_536, 250_000])
def test_a_body_of_any_size_arrives_whole(server: httpx.Client, size: int) -> None:
    """Spaces before the JSON, so that the size is all that differs."""
    answer = server.post(
        USERS,
        content=b" " * size + BODY.replace(b"never", b"sized-%d" % size),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 201, answer.text
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.json()["id"])


@pytest.mark.parametrize(
    "path", ["/ai%2Fadmin/users", "/ai/admin%2fusers", "/%2Fai/admin/users", "/ai/admin/users%2F", "//ai/admin/users"]
)
def test_an_encoded_slash_separates_nothing_and_two_are_not_one(server: httpx.Client, path: str) -> None:
    """A proxy that guards /ai/admin by its path is not passed by writing it otherwise."""
    with connected(server) as connection:
        connection.sendall(head("GET", path, "Connection: close"))
        assert rest(connection).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "lengths",
    [("Content-Length: 5", "Content-Length: 60"), ("Content-Length: 5, 60",), ("Content-Length: +5",),
     ("Content-Length: 5", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
     ("Transfer-Encoding: x, chunked", "Content-Length: 5"), ("Transfer-Encoding : chunked", "Content-Length: 5"),
     ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked, chunked",),
     ("Transfer-Encoding: gzip",), ("Content-Length: -1",), ("Content-Length:",), ("Content-Length: 5, 5",),
     ("Content-Length: 99999999999999999999",), ("X: y", " Content-Length: 5")],
)  # fmt: skip
def test_a_body_has_one_length(server: httpx.Client, lengths: tuple[str, ...]) -> None:
    """A proxy that counts otherwise would take a part of this request for one of somebody else (RFC 9112, 11.2)."""
    hidden = head("GET", f"{USERS}?size=7")
    with connected(server) as connection:
        connection.sendall(head("POST", USERS, *lengths) + b"0\r\n\r\n" + hidden)
        connection.shutdown(socket.SHUT_WR)
        said = rest(connection)
    assert said.count(b"HTTP/1.1 ") <= 1, said
    assert said.startswith(b"HTTP/1.1 400 ") or not said
    assert_nothing_came_of(server)


@pytest.mark.parametrize(
    ("version", "lines", "status"),
    [
        ("1.1", [], 400),
        ("1.1", ["Host: a", "Host: b"], 400),
        ("1.1", ["Host: a", "Host: a"], 400),
        ("1.1", ["Host:"], 400),
        ("1.1", ["Host: a/b"], 400),
        ("1.0", ["Host: a", "Host: b"], 400),
        ("1.0", [], 200),
        ("1.1", ["Host: a"], 200),
        ("1.1", ["Host: [::1]:8080"], 200),
    ],
)
def test_request_without_exactly_one_host_is_refused(
    server: httpx.Client, version: str, lines: list[str], status: int
) -> None:
    """A proxy may route such a request by another host than the service sees (RFC 9112, 3.2)."""
    with connected(server) as connection:
        asked = [f"GET /healthz HTTP/{version}", *lines, "Connection: close", "", ""]
        connection.sendall("\r\n".join(asked).encode())
        said = rest(connection)
    assert said.startswith(f"HTTP/{version} {status} ".encode()), said
    assert (b'"errorCode":"BAD_REQUEST"' in said) == (status == 400)


@pytest.mark.parametrize(("size", "status"), [(120_000, 400), (140_000, 431)])
def test_head_of_more_than_128_kib_is_not_read(server: httpx.Client, size: int, status: int) -> None:
    """Otherwise each of thousands of connections takes hundreds of kilobytes before anything is known of it."""
    with connected(server) as connection:
        connection.sendall(head("GET", USERS, f"X-Padding: {'x' * size}", "Connection: close"))
        assert rest(connection).startswith(f"HTTP/1.1 {status} ".encode())


def test_silent_connections_keep_nobody_out(server: httpx.Client) -> None:
    """Connections on which nothing is asked take no place from those that ask."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < SILENT * 2:
        pytest.skip(f"a process may open {most} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, SILENT * 2), most))
    with ExitStack() as silent:
        for _ in range(SILENT):
            silent.enter_context(connected(server))
        # A client of its own: the other has a connection already.
        with httpx.Client(base_url=server.base_url, timeout=HANGS, trust_env=False) as late:
            assert late.get("/readyz").status_code == 200
