"""Keys that have ended: their holders learn it, others learn nothing, and a gateway is told what it needs."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest

from ai_admin.access.tokens import make_key
from tests.conftest import assert_problem
from tests.integration.test_access import ME, bearer, events, key_of, uncached, user_of
from tests.integration.test_console import Browser, browser
from tests.serving import USERS

__all__ = ["browser"]
PLAIN = 'Bearer realm="ai-admin"'
ENDS: dict[str, Callable[[httpx.Client, psycopg.Connection, str, str], object]] = {
    "expired": lambda _, sql, __, key: sql.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", [key]),
    "revoked": lambda api, _, user, key: api.delete(f"{USERS}/{user}/keys/{key}"),
    "rotated": lambda api, _, user, key: api.post(f"{USERS}/{user}/keys/{key}/rotate", json={}),
}


def refused(api: httpx.Client, key: str) -> httpx.Response:
    """The answer to a key that does not work."""
    answer = api.get(ME, headers=bearer(key))
    assert_problem(answer, 401, "UNAUTHENTICATED")
    return answer


def key_that_ended(api: httpx.Client, sql: psycopg.Connection, how: str, tag: str = "holder") -> dict[str, Any]:
    """A key of a new user, which has ended in one of three ways."""
    user = user_of(api, tag)
    key = key_of(api, user)
    ENDS[how](api, sql, user, key["id"])
    return {**key, "user": user}


@uncached
@pytest.mark.parametrize("how", ENDS)
def test_ended_key_tells_its_holder_why(api: httpx.Client, sql: psycopg.Connection, how: str) -> None:
    """A pipeline that stops at night says "expired", and nobody searches for a mistyped key (RFC 6750, 3.1)."""
    key = key_that_ended(api, sql, how)
    answer = refused(api, key["key"])
    challenge = answer.headers["WWW-Authenticate"]
    found = re.fullmatch(rf'{PLAIN}, error="invalid_token", error_description="([^"\\]+)"', challenge)
    assert found
    assert re.search(rf"{how}\b.* on \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ\.$", found[1])
    assert answer.json()["detail"].startswith(found[1])
    assert key["user"] not in answer.text
    (event,) = events(api, action="access:refuse")
    assert (event["actor"], event["changes"]["reason"]) == (key["user"], f"{how} key")


@uncached
@pytest.mark.parametrize("how", ENDS)
def test_ended_key_tells_a_gateway_that_it_is_not_active(api: httpx.Client, sql: psycopg.Connection, how: str) -> None:
    """RFC 7662, 2.2: nothing beyond `active` about a credential that is not good."""
    key = key_that_ended(api, sql, how)
    assert api.post("/ai/introspect", data={"token": key["key"]}).json() == {"active": False}


@uncached
def test_wrong_key_learns_nothing(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A guess, a typo, and the key of a user who may not know, look the same."""
    suspended = key_that_ended(api, sql, "revoked", "suspended")
    assert api.put(f"{USERS}/{suspended['user']}", json={"status": "suspended"}).status_code == 200
    purged = key_that_ended(api, sql, "revoked", "purged")
    assert api.delete(f"{USERS}/{purged['user']}", params={"purge": "true"}).status_code == 204
    last = suspended["key"][-1]
    typo = suspended["key"][:-1] + ("0" if last != "0" else "1")
    answers = [refused(api, key) for key in (make_key(), typo, suspended["key"], purged["key"], "x")]
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {PLAIN}
    assert len({str({**answer.json(), "requestId": ""}) for answer in answers}) == 1


@uncached
def test_expired_key_that_is_prolonged_works_again(api: httpx.Client, sql: psycopg.Connection) -> None:
    """The remedy that the answer names is one."""
    key = key_that_ended(api, sql, "expired")
    assert "expired" in refused(api, key["key"]).json()["detail"]
    path = f"{USERS}/{key['user']}/keys/{key['id']}"
    assert api.put(path, json={"expiresAt": "2099-01-01T00:00:00Z"}).status_code == 200
    assert api.get(ME, headers=bearer(key["key"])).status_code == 200


@uncached
@pytest.mark.parametrize("how", ENDS)
def test_sign_in_with_an_ended_key_says_why(browser: Browser, sql: psycopg.Connection, how: str) -> None:
    """Whoever signs in with an old key is not sent to look for a typo."""
    key = key_that_ended(browser.api, sql, how)
    answer = browser.sign_in(key["key"])
    assert answer.status_code == 401
    assert re.search(rf"This key (was )?{how}\b", answer.text)
    assert "Invalid key" in browser.sign_in(make_key()).text
