"""What operators see: probes, metrics, the log."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from ai_admin import logs
from ai_admin.config import Settings
from ai_admin.database import SCHEMA_VERSION
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import OWNER_ID, assert_problem
from tests.serving import HANGS, serving

USERS = "/ai/admin/users"

# Ends the connections of a database, and waits until they have ended.
ENDED = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[httpx.Client]:
    """A server process, which has the probes and the metrics too."""
    with serving(settings, tmp_path, workers=1) as client:
        yield client


def test_liveness_needs_no_database(server: httpx.Client, settings: Settings, postgres: EmbeddedPostgres) -> None:
    """A database that is away must not make Kubernetes restart every pod."""
    with postgres.connect("postgres") as connection:
        connection.execute(f'ALTER DATABASE "{settings.secret.pg_database}" ALLOW_CONNECTIONS false')
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [settings.secret.pg_database]
        )
        assert server.get("/healthz").json() == {"status": "ok"}
        assert_problem(server.get("/readyz"), 503, "DATABASE_UNAVAILABLE")
        connection.execute(f'ALTER DATABASE "{settings.secret.pg_database}" ALLOW_CONNECTIONS true')


def test_readiness_needs_the_schema(server: httpx.Client, sql: psycopg.Connection) -> None:
    """A pod of the new version takes no traffic before the migration, and refuses changes that come all the same."""
    sql.execute("UPDATE alembic_version SET version_num = '0000'")
    assert_problem(server.get("/readyz"), 503, "SCHEMA_OUTDATED")
    response = server.post(USERS, json={"tag": "a", "kind": "service"})
    assert_problem(response, 503, "SCHEMA_OUTDATED")
    assert response.headers["Retry-After"]
    assert server.get(USERS).status_code == 200
    sql.execute("UPDATE alembic_version SET version_num = %s", [SCHEMA_VERSION])
    assert server.get("/readyz").json() == {"status": "ready", "schemaVersion": SCHEMA_VERSION}
    assert server.post(USERS, json={"tag": "a", "kind": "service"}).status_code == 201


def test_read_only_database_serves_reads_and_refuses_changes_in_one_way(
    server: httpx.Client, settings: Settings, postgres: EmbeddedPostgres
) -> None:
    """After a failover to a standby, readyz said ready while every change failed (windmill #9722, synapse #16490)."""
    ada = server.post(USERS, json={"tag": "ada", "kind": "service"}).json()
    path = f"{USERS}/{ada['id']}"
    token = {"token": server.post(f"{path}/keys", json={"name": "k"}).json()["key"]}
    with read_only(settings, postgres):
        assert server.get("/readyz").json() == {"status": "read-only", "schemaVersion": SCHEMA_VERSION}
        assert "ai_admin_database_read_only 1.0" in server.get("/metrics").text
        assert server.get(USERS).json()["total"] == 2
        assert server.get("/ai/admin/audit").status_code == 200
        assert server.post("/ai/introspect", data=token).json()["active"] is True
        changes = {
            "POST users": server.post(USERS, json={"tag": "bo", "kind": "service"}),
            "PUT user": server.put(path, json={"name": "Ada"}),
            "DELETE user": server.delete(path),
            "POST keys": server.post(f"{path}/keys", json={"name": "k"}),
            "PUT secret": server.put(f"{path}/secrets/x", json={"provider": "x", "value": "sk-1"}),
            "import": server.post(f"{USERS}/import", content="tag\nbo\n", headers={"Content-Type": "text/csv"}),
        }
        for name, answer in changes.items():
            assert (name, answer.status_code, answer.json()["errorCode"]) == (name, 503, "DATABASE_READ_ONLY")
            assert answer.headers["Retry-After"]
        # A refusal is no change that the caller asked for: it keeps its own answer.
        assert_problem(server.get(USERS, headers={"Authorization": "Bearer none"}), 401, "UNAUTHENTICATED")
    assert server.get("/readyz").json()["status"] == "ready"
    assert "ai_admin_database_read_only 0.0" in server.get("/metrics").text
    assert server.put(path, json={"name": "Ada"}).status_code == 200


@contextmanager
def read_only(settings: Settings, postgres: EmbeddedPostgres) -> Iterator[None]:
    """Let the database take no changes, on new connections alone: those that are there are ended."""
    name = settings.secret.pg_database
    with postgres.connect("postgres") as connection:

        def set_(value: str) -> None:
            connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
            connection.execute(ENDED, [name])

        set_("on")
        try:
            yield
        finally:
            set_("off")
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


def test_metrics_count_by_route(server: httpx.Client) -> None:
    """Series are named by route, so that a million users are not a million series."""
    user = server.post(USERS, json={"tag": "a", "kind": "service"})
    server.get(user.headers["Location"])
    server.get("/nowhere/at/all")
    server.request("BREW", USERS)
    text = server.get("/metrics").text
    assert 'ai_admin_http_requests_total{method="GET",route="/ai/admin/users/<UserID>",status="200"} 1.0' in text
    assert 'route="none",status="404"' in text
    assert 'method="other"' in text
    assert "BREW" not in text
    assert "nowhere" not in text
    assert user.json()["id"] not in text


def test_metrics_show_the_pool(server: httpx.Client) -> None:
    """How many connections are free is what tells whether POOL_SIZE is right; a value is written when it changes."""
    shown = 'ai_admin_pool_connections{state="idle"} 1.0'
    assert shown not in server.get("/metrics").text
    server.get(USERS)
    assert shown in server.get("/metrics").text


def test_a_wrong_key_ring_is_noticed_by_a_quiet_server(
    server: httpx.Client, settings: Settings, tmp_path: Path
) -> None:
    """Nobody uses the vault at night: the mistake shows in log and metrics before the first user meets it."""
    (file,) = settings.root.glob("secrets/*/*/VAULT_KEYS")
    good = file.read_text()
    file.write_text("{")
    _wait_for(lambda: "the key ring changed and cannot be used" in (tmp_path / "server.log").read_text())
    _wait_for(lambda: "ai_admin_vault_ring_refused 1.0" in server.get("/metrics").text)
    assert server.get("/readyz").status_code == 200
    key = {"provider": "openai", "value": "sk-1"}
    assert server.put(f"{USERS}/{OWNER_ID}/secrets/openai", json=key).status_code == 201
    file.write_text(good)
    _wait_for(lambda: "ai_admin_vault_ring_refused 0.0" in server.get("/metrics").text)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_that_died_is_replaced_and_no_longer_counted(server: httpx.Client, tmp_path: Path) -> None:
    """Its connections are gone; left in the sum they would hide how many there are."""
    server.get(USERS)
    (gauges,) = (tmp_path / "metrics").glob("gauge_livesum_*.db")
    os.kill(int(gauges.stem.rpartition("_")[2]), signal.SIGKILL)
    deadline = time.monotonic() + HANGS
    while time.monotonic() < deadline:
        try:
            text = server.get("/metrics").text
            break
        except httpx.TransportError:
            time.sleep(0.05)
    assert not gauges.exists()
    assert 'ai_admin_http_requests_total{method="GET",route="/ai/admin/users",status="200"} 1.0' in text


def test_one_json_line_a_request_without_personal_values(api: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    """The log can be searched by request id and holds no name, address or search of a person."""
    logs.configure("INFO")
    api.post(USERS, json={"tag": "secretive", "email": "secretive@example.com", "name": "Secretive Person"})
    response = api.get(
        USERS, params={"email": "secretive@example.com", "attributes[team]": "hidden", "secretive@example.com": "x"}
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    line = lines[1]
    assert line["requestId"] == response.headers["X-Fission-Request-ID"]
    assert (line["method"], line["route"], line["status"]) == ("GET", USERS, 400)
    assert line["parameters"] == ["attributes[team]", "email"]
    assert "secretive" not in json.dumps(lines).lower()
    assert "hidden" not in json.dumps(lines)


def test_errors_of_ours_are_logged_without_values(
    api: httpx.Client, sql: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """The driver's text quotes the row; neither the answer nor the log repeats it."""
    logs.configure("INFO")
    sql.execute("ALTER TABLE users ADD CONSTRAINT surprise CHECK (name <> 'Secretive Person')")
    response = api.post(USERS, json={"tag": "x", "email": "x@example.com", "name": "Secretive Person"})
    assert_problem(response, 500, "INTERNAL_ERROR")
    out = capsys.readouterr().out
    error = next(json.loads(line) for line in out.splitlines() if '"ERROR"' in line)
    assert (error["error"], error["sqlstate"]) == ("CheckViolation", "23514")
    assert error["requestId"] == response.json()["requestId"]
    assert "Secretive" not in out
    assert "Secretive" not in response.text


def test_a_forged_request_id_cannot_write_a_log_line(api: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    """Line breaks in what a caller sends stay inside one JSON string."""
    logs.configure("INFO")
    api.get(USERS, params={'q\n{"level":"ERROR"}': "x"})
    assert len(capsys.readouterr().out.splitlines()) == 1
