"""Imports beside other changes of the same users: the directory comes to what one order of them would give."""

import threading
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest

from ai_admin.config import Settings
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.transfer.importing import Outcome, Summary, import_users
from tests.conftest import assert_problem
from tests.integration.test_import import BY, USERS, ndjson, person, rejected, stored
from tests.integration.test_standing import await_waiting, held_up

_DELETE = "UPDATE users SET status = 'deleted', deleted_at = now(), version = version + 1 WHERE tag = 'ada'"
_RENAME = "UPDATE users SET tag = 'ada-king', version = version + 1 WHERE tag = 'ada'"
_MOVE = "UPDATE users SET email = 'king@example.com', version = version + 1 WHERE tag = 'ada'"


@pytest.mark.parametrize(
    ("change", "match", "kept"),
    [
        (_DELETE, "tag", ("ada", "ada@example.com", "deleted")),
        (_DELETE, "email", ("ada", "ada@example.com", "deleted")),
        (_RENAME, "tag", ("ada-king", "ada@example.com", "active")),
        (_MOVE, "email", ("ada", "king@example.com", "active")),
    ],
)
def test_import_beside_delete_or_rename_rejects_the_row(
    settings: Settings, sql: psycopg.Connection, change: str, match: Any, kept: tuple[str, str, str]
) -> None:
    """An export has a status in every row: without this, an import restores a user who is being deleted."""
    import_users(settings, BY, ndjson(person("ada"), person("bob")), "ndjson")
    file = ndjson(person("bob", name="B"), person("ada", name="Ada", status="active"), person("eve"))
    with held_up(sql, lambda: import_users(settings, BY, file, "ndjson", match=match)) as (outcomes, go):
        sql.execute(change)
        go()
    assert outcomes[0].summary == Summary(records=3, created=1, changed=1, rejected=1)
    assert rejected(outcomes[0], settings) == {2: "VERSION_MISMATCH"}
    rows = sql.execute("SELECT tag, email, status FROM users WHERE name = 'ada' OR name = 'Ada'").fetchall()
    assert rows == [kept]
    assert [row[0] for row in stored(sql)] == sorted([kept[0], "bob", "eve"])


def test_import_that_waits_for_other_change_keeps_both(settings: Settings, sql: psycopg.Connection) -> None:
    """A change of members that the file does not name must not cost the row, nor be undone by it."""
    import_users(settings, BY, ndjson(person("ada"), person("bob")), "ndjson")
    file = ndjson({"tag": "ada", "email": "ada@example.com", "status": "suspended"}, person("bob", name="B"))
    with held_up(sql, lambda: import_users(settings, BY, file, "ndjson")) as (outcomes, go):
        sql.execute("UPDATE users SET name = 'Countess', name_key = 'countess' WHERE tag = 'ada'")
        sql.execute("UPDATE users SET name = 'B', name_key = 'b' WHERE tag = 'bob'")
        go()
    assert outcomes[0].summary == Summary(records=2, changed=1, unchanged=1)
    assert [(row[0], row[2], row[6]) for row in stored(sql)] == [
        ("ada", "Countess", "suspended"),
        ("bob", "B", "active"),
    ]


def _together(*works: Callable[[], Any]) -> list[Any]:
    """Outcomes of works that run at once, each in a thread; an exception is an outcome."""
    outcomes: list[Any] = [None] * len(works)

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            outcomes[place] = work()
        except Exception as error:  # noqa: BLE001  the test looks at it
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return outcomes


def test_imports_in_opposite_orders_take_all_rows(settings: Settings, api: httpx.Client) -> None:
    """Two nightly jobs with the same people: a deadlock stopped one of them, and clients of the API got 503."""
    tags = [f"user-{number:03}" for number in range(240)]
    orders = [list(reversed(tags)), tags]

    def imported(name: str, order: list[str]) -> Outcome:
        users = [person(tag, name=name) for tag in order]
        return import_users(settings, BY, ndjson(*users), "ndjson", batch=480)

    assert imported("first", tags).summary.created == 240
    ids = {user["tag"]: user["id"] for user in api.get(USERS, params={"size": 200}).json()["data"]}

    def changed() -> list[int]:
        answers = [api.put(f"{USERS}/{ids[tag]}", json={"models": [tag]}) for tag in sorted(ids)[:150] if tag in ids]
        return sorted({answer.status_code for answer in answers})

    for turn in range(3):
        *outcomes, statuses = _together(
            *(lambda order=order, turn=turn: imported(f"{turn} {order[0]}", order) for order in orders), changed
        )
        assert [getattr(outcome, "summary", outcome).rejected for outcome in outcomes] == [0, 0]
        assert statuses == [200]


def test_imports_of_new_users_in_opposite_orders_take_all_rows(settings: Settings, sql: psycopg.Connection) -> None:
    """Each import waits for the users that the other one is creating."""
    for turn in range(3):
        users = [person(f"new-{turn}-{number}") for number in range(300)]
        outcomes = _together(
            *(
                lambda order=order: import_users(settings, BY, ndjson(*order), "ndjson")
                for order in (users, users[::-1])
            )
        )
        summaries = [getattr(outcome, "summary", outcome) for outcome in outcomes]
        assert sum(each.created for each in summaries) == 300, summaries
        assert sum(each.unchanged for each in summaries) == 300, summaries
    assert len(stored(sql)) == 900


def _deadlock(sql: psycopg.Connection, postgres: EmbeddedPostgres, user_id: str, ask: Callable[[], Any]) -> list[Any]:
    """Outcome of a change of this user's tag to `puppet`, which PostgreSQL ends for a deadlock the first time."""
    with postgres.connect(sql.info.dbname) as other:
        # PostgreSQL ends the transaction whose patience ends first: never this one.
        other.execute("SET deadlock_timeout = '1min'")
        with held_up(other, ask, undo=True) as (outcomes, go):
            other.execute(
                "INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words)"
                " VALUES (gen_random_uuid(), 'puppet', 'x', 'x', 'service', 'member', 'active', '{*}', '{}', '')"
            )
            go()
            other.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [user_id])
            await_waiting(sql)
    return outcomes


def test_change_after_deadlock_is_tried_again(
    api: httpx.Client, sql: psycopg.Connection, postgres: EmbeddedPostgres
) -> None:
    """A client of the API got 503 for a deadlock with somebody else's change."""
    user = api.post(USERS, json=person("ada")).json()
    answers = _deadlock(sql, postgres, user["id"], lambda: api.put(f"{USERS}/{user['id']}", json={"tag": "puppet"}))
    assert answers[0].status_code == 200, answers[0].text
    assert answers[0].json()["version"] == 2


def test_creation_after_deadlocks_without_end_is_503(
    api: httpx.Client, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries are bounded: a request that always loses must end, and its error is the usual one."""
    calls = []

    def lost(*_: object) -> None:
        calls.append(1)
        raise psycopg.errors.DeadlockDetected

    monkeypatch.setattr("ai_admin.users.directory.create", lost)
    assert_problem(api.post(USERS, json=person("ada")), 503, "DATABASE_UNAVAILABLE")
    assert 1 < len(calls) < 10
    assert stored(sql) == []


def test_import_after_deadlock_is_tried_again(
    settings: Settings, api: httpx.Client, sql: psycopg.Connection, postgres: EmbeddedPostgres
) -> None:
    """A deadlock ended a nightly import behind its last batch."""
    user = api.post(USERS, json=person("ada")).json()
    file = ndjson(person("bob"), person("puppet", email="ada@example.com"))
    outcomes = _deadlock(sql, postgres, user["id"], lambda: import_users(settings, BY, file, "ndjson", match="email"))
    assert outcomes[0].summary == Summary(records=2, created=1, changed=1)
    assert [row[0] for row in stored(sql)] == ["bob", "puppet"]
