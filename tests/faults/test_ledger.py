"""The books find what they are there to find."""

from collections.abc import Callable

import httpx
import psycopg
import pytest

from ai_admin.app import create_app
from ai_admin.config import Settings
from tests.conftest import AS_OWNER, calling
from tests.faults.ledger import Entry, Ledger
from tests.serving import USERS

# Past the trigger that guards the log, as only a superuser can.
_UNGUARDED = "SET session_replication_role = replica"


def kept(client: httpx.Client, tag: str) -> Entry:
    """A user who was created and changed once, with both in the books."""
    user = client.post(USERS, json={"tag": tag, "kind": "service"}).json()
    assert client.put(f"{USERS}/{user['id']}", json={"name": "changed"}).json()["version"] == 2
    return Entry(tag, user["id"], {"changed"}, changes=1)


def nothing(_: psycopg.Connection, __: str) -> None:
    """The directory is as it was."""


def gone(sql: psycopg.Connection, user: str) -> None:
    """The user is not there."""
    sql.execute("DELETE FROM users WHERE id = %s", [user])


def former(sql: psycopg.Connection, user: str) -> None:
    """The change is not there."""
    sql.execute("UPDATE users SET name = tag WHERE id = %s", [user])


def again(sql: psycopg.Connection, user: str) -> None:
    """The change was made twice."""
    sql.execute("UPDATE users SET version = 3 WHERE id = %s", [user])


def no_event(sql: psycopg.Connection, user: str) -> None:
    """The log has nothing of the change."""
    sql.execute(_UNGUARDED)
    sql.execute("DELETE FROM audit_events WHERE target_id = %s AND action = 'users:update'", [user])


def two_events(sql: psycopg.Connection, user: str) -> None:
    """The log has the creation twice."""
    sql.execute(
        "INSERT INTO audit_events (id, action, target_id, changes, request_id) "
        "VALUES (gen_random_uuid(), 'users:create', %s, '{}', '')",
        [user],
    )


@pytest.mark.parametrize(
    ("broken", "lost", "doubled"),
    [(nothing, 0, 0), (gone, 1, 0), (former, 1, 0), (again, 0, 2), (no_event, 0, 1), (two_events, 0, 1)],
)
def test_what_is_wrong_is_found(
    settings: Settings,
    sql: psycopg.Connection,
    broken: Callable[[psycopg.Connection, str], None],
    lost: int,
    doubled: int,
) -> None:
    """Each by itself, and nothing where nothing is."""
    ledger = Ledger("", AS_OWNER)
    with calling(create_app(settings)) as client:
        ledger.entries = [kept(client, "first"), kept(client, "second")]
    broken(sql, str(ledger.entries[0].id))
    verdict = ledger.audit(sql)
    assert (len(verdict.lost), len(verdict.doubled)) == (lost, doubled), verdict
    assert (verdict.acknowledged, verdict.found) == (4, 4 - 2 * lost)
