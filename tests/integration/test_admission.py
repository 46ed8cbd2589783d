"""What only a real server shows: requests that are answered by their head, and bodies within one budget."""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import OWNER_KEY, assert_problem
from tests.serving import HANGS, USERS, own_database, serving

# The smallest that the settings allow: a budget of 1 MiB, of which a caller, and small bodies, have 256 KiB.
LARGEST = 65_536
SHARE = 4
SMALL = 16_384
JSON = "Content-Type: application/json"
ABSENT = f"{USERS}/01890a5d-ac96-774b-bcce-b302099a8057"
NO_KEY = "aia_" + "x" * 43


@dataclass(frozen=True)
class Server:
    """A server with one process that waits very long for bodies, and what it has logged."""

    api: httpx.Client
    log: Path

    def connected(self) -> socket.socket:
        """A connection beside the client's own."""
        return socket.create_connection((self.api.base_url.host, self.api.base_url.port or 80), timeout=HANGS)

    def person(self, tag: str, **members: object) -> str:
        """The key of a new service."""
        user = self.api.post(USERS, json={"tag": tag, "kind": "service", **members}).json()
        return str(self.api.post(f"{USERS}/{user['id']}/keys", json={"name": "k"}).json()["key"])

    def lines(self, request_id: str) -> list[dict[str, object]]:
        """The lines of the request log for a request."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("requestId") == request_id and line["event"] == "request"]


@pytest.fixture
def server(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Server]:
    """One that forgets credentials at once, with room for a dozen of the largest bodies."""
    config = {
        "BODY_TIMEOUT_S": "600",
        "MAX_BODY_BYTES": str(LARGEST),
        "BODY_MEMORY_BYTES": "1048576",
        "CREDENTIAL_CACHE_S": "0",
        "OWN_WRITES_PER_MINUTE": "1",
    }
    with (
        own_database(postgres, tmp_path, **config) as settings,
        serving(settings, tmp_path, workers=1) as client,
    ):
        yield Server(client, tmp_path / "server.log")


def head(method: str, path: str, *lines: str, size: int = LARGEST) -> bytes:
    """A request's head that declares a body of this size."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *lines, "", ""]).encode()


def bearer(key: str) -> str:
    """The line that presents a key."""
    return f"Authorization: Bearer {key}"


def answered(connection: socket.socket) -> bytes:
    """What the server says until it closes the connection, though none of the body was sent."""
    said = b""
    while part := connection.recv(65_536):
        said += part
    return said


def status_of(said: bytes) -> int:
    """The status of an answer."""
    return int(said[9:12])


@pytest.mark.parametrize(
    ("method", "path", "lines", "status"),
    [
        ("POST", "/no/such/path", [], 404),
        ("PUT", "/ai/me", [bearer(OWNER_KEY)], 405),
        ("POST", USERS, [JSON], 401),
        ("POST", USERS, [JSON, "Expect: 100-continue"], 401),
        ("POST", USERS, [JSON, bearer(NO_KEY)], 401),
        ("POST", f"{USERS}?x=1", [JSON, bearer(OWNER_KEY), "Idempotency-Key:  "], 400),
        ("PUT", f"{USERS}/x", [JSON, bearer(OWNER_KEY)], 400),
        ("POST", USERS, ["Content-Type: text/plain", bearer(OWNER_KEY)], 415),
        ("POST", "/ai/admin/console/users/new", ["Content-Type: application/x-www-form-urlencoded"], 303),
        ("PUT", "/ai/admin/console/users/new", [], 405),
    ],
)
def test_head_that_is_refused_is_answered_before_the_body(
    server: Server, method: str, path: str, lines: list[str], status: int
) -> None:
    """Strangers must not make a process hold bodies: not one byte of this one is sent, and yet the answer comes."""
    with server.connected() as connection:
        connection.sendall(head(method, path, *lines))
        said = answered(connection)
    assert status_of(said) == status, said
    assert b"\r\nconnection: close\r\n" in said


def test_head_with_a_length_beyond_the_limit_is_answered_before_the_body(server: Server) -> None:
    """A body that will be refused is not worth a wait."""
    with server.connected() as connection:
        connection.sendall(head("POST", USERS, JSON, bearer(OWNER_KEY), size=LARGEST + 1))
        assert status_of(answered(connection)) == 413


def test_head_that_is_refused_is_recorded_once(server: Server) -> None:
    """One refusal is one event and one line of the log, whether it comes before the body or after it."""
    member = server.person("member")
    for lines, size in ([bearer(member)], LARGEST), ([bearer(member)], 2), ([], LARGEST), ([bearer(NO_KEY)], LARGEST):
        with server.connected() as connection:
            connection.sendall(head("POST", USERS, JSON, "Connection: close", *lines, size=size) + b"{}")
            said = answered(connection)
        assert status_of(said) in {401, 403}
        request_id = json.loads(said.partition(b"\r\n\r\n")[2])["requestId"]
        events = server.api.get("/ai/admin/audit", params={"size": "200"}).json()["data"]
        assert sum(event["requestId"] == request_id for event in events) == 1
        assert len(server.lines(request_id)) == 1


def test_large_body_of_an_admitted_caller_is_taken_once(server: Server) -> None:
    """A request that runs twice is one request: one user, one event, one line, under the id that the caller gave."""
    for tag, given in ("large", "given-id"), ("other", "no harmless id"):
        headers = {"X-Fission-Request-ID": given, "Content-Type": "application/json"}
        body = json.dumps({"tag": tag, "kind": "service"}).ljust(LARGEST)
        answer = server.api.post(USERS, content=body, headers=headers)
        assert answer.status_code == 201, answer.text
        (line,) = server.lines(answer.headers["X-Fission-Request-ID"])
        assert line["status"] == 201
    assert server.api.get(USERS, params={"tag": "large"}).json()["total"] == 1
    events = server.api.get("/ai/admin/audit", params={"size": "200"}).json()["data"]
    assert sum(event["requestId"] == "given-id" for event in events) == 1


def test_large_body_counts_once_towards_a_rate(server: Server) -> None:
    """A caller with large bodies has the whole of their rate: here two writes at once."""
    for status in 201, 201, 429:
        body = json.dumps({"name": "k"}).ljust(LARGEST)
        answer = server.api.post("/ai/me/keys", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, answer.text


def test_expect_of_an_admitted_caller_is_answered_by_100(server: Server) -> None:
    """A client that asks before it sends is asked for the body once it is known that the caller may send one."""
    body = b'{"tag": "asked", "kind": "service"}'
    with server.connected() as connection:
        lines = JSON, bearer(OWNER_KEY), "Expect: 100-continue", "Connection: close"
        connection.sendall(head("POST", USERS, *lines, size=len(body)))
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert status_of(answered(connection)) == 201


def test_key_that_is_revoked_while_its_body_arrives_is_refused(server: Server) -> None:
    """A caller must not keep a revoked key alive by sending slowly."""
    user = server.api.post(USERS, json={"tag": "slow", "kind": "service", "role": "admin"}).json()
    keys = f"{USERS}/{user['id']}/keys"
    made = server.api.post(keys, json={"name": "k"}).json()
    body = b'{"tag": "late", "kind": "service"}'.ljust(LARGEST)
    with server.connected() as connection:
        lines = JSON, bearer(made["key"]), "Expect: 100-continue", "Connection: close"
        connection.sendall(head("POST", USERS, *lines))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        assert server.api.delete(f"{keys}/{made['id']}").status_code == 204
        connection.sendall(body)
        assert status_of(answered(connection)) == 401


def stall(stack: ExitStack, server: Server, key: str | None, number: int, *, size: int = LARGEST) -> None:
    """Callers who stop in the middle of a body; the server waits for the rest of each when this returns."""
    lines = [JSON, "Expect: 100-continue", *([bearer(key)] if key else [])]
    for _ in range(number):
        connection = stack.enter_context(server.connected())
        connection.sendall(head("POST", USERS, *lines, size=size))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")


def post(server: Server, key: str, tag: str, *, size: int = LARGEST) -> httpx.Response:
    """A request to create a user, with a body of this size."""
    body = json.dumps({"tag": tag, "kind": "service"}).ljust(size)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return server.api.post(USERS, content=body, headers=headers)


def test_callers_beyond_the_budget_are_told_to_wait(server: Server) -> None:
    """One caller's slow bodies limit that caller alone; those of many limit large bodies, and never small ones."""
    admins = [server.person(f"admin-{number}", role="admin") for number in range(4)]
    with ExitStack() as stack:
        stall(stack, server, admins[0], SHARE)
        assert_problem(answer := post(server, admins[0], "mine"), 429, "RATE_LIMITED")
        assert answer.headers["Retry-After"] == "1"
        assert post(server, admins[1], "others").status_code == 201
        stall(stack, server, admins[1], SHARE)
        stall(stack, server, admins[2], SHARE)
        assert_problem(answer := post(server, admins[3], "mine"), 503, "OVERLOADED")
        assert answer.headers["Retry-After"] == "1"
        assert len(server.lines(answer.headers["X-Fission-Request-ID"])) == 1
        assert post(server, admins[0], "small", size=100).status_code == 201
        assert server.api.get(USERS, params={"tag": "mine"}).json()["total"] == 0
    while (answer := post(server, admins[3], "after")).status_code == 503:
        pass
    assert answer.status_code == 201


def test_strangers_with_small_bodies_keep_nobody_out(server: Server) -> None:
    """Slow bodies that nobody has looked at fill their part of the budget; callers with a credential are served."""
    with ExitStack() as stack:
        strangers = [stack.enter_context(server.connected()) for _ in range(3 * LARGEST // SMALL * SHARE)]
        for connection in strangers:
            connection.sendall(head("POST", USERS, JSON, size=SMALL) + b"{")
        for size in 100, SMALL, LARGEST:
            assert post(server, OWNER_KEY, f"beside-{size}", size=size).status_code == 201
        # Those beyond their part were judged by the head.
        refused, _, _ = select.select(strangers, [], [], HANGS)
        assert {status_of(connection.recv(65_536)) for connection in refused} == {401}
