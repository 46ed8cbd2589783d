"""Rotation of API keys: one id, a new value, an overlap, and nothing changed that the caller did not ask for."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import psycopg
import pytest

from ai_admin.access.tokens import digest
from ai_admin.sql import queries
from tests.conftest import OWNER_ID, assert_problem
from tests.integration.test_access import ME, NOBODY, Headers, bearer, events, key_of, uncached, user_of
from tests.integration.test_console import Browser, browser, made, owner, services_of
from tests.serving import USERS, together

__all__ = ["browser", "owner"]

HOUR = 3600
cached = pytest.mark.config(CREDENTIAL_CACHE_S="5", LOG_LEVEL="WARNING")


def later(**span: float) -> str:
    """A time from now, as a caller sends it."""
    return (datetime.now(timezone.utc) + timedelta(**span)).isoformat()


def moment(text: str) -> datetime:
    """A time of an answer; Python 3.10 does not read the Z."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def rotate(
    api: httpx.Client, path: str, body: dict[str, object] | None = None, headers: Headers | None = None
) -> httpx.Response:
    """Rotate the key at this path."""
    return api.post(f"{path}/rotate", json=body or {}, headers=headers)


def path_of(user: str, key: dict[str, Any]) -> str:
    """The path of a key of a user."""
    return f"{USERS}/{user}/keys/{key['id']}"


def api_key(browser: Browser, user: str, **members: object) -> dict[str, Any]:
    """A new key of a user, made beside the console."""
    return key_of(browser.api, user, **members)


def works(api: httpx.Client, key: dict[str, Any]) -> bool:
    """Whether the API lets this key in, and a gateway that asks is told the same."""
    active: bool = api.post("/ai/introspect", data={"token": key["key"]}).json()["active"]
    assert api.get(ME, headers=bearer(key["key"])).status_code == (200 if active else 401)
    return active


# What a rotation keeps


@uncached
def test_rotation_keeps_everything_it_is_not_told_to_change(api: httpx.Client) -> None:
    """A key that ends on 1 December got a successor that never ends; a tool that keeps the id lost the key."""
    user = user_of(api, "rotating", role="auditor")
    limits = {"scopes": ["users:read"], "models": ["gpt-*"], "expiresAt": later(days=3)}
    old = key_of(api, user, name="CI", **limits)
    answer = rotate(api, path_of(user, old), {"overlapSeconds": HOUR})
    assert answer.status_code == 200
    new = answer.json()
    assert new["key"] != old["key"]
    assert new["lastFour"] == new["key"][-4:]
    changed = {"key", "lastFour", "rotatedAt", "previousExpiresAt", "lastUsedAt"}
    assert {name: new[name] for name in new.keys() - changed} == {name: old[name] for name in old.keys() - changed}
    (listed,) = api.get(f"{USERS}/{user}/keys").json()["data"]
    assert listed == {name: value for name, value in new.items() if name != "key"}
    overlap = moment(new["previousExpiresAt"]) - moment(new["rotatedAt"])
    assert timedelta(minutes=59) < overlap <= timedelta(hours=1)
    assert works(api, new)
    assert works(api, old)


@uncached
def test_rotation_without_overlap_ends_the_value_before_at_once(api: httpx.Client) -> None:
    """A key that leaked must not go on working."""
    user = user_of(api, "rotating")
    old = key_of(api, user)
    new = rotate(api, path_of(user, old)).json()
    assert works(api, new)
    assert not works(api, old)
    assert_problem(rotate(api, f"{USERS}/{user}/keys/{NOBODY}"), 404, "KEY_NOT_FOUND")


@uncached
def test_second_rotation_ends_the_older_value_at_once(api: httpx.Client) -> None:
    """A key has two values at most, so nobody has to guess how many are in use."""
    user = user_of(api, "rotating")
    path = path_of(user, first := key_of(api, user))
    second = rotate(api, path, {"overlapSeconds": HOUR}).json()
    third = rotate(api, path, {"overlapSeconds": HOUR}).json()
    assert [works(api, key) for key in (first, second, third)] == [False, True, True]
    assert "was rotated" in api.get(ME, headers=bearer(first["key"])).json()["detail"]


@uncached
def test_rotation_with_expiry_changes_the_expiry_alone(api: httpx.Client) -> None:
    """One request renews a key for another quarter; the value before ends no later than it did."""
    user = user_of(api, "rotating")
    old = key_of(api, user, expiresAt=later(minutes=30))
    end = later(days=90)
    new = rotate(api, path_of(user, old), {"overlapSeconds": HOUR, "expiresAt": end}).json()
    assert moment(new["expiresAt"]) == moment(end)
    assert new["previousExpiresAt"] == old["expiresAt"]
    assert rotate(api, path_of(user, old), {"expiresAt": None}).json()["expiresAt"] is None
    (*_, event) = events(api, action="keys:rotate")
    assert event["changes"]["key"] == old["id"]
    assert event["changes"]["expiresAt"]["after"] is None
    assert new["key"] not in str(events(api))


@uncached
def test_rotation_of_an_expired_key_asks_for_a_new_expiry(api: httpx.Client, sql: psycopg.Connection) -> None:
    """The console could not rotate an expired key at all; the expired value must not come back to life with it."""
    user = user_of(api, "rotating")
    old = key_of(api, user, expiresAt=later(days=1))
    path = path_of(user, old)
    sql.execute("UPDATE api_keys SET expires_at = now() - interval '1 day' WHERE id = %s", [old["id"]])
    bodies: list[dict[str, object]] = [{}, {"overlapSeconds": HOUR}, {"expiresAt": later(days=-1)}]
    for body in bodies:
        answer = rotate(api, path, body)
        assert_problem(answer, 400, "VALIDATION_ERROR")
        assert answer.json()["details"][0]["loc"] == ["body", "expiresAt"]
    assert "send a new `expiresAt`" in rotate(api, path).json()["details"][0]["msg"]
    new = rotate(api, path, {"overlapSeconds": HOUR, "expiresAt": later(days=1)}).json()
    assert works(api, new)
    assert not works(api, old)


@pytest.mark.parametrize(
    "body",
    [
        {"overlapSeconds": -1},
        {"overlapSeconds": 31 * 24 * HOUR},
        {"overlapSeconds": True},
        {"overlapSeconds": "60"},
        {"expiresAt": "2020-01-01T00:00:00Z"},
        {"name": "x"},
        {"scopes": None},
    ],
)
def test_rotation_with_a_wrong_body_is_refused(api: httpx.Client, body: dict[str, object]) -> None:
    """A rotation that is refused must leave the key as it was."""
    key = key_of(api, user := user_of(api, "rotating"))
    assert_problem(rotate(api, path_of(user, key), body), 400, "VALIDATION_ERROR")
    assert api.get(ME, headers=bearer(key["key"])).status_code == 200


def test_rotation_of_the_hundredth_key_is_no_further_key(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A user with the most keys there can be could not rotate any of them."""
    user = user_of(api, "collector")
    sql.execute(
        """INSERT INTO api_keys (id, user_id, digest, name, last_four)
           SELECT gen_random_uuid(), %s, sha256(n::text::bytea), n::text, '0000' FROM generate_series(1, 99) AS n""",
        [user],
    )
    key = key_of(api, user)
    assert rotate(api, path_of(user, key)).status_code == 200
    assert len(api.get(f"{USERS}/{user}/keys").json()["data"]) == 100


# Who may


@uncached
def test_rotation_by_a_previous_value_is_refused(api: httpx.Client) -> None:
    """A leaked key that was rotated could take the key over, or make another one, before its overlap ends."""
    old = key_of(api, str(OWNER_ID), name="old")
    own = f"{ME}/keys/{old['id']}"
    new = rotate(api, path_of(str(OWNER_ID), old), {"overlapSeconds": HOUR}).json()
    leaked = bearer(old["key"])
    for answer in (
        rotate(api, own, headers=leaked),
        rotate(api, own, {"overlapSeconds": HOUR}, leaked),
        api.post(f"{ME}/keys", json={"name": "x"}, headers=leaked),
        api.post(f"{ME}/keys", json={"name": "x", "expiresAt": later(hours=2)}, headers=leaked),
        api.put(own, json={"name": "x"}, headers=leaked),
    ):
        assert_problem(answer, 403, "FORBIDDEN")
    short = {"name": "x", "expiresAt": later(minutes=30)}
    assert api.post(f"{ME}/keys", json=short, headers=leaked).status_code == 201
    assert works(api, new)
    facts = api.post("/ai/introspect", data={"token": old["key"]}).json()
    assert facts["exp"] == int(moment(new["previousExpiresAt"]).timestamp())


@uncached
def test_rotation_by_a_limited_key_does_not_extend_it(api: httpx.Client) -> None:
    """A key for an hour that leaks is a key for an hour, rotated or not."""
    end = later(hours=1)
    key = key_of(api, str(OWNER_ID), expiresAt=end, models=["gpt-*"])
    own, headers = f"{ME}/keys/{key['id']}", bearer(key["key"])
    for longer in (None, later(hours=2)):
        assert_problem(rotate(api, own, {"expiresAt": longer}, headers), 403, "FORBIDDEN")
    other = key_of(api, str(OWNER_ID))
    assert_problem(rotate(api, f"{ME}/keys/{other['id']}", headers=headers), 403, "FORBIDDEN")
    new = rotate(api, own, headers=headers).json()
    assert (moment(new["expiresAt"]), new["models"]) == (moment(end), ["gpt-*"])


@cached
@pytest.mark.in_process
def test_remembered_caller_after_a_rotation_gains_nothing(api: httpx.Client) -> None:
    """A process remembers a caller for seconds: time enough to make a permanent key with a value that was replaced."""
    old = key_of(api, str(OWNER_ID), name="old")
    headers, path = bearer(old["key"]), path_of(str(OWNER_ID), old)
    assert api.get(ME, headers=headers).status_code == 200
    assert rotate(api, path, {"overlapSeconds": HOUR}).status_code == 200
    # The overlap is what it says: the value before goes on making changes, but no key that outlives it.
    assert api.post(USERS, json={"tag": "made", "kind": "service"}, headers=headers).status_code == 201
    assert_problem(api.post(f"{ME}/keys", json={"name": "x"}, headers=headers), 403, "FORBIDDEN")
    assert_problem(rotate(api, f"{ME}/keys/{old['id']}", headers=headers), 403, "FORBIDDEN")
    assert rotate(api, path).status_code == 200
    assert_problem(api.post(USERS, json={"tag": "more", "kind": "service"}, headers=headers), 401, "UNAUTHENTICATED")
    assert_problem(api.post(f"{ME}/keys", json={"name": "x"}, headers=headers), 401, "UNAUTHENTICATED")


@uncached
def test_rotation_by_two_at_once_leaves_one_value_and_an_overlap(api: httpx.Client) -> None:
    """Two administrators rotate the same key: the later one wins, and the earlier value works for its overlap."""
    user = user_of(api, "rotating")
    key = key_of(api, user)
    answers = together(4, lambda _: rotate(api, path_of(user, key), {"overlapSeconds": HOUR}).json())
    assert len({answer["key"] for answer in answers}) == 4
    assert sum(works(api, answer) for answer in answers) == 2
    assert not works(api, key)


def test_rotation_retried_with_another_body_is_refused(api: httpx.Client) -> None:
    """A retry that takes the expiry away must not get the answer of a rotation that kept it."""
    user = user_of(api, "ada")
    path = path_of(user, key_of(api, user, expiresAt=later(days=1)))
    headers = {"Idempotency-Key": "once"}
    assert rotate(api, path, {}, headers).status_code == 200
    assert_problem(rotate(api, path, {"expiresAt": None}, headers), 422, "IDEMPOTENCY_KEY_REUSED")


def test_a_key_has_no_successor_any_more(api: httpx.Client) -> None:
    """`replaces` was another concept of rotation: a body that still has it is told so."""
    key = key_of(api, user := user_of(api, "rotating"))
    answer = api.post(f"{USERS}/{user}/keys", json={"name": "x", "replaces": key["id"], "overlapSeconds": 60})
    assert_problem(answer, 400, "VALIDATION_ERROR")
    assert {fault["loc"][-1] for fault in answer.json()["details"]} == {"replaces", "overlapSeconds"}


# Retries


@uncached
@pytest.mark.parametrize("overlap", [0, HOUR])
def test_retry_of_a_rotation_gets_the_same_value(api: httpx.Client, overlap: int) -> None:
    """A broken connection must not cost the key: a second rotation would end what the first one answered."""
    user = user_of(api, "rotating")
    key = key_of(api, user)
    headers = {"Idempotency-Key": "once"}
    body: dict[str, object] = {"overlapSeconds": overlap}
    first = rotate(api, path_of(user, key), body, headers)
    again = rotate(api, path_of(user, key), body, headers)
    assert (first.status_code, again.status_code, again.content) == (200, 200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert works(api, again.json())
    assert_problem(rotate(api, path_of(user, key), {"overlapSeconds": 1}, headers), 422, "IDEMPOTENCY_KEY_REUSED")


@uncached
def test_retry_of_its_own_rotation_works_while_the_overlap_lasts(api: httpx.Client) -> None:
    """A client that rotates its own key, and loses the answer, has the value before alone to ask again with."""
    key = key_of(api, user_of(api, "rotating"))
    own, headers = f"{ME}/keys/{key['id']}", {**bearer(key["key"]), "Idempotency-Key": "6f1f7b2e"}
    first = rotate(api, own, {"overlapSeconds": HOUR}, headers)
    again = rotate(api, own, {"overlapSeconds": HOUR}, headers)
    assert (first.status_code, again.content) == (200, first.content)
    assert works(api, again.json())


@uncached
@pytest.mark.parametrize("how", ["revoked", "rotated", "expired", "deleted"])
def test_retry_of_a_creation_hands_out_no_dead_key(api: httpx.Client, sql: psycopg.Connection, how: str) -> None:
    """A client would store the key of a retry as new, and find out in production that it opens nothing."""
    user = user_of(api, "holder")
    once = {"Idempotency-Key": "once"}

    def create() -> httpx.Response:
        return api.post(f"{USERS}/{user}/keys", json={"name": "CI"}, headers=once)

    made = create().json()
    assert create().json() == made
    path = path_of(user, made)
    end: dict[str, Callable[[], object]] = {
        "revoked": lambda: api.delete(path),
        "rotated": lambda: rotate(api, path, {"overlapSeconds": HOUR}),
        "expired": lambda: sql.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", [made["id"]]),
        "deleted": lambda: api.delete(f"{USERS}/{user}"),
    }
    end[how]()
    answer = create()
    assert_problem(answer, 409, "KEY_ENDED")
    assert made["key"] not in answer.text
    if how != "deleted":
        other = api.post(f"{USERS}/{user}/keys", json={"name": "CI"}, headers={"Idempotency-Key": "twice"})
        assert works(api, other.json())


@uncached
def test_retry_of_a_rotation_hands_out_no_dead_value(api: httpx.Client) -> None:
    """The value that the first answer showed has been replaced since."""
    key = key_of(api, user := user_of(api, "rotating"))
    once = {"Idempotency-Key": "once"}
    made = rotate(api, path_of(user, key), headers=once).json()
    assert rotate(api, path_of(user, key)).status_code == 200
    answer = rotate(api, path_of(user, key), headers=once)
    assert_problem(answer, 409, "KEY_ENDED")
    assert made["key"] not in answer.text


# What is kept of ended keys


@uncached
def test_revoked_keys_count_for_no_limit_and_are_in_no_list(api: httpx.Client, sql: psycopg.Connection) -> None:
    """What is kept to tell a holder must not fill up a user's keys, nor the table."""
    user = user_of(api, "holder")
    for _ in range(3):
        assert api.delete(path_of(user, key_of(api, user))).status_code == 204
    assert api.get(f"{USERS}/{user}/keys").json()["data"] == []
    sql.execute(
        """INSERT INTO ended_keys SELECT sha256(n::text::bytea), gen_random_uuid(), %s, '2020-01-01', 'revoked'
           FROM generate_series(1, 200) AS n""",
        [user],
    )
    last = key_of(api, user)
    assert api.delete(path_of(user, last)).status_code == 204
    kept = sql.execute("SELECT count(*), count(*) FILTER (WHERE digest = %s) FROM ended_keys", [digest(last["key"])])
    assert kept.fetchone() == (101, 1)
    assert api.delete(f"{USERS}/{user}", params={"purge": "true"}).status_code == 204
    assert sql.execute("SELECT count(*) FROM ended_keys").fetchone() == (0,)


def test_authentication_reads_one_index_for_a_key_in_force(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Every request pays for this query: what only previous and ended keys need must cost a key in force nothing."""
    user = user_of(api, "holder")
    sql.execute(
        """INSERT INTO api_keys (id, user_id, digest, name, last_four, previous_digest, previous_expires_at)
           SELECT gen_random_uuid(), %s, sha256(n::text::bytea), 'x', '0000', sha256(('p' || n)::bytea), 'infinity'
           FROM generate_series(1, 2000) AS n""",
        [user],
    )
    sql.execute(
        """INSERT INTO ended_keys SELECT sha256(('e' || n)::bytea), gen_random_uuid(), %s, now(), 'revoked'
           FROM generate_series(1, 2000) AS n""",
        [user],
    )
    sql.execute("ANALYZE api_keys, ended_keys")
    indexes = ("api_keys_digest_key", "api_keys_previous_digest_key", "ended_keys_pkey")
    for place, text in enumerate(("7", "p7", "e7", "none")):
        plan = "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) " + queries("keys")["authenticate"]
        lines = [line for (line,) in sql.execute(plan.encode(), {"digest": digest(text)}).fetchall()]
        assert not any("Seq Scan" in line and "never executed" not in line for line in lines if "users" not in line)
        used = {name for line in lines for name in re.findall(r"using (\w+)", line) if "never executed" not in line}
        assert used - {"users_pkey"} == set(indexes[: place + 1]), lines


# The console


def test_session_ends_with_the_value_that_began_it(owner: Browser) -> None:
    """A session of a key that leaked must not outlive the rotation of that key."""
    old = api_key(owner, str(OWNER_ID))
    browser = owner.another()
    assert browser.sign_in(old["key"]).status_code == 303
    path = f"{USERS}/{OWNER_ID}/keys/{old['id']}"
    new = rotate(owner.api, path, {"overlapSeconds": HOUR}).json()
    late = owner.another()
    assert late.sign_in(old["key"]).status_code == 303
    assert [each.get("/users").status_code for each in (browser, late)] == [200, 200]
    current = owner.another()
    assert current.sign_in(new["key"]).status_code == 303
    assert rotate(owner.api, path, {"overlapSeconds": HOUR}).status_code == 200
    assert [each.get("/users").status_code for each in (browser, late, current)] == [303, 303, 200]


@pytest.mark.in_process
def test_session_is_not_begun_with_a_replaced_value(browser: Browser) -> None:
    """A process remembers a key for some seconds; a value that was replaced meanwhile opens no session."""
    services_of(browser).principals._cache_s = 60.0
    old = api_key(browser, str(OWNER_ID))
    assert browser.sign_in(old["key"]).status_code == 303
    assert rotate(browser.api, f"{USERS}/{OWNER_ID}/keys/{old['id']}").status_code == 200
    another = browser.another()
    assert another.sign_in(old["key"]).status_code == 401
    assert another.session() is None


def test_session_of_before_the_migration_is_kept_with_its_key(owner: Browser, sql: psycopg.Connection) -> None:
    """A session that the old version began while the new one started names no value: it ends, and opens nothing."""
    sql.execute("UPDATE console_sessions SET key_digest = NULL")
    assert owner.get("/users").status_code == 303


def test_form_rotates_a_key_and_keeps_its_end(owner: Browser) -> None:
    """The console asked for no end and could not rotate an expired key."""
    user = made(owner, tag="ada")["id"]
    key = api_key(owner, user, expiresAt=later(days=5))
    rotated = owner.post(f"/users/{user}/keys/{key['id']}/rotate", {"hours": "24", "expiresAt": ""})
    assert rotated.status_code == 200
    (value,) = set(re.findall(r"aia_\w{49}", rotated.text))
    assert owner.api.get(ME, headers=bearer(value)).status_code == 200
    (listed,) = owner.api.get(f"{USERS}/{user}/keys").json()["data"]
    assert (listed["id"], listed["expiresAt"]) == (key["id"], key["expiresAt"])
    assert "the old value works until" in owner.get(f"/users/{user}").text


def test_form_asks_for_the_end_of_an_expired_key(owner: Browser, sql: psycopg.Connection) -> None:
    """The page says what is missing, at the field, and takes it."""
    user = made(owner, tag="ada")["id"]
    key = api_key(owner, user, expiresAt=later(days=5))
    sql.execute("UPDATE api_keys SET expires_at = now() - interval '1 day' WHERE id = %s", [key["id"]])
    page = owner.get(f"/users/{user}").text
    assert re.search(r'name="expiresAt" required', page)
    path = f"/users/{user}/keys/{key['id']}/rotate"
    refused = owner.post(path, {"hours": "1", "expiresAt": ""})
    assert refused.status_code == 400
    assert f'id="end-{key["id"]}-fault"' in refused.text
    day = (datetime.now(timezone.utc) + timedelta(days=9)).date().isoformat()
    assert owner.post(path, {"hours": "1", "expiresAt": day}).status_code == 200
    (listed,) = owner.api.get(f"{USERS}/{user}/keys").json()["data"]
    assert listed["expiresAt"] == f"{day}T00:00:00Z"
