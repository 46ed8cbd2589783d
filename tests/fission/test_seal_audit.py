"""The function that a time trigger calls: it seals, and whoever else calls it gets no further than the timer."""

import base64
import os
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
from werkzeug.test import TestResponse as Answer

from ai_admin import fission
from ai_admin.access.actors import service
from ai_admin.audit import events
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.database import Database
from tests.conftest import ROOT, write_mount
from tests.fission import double, specs

FUNCTION = "ai-admin-seal-audit"
KEY = base64.b64encode(b"seal" * 8).decode()
# As pkg/timer and pkg/publisher of fission/fission call: a POST without a body, to the trigger's subpath.
TIMER: dict[str, Any] = {"method": "POST", "headers": {"X-Fission-Timer-Name": FUNCTION}}


@pytest.fixture
def waiting(database: Database) -> None:
    """Three events that wait for a seal."""
    with database.transaction() as connection:
        for number in range(3):
            events.refused(connection, service("test"), {"number": number})


def call(root: Path, secret: dict[str, str], path: str = "/", **request: Any) -> Answer:
    """The answer of the function, specialised with a Secret that has these values too."""
    write_mount(root, secret, {})
    with mock.patch.dict(os.environ, {ROOT_VARIABLE: str(root)}):
        fission.application.cache_clear()
        app = double.environment(double.load(ROOT / "apps", specs.functions()[FUNCTION]), every_path=True)
        application = fission.application()
    try:
        return app.test_client().open(path, **request)
    finally:
        application.extensions["ai_admin"].database.close()


def seals(sql: psycopg.Connection) -> list[tuple[int, int]]:
    """The number and the size of each seal."""
    return sql.execute("SELECT number, cardinality(events) FROM audit_seals ORDER BY number").fetchall()


@pytest.mark.usefixtures("waiting")
def test_the_timer_seals(settings: Settings, sql: psycopg.Connection) -> None:
    """What is done through the functions is sealed within a minute."""
    answer = call(settings.root, {"AUDIT_SEAL_KEY": KEY}, **TIMER)
    assert (answer.status_code, answer.data) == (204, b"")
    assert seals(sql) == [(1, 3)]
    assert call(settings.root, {}, **TIMER).status_code == 204
    assert seals(sql) == [(1, 3)]


@pytest.mark.usefixtures("waiting")
def test_another_sealer_is_left_alone(settings: Settings, sql: psycopg.Connection) -> None:
    """A server beside the functions may be sealing just now: nothing is wrong then."""
    sql.execute("SELECT pg_advisory_lock(4128020264015)")
    assert call(settings.root, {"AUDIT_SEAL_KEY": KEY}, **TIMER).status_code == 204
    assert seals(sql) == []


@pytest.mark.usefixtures("waiting")
def test_without_a_key_nothing_is_sealed(
    settings: Settings, sql: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """The function is deployed with the others; whoever has set no key finds that in its log, not an error a minute."""
    assert call(settings.root, {}, **TIMER).status_code == 204
    assert seals(sql) == []
    assert "AUDIT_SEAL_KEY is not set" in capsys.readouterr().out


def test_the_database_away_is_told(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Fission's log shows that sealing fails, and the function's own log why."""
    answer = call(settings.root, {"AUDIT_SEAL_KEY": KEY, "PG_DATABASE": "none"}, **TIMER)
    assert (answer.status_code, answer.json and answer.json["errorCode"]) == (503, "DATABASE_UNAVAILABLE")
    assert '"event":"DATABASE_UNAVAILABLE"' in capsys.readouterr().out


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("method", double.ENVIRONMENT_METHODS)
def test_nothing_of_a_request_counts(settings: Settings, sql: psycopg.Connection, method: str) -> None:
    """Who reaches the function inside the cluster gets what the timer gets: a seal, and no word about the log."""
    headers = {"X-Fission-Full-Url": "/ai/admin/users", "X-Fission-Params-UserID": "x", "Content-Length": "9" * 12}
    body: dict[str, Any] = {"method": method, "headers": headers, "query_string": "most=0&count=none"}
    answer = call(settings.root, {"AUDIT_SEAL_KEY": KEY}, "/ai/admin/audit", **body)
    assert (answer.status_code, answer.data) == (204, b"")
    assert seals(sql) == [(1, 3)]


def test_nobody_outside_reaches_it() -> None:
    """The router knows the function by its time trigger alone, which calls it in its own namespace."""
    assert FUNCTION not in {trigger.function for trigger in specs.triggers()}
    (timer,) = specs.of_kind("TimeTrigger")
    assert timer["spec"] == {
        "cron": "@every 1m",
        "method": "POST",
        "subpath": "/",
        "functionref": {"type": "name", "name": FUNCTION},
    }
