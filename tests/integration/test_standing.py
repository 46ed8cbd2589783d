"""Who was put out does not come back, and nobody gains by a change of somebody else what its maker could not give."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import httpx
import psycopg
import pytest

from ai_admin.embedded import EmbeddedPostgres
from ai_admin.users.directory import _OWNERS_LOCK
from tests.conftest import OWNER_ID, OWNER_KEY, assert_problem
from tests.integration.test_access import (
    ALL_KEYS,
    AUDIT,
    MATRIX,
    ME,
    Headers,
    bearer,
    events,
    key_of,
    uncached,
    user_of,
)
from tests.serving import USERS

Answer = TypeVar("Answer")
SECRET = {"provider": "openai", "value": "sk-of-the-owner"}
REVEAL = f"{USERS}/{OWNER_ID}/secrets/openai/reveal"
# One process goes by what it has read for as long as is allowed.
cached = pytest.mark.config(CREDENTIAL_CACHE_S="5", LOG_LEVEL="WARNING")

_ROTATED = "previous_digest = digest, digest = sha256('x'), previous_expires_at = clock_timestamp()"
# How somebody is put out, or may do less: {eve} is who, {key} the key in use.
OUSTED = {
    "suspended": "UPDATE users SET status = 'suspended' WHERE id = '{eve}'",
    "deleted": "UPDATE users SET status = 'deleted', deleted_at = now() WHERE id = '{eve}'",
    "purged": "DELETE FROM users WHERE id = '{eve}'",
    "demoted": "UPDATE users SET role = 'admin' WHERE id = '{eve}'",
    "revoked": "DELETE FROM api_keys WHERE id = '{key}'",
    "rotated": f"UPDATE api_keys SET {_ROTATED} WHERE id = '{{key}}'",
    "expired": "UPDATE api_keys SET expires_at = clock_timestamp() WHERE id = '{key}'",
    "ending sooner": "UPDATE api_keys SET expires_at = now() + interval '1 hour' WHERE id = '{key}'",
    "narrowed": "UPDATE api_keys SET scopes = '{{users:read}}' WHERE id = '{key}'",
    "limited": "UPDATE api_keys SET models = '{{gpt-*}}' WHERE id = '{key}'",
}
# A body for each route that changes something, so that it would succeed; MATRIX has the routes.
BODIES: dict[tuple[str, str], object] = {
    ("POST", USERS): {"tag": "new", "kind": "service"},
    ("PUT", f"{USERS}/<UserID>"): {"name": "changed"},
    ("DELETE", f"{USERS}/<UserID>"): None,
    # The key of all tests: a case here has it for the last time.
    ("POST", f"{ALL_KEYS}/report-leak"): {"key": OWNER_KEY},
    ("POST", f"{USERS}/<UserID>/keys"): {"name": "new"},
    ("PUT", f"{USERS}/<UserID>/keys/<KeyID>"): {"name": "changed"},
    ("POST", f"{USERS}/<UserID>/keys/<KeyID>/rotate"): {},
    ("DELETE", f"{USERS}/<UserID>/keys/<KeyID>"): None,
    ("PUT", f"{USERS}/<UserID>/secrets/<Name>"): {"provider": "openai", "value": "sk-changed"},
    ("DELETE", f"{USERS}/<UserID>/secrets/<Name>"): None,
    ("POST", f"{USERS}/<UserID>/secrets/<Name>/reveal"): {"reason": "curious"},
    ("POST", f"{USERS}/<UserID>/secrets/<Name>/restore"): {"version": 1},
    ("POST", f"{ME}/keys"): {"name": "new"},
    ("PUT", f"{ME}/keys/<KeyID>"): {"name": "changed"},
    ("POST", f"{ME}/keys/<KeyID>/rotate"): {},
    ("DELETE", f"{ME}/keys/<KeyID>"): None,
}


def ask(api: httpx.Client, case: tuple[str, str], target: str, headers: Headers, own: str) -> httpx.Response:
    """Ask for a change of this user, a key of theirs, their credential `openai`, or the caller's key `own`."""
    method, path = case
    key = own
    if "<KeyID>" in path and not path.startswith(ME):
        key = api.get(f"{USERS}/{target}/keys").json()["data"][0]["id"]
    url = path.replace("<UserID>", target).replace("<KeyID>", key).replace("<Name>", "openai")
    return api.request(method, url, headers=headers, json=BODIES[case])


def prepared(api: httpx.Client) -> tuple[str, str, Headers, str]:
    """A second owner, the id of her key, the header that presents it, and a user with a key and a credential."""
    eve = user_of(api, "eve", role="owner")
    key = key_of(api, eve)
    key_of(api, eve, name="another")
    target = user_of(api, "target")
    key_of(api, target)
    for value in ("sk-first", "sk-second"):
        assert api.put(f"{USERS}/{target}/secrets/openai", json=SECRET | {"value": value}).status_code < 300
    return eve, key["id"], bearer(key["key"]), target


def state(sql: psycopg.Connection) -> list[object]:
    """All that a change could have changed."""
    tables = ("users", "api_keys", "user_secrets", "identities", "idempotency_keys", "ended_keys")
    columns = "to_jsonb(t) - 'last_used_at' - 'audit_key'"
    return [sql.execute(f"SELECT {columns} FROM {table} AS t ORDER BY 1").fetchall() for table in tables]


def test_every_route_that_changes_something_is_tried() -> None:
    """A new route without a body here fails. Introspection changes nothing."""
    changing = {case for case in MATRIX if case[0] != "GET"} - {("POST", "/ai/introspect")}
    assert set(BODIES) == changing


@cached
@pytest.mark.parametrize("case", BODIES, ids=" ".join)
def test_who_may_can(api: httpx.Client, case: tuple[str, str]) -> None:
    """So that a refusal below is one of the caller, and of nothing else."""
    _, key, headers, target = prepared(api)
    assert ask(api, case, target, headers, key).status_code < 300


# As functions each has a process, and so a memory, of its own.
@pytest.mark.in_process
@cached
@pytest.mark.parametrize("how", OUSTED)
def test_who_was_put_out_changes_nothing_more(api: httpx.Client, sql: psycopg.Connection, how: str) -> None:
    """A process may remember a caller for five seconds: time enough to come back, or to make another key."""
    eve, key, headers, target = prepared(api)
    assert api.get(ME, headers=headers).status_code == 200
    own = api.get(f"{ME}/keys", headers=headers).json()["data"][-1]["id"]
    sql.execute(OUSTED[how].format(eve=eve, key=key))
    before = state(sql)
    for case in BODIES:
        answer = ask(api, case, target, headers, own)
        if how == "purged" and case[1].startswith(ME):
            assert_problem(answer, 404, "USER_NOT_FOUND")
        else:
            assert_problem(answer, 401, "UNAUTHENTICATED")
    undo = {"status": "active", "role": "owner"}
    assert api.put(f"{USERS}/{eve}", json=undo, headers=headers).status_code in {401, 404}
    assert state(sql) == before


@cached
@pytest.mark.parametrize(
    "wider", [{"scopes": None, "models": None, "expiresAt": None}, {"expiresAt": "2099-01-01T00:00:00Z"}]
)
def test_who_gains_meanwhile_is_not_put_out(api: httpx.Client, wider: dict[str, object]) -> None:
    """More scopes, models or time: what a process remembers is good enough."""
    admin = user_of(api, "eve", role="admin")
    end = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    key = key_of(api, admin, scopes=["users:write"], models=["gpt-*"], expiresAt=end)
    headers = bearer(key["key"])
    assert api.get(ME, headers=headers).status_code == 200
    assert api.put(f"{USERS}/{admin}/keys/{key['id']}", json=wider).status_code == 200
    assert api.post(USERS, json={"tag": "new", "kind": "service"}, headers=headers).status_code == 201


@pytest.mark.in_process
@cached
def test_an_owner_who_is_one_no_more_reaches_no_owner(api: httpx.Client, sql: psycopg.Connection) -> None:
    """The key's scopes are an admin's too, and yet it did more."""
    eve = user_of(api, "eve", role="owner")
    headers = bearer(key_of(api, eve, scopes=["users:write"])["key"])
    assert api.get(ME, headers=headers).status_code == 200
    sql.execute("UPDATE users SET role = 'admin' WHERE id = %s", [eve])
    assert_problem(api.delete(f"{USERS}/{OWNER_ID}", headers=headers), 401, "UNAUTHENTICATED")


@pytest.mark.in_process
@cached
@pytest.mark.parametrize("how", ["suspended", "limited"])
def test_who_was_put_out_is_shown_no_key_again(api: httpx.Client, sql: psycopg.Connection, how: str) -> None:
    """The answer to an Idempotency-Key holds a key."""
    eve, key, headers, target = prepared(api)
    once = headers | {"Idempotency-Key": "q"}
    assert api.post(f"{USERS}/{target}/keys", json={"name": "x"}, headers=once).status_code == 201
    sql.execute(OUSTED[how].format(eve=eve, key=key))
    answer = api.post(f"{USERS}/{target}/keys", json={"name": "x"}, headers=once)
    assert_problem(answer, 401, "UNAUTHENTICATED")


def waiting(sql: psycopg.Connection) -> bool:
    """Whether a connection of this database waits for another one's lock."""
    # A transaction goes on seeing the activity that it has seen.
    sql.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    row = sql.execute(query).fetchone()
    return row is not None and row[0] > 0


def await_waiting(sql: psycopg.Connection, thread: threading.Thread | None = None) -> None:
    """Return when a connection of this database waits for another one's lock, or this thread has ended."""
    deadline = time.monotonic() + 20
    while not waiting(sql) and (thread is None or thread.is_alive()):
        assert time.monotonic() < deadline, "the change does not wait"
        time.sleep(0.01)


@contextmanager
def held_up(
    sql: psycopg.Connection, ask: Callable[[], Answer], *, undo: bool = False
) -> Iterator[tuple[list[Answer], Callable[[], None]]]:
    """A transaction that a request comes to wait for: call what is given second when it holds its lock.

    The answer is in the list at the end.
    """
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)

    def go() -> None:
        thread.start()
        await_waiting(sql, thread)

    with sql.transaction(force_rollback=undo):
        yield answers, go
    thread.join(20)


@cached
@pytest.mark.parametrize(
    ("oust", "change"),
    [
        ("UPDATE users SET status = 'suspended' WHERE id = %s", {"status": "active", "name": "back"}),
        ("UPDATE users SET role = 'admin' WHERE id = %s", {"role": "owner", "name": "back"}),
    ],
)
def test_nobody_undoes_it_by_being_next_in_line(
    api: httpx.Client, sql: psycopg.Connection, oust: str, change: dict[str, str]
) -> None:
    """A change that was let in and waits for the one that puts its maker out finds them put out."""
    eve, _, headers, _ = prepared(api)
    with held_up(sql, lambda: api.put(f"{USERS}/{eve}", json=change, headers=headers)) as (answers, go):
        sql.execute(oust, [eve])
        go()
    assert_problem(answers[0], 401, "UNAUTHENTICATED")
    assert api.get(f"{USERS}/{eve}").json()["name"] == "eve"


_TAKEN = """
    INSERT INTO users (id, tag, email, name, name_key, kind, role, status, models, attributes, words)
    VALUES (gen_random_uuid(), 'puppet', 'puppet@example.com', 'x', 'x', 'service', 'member', 'active', '{*}', '{}', '')
"""


@cached
@pytest.mark.parametrize(
    ("method", "body", "lock"),
    [
        ("POST", {"tag": "puppet", "kind": "service", "role": "owner"}, _TAKEN),
        ("POST", {"tag": "x", "email": "puppet@example.com", "role": "owner"}, _TAKEN),
        ("PUT", {"tag": "puppet", "role": "owner"}, _TAKEN),
        ("DELETE", None, f"SELECT pg_advisory_xact_lock({_OWNERS_LOCK})"),
        ("PUT", {"status": "suspended"}, f"SELECT pg_advisory_xact_lock({_OWNERS_LOCK})"),
    ],
    ids=["tag of a new user", "email of a new user", "tag", "owners, to delete", "owners, to suspend"],
)
def test_nobody_acts_who_was_put_out_while_they_waited(
    api: httpx.Client, sql: psycopg.Connection, postgres: EmbeddedPostgres, method: str, body: Any, lock: str
) -> None:
    """Whatever a change waits for: its caller may be put out meanwhile."""
    eve, _, headers, target = prepared(api)
    if "advisory" in lock:
        target = user_of(api, "bob", role="owner")
    path = USERS if method == "POST" else f"{USERS}/{target}"
    before = state(sql)[0]
    with (
        postgres.connect(sql.info.dbname) as other,
        # What it waits for does not come about.
        held_up(other, lambda: api.request(method, path, json=body, headers=headers), undo=True) as (answers, go),
    ):
        other.execute(lock)
        go()
        sql.execute("UPDATE users SET status = 'suspended' WHERE id = %s", [eve])
    assert_problem(answers[0], 401, "UNAUTHENTICATED")
    sql.execute("UPDATE users SET status = 'active' WHERE id = %s", [eve])
    assert state(sql)[0] == before


@cached
def test_who_changes_themselves_needs_their_key_to_the_end(
    api: httpx.Client, sql: psycopg.Connection, postgres: EmbeddedPostgres
) -> None:
    """Revoking a key waits for no row of its user: a change that waits for a tag finds its key gone."""
    eve, key, headers, _ = prepared(api)
    with (
        postgres.connect(sql.info.dbname) as other,
        held_up(other, lambda: api.put(f"{USERS}/{eve}", json={"tag": "puppet"}, headers=headers), undo=True) as held,
    ):
        answers, go = held
        other.execute(_TAKEN)
        go()
        assert api.delete(f"{USERS}/{eve}/keys/{key}").status_code == 204
    assert_problem(answers[0], 401, "UNAUTHENTICATED")
    assert api.get(f"{USERS}/{eve}").json()["tag"] == "eve"


@cached
def test_a_key_that_ends_while_it_waits_does_nothing(api: httpx.Client, sql: psycopg.Connection) -> None:
    """The transaction began before the end; what counts is the clock after the wait."""
    eve, _, _, target = prepared(api)
    end = datetime.now(timezone.utc) + timedelta(seconds=2)
    headers = bearer(key_of(api, eve, expiresAt=end.isoformat())["key"])
    with held_up(sql, lambda: api.put(f"{USERS}/{target}", json={"name": "x"}, headers=headers)) as (answers, go):
        sql.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [target])
        go()
        time.sleep(max(0.0, (end - datetime.now(timezone.utc)).total_seconds()) + 0.1)
    assert_problem(answers[0], 401, "UNAUTHENTICATED")
    assert api.get(f"{USERS}/{target}").json()["name"] == "target"


# Nobody gains by the change of another


def as_admin(api: httpx.Client, **key: object) -> Headers:
    """A new admin's header."""
    return bearer(key_of(api, user_of(api, "an-admin", role="admin"), **key)["key"])


@uncached
def test_what_a_person_lost_does_not_come_back_as_a_services(api: httpx.Client) -> None:
    """A key that named secrets:reveal while its user was an owner: as a service's it would work again."""
    assert api.put(f"{USERS}/{OWNER_ID}/secrets/openai", json=SECRET).status_code == 201
    eve = api.post(USERS, json={"tag": "eve", "email": "eve@example.com", "role": "owner"}).json()["id"]
    scopes = ["users:read", "users:write", "keys:write", "secrets:reveal"]
    headers = bearer(key_of(api, eve, scopes=scopes)["key"])
    assert api.post(REVEAL, json={"reason": "x"}, headers=headers).status_code == 200
    assert api.put(f"{USERS}/{eve}", json={"role": "admin"}).status_code == 200
    admin = as_admin(api)
    for change in ({"name": "Eve"}, {"kind": "service"}):
        assert api.put(f"{USERS}/{eve}", json=change, headers=admin).status_code == 200
        assert_problem(api.post(REVEAL, json={"reason": "x"}, headers=headers), 403, "FORBIDDEN")


@uncached
@pytest.mark.parametrize("how", ["deleted", "suspended"])
def test_an_admin_brings_nobody_back_whom_they_could_not_make(api: httpx.Client, how: str) -> None:
    """An auditor reads the log, and a gateway reveals: an owner has put them out, and brings them back."""
    admin = as_admin(api)
    auditor, gateway = user_of(api, "auditor", role="auditor"), user_of(api, "gateway")
    member = user_of(api, "member")
    key_of(api, gateway, scopes=["secrets:reveal"])
    for user in (auditor, gateway, member):
        path = f"{USERS}/{user}"
        assert api.put(path, json={"status": "suspended"}).status_code == 200
        if how == "deleted":
            assert api.delete(path).status_code == 204
        answer = api.put(path, json={"status": "active"}, headers=admin)
        if user == member:
            assert answer.status_code == 200
        else:
            assert_problem(answer, 403, "FORBIDDEN")
            assert api.put(path, json={"status": "active"}).status_code == 200


@uncached
def test_keys_that_others_made_do_not_rise_with_their_user(api: httpx.Client) -> None:
    """An admin makes a key for a member, whom an owner then promotes: the key stays a member's, and the log says so."""
    admin = as_admin(api)
    member = user_of(api, "member")
    planted = api.post(f"{USERS}/{member}/keys", json={"name": "x"}, headers=admin).json()
    second = api.post(f"{ME}/keys", json={"name": "y"}, headers=bearer(planted["key"])).json()
    assert api.put(f"{USERS}/{member}", json={"role": "owner"}).status_code == 200
    for key in (planted, second):
        assert_problem(api.get(AUDIT, headers=bearer(key["key"])), 403, "FORBIDDEN")
        assert_problem(api.post(f"{ME}/keys", json={"name": "z"}, headers=bearer(key["key"])), 403, "FORBIDDEN")
    changes = [event["changes"] for event in events(api, target=member, action="keys:update")]
    scopes: dict[str, object] = {"before": None, "after": []}
    assert sorted(changes, key=str) == sorted(
        [{"key": key["id"], "scopes": scopes} for key in (planted, second)], key=str
    )
    # Whoever means it says it.
    assert api.put(f"{USERS}/{member}/keys/{planted['id']}", json={"scopes": None}).status_code == 200
    assert api.get(AUDIT, headers=bearer(planted["key"])).status_code == 200


@uncached
def test_a_demotion_leaves_keys_without_scopes_as_they_are(api: httpx.Client) -> None:
    """What they give follows the role down anyway."""
    admin = user_of(api, "admin", role="admin")
    key = key_of(api, admin)
    assert api.put(f"{USERS}/{admin}", json={"role": "member"}).status_code == 200
    assert api.get(f"{USERS}/{admin}/keys").json()["data"][0]["scopes"] is None
    assert_problem(api.get(USERS, headers=bearer(key["key"])), 403, "FORBIDDEN")


@uncached
@pytest.mark.parametrize("way", ["named while admin", "named, then demoted", "without scopes"])
def test_a_new_owners_keys_reach_no_owner(api: httpx.Client, way: str) -> None:
    """An admin makes a key for another admin; once an owner promotes that one, it would purge owners."""
    admin = as_admin(api)
    other = user_of(api, "other", role="admin")
    scopes = {} if way == "without scopes" else {"scopes": ["users:read", "users:write", "keys:write"]}
    planted = api.post(f"{USERS}/{other}/keys", json={"name": "x", **scopes}, headers=admin).json()
    if way == "named, then demoted":
        assert api.put(f"{USERS}/{other}", json={"role": "member"}, headers=admin).status_code == 200
    assert api.put(f"{USERS}/{other}", json={"role": "owner"}).status_code == 200
    path, headers = f"{USERS}/{user_of(api, 'owner', role='owner')}", bearer(planted["key"])
    assert_problem(api.delete(path, params={"purge": "true"}, headers=headers), 403, "FORBIDDEN")
    assert_problem(api.get(USERS, headers=headers), 403, "FORBIDDEN")
    assert api.get(f"{USERS}/{other}/keys").json()["data"][0]["scopes"] == []


@uncached
def test_scopes_that_a_demotion_took_do_not_come_back(api: httpx.Client) -> None:
    """A key that an admin named scopes for while its user was an admin, and that waits for the next promotion."""
    user = user_of(api, "user", role="admin")
    key = bearer(key_of(api, user, scopes=["users:read"])["key"])
    assert api.put(f"{USERS}/{user}", json={"role": "member"}).status_code == 200
    assert api.put(f"{USERS}/{user}", json={"role": "auditor"}).status_code == 200
    assert_problem(api.get(USERS, headers=key), 403, "FORBIDDEN")


# Limited keys


@uncached
@pytest.mark.parametrize("limits", [{"scopes": []}, {"models": ["gpt-*"]}], ids=["scopes", "models"])
def test_a_weaker_key_ends_no_stronger_one(api: httpx.Client, limits: dict[str, object]) -> None:
    """Whoever finds an owner's key that can do little could lock the owner out."""
    owner = user_of(api, "second", role="owner")
    strong, weak = key_of(api, owner), bearer(key_of(api, owner, **limits)["key"])
    path = f"{ME}/keys/{strong['id']}"
    soon = (datetime.now(timezone.utc) + timedelta(seconds=1)).isoformat()
    for body in (limits, {**limits, "expiresAt": soon}, {"name": "x"}):
        assert_problem(api.put(path, json=body, headers=weak), 403, "FORBIDDEN")
    assert_problem(api.delete(path, headers=weak), 403, "FORBIDDEN")
    assert_problem(api.post(f"{path}/rotate", json={"overlapSeconds": 60}, headers=weak), 403, "FORBIDDEN")
    assert api.get(USERS, headers=bearer(strong["key"])).status_code == 200
    (listed, *_) = api.get(f"{ME}/keys", headers=bearer(strong["key"])).json()["data"]
    assert (listed["name"], listed["scopes"], listed["models"], listed["expiresAt"]) == ("test", None, None, None)


@uncached
def test_a_limited_key_makes_no_unlimited_admin(api: httpx.Client) -> None:
    """An admin's key for an hour could make a puppet with a key for good; one for a member it may make."""
    end = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    limited = as_admin(api, expiresAt=end, models=["gpt-*"])
    puppet, member = user_of(api, "puppet", role="admin"), user_of(api, "member")
    for body in ({}, {"models": ["gpt-*"]}, {"expiresAt": end}):
        answer = api.post(f"{USERS}/{puppet}/keys", json={"name": "x", **body}, headers=limited)
        assert_problem(answer, 403, "FORBIDDEN")
    both = {"name": "x", "models": ["gpt-*"], "expiresAt": end}
    assert api.post(f"{USERS}/{puppet}/keys", json=both, headers=limited).status_code == 201
    assert api.post(f"{USERS}/{member}/keys", json={"name": "x"}, headers=limited).status_code == 201


@uncached
def test_who_was_demoted_is_shown_no_key_again(api: httpx.Client) -> None:
    """The answer to an Idempotency-Key holds a key that its caller could no longer make."""
    first, second = user_of(api, "first", role="owner"), user_of(api, "second", role="owner")
    headers = bearer(key_of(api, first, scopes=["keys:write"])["key"]) | {"Idempotency-Key": "q"}
    body = {"name": "x", "scopes": ["keys:write"]}
    made = api.post(f"{USERS}/{second}/keys", json=body, headers=headers)
    assert api.post(f"{USERS}/{second}/keys", json=body, headers=headers).json() == made.json()
    assert api.put(f"{USERS}/{first}", json={"role": "admin"}).status_code == 200
    assert_problem(api.post(f"{USERS}/{second}/keys", json=body, headers=headers), 403, "FORBIDDEN")


@uncached
@pytest.mark.parametrize("limits", [{"models": ["gpt-*"]}, {"expiresAt": "2099-01-01T00:00:00Z"}])
def test_a_key_with_new_limits_is_shown_no_key_again(api: httpx.Client, limits: dict[str, object]) -> None:
    """What it made without them may be what it could not make now."""
    owner, member = user_of(api, "second", role="owner"), user_of(api, "member")
    key = key_of(api, owner)
    headers = bearer(key["key"]) | {"Idempotency-Key": "q"}
    made = api.post(f"{USERS}/{member}/keys", json={"name": "x"}, headers=headers).json()
    assert api.put(f"{USERS}/{owner}/keys/{key['id']}", json=limits).status_code == 200
    answer = api.post(f"{USERS}/{member}/keys", json={"name": "x"}, headers=headers)
    assert made["key"] not in answer.text


# The log


def test_the_change_of_a_key_says_what_was_before(api: httpx.Client) -> None:
    """Who widened a key, and from what, is what an investigation asks first."""
    user = user_of(api, "holder", role="auditor")
    key = key_of(api, user, scopes=["users:read"])
    end = "2099-01-01T00:00:00+00:00"
    change = {"name": "test", "scopes": ["audit:read"], "expiresAt": end}
    assert api.put(f"{USERS}/{user}/keys/{key['id']}", json=change).status_code == 200
    (event,) = events(api, action="keys:update")
    assert event["changes"] == {
        "key": key["id"],
        "scopes": {"before": ["users:read"], "after": ["audit:read"]},
        "expiresAt": {"before": None, "after": end},
    }


def test_a_refusal_says_whom_it_was_about(api: httpx.Client) -> None:
    """Who tried to get at a user is found by that user."""
    member, target = user_of(api, "member"), user_of(api, "target")
    headers = bearer(key_of(api, member)["key"])
    api.post(f"{USERS}/{target}/secrets/openai/reveal", json={"reason": "x"}, headers=headers)
    api.get(f"{USERS}/not-an-id", headers=headers)
    api.get(USERS, headers=headers)
    refusals = events(api, action="access:refuse")
    assert [event["target"] for event in refusals] == [target, None, None]
    assert [event["actor"] for event in refusals] == [member] * 3


@uncached
@pytest.mark.parametrize("how", ["suspended", "expired"])
def test_a_refusal_says_whose_credential_it_was(api: httpx.Client, sql: psycopg.Connection, how: str) -> None:
    """What somebody tries who was put out is what an investigation looks for, and no flood of nobody's hides it."""
    eve, key, headers, target = prepared(api)
    sql.execute(OUSTED[how].format(eve=eve, key=key))
    for _ in range(60):
        api.get(USERS, headers={"Authorization": "x"})
    answer = api.put(f"{USERS}/{target}", json={"name": "x"}, headers=headers)
    assert_problem(answer, 401, "UNAUTHENTICATED")
    (event,) = events(api, action="access:refuse", actor=eve)
    assert (event["target"], event["source"]) == (target, "127.0.0.1")
    assert "user_id" not in answer.text


@pytest.mark.parametrize("flood", ["nobody", "another"])
def test_a_flood_hides_no_other_refusal(api: httpx.Client, flood: str) -> None:
    """Refusals are recorded at a limited rate, which one caller could use up for all."""
    member, other = (bearer(key_of(api, user_of(api, tag))["key"]) for tag in ("member", "other"))
    sent = 0
    # On a slow machine the first of them are within the rate.
    while len(events(api, action="access:refuse")) == sent < 180:
        for _ in range(60):
            api.get(USERS, headers={"Authorization": "x"} if flood == "nobody" else other)
        sent += 60
    api.get(USERS, headers=member)
    me = api.get(ME, headers=member).json()["id"]
    assert len(events(api, action="access:refuse", actor=me)) == 1
    assert len(events(api, action="access:refuse")) < sent + 1
