"""What belongs to an owner, or to a role that the caller cannot grant, is out of reach: also during a promotion."""

from datetime import datetime, timedelta, timezone

import httpx
import psycopg
import pytest
from flask import Flask

from tests.conftest import OWNER_ID, assert_problem
from tests.integration.test_access import AUDIT, ME, bearer, events, key_of, uncached, user_of
from tests.integration.test_console import Browser, browser
from tests.integration.test_standing import SECRET, as_admin, cached, held_up
from tests.integration.test_transfer import client_of
from tests.serving import USERS

__all__ = ["browser"]
PROMOTE = "UPDATE users SET role = 'owner' WHERE id = %s"


def in_minutes(minutes: int) -> str:
    """A time that lies ahead."""
    return (datetime.now(timezone.utc) + timedelta(minutes=minutes)).isoformat()


# Both roles of a change


@uncached
@pytest.mark.parametrize("members", [{}, {"role": "member"}, {"role": "admin"}], ids=["alone", "member", "admin"])
def test_email_of_auditor_is_not_changed_by_admin(api: httpx.Client, members: dict[str, str]) -> None:
    """An admin would sign in as the auditor: the address stays theirs after the role is restored."""
    admin, auditor = as_admin(api), user_of(api, "auditor", role="auditor", email="auditor@example.com")
    path = f"{USERS}/{auditor}"
    answer = api.put(path, json={"email": "mine@example.com", **members}, headers=admin)
    assert_problem(answer, 403, "FORBIDDEN")
    assert api.get(path).json()["email"] == "auditor@example.com"


@uncached
def test_role_of_auditor_is_not_changed_by_admin(api: httpx.Client) -> None:
    """An admin who cannot make an auditor could otherwise take the role from every auditor."""
    admin, auditor = as_admin(api), user_of(api, "auditor", role="auditor")
    path = f"{USERS}/{auditor}"
    assert_problem(api.put(path, json={"role": "member"}, headers=admin), 403, "FORBIDDEN")
    assert api.put(path, json={"name": "Renamed"}, headers=admin).status_code == 200
    assert api.put(path, json={"status": "suspended"}, headers=admin).status_code == 200
    assert api.get(path).json()["role"] == "auditor"


@uncached
def test_import_changes_no_role_that_its_caller_cannot_grant(server_app: Flask) -> None:
    """A file would otherwise do what a request may not."""
    with client_of(server_app) as api:
        admin, auditor = as_admin(api), user_of(api, "auditor", role="auditor")
        file = "tag,email,role\nauditor,mine@example.com,member\n"
        answer = api.post(f"{USERS}/import", content=file, headers={**admin, "Content-Type": "text/csv"})
        assert [reject["errorCode"] for reject in answer.json()["rejects"]] == ["FORBIDDEN"]
        assert api.get(f"{USERS}/{auditor}").json()["role"] == "auditor"


# What is listed of an owner


@uncached
def test_keys_of_owner_are_listed_for_owners_only(api: httpx.Client) -> None:
    """The names of an owner's keys, and when they were last used, tell an attacker which one to go for."""
    admin, second = as_admin(api), user_of(api, "second", role="owner")
    own = bearer(key_of(api, second, scopes=[])["key"])
    assert_problem(api.get(f"{USERS}/{OWNER_ID}/keys", headers=admin), 403, "FORBIDDEN")
    assert_problem(api.get(f"{USERS}/{second}/keys", headers=admin), 403, "FORBIDDEN")
    for path, headers in ((f"{USERS}/{second}/keys", {}), (f"{ME}/keys", own)):
        assert len(api.get(path, headers=headers).json()["data"]) == 1


def test_console_shows_keys_of_owner_to_owners_only(browser: Browser) -> None:
    """The page of an owner and the overview of keys that end soon say no more than the API."""
    api = browser.api
    admin, second = user_of(api, "an-admin", role="admin"), user_of(api, "second", role="owner")
    for user, name in ((admin, "key-of-admin"), (second, "key-of-owner")):
        key_of(api, user, name=name, expiresAt=in_minutes(60))
        assert api.put(f"{USERS}/{user}/secrets/of-{name}", json=SECRET).status_code == 201
    pages = ["/overview", f"/users/{second}", f"/users/{second}/secrets/of-key-of-owner/versions"]
    for signed_in_as, is_shown in ((admin, False), (second, True)):
        browser.sign_in(key_of(api, signed_in_as)["key"])
        texts = [browser.get(path).text for path in pages]
        assert "key-of-admin" in texts[0]
        assert [("key-of-owner" in text) for text in texts[:2]] == [is_shown, is_shown]
        assert [("of-key-of-owner" in text) for text in texts[1:]] == [is_shown, is_shown]
    browser.sign_in(key_of(api, admin)["key"])
    key = api.get(f"{USERS}/{second}/keys").json()["data"][0]
    for action, form in (("rotate", {"hours": "0"}), ("revoke", {})):
        answer = browser.post(f"/users/{second}/keys/{key['id']}/{action}", dict(form))
        assert answer.status_code == 403
        assert "key-of-owner" not in answer.text


@cached
@pytest.mark.parametrize(
    ("table", "path"),
    [("api_keys", "keys"), ("user_secrets", "secrets"), ("user_secrets", "secrets/openai/versions")],
)
def test_list_during_promotion_shows_nothing_of_new_owner(
    api: httpx.Client, sql: psycopg.Connection, table: str, path: str
) -> None:
    """A list that waits shows the rows of that moment: by then the user may be an owner."""
    admin, user = as_admin(api), user_of(api, "rising")
    key_of(api, user)
    assert api.put(f"{USERS}/{user}/secrets/openai", json=SECRET, headers=admin).status_code == 201
    with held_up(sql, lambda: api.get(f"{USERS}/{user}/{path}", headers=admin)) as (answers, go):
        sql.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        go()
        sql.execute(PROMOTE, [user])
    assert_problem(answers[0], 403, "FORBIDDEN")


# A change that waits for the row of the user


@cached
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "keys/{key}", None),
        ("PUT", "keys/{key}", {"name": "changed"}),
        ("POST", "keys", {"name": "new", "scopes": []}),
        ("PUT", "secrets/openai", SECRET | {"value": "sk-changed"}),
        ("DELETE", "secrets/openai", None),
        ("POST", "secrets/openai/restore", {"version": 1}),
        ("PUT", "", {"name": "changed"}),
        ("DELETE", "", None),
    ],
)
def test_change_during_promotion_does_not_reach_owner(
    api: httpx.Client, sql: psycopg.Connection, method: str, path: str, body: dict[str, object] | None
) -> None:
    """An admin would otherwise revoke a key of an owner, or set a credential, in the moment of the promotion."""
    admin, user = as_admin(api), user_of(api, "rising")
    key = key_of(api, user)
    for value in ("sk-first", "sk-second"):
        assert api.put(f"{USERS}/{user}/secrets/openai", json=SECRET | {"value": value}).status_code < 300
    url = f"{USERS}/{user}/{path.format(key=key['id'])}".rstrip("/")
    with held_up(sql, lambda: api.request(method, url, json=body, headers=admin)) as (answers, go):
        sql.execute(PROMOTE, [user])
        go()
    assert_problem(answers[0], 403, "FORBIDDEN")
    assert api.get(ME, headers=bearer(key["key"])).status_code == 200
    assert api.get(f"{USERS}/{user}/secrets").json()["data"][0]["version"] == 2


@cached
def test_reveal_during_suspension_is_refused(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A reveal that waits for a suspension must not hand out the value afterwards."""
    user = user_of(api, "leaving")
    assert api.put(f"{USERS}/{user}/secrets/openai", json=SECRET).status_code == 201
    reveal = f"{USERS}/{user}/secrets/openai/reveal"
    with held_up(sql, lambda: api.post(reveal, json={"reason": "x"})) as (answers, go):
        sql.execute("LOCK TABLE user_secrets IN ACCESS EXCLUSIVE MODE")
        sql.execute("UPDATE users SET status = 'suspended' WHERE id = %s", [user])
        go()
    assert_problem(answers[0], 409, "USER_SUSPENDED")
    assert events(api, target=user, action="secrets:reveal") == []


# Keys that expire


@uncached
@pytest.mark.parametrize("end", [None, 60], ids=["permanent", "later"])
def test_expiring_key_ends_no_key_that_outlives_it(api: httpx.Client, end: int | None) -> None:
    """A key for five minutes that leaks would otherwise lock its user out for good."""
    user = user_of(api, "holder", role="admin")
    lasting = key_of(api, user, expiresAt=end and in_minutes(end))
    short = bearer(key_of(api, user, expiresAt=in_minutes(5))["key"])
    for keys in (f"{ME}/keys", f"{USERS}/{user}/keys"):
        path = f"{keys}/{lasting['id']}"
        assert_problem(api.delete(path, headers=short), 403, "FORBIDDEN")
        changes: list[dict[str, object]] = [{"expiresAt": in_minutes(1)}, {"scopes": []}, {"name": "x"}]
        for body in changes:
            assert_problem(api.put(path, json=body, headers=short), 403, "FORBIDDEN")
        assert_problem(api.post(f"{path}/rotate", json={"expiresAt": in_minutes(1)}, headers=short), 403, "FORBIDDEN")
    (listed, *_) = api.get(f"{ME}/keys", headers=bearer(lasting["key"])).json()["data"]
    assert {**listed, "lastUsedAt": None} == {name: value for name, value in lasting.items() if name != "key"}


@uncached
@pytest.mark.parametrize("end", [None, 60], ids=["permanent", "expiring"])
def test_value_before_rotation_changes_and_ends_nothing(api: httpx.Client, end: int | None) -> None:
    """A leaked value that goes on for the overlap would otherwise lock its user out of the key that replaced it."""
    user = user_of(api, "holder")
    key = key_of(api, user, expiresAt=end and in_minutes(end))
    old, path = bearer(key["key"]), f"{ME}/keys/{key['id']}"
    rotated = api.post(f"{path}/rotate", json={"overlapSeconds": 300}, headers=old)
    assert rotated.status_code == 200
    new = bearer(rotated.json()["key"])
    assert api.get(ME, headers=old).status_code == 200
    assert_problem(api.delete(path, headers=old), 403, "FORBIDDEN")
    for body in ({"name": "x"}, {"expiresAt": in_minutes(1)}):
        assert_problem(api.put(path, json=body, headers=old), 403, "FORBIDDEN")
    assert_problem(api.post(f"{path}/rotate", json={}, headers=old), 403, "FORBIDDEN")
    assert api.put(path, json={"name": "x"}, headers=new).status_code == 200
    assert api.delete(path, headers=new).status_code == 204


@uncached
def test_expiring_key_ends_itself_and_keys_that_end_before_it(api: httpx.Client) -> None:
    """The holder of a key for an hour can still clean up, and an owner can revoke any key of another user."""
    user = user_of(api, "holder", role="admin")
    lasting, sooner = key_of(api, user), key_of(api, user, expiresAt=in_minutes(5))
    short = key_of(api, user, expiresAt=in_minutes(60))
    for key in (sooner, short):
        assert api.delete(f"{ME}/keys/{key['id']}", headers=bearer(short["key"])).status_code == 204
    owner = bearer(key_of(api, str(OWNER_ID), expiresAt=in_minutes(5))["key"])
    assert api.delete(f"{USERS}/{user}/keys/{lasting['id']}", headers=owner).status_code == 204
    assert_problem(api.get(AUDIT, headers=bearer(lasting["key"])), 401, "UNAUTHENTICATED")
