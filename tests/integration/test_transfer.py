"""Files of users over HTTP: what goes in and comes out, by whose rights, and what becomes of half a file."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask

from ai_admin.access.actors import service
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.operations import operation_of
from ai_admin.services import Services
from ai_admin.transfer import views
from ai_admin.transfer.formats import COLUMNS, FORMATS
from ai_admin.transfer.views import EXPORT, IMPORT, ImportQuery
from ai_admin.users import directory
from ai_admin.users.schemas import AiUserCreate
from tests.conftest import AS_OWNER, OWNER_KEY, assert_problem
from tests.integration.test_access import MATRIX, bearer, key_of, user_of
from tests.integration.test_export import ODD
from tests.serving import USERS, own_database, serving, together

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv; charset=utf-8"}


def client_of(app: Flask) -> httpx.Client:
    """An owner's client of an application."""
    return httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://ai-admin.test", headers=AS_OWNER)


@pytest.fixture
def server(server_app: Flask) -> Iterator[httpx.Client]:
    """A client of the application that a server runs."""
    with client_of(server_app) as client:
        yield client


def lines(*users: dict[str, Any]) -> bytes:
    """A file of users, one a line."""
    return b"".join(json.dumps(user).encode() + b"\n" for user in users)


def contents(api: httpx.Client) -> list[dict[str, Any]]:
    """Every user, without what the service sets."""
    users = [json.loads(line) for line in api.get(EXPORT).text.splitlines()]
    kept = [{name: user[name] for name in COLUMNS if name not in {"id", "createdAt", "updatedAt"}} for user in users]
    return sorted(kept, key=lambda user: str(user["tag"]))


def report(answer: httpx.Response) -> dict[str, Any]:
    """What an import says of itself, of which nothing was refused."""
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["rejects"] == []
    return {name: number for name, number in body.items() if number not in (0, False, [])}


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_import_of_an_export_gives_the_same_directory(
    server: httpx.Client, postgres: Any, tmp_path: Path, form: str
) -> None:
    """What one service gives out another takes in; and the one it came from finds nothing to do."""
    for user in ODD:
        assert server.post(USERS, json=user).status_code == 201
    exported = server.get(EXPORT, params={"format": form})
    assert exported.headers["Content-Disposition"] == f'attachment; filename="users.{form}"'
    headers = {"Content-Type": exported.headers["Content-Type"]}
    assert report(server.post(IMPORT, content=exported.content, headers=headers)) == {"records": 6, "unchanged": 6}
    with own_database(postgres, tmp_path / "other") as other, serving(other, tmp_path / "other") as second:
        answer = second.post(IMPORT, content=exported.content, headers=headers)
        assert report(answer) == {"records": 6, "created": 5, "unchanged": 1}
        assert contents(second) == contents(server)


def test_a_dry_run_changes_nothing_and_says_the_same(server: httpx.Client, sql: psycopg.Connection) -> None:
    """The numbers of a dry run are those of the import; bad rows are named by line and fault, without their values."""
    rows = ("tag,email,name", "ada,ada@example.com,A", "no tag!,secret@x.io,X", "zz-owner,,B", "ada,,", "ZZ-owner,,")
    file = "\n".join(rows).encode()
    dry = server.post(IMPORT, params={"dryRun": "true"}, content=file, headers=CSV).json()
    assert sql.execute("SELECT count(*) FROM users").fetchone() == (1,)
    assert sql.execute("SELECT count(*) FROM audit_events").fetchone() == (0,)
    done = server.post(IMPORT, content=file, headers=CSV).json()
    assert dry == done | {"dryRun": True}
    assert (done["records"], done["created"], done["changed"], done["unchanged"], done["rejected"]) == (5, 1, 1, 0, 3)
    assert [(each["line"], each["errorCode"]) for each in done["rejects"]] == [
        (line, "VALIDATION_ERROR") for line in (3, 5, 6)
    ]
    assert all(each["details"][0]["loc"] == ["body", "tag"] for each in done["rejects"])
    assert done["rejects"][1]["details"][0]["msg"] == "Lines 2 and 5 have the same tag: keep one of them"
    assert "secret" not in json.dumps(done)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "gb18030"])
def test_import_of_file_in_another_encoding_keeps_names(server: httpx.Client, encoding: str) -> None:
    """A spreadsheet's file was refused as no UTF-8, and nothing said what it is or how to take it."""
    table = "tag,email,name\nada,ada@example.com,Zo\u00e9 M\u00fcller\nbob,bob@example.com,Bob\n".encode(encoding)
    params = {"encoding": encoding}
    assert report(server.post(IMPORT, params=params, content=table, headers=CSV)) == {"records": 2, "created": 2}
    assert server.get(USERS, params={"tag": "ada"}).json()["data"][0]["name"] == "Zo\u00e9 M\u00fcller"
    assert server.post(IMPORT, params={"encoding": "rot13"}, content=table, headers=CSV).status_code == 400


def test_import_of_file_that_is_not_utf_8_says_what_it_looks_like(server: httpx.Client) -> None:
    """Tables, lines of JSON and documents: each message names an encoding to give."""
    table = "tag,email,name\nada,ada@example.com,M\u00fcller\nbob,bob@example.com,Bob\n"
    line = '{"tag": "eve", "email": "eve@example.com", "name": "M\u00fcller"}\n'
    for text, headers in ((table, CSV), (line, NDJSON)):
        (reject,) = server.post(IMPORT, content=text.encode("cp1252"), headers=headers).json()["rejects"]
        assert "looks like cp1252" in reject["details"][0]["msg"]
    document = '{"users": [{"username": "ada", "firstName": "M\u00fcller"}]}'
    for text, encoding, params, headers in (
        (table, "utf-16", {}, CSV),
        (document, "utf-16", {"format": "keycloak"}, JSON),
        (document, "cp1252", {"format": "keycloak"}, JSON),
    ):
        answer = server.post(IMPORT, params=params, content=text.encode(encoding), headers=headers)
        assert answer.status_code == 400
        assert f"such as {encoding}" in answer.json()["details"][0]["msg"]
    answer = server.post(IMPORT, params={"encoding": "cp1252"}, content=b"tag,name\na,\x81\n", headers=CSV)
    assert "no text in cp1252" in answer.json()["details"][0]["msg"]


def test_every_format_is_offered() -> None:
    """What the command reads, the route reads."""
    form = ImportQuery.model_json_schema()["properties"]["format"]["anyOf"][0]["enum"]
    assert sorted(form) == sorted(FORMATS)


def test_lists_of_other_systems_are_taken(server: httpx.Client) -> None:
    """A realm export in JSON; the body's type alone does not say whose JSON it is."""
    realm = {"users": [{"id": "1", "username": "ada", "email": "ada@example.com", "enabled": True}]}
    assert_problem(server.post(IMPORT, json=realm), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert report(server.post(IMPORT, params={"format": "keycloak"}, json=realm)) == {"records": 1, "created": 1}


@pytest.mark.parametrize(
    ("params", "headers", "content", "status", "code"),
    [
        ({}, {}, b"{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"format": "xml"}, {}, b"{}", 400, "VALIDATION_ERROR"),
        ({"colour": "red"}, NDJSON, b"{}", 400, "VALIDATION_ERROR"),
        ({"dryRun": "yes"}, NDJSON, b"{}", 400, "VALIDATION_ERROR"),
        ({"match": "id"}, NDJSON, b"{}", 400, "VALIDATION_ERROR"),
        ({"format": "keycloak"}, {}, b"[", 400, "VALIDATION_ERROR"),
        ({"format": "csv"}, {}, b"\xff\xfe", 400, "VALIDATION_ERROR"),
        ({"format": "csv"}, {}, b"tag,colour\n", 400, "VALIDATION_ERROR"),
    ],
)
def test_what_is_no_import_is_refused(
    server: httpx.Client, params: dict[str, str], headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    """With a clear answer, and nothing changed."""
    assert_problem(server.post(IMPORT, params=params, headers=headers, content=content), status, code)


def test_an_export_has_the_filters_of_the_list(server: httpx.Client, sql: psycopg.Connection) -> None:
    """And refuses what the list refuses; the log says by which filters, and not their values."""
    for user in ODD:
        server.post(USERS, json=user)
    found = server.get(EXPORT, params={"q": "dang", "role": "admin"}).text.splitlines()
    assert [json.loads(line)["tag"] for line in found] == ["d"]
    [(changes,)] = sql.execute("SELECT changes FROM audit_events WHERE action = 'users:export'").fetchall()
    assert changes == {"format": "ndjson", "filters": ["q", "role"]}
    for params in ({"sort": "name"}, {"format": "xml"}, {"createdAt[gte]": "yesterday"}):
        assert_problem(server.get(EXPORT, params=params), 400, "VALIDATION_ERROR")
    head = server.head(EXPORT, params={"format": "csv"})
    assert (head.status_code, head.content) == (200, b"")
    assert sql.execute("SELECT count(*) FROM audit_events WHERE action = 'users:export'").fetchone() == (1,)


@pytest.mark.parametrize("path", [IMPORT, EXPORT])
def test_neither_is_the_id_of_a_user(server: httpx.Client, path: str) -> None:
    """A method that the path has not is told so, and does not go to the user of that name."""
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {"POST" if path == IMPORT else "GET"}:
        answer = server.request(method, path)
        assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
        assert ("POST" if path == IMPORT else "GET") in answer.headers["Allow"]
    allowed = "OPTIONS, POST" if path == IMPORT else "GET, HEAD, OPTIONS"
    assert server.options(path).headers["Allow"] == answer.headers["Allow"] == allowed


def test_rights_are_those_of_the_list_and_of_changes(server: httpx.Client) -> None:
    """An auditor takes out and brings nothing in; a member does neither; an admin makes nobody an owner."""
    admin, auditor, member = (
        bearer(key_of(server, user_of(server, role, role=role))["key"]) for role in ("admin", "auditor", "member")
    )
    file = lines({"tag": "new", "kind": "service"}, {"tag": "boss", "kind": "service", "role": "owner"})
    for headers, status in ((auditor, 200), (member, 403), ({"Authorization": ""}, 401)):
        assert server.get(EXPORT, headers=headers).status_code == status
        refused = server.post(IMPORT, content=file, headers=NDJSON | headers)
        assert refused.status_code == (401 if status == 401 else 403)
    done = server.post(IMPORT, content=file, headers=NDJSON | admin).json()
    assert (done["created"], [reject["errorCode"] for reject in done["rejects"]]) == (1, ["FORBIDDEN"])


def test_these_routes_are_all_that_a_server_has_beyond_the_others(server_app: Flask) -> None:
    """Those of functions too are in the matrix of test_access; a further one has to be thought about."""
    guarded = set()
    for rule in server_app.url_map.iter_rules():
        operation = operation_of(server_app, rule.endpoint)
        assert operation is not None
        if operation.entry != "public" and not operation.page:
            guarded |= {(method, rule.rule) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert guarded - set(MATRIX) == {("POST", IMPORT), ("GET", EXPORT)}


@pytest.mark.config(CREDENTIAL_CACHE_S="5")
def test_who_was_put_out_moves_nobody(server: httpx.Client, sql: psycopg.Connection) -> None:
    """Though a process still remembers their key: nothing comes in, nothing goes out, and no event says it did."""
    headers = bearer(key_of(server, user_of(server, "eve", role="owner"))["key"])
    assert server.get("/ai/me", headers=headers).status_code == 200
    sql.execute("UPDATE users SET status = 'suspended' WHERE tag = 'eve'")
    state = "SELECT (SELECT count(*) FROM users), count(*) FROM audit_events WHERE action <> 'access:refuse'"
    before = sql.execute(state).fetchone()
    file = lines({"tag": "new", "kind": "service"})
    assert_problem(server.post(IMPORT, content=file, headers=NDJSON | headers), 401, "UNAUTHENTICATED")
    assert_problem(server.get(EXPORT, headers=headers), 401, "UNAUTHENTICATED")
    assert sql.execute(state).fetchone() == before


def test_half_a_document_is_none(server: httpx.Client) -> None:
    """A JSON document whose end is missing is refused before its first user is taken."""
    realm = json.dumps({"users": [{"username": "ada", "email": "ada@example.com"}, {"username": "bob"}]})
    params, whole = {"format": "keycloak"}, realm.encode()
    refused = server.post(IMPORT, params=params, content=whole[:-5])
    assert_problem(refused, 400, "VALIDATION_ERROR")
    assert "no JSON after 1 users" in refused.json()["details"][0]["msg"]
    assert len(contents(server)) == 1


def test_what_is_refused_is_counted_and_not_all_listed(server: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but faults fills neither the answer nor the memory nor the database."""
    monkeypatch.setattr(views, "_MOST_REJECTS", 3)
    file = b"{}\n" * 4 + lines({"tag": "new", "kind": "service"}) + b"[]\n"
    for params in ({"dryRun": "true"}, {}):
        answer = server.post(IMPORT, params=params, content=file, headers=NDJSON).json()
        assert (answer["records"], answer["created"], answer["rejected"]) == (6, 1, 5)
        assert [reject["line"] for reject in answer["rejects"]] == [1, 2, 3]


@pytest.mark.config(MAX_IMPORT_BYTES="65536")
def test_a_file_that_is_too_large_is_refused(server: httpx.Client) -> None:
    """By its length where that is declared; where it is not, a real server shows it below."""
    file = lines({"tag": "x", "name": "y" * 65_536})
    assert_problem(server.post(IMPORT, content=file, headers=NDJSON), 413, "PAYLOAD_TOO_LARGE")


def test_only_a_few_at_once(server: httpx.Client, server_app: Flask) -> None:
    """Each holds a connection of its own to the database: who comes too many is asked to come again."""
    services: Services = server_app.extensions["ai_admin"]
    taken = 0
    while services.long_work.acquire(blocking=False):
        taken += 1
    assert_problem(server.get(EXPORT), 429, "RATE_LIMITED")
    assert_problem(server.post(IMPORT, content=b"", headers=NDJSON), 429, "RATE_LIMITED")
    services.long_work.release(taken)
    for _ in range(2):
        assert server.get(EXPORT).status_code == 200
        assert server.head(EXPORT).status_code == 200
        assert server.post(IMPORT, content=b"", headers=NDJSON).status_code == 200
        assert server.get(EXPORT, params={"colour": "red"}).status_code == 400


# On a real server


@pytest.fixture
def many(settings: Settings, database: Database, sql: psycopg.Connection) -> Settings:
    """More users than fit into the buffers of a connection."""
    with database.transaction() as connection:
        user = directory.create(connection, service("test"), AiUserCreate(tag="first", kind="service"))
    columns = "name, name_key, kind, role, status, models, words"
    sql.execute(
        f"INSERT INTO users (id, tag, attributes, {columns}) SELECT gen_random_uuid(), 'n-' || n,"
        f" jsonb_build_object('a', repeat('x', 1000)), {columns}"
        " FROM users, generate_series(1, 20000) AS n WHERE id = %s",
        [user["id"]],
    )
    return settings


# Ends the connection of an export that waits for who reads it.
END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND state = 'idle in transaction'"
)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens soon."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_who_leaves_an_export_holds_nothing(many: Settings, tmp_path: Path, sql: psycopg.Connection) -> None:
    """The connection and its snapshot are given back, and the place to others."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    with serving(many, tmp_path, workers=1) as api:
        for _ in range(4):
            with api.stream("GET", EXPORT) as answer:
                assert answer.status_code == 200
                next(answer.iter_raw(1000))
            wait_until(lambda: sql.execute(others).fetchone() == (0,))
        assert len(api.get(EXPORT).text.splitlines()) == 20_002
        # And half a file is not taken for a whole one (RFC 9112, 8).
        with api.stream("GET", EXPORT) as answer:
            chunks = answer.iter_raw(1000)
            next(chunks)
            wait_until(lambda: sql.execute(END).rowcount == 1)
            with pytest.raises(httpx.RemoteProtocolError):
                list(chunks)


def raw(settings: Settings, api: httpx.Client, head: str, body: bytes) -> bytes:
    """What a server answers to a request of these octets, after which the caller sends no more."""
    with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=20) as connection:
        connection.sendall(f"POST {IMPORT} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body)
        if settings.config.body_timeout_s > 5:
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(65_536)


def head_of(length: int) -> str:
    """Headers of an import of so many octets."""
    return f"Authorization: Bearer {OWNER_KEY}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {length}\r\n"


@pytest.mark.config(BODY_TIMEOUT_S="1", MAX_IMPORT_BYTES="200000")
def test_an_upload_that_stops_is_ended(settings: Settings, tmp_path: Path, sql: psycopg.Connection) -> None:
    """Nothing of it is done, its place is given back, and the same file sent whole is taken."""
    file = lines(*({"tag": f"n-{number}", "kind": "service"} for number in range(3000)))
    with serving(settings, tmp_path, workers=1) as api:
        half = file[: len(file) // 2]
        for answer in together(2, lambda _: raw(settings, api, head_of(len(file)), half)):
            assert answer.startswith(b"HTTP/1.1 408 ")
        assert sql.execute("SELECT count(*) FROM users").fetchone() == (1,)
        assert report(api.post(IMPORT, content=file, headers=NDJSON)) == {"records": 3000, "created": 3000}
        assert report(api.post(IMPORT, content=iter((half, file[len(half) :])), headers=NDJSON)) == {
            "records": 3000,
            "unchanged": 3000,
        }
        assert_problem(api.post(IMPORT, content=iter([file, file]), headers=NDJSON), 413, "PAYLOAD_TOO_LARGE")


def test_nobody_sends_a_file_without_a_credential(settings: Settings, tmp_path: Path) -> None:
    """The answer comes before the file does: a stranger fills no disk."""
    with serving(settings, tmp_path, workers=1) as api:
        answer = raw(settings, api, "Content-Type: text/csv\r\nContent-Length: 100000000\r\n", b"tag\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
