"""Idempotency-Key on the creation of API keys: the answer holds a key, and is kept sealed for a day."""

import httpx
import psycopg
import pytest

from tests.conftest import AS_OWNER, OWNER_ID, assert_problem
from tests.integration.test_access import (
    MATRIX,
    ME,
    Headers,
    People,
    bearer,
    call,
    key_of,
    people,
    uncached,
    user_of,
)
from tests.serving import USERS

__all__ = ["people"]


@pytest.fixture
def ada(api: httpx.Client) -> str:
    """The id of a user."""
    return user_of(api, "ada")


def keyed(api: httpx.Client, path: str, headers: Headers | None = None, name: str = "CI") -> httpx.Response:
    """The answer to the creation of a key with an Idempotency-Key."""
    return api.post(path, json={"name": name}, headers={"Idempotency-Key": "once", **(headers or {})})


def test_a_key_that_was_lost_on_the_way_is_sent_again(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """A broken connection costs no orphaned key: the retry gets the same one, and it works."""
    for path in (f"{USERS}/{ada}/keys", f"{ME}/keys"):
        first = keyed(api, path)
        again = keyed(api, path)
        assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
        assert again.headers["Location"] == first.headers["Location"]
        assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "no-store"
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert_problem(keyed(api, path, name="other"), 422, "IDEMPOTENCY_KEY_REUSED")
        assert api.get(ME, headers=bearer(again.json()["key"])).status_code == 200
        kept = str(sql.execute("SELECT k::text FROM idempotency_keys AS k").fetchall())
        assert first.json()["key"] not in kept
        assert first.json()["key"].encode().hex() not in kept
    assert len(api.get(f"{USERS}/{ada}/keys").json()["data"]) == 1


def test_a_key_is_sent_again_to_who_made_it_alone(api: httpx.Client, people: People, ada: str) -> None:
    """Another user, another key of the same user, and another path get a key of their own, or a refusal."""
    path = f"{USERS}/{ada}/keys"
    first = keyed(api, path).json()["key"]
    narrow = bearer(key_of(api, str(OWNER_ID), scopes=["keys:read", "keys:write"])["key"])
    others = [
        keyed(api, path, people.headers["admin"]),
        keyed(api, path, people.headers["owner"]),
        keyed(api, path, narrow),
        keyed(api, f"{USERS}/{people.ids['member']}/keys"),
        keyed(api, f"{ME}/keys"),
    ]
    for other in others:
        assert other.status_code == 201
        assert "Idempotent-Replayed" not in other.headers
    assert len({first, *(other.json()["key"] for other in others)}) == 6
    assert_problem(keyed(api, path, people.headers["member"]), 403, "FORBIDDEN")


@uncached
@pytest.mark.parametrize(
    "end",
    [
        "DELETE FROM api_keys WHERE name = 'maker'",
        "UPDATE api_keys SET expires_at = now() WHERE name = 'maker'",
        "UPDATE users SET status = 'suspended' WHERE tag = 'maker'",
        "UPDATE users SET role = 'member' WHERE tag = 'maker'",
        "UPDATE api_keys SET scopes = '{keys:read}' WHERE name = 'maker'",
    ],
)
def test_who_is_out_gets_no_key_again(api: httpx.Client, ada: str, sql: psycopg.Connection, end: str) -> None:
    """A retry is a request like any other: who may not make a key may not see one."""
    maker = user_of(api, "maker", role="admin")
    headers = bearer(key_of(api, maker, name="maker")["key"])
    path = f"{USERS}/{ada}/keys"
    made = keyed(api, path, headers).json()["key"]
    assert keyed(api, path, headers).json()["key"] == made
    sql.execute(end)
    answer = keyed(api, path, headers)
    assert answer.status_code in {401, 403}
    assert made not in answer.text


@uncached
def test_a_credential_with_less_than_it_had_gets_no_key_again(
    api: httpx.Client, ada: str, sql: psycopg.Connection
) -> None:
    """Narrowed to making keys that can do nothing, it does not see the wide one that it made before."""
    headers = bearer(key_of(api, str(OWNER_ID), name="maker")["key"])
    path = f"{USERS}/{ada}/keys"
    made = keyed(api, path, headers).json()["key"]
    sql.execute("UPDATE api_keys SET scopes = '{keys:write}' WHERE name = 'maker'")
    answer = keyed(api, path, headers)
    assert (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (201, None)
    assert answer.json()["key"] != made


def test_an_answer_that_does_not_open_is_an_error(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """A ring that lost its key does not make a second key, nor an HTML page."""
    path = f"{USERS}/{ada}/keys"
    assert keyed(api, path).status_code == 201
    sql.execute(
        "UPDATE idempotency_keys SET body = set_byte(body, length(body) - 1, 255 - get_byte(body, length(body) - 1))"
    )
    assert_problem(keyed(api, path), 500, "SEALED_VALUE_UNREADABLE")
    assert len(api.get(path).json()["data"]) == 1


def test_a_key_for_an_erased_user_is_not_made_again(api: httpx.Client, ada: str) -> None:
    """The retry says that the user has been erased, to whichever key of the vault the digest belongs."""
    path = f"{USERS}/{ada}/keys"
    assert keyed(api, path).status_code == 201
    assert api.delete(f"{USERS}/{ada}", params={"purge": "true"}).status_code == 204
    assert_problem(keyed(api, path), 409, "IDEMPOTENT_ANSWER_ERASED")


_KEYS = f"{USERS}/<UserID>/keys"
TAKERS = [
    ("POST", path) for path in (USERS, _KEYS, f"{_KEYS}/<KeyID>/rotate", f"{ME}/keys", f"{ME}/keys/<KeyID>/rotate")
]


@pytest.mark.parametrize("route", sorted(set(MATRIX) - {*TAKERS} - {("GET", "/ai/authorize")}), ids=" ".join)
def test_idempotency_key_on_a_request_that_keeps_no_answer_is_refused(
    api: httpx.Client, route: tuple[str, str]
) -> None:
    """A client that believes its retry to be safe learns that it is not, and where it would be."""
    refused = call(api, *route, {**AS_OWNER, "Idempotency-Key": "k"})
    assert_problem(refused, 400, "VALIDATION_ERROR")
    (fault,) = refused.json()["details"]
    assert fault["loc"] == ["header", "Idempotency-Key"]
    assert fault["msg"].endswith(", ".join(" ".join(taker) for taker in TAKERS).replace("<", "{").replace(">", "}"))
    # Strangers learn nothing of routes.
    assert_problem(call(api, *route, {"Idempotency-Key": "k"}), 401, "UNAUTHENTICATED")


def test_idempotency_key_that_belongs_to_another_request_is_ignored(api: httpx.Client) -> None:
    """nginx asks with the headers of a request to a model, whose client may send a key to the provider."""
    assert api.get("/ai/authorize", headers={"Idempotency-Key": "k"}).status_code == 204
    assert api.options(USERS, headers={"Idempotency-Key": "k"}).status_code == 204
