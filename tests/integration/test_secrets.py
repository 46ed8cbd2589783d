"""Credentials of users: set, replaced, restored, removed, and revealed to who may use them and nobody else."""

import base64
import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from ai_admin.access.scopes import Scope
from ai_admin.cli import app
from ai_admin.config import Settings
from ai_admin.credentials.store import _SQL
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.vault.ciphertext import Context
from ai_admin.vault.mounted import load_key_ring
from ai_admin.vault.registry import CREDENTIALS
from tests.conftest import OWNER_ID, assert_problem
from tests.integration.test_access import (
    ME,
    NOBODY,
    Headers,
    People,
    bearer,
    events,
    key_of,
    people,
    uncached,
    user_of,
)
from tests.serving import OFTEN, USERS, own_database, serving, together

__all__ = ["people"]
LARGEST = 65_536
VALUE = "a value with marks 0001"
REASON = {"reason": "ticket 4711"}
JSON = {"Content-Type": "application/json"}


def secrets_of(user: str) -> str:
    """The path of a user's credentials."""
    return f"{USERS}/{user}/secrets"


def put(api: httpx.Client, user: str, name: str = "openai", value: str = VALUE, **members: str) -> dict[str, Any]:
    """A credential that was set, as it is listed."""
    answer = api.put(f"{secrets_of(user)}/{name}", json={"provider": "openai", "value": value, **members})
    assert answer.status_code in {200, 201}, answer.text
    secret: dict[str, Any] = answer.json()
    return secret


def revealed(api: httpx.Client, user: str, name: str = "openai", headers: Headers | None = None) -> httpx.Response:
    """The answer to a reveal."""
    return api.post(f"{secrets_of(user)}/{name}/reveal", json=REASON, headers=headers)


def value_of(api: httpx.Client, user: str, name: str = "openai") -> str | None:
    """The value in force, where it was sent as text."""
    answer = revealed(api, user, name)
    assert answer.status_code == 200, answer.text
    value: str | None = answer.json().get("value")
    return value


def listed(api: httpx.Client, user: str) -> list[dict[str, Any]]:
    """The credentials of a user."""
    data: list[dict[str, Any]] = api.get(secrets_of(user)).json()["data"]
    return data


def numbers(api: httpx.Client, user: str, name: str = "openai") -> list[int]:
    """The versions that are kept, newest first."""
    return [version["version"] for version in api.get(f"{secrets_of(user)}/{name}/versions").json()["data"]]


def rows(sql: psycopg.Connection) -> int:
    """How many versions are stored."""
    row = sql.execute("SELECT count(*) FROM user_secrets").fetchone()
    assert row
    return int(row[0])


@pytest.fixture
def ada(api: httpx.Client) -> str:
    """The id of a user."""
    return user_of(api, "ada")


# Rows that somebody moves in the database


@pytest.mark.parametrize("change", ["user_id = '{bob}'", "name = 'other'", "provider = 'azure'"])
@pytest.mark.parametrize("as_sealed_by", [None, "0.1.0"])
def test_reveal_of_a_moved_credential_is_refused(
    api: httpx.Client, ada: str, sql: psycopg.Connection, settings: Settings, change: str, as_sealed_by: str | None
) -> None:
    """Whoever can write to the database hands nobody's credential to another user, name or provider.

    A value that an earlier version has sealed is protected from the next `vault rotate` on.
    """
    put(api, ada)
    if as_sealed_by:
        _seal_as_before(sql, settings)
        assert value_of(api, ada) == VALUE
        assert CliRunner().invoke(app, ["vault", "rotate", "--root", str(settings.root)]).exit_code == 0
    assert value_of(api, ada) == VALUE
    bob = user_of(api, "bob")
    sql.execute(f"UPDATE user_secrets SET {change.format(bob=bob)}".encode())
    user, name = (bob if "user_id" in change else ada), ("other" if "name" in change else "openai")
    refused = revealed(api, user, name)
    assert_problem(refused, 500, "SEALED_VALUE_UNREADABLE")
    assert VALUE not in refused.text
    # It can be replaced like any value that does not open.
    put(api, user, name, "sk-new-value-0002")
    assert value_of(api, user, name) == "sk-new-value-0002"


def _seal_as_before(sql: psycopg.Connection, settings: Settings) -> None:
    """Seal each credential as version 0.1.0 did, for its place alone."""
    ring = load_key_ring(settings.root)
    for key, sealed, *bound in sql.execute("SELECT id, value, user_id, name, provider FROM user_secrets").fetchall():
        value = ring.open(sealed, CREDENTIALS.place(key, bound))
        before = ring.seal(value, Context("user_secrets", "value", str(key)))
        sql.execute("UPDATE user_secrets SET value = %s WHERE id = %s", [before, key])


def test_credential_set_with_another_provider_can_be_restored(
    api: httpx.Client, ada: str, sql: psycopg.Connection, settings: Settings
) -> None:
    """Each version opens with the provider that it was set with, sealed by this version or by the one before."""
    put(api, ada)
    _seal_as_before(sql, settings)
    put(api, ada, provider="azure", value="sk-azure-value-0002")
    assert value_of(api, ada) == "sk-azure-value-0002"
    # The same again changes nothing, whichever format it is sealed in.
    _seal_as_before(sql, settings)
    assert put(api, ada, provider="azure", value="sk-azure-value-0002")["version"] == 2
    assert api.post(f"{secrets_of(ada)}/openai/restore", json={"version": 1}).json()["provider"] == "openai"
    assert value_of(api, ada) == VALUE


# Values


def test_a_credential_is_set_listed_and_revealed(api: httpx.Client, ada: str) -> None:
    """What was set is what a gateway gets; the list tells all about it but the value."""
    answer = api.put(f"{secrets_of(ada)}/openai", json={"provider": "openai-eu", "value": VALUE})
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{secrets_of(ada)}/openai")
    put(api, ada, "backup", "short")
    backup, secret = listed(api, ada)
    assert secret == answer.json()
    assert VALUE not in answer.text
    assert (secret["name"], secret["provider"], secret["lastFour"], secret["version"]) == (
        "openai", "openai-eu", "0001", 1,
    )  # fmt: skip
    assert (secret["rotatedBy"], secret["usedAt"], secret["createdAt"]) == (str(OWNER_ID), None, secret["rotatedAt"])
    assert backup["name"] == "backup"
    answer = revealed(api, ada)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {"name": "openai", "provider": "openai-eu", "version": 1, "value": VALUE}
    backup, secret = listed(api, ada)
    assert secret["usedAt"] is not None
    assert backup["usedAt"] is None


@pytest.mark.parametrize(
    "value",
    [b"\x00", b"\xff\xfe", bytes(range(256)), b"text", b"\n", bytes(LARGEST), "ü".encode() * (LARGEST // 2)],
    ids=["NUL", "no UTF-8", "all bytes", "text", "line break", "largest", "largest of letters"],
)
def test_bytes_come_back_as_they_were(api: httpx.Client, ada: str, value: bytes) -> None:
    """A certificate or a binary token that changes on the way is a gateway that cannot sign in."""
    encoded = base64.b64encode(value).decode()
    answer = api.put(f"{secrets_of(ada)}/x", json={"provider": "cloud", "valueBase64": encoded})
    assert answer.status_code == 201, answer.text
    assert answer.json()["lastFour"] == ""
    assert revealed(api, ada, "x").json() == {"name": "x", "provider": "cloud", "version": 1, "valueBase64": encoded}


@pytest.mark.parametrize("value", ["x", "ß∑😀", "line\nbreak\t\r", '"\\/', "x" * LARGEST, "ü" * (LARGEST // 2)])
def test_text_comes_back_as_it_was(api: httpx.Client, ada: str, value: str) -> None:
    """Text is answered as text, whatever letters it has."""
    put(api, ada, value=value)
    assert value_of(api, ada) == value


@pytest.mark.parametrize(
    ("value", "last_four"),
    [("x" * 8 + "abcd", "abcd"), ("x" * 7 + "abcd", ""), ("abcd", ""), ("ü" * 20, ""), ("x" * 20 + "é", ""),
     ("x" * 20 + "\n", ""), ("x" * 20 + "a b~", "a b~")],
)  # fmt: skip
def test_the_last_four_give_no_short_value_away(api: httpx.Client, ada: str, value: str, last_four: str) -> None:
    """Four characters of a PIN are the PIN."""
    assert put(api, ada, value=value)["lastFour"] == last_four


def test_a_value_is_sealed_for_its_row(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """Who can write to the database cannot hand one user's credential to another: moved, it does not open."""
    other = user_of(api, "other")
    put(api, ada)
    put(api, other, value="another value with marks")
    assert VALUE not in str(sql.execute("SELECT s::text FROM user_secrets AS s").fetchall())
    sql.execute(
        "UPDATE user_secrets SET value = (SELECT value FROM user_secrets WHERE user_id = %s) WHERE user_id = %s",
        [other, ada],
    )
    answer = revealed(api, ada)
    assert_problem(answer, 500, "SEALED_VALUE_UNREADABLE")
    assert "test" not in answer.text
    assert events(api, action="secrets:reveal") == []
    assert value_of(api, other) == "another value with marks"
    assert put(api, ada)["version"] == 2
    assert value_of(api, ada) == VALUE
    assert_problem(api.post(f"{secrets_of(ada)}/openai/restore", json={"version": 1}), 500, "SEALED_VALUE_UNREADABLE")


# Versions


def test_what_is_as_it_was_makes_no_version(api: httpx.Client, ada: str) -> None:
    """A PUT that is sent again, as by a tool that runs each hour, fills neither history nor log."""
    first = put(api, ada)
    assert put(api, ada) == first
    assert len(events(api, action="secrets:set")) == 1
    assert put(api, ada, provider="azure")["version"] == 2
    encoded = base64.b64encode(VALUE.encode()).decode()
    answer = api.put(f"{secrets_of(ada)}/openai", json={"provider": "azure", "valueBase64": encoded})
    assert (answer.status_code, answer.json()["version"], answer.json()["createdAt"]) == (200, 3, first["createdAt"])
    assert answer.json()["rotatedAt"] > first["rotatedAt"]


def test_a_removed_credential_is_gone_and_can_be_restored(api: httpx.Client, ada: str) -> None:
    """A removal by mistake is mended; until then nobody gets the value."""
    path = f"{secrets_of(ada)}/openai"
    put(api, ada)
    assert api.delete(path).status_code == 204
    assert_problem(api.delete(path), 404, "SECRET_NOT_FOUND")
    assert_problem(revealed(api, ada), 404, "SECRET_NOT_FOUND")
    assert listed(api, ada) == []
    assert numbers(api, ada) == [1]
    answer = api.post(f"{path}/restore", json={"version": 1})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert value_of(api, ada) == VALUE
    assert api.delete(path).status_code == 204
    assert api.put(path, json={"provider": "openai", "value": "new"}).status_code == 201
    assert numbers(api, ada) == [3, 2, 1]


def test_an_earlier_version_is_restored_as_a_new_one(api: httpx.Client, ada: str) -> None:
    """A key that was replaced too early is back in one request, with its provider; nothing is overwritten."""
    path = f"{secrets_of(ada)}/openai"
    put(api, ada, value="one", provider="first")
    put(api, ada, value="two")
    put(api, ada, value="three")
    restored = api.post(f"{path}/restore", json={"version": 1}).json()
    assert (restored["version"], restored["provider"]) == (4, "first")
    assert value_of(api, ada) == "one"
    for again in (1, 4):
        assert api.post(f"{path}/restore", json={"version": again}).json()["version"] == 4
    assert_problem(api.post(f"{path}/restore", json={"version": 5}), 404, "SECRET_NOT_FOUND")
    newest, *earlier = api.get(f"{path}/versions").json()["data"]
    assert (newest["version"], newest["endedAt"]) == (4, None)
    assert [version["version"] for version in earlier] == [3, 2, 1]
    assert all(version["endedAt"] for version in earlier)
    assert "value" not in newest
    assert_problem(api.get(f"{secrets_of(ada)}/other/versions"), 404, "SECRET_NOT_FOUND")


def test_what_is_over_age_is_never_restored(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """A key that was replaced because it leaked does not come back months later; its row goes with a later change."""
    path = f"{secrets_of(ada)}/openai"
    put(api, ada, value="one")
    put(api, ada, value="two")
    sql.execute("UPDATE user_secrets SET ended_at = now() - interval '30 days' WHERE version = 1")
    assert numbers(api, ada) == [2]
    assert_problem(api.post(f"{path}/restore", json={"version": 1}), 404, "SECRET_NOT_FOUND")
    assert listed(api, ada)[0]["createdAt"] == listed(api, ada)[0]["rotatedAt"]
    assert rows(sql) == 2
    put(api, user_of(api, "other"))
    assert rows(sql) == 2
    assert numbers(api, ada) == [2]
    put(api, ada, value="three")
    sql.execute("UPDATE user_secrets SET ended_at = now() - interval '29 days' WHERE version = 2")
    assert api.post(f"{path}/restore", json={"version": 2}).json()["version"] == 4


def test_what_is_over_age_goes_in_small_batches(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """No change waits for a large removal, and no job is needed."""
    for number in range(31):
        put(api, ada, value=str(number))
    sql.execute("UPDATE user_secrets SET ended_at = now() - interval '31 days' WHERE ended_at IS NOT NULL")
    left = []
    for number in range(3):
        put(api, ada, f"other-{number}")
        left.append(rows(sql))
    # Thirty had ended; each change takes twenty at most and adds its own row.
    assert left == [12, 3, 4]


@pytest.mark.config(SECRET_HISTORY_DAYS="0")
def test_no_history_where_none_is_wanted(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """Who may keep nothing keeps nothing."""
    put(api, ada, value="one")
    put(api, ada, value="two")
    assert numbers(api, ada) == [2]
    assert_problem(api.post(f"{secrets_of(ada)}/openai/restore", json={"version": 1}), 404, "SECRET_NOT_FOUND")
    put(api, ada, value="three")
    assert rows(sql) <= 2


def test_a_hundred_versions_are_kept(api: httpx.Client, ada: str) -> None:
    """A tool that sets a new value each second does not fill the disk within the thirty days."""
    for number in range(103):
        put(api, ada, value=str(number))
    assert numbers(api, ada) == list(range(103, 3, -1))


def test_a_user_has_at_most_a_hundred_credentials(api: httpx.Client, ada: str) -> None:
    """A list of credentials has a bound; those that are there can still be replaced, and make room."""
    for number in range(100):
        put(api, ada, f"n{number}")
    path = secrets_of(ada)
    one_more = {"provider": "openai", "value": VALUE}
    assert_problem(api.put(f"{path}/one-more", json=one_more), 409, "TOO_MANY_SECRETS")
    assert put(api, ada, "n7", "another")["version"] == 2
    api.delete(f"{path}/n7")
    put(api, ada, "one-more")
    assert_problem(api.post(f"{path}/n7/restore", json={"version": 1}), 409, "TOO_MANY_SECRETS")
    assert len(listed(api, ada)) == 100


# Bad input

ENCODED = base64.b64encode(b"x" * (LARGEST + 1)).decode()
BAD_BODIES: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"value=x",
    "no object": b'["x"]',
    "no value": {"provider": "openai"},
    "both": {"provider": "openai", "value": "x", "valueBase64": "eA=="},
    "both, one null": {"provider": "openai", "value": "x", "valueBase64": None},
    "null": {"provider": "openai", "value": None},
    "number": {"provider": "openai", "value": 1},
    "list": {"provider": "openai", "value": ["x"]},
    "empty": {"provider": "openai", "value": ""},
    "too large": {"provider": "openai", "value": "x" * (LARGEST + 1)},
    "too large in bytes": {"provider": "openai", "value": "x" + "ü" * (LARGEST // 2)},
    "NUL": {"provider": "openai", "value": "x\x00"},
    "surrogate": rb'{"provider": "openai", "value": "x\ud800"}',
    "surrogate in UTF-8": b'{"provider": "openai", "value": "x\xed\xa0\x80"}',
    "empty base64": {"provider": "openai", "valueBase64": ""},
    "too large base64": {"provider": "openai", "valueBase64": ENCODED},
    "no padding": {"provider": "openai", "valueBase64": "eA"},
    "line break in base64": {"provider": "openai", "valueBase64": "eA==\n"},
    "base64 for URLs": {"provider": "openai", "valueBase64": "_-8="},
    "padding within": {"provider": "openai", "valueBase64": "eA==eA=="},
    "no base64": {"provider": "openai", "valueBase64": "secret!!"},
    "other script in base64": {"provider": "openai", "valueBase64": "éééé"},
    "no provider": {"value": "x"},
    "provider upper-case": {"provider": "OpenAI", "value": "x"},
    "provider NUL": {"provider": "open\x00ai", "value": "x"},
    "provider line break": {"provider": "openai\n", "value": "x"},
    "provider too long": {"provider": "x" * 65, "value": "x"},
    "unknown member": {"provider": "openai", "value": "x", "version": 3},
    "by attribute's name": {"provider": "openai", "value_base_64": "eA=="},
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_credentials_that_cannot_be_set(api: httpx.Client, ada: str, sql: psycopg.Connection, body: Any) -> None:
    """A clear 400 that never repeats the value, and nothing is stored."""
    sent: dict[str, Any] = {"content": body, "headers": JSON} if isinstance(body, bytes) else {"json": body}
    answer = api.put(f"{secrets_of(ada)}/openai", **sent)
    assert_problem(answer, 400, "VALIDATION_ERROR")
    assert "secret!!" not in answer.text
    assert "xxxx" not in answer.text
    assert len(answer.content) < 2000
    assert rows(sql) == 0


BAD_NAMES = ["OpenAI", "-x", ".x", "_x", "x" * 65, "ü", "a b", "x%00", "%0A", "*", "x%0A"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_none(api: httpx.Client, ada: str, sql: psycopg.Connection, name: str) -> None:
    """One form of names, so that no two look alike, on every path that has one."""
    path = f"{secrets_of(ada)}/{name}"
    answers = [
        api.put(path, json={"provider": "openai", "value": "x"}),
        api.delete(path),
        api.post(f"{path}/reveal", json=REASON),
        api.get(f"{path}/versions"),
        api.post(f"{path}/restore", json={"version": 1}),
    ]
    for answer in answers:
        assert answer.status_code in {400, 404, 405}
        if answer.status_code == 400:
            assert_problem(answer, 400, "VALIDATION_ERROR")
    assert rows(sql) == 0


@pytest.mark.routing
@pytest.mark.parametrize("name", ["a%2Fb", "a%2freveal", "..", "%2e%2e", "", "a%2F..%2Fb"])
def test_a_name_is_one_part_of_the_path(api: httpx.Client, ada: str, sql: psycopg.Connection, name: str) -> None:
    """A slash in a name, however written, sets no credential elsewhere."""
    answer = api.put(f"{secrets_of(ada)}/{name}", json={"provider": "openai", "value": "x"})
    assert answer.status_code in {400, 404, 405}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert rows(sql) == 0


@pytest.mark.parametrize(
    "body",
    [{}, {"reason": ""}, {"reason": " "}, {"reason": None}, {"reason": 1}, {"reason": "x" * 501}, {"reason": "a\x00b"},
     {"reason": "a\nb"}, {"reason": "x", "value": "y"}, b'{"reason": "\\ud800"}', b""],
)  # fmt: skip
def test_a_reveal_without_a_reason(api: httpx.Client, ada: str, body: Any) -> None:
    """Nobody gets a value without saying why; what they say is one line."""
    put(api, ada)
    sent: dict[str, Any] = {"content": body, "headers": JSON} if isinstance(body, bytes) else {"json": body}
    answer = api.post(f"{secrets_of(ada)}/openai/reveal", **sent)
    assert_problem(answer, 400, "VALIDATION_ERROR")
    assert events(api, action="secrets:reveal") == []
    assert listed(api, ada)[0]["usedAt"] is None


@pytest.mark.parametrize("version", [0, -1, 2**31, "1", True, None, 1.5, [1]])
def test_versions_that_are_none(api: httpx.Client, ada: str, version: object) -> None:
    """A clear 400, also beyond what the column holds."""
    put(api, ada)
    answer = api.post(f"{secrets_of(ada)}/openai/restore", json={"version": version})
    assert_problem(answer, 400, "VALIDATION_ERROR")


def test_other_media_types_and_queries_are_refused(api: httpx.Client, ada: str) -> None:
    """A value in the query would be in the logs of every proxy on the way."""
    path = f"{secrets_of(ada)}/openai"
    answer = api.put(path, content=b"x", headers={"Content-Type": "text/plain"})
    assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    answer = api.put(path, params={"value": VALUE}, json={"provider": "openai", "value": "x"})
    assert_problem(answer, 400, "VALIDATION_ERROR")
    assert VALUE not in answer.text


# Who may


def every_request(api: httpx.Client, user: str, headers: Headers) -> dict[str, httpx.Response]:
    """The answer to each request on the credential `openai` of a user, by scope and what is done."""
    path = f"{secrets_of(user)}/openai"
    return {
        "secrets:read list": api.get(secrets_of(user), headers=headers),
        "secrets:read versions": api.get(f"{path}/versions", headers=headers),
        "secrets:write put": api.put(path, json={"provider": "openai", "value": "x"}, headers=headers),
        "secrets:write restore": api.post(f"{path}/restore", json={"version": 1}, headers=headers),
        "secrets:reveal reveal": api.post(f"{path}/reveal", json=REASON, headers=headers),
        "secrets:write remove": api.delete(path, headers=headers),
    }


def test_each_role_does_what_its_scopes_say(api: httpx.Client, people: People) -> None:
    """An owner does everything, an administrator sets and lists, and nobody else does anything."""
    allowed = {"owner": {"read", "write", "reveal"}, "admin": {"read", "write"}, "auditor": set(), "member": set()}
    for role, headers in people.headers.items():
        put(api, people.ids["member"])
        for request, answer in every_request(api, people.ids["member"], headers).items():
            if request.partition(" ")[0].partition(":")[2] in allowed[role]:
                assert answer.status_code in {200, 204}, (role, request, answer.text)
            else:
                assert_problem(answer, 403, "FORBIDDEN")
                assert VALUE not in answer.text


def test_an_owners_credentials_are_out_of_an_admins_reach(api: httpx.Client, people: People) -> None:
    """Not even their names: who could set an owner's key would have the owner's requests sent to a place of theirs."""
    put(api, people.ids["owner"])
    for request, answer in every_request(api, people.ids["owner"], people.headers["admin"]).items():
        assert_problem(answer, 403, "FORBIDDEN")
        assert "openai" not in answer.text, request
    assert value_of(api, people.ids["owner"]) == VALUE


def test_a_gateway_fetches_what_its_callers_need(api: httpx.Client, ada: str) -> None:
    """Its key reveals the credentials of every user, and does nothing else with them."""
    gateway = user_of(api, "gateway")
    key = bearer(key_of(api, gateway, scopes=["tokens:introspect", "secrets:reveal"])["key"])
    for user in (ada, str(OWNER_ID)):
        put(api, user)
        answers = every_request(api, user, key)
        assert answers.pop("secrets:reveal reveal").json()["value"] == VALUE
        for answer in answers.values():
            assert_problem(answer, 403, "FORBIDDEN")
    (event, _) = events(api, action="secrets:reveal")
    assert (event["actor"], event["target"]) == (gateway, ada)


@uncached
def test_an_owner_alone_grants_a_reveal(api: httpx.Client, people: People) -> None:
    """An administrator does not get at values by way of a key for a service, nor by changing or succeeding one."""
    gateway = user_of(api, "gateway")
    keys = f"{USERS}/{gateway}/keys"
    reveal = {"name": "x", "scopes": ["secrets:reveal"]}
    key = key_of(api, gateway, **reveal)
    admin = people.headers["admin"]
    assert_problem(api.post(keys, json=reveal, headers=admin), 403, "FORBIDDEN")
    assert_problem(api.post(f"{keys}/{key['id']}/rotate", json={}, headers=admin), 403, "FORBIDDEN")
    assert_problem(api.put(f"{keys}/{key['id']}", json={"models": []}, headers=admin), 403, "FORBIDDEN")
    # Not even where an owner has given it to them to use.
    both = bearer(key_of(api, people.ids["admin"], scopes=["keys:write", "secrets:reveal"])["key"])
    assert_problem(api.post(keys, json=reveal, headers=both), 403, "FORBIDDEN")
    # A gateway renews its own key, and makes another one.
    renewed = api.post(f"{ME}/keys/{key['id']}/rotate", json={}, headers=bearer(key["key"]))
    assert renewed.status_code == 200
    assert api.post(f"{ME}/keys", json=reveal, headers=bearer(renewed.json()["key"])).status_code == 201
    assert_problem(api.post(f"{ME}/keys", json={"name": "x"} | reveal, headers=admin), 403, "FORBIDDEN")


@uncached
def test_a_person_does_not_keep_the_reveal_of_an_owner(api: httpx.Client, ada: str) -> None:
    """Who is an owner no more reveals nothing, also with a key that named the scope."""
    put(api, ada)
    boss = api.post(USERS, json={"tag": "boss", "email": "boss@example.com", "role": "owner"}).json()["id"]
    key = bearer(key_of(api, boss, scopes=["secrets:reveal"])["key"])
    assert revealed(api, ada, headers=key).status_code == 200
    api.put(f"{USERS}/{boss}", json={"role": "member"})
    assert_problem(revealed(api, ada, headers=key), 403, "FORBIDDEN")
    member = api.post(USERS, json={"tag": "human", "email": "human@example.com"}).json()["id"]
    body = {"name": "x", "scopes": [Scope.SECRETS_REVEAL.value]}
    assert_problem(api.post(f"{USERS}/{member}/keys", json=body), 400, "VALIDATION_ERROR")


@pytest.mark.config(REVEALS_PER_SECOND="1")
def test_reveals_have_a_limit_of_their_own(api: httpx.Client, ada: str) -> None:
    """Who has stolen a key empties no vault in a minute; other requests and other callers go on."""
    put(api, ada)
    gateway = bearer(key_of(api, user_of(api, "gateway"), scopes=["secrets:reveal"])["key"])
    answers = [revealed(api, ada) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(refused, 429, "RATE_LIMITED")
    assert refused.headers["Retry-After"] == "1"
    assert api.get(secrets_of(ada)).status_code == 200
    assert revealed(api, ada, headers=gateway).status_code == 200
    assert len(events(api, action="secrets:reveal")) == sum(answer.status_code == 200 for answer in answers) + 1


# Users who come and go


def test_nobody_gets_the_credentials_of_who_is_out(api: httpx.Client, ada: str) -> None:
    """Suspended: kept and not handed out. Deleted: not found. Both get them back as they were."""
    put(api, ada)
    path = f"{USERS}/{ada}"
    api.put(path, json={"status": "suspended"})
    assert_problem(revealed(api, ada), 409, "USER_SUSPENDED")
    assert put(api, ada, "second")["version"] == 1
    assert len(listed(api, ada)) == 2
    api.delete(path)
    requests = every_request(api, ada, {}) | {"reveal": revealed(api, ada)}
    for answer in requests.values():
        assert_problem(answer, 404, "USER_NOT_FOUND")
    api.put(path, json={"status": "active"})
    assert value_of(api, ada) == VALUE


def test_purge_takes_every_version_along(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """Erased is erased: no version of no credential is left, nor a reason in the log."""
    put(api, ada, value="one")
    put(api, ada, value="two")
    put(api, ada, "other")
    assert revealed(api, ada).status_code == 200
    (before,) = events(api, action="secrets:reveal")
    assert before["changes"]["reason"] == REASON["reason"]
    raw = str(sql.execute("SELECT e::text FROM audit_events AS e").fetchall())
    assert REASON["reason"] not in raw
    assert REASON["reason"].encode().hex() not in raw
    assert api.delete(f"{USERS}/{ada}", params={"purge": "true"}).status_code == 204
    assert rows(sql) == 0
    (after,) = events(api, action="secrets:reveal")
    assert after["changes"] == {"version": 2, "value": "***", "erased": True}
    assert_problem(revealed(api, ada), 404, "USER_NOT_FOUND")


def test_nobodys_credentials(api: httpx.Client) -> None:
    """A user who does not exist has none."""
    for answer in every_request(api, NOBODY, {}).values():
        assert_problem(answer, 404, "USER_NOT_FOUND")


# The log


def test_every_change_and_every_reveal_is_an_event(api: httpx.Client, ada: str) -> None:
    """Who set, fetched, restored and removed which version, and why it was fetched; never the value."""
    path = f"{secrets_of(ada)}/openai"
    put(api, ada)
    put(api, ada, value="another value, longer", provider="azure")
    revealed(api, ada)
    api.delete(path)
    api.post(f"{path}/restore", json={"version": 1})
    found = [(event["action"], event["changes"]) for event in events(api, target=ada)][1:]
    shown = {"secret": "openai", "value": "***"}
    assert found == [
        ("secrets:set", {**shown, "provider": "openai", "version": 1}),
        ("secrets:set", {**shown, "provider": "azure", "version": 2}),
        ("secrets:reveal", {**shown, "provider": "azure", "version": 2, "reason": "ticket 4711"}),
        ("secrets:remove", {**shown, "provider": "azure", "version": 2}),
        ("secrets:restore", {**shown, "provider": "openai", "version": 3, "from": 1}),
    ]


@pytest.mark.parametrize("action", ["set", "remove", "restore", "reveal"])
def test_without_its_event_nothing_happens(api: httpx.Client, ada: str, sql: psycopg.Connection, action: str) -> None:
    """Change and event are one; a value that no event tells of is not given out."""
    put(api, ada, value="one")
    put(api, ada)
    before = sql.execute("SELECT s::text FROM user_secrets AS s ORDER BY id").fetchall()
    sql.execute(f"ALTER TABLE audit_events ADD CONSTRAINT broken CHECK (action <> 'secrets:{action}') NOT VALID")
    path = f"{secrets_of(ada)}/openai"
    answer = {
        "set": lambda: api.put(path, json={"provider": "openai", "value": "x"}),
        "remove": lambda: api.delete(path),
        "restore": lambda: api.post(f"{path}/restore", json={"version": 1}),
        "reveal": lambda: revealed(api, ada),
    }[action]()
    sql.execute("ALTER TABLE audit_events DROP CONSTRAINT broken")
    assert_problem(answer, 500, "INTERNAL_ERROR")
    assert VALUE not in answer.text
    assert sql.execute("SELECT s::text FROM user_secrets AS s ORDER BY id").fetchall() == before


def test_reveals_write_the_use_once_a_minute(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """A credential that a gateway fetches for each of its requests is not written each time."""
    put(api, ada)
    version = "SELECT xmin::text, used_at FROM user_secrets"
    for _ in range(3):
        assert revealed(api, ada).status_code == 200
    first = sql.execute(version).fetchone()
    assert first
    assert first[1] is not None
    for _ in range(3):
        assert revealed(api, ada).status_code == 200
    assert sql.execute(version).fetchone() == first
    sql.execute("UPDATE user_secrets SET used_at = now() - interval '2 minutes'")
    revealed(api, ada)
    assert sql.execute("SELECT used_at > now() - interval '1 minute' FROM user_secrets").fetchone() == (True,)


def test_a_reveal_does_not_wait_for_a_change(api: httpx.Client, ada: str, sql: psycopg.Connection) -> None:
    """While somebody holds the row, as a rotation of the vault does, gateways go on."""
    put(api, ada)
    with sql.transaction():
        sql.execute("SELECT FROM user_secrets FOR UPDATE")
        assert value_of(api, ada) == VALUE
    assert listed(api, ada)[0]["usedAt"] is None


# Many at once


@pytest.fixture(scope="module")
def server(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with two processes."""
    folder = tmp_path_factory.mktemp("server")
    config = {"LOG_LEVEL": "WARNING", "REVEALS_PER_SECOND": "10000", **OFTEN}
    with own_database(postgres, folder, **config) as settings, serving(settings, folder) as client:
        yield client


def test_twenty_set_one_credential_at_once(server: httpx.Client) -> None:
    """Each is a version of its own, numbered without a gap, and one is in force."""
    user = user_of(server, "contested")
    made = together(20, lambda number: put(server, user, value=f"value {number}"))
    assert sorted(secret["version"] for secret in made) == list(range(1, 21))
    assert numbers(server, user) == list(range(20, 0, -1))
    (secret,) = listed(server, user)
    assert secret["version"] == 20
    (last,) = (number for number, secret in enumerate(made) if secret["version"] == 20)
    assert value_of(server, user) == f"value {last}"


def test_twenty_set_the_same_at_once(server: httpx.Client) -> None:
    """A deployment that sets its keys from every pod makes one version."""
    user = user_of(server, "the-same")
    assert {put(server, user)["version"] for _ in together(20, lambda _: put(server, user))} == {1}
    assert numbers(server, user) == [1]


def test_a_reveal_meets_one_version_whole(server: httpx.Client) -> None:
    """While the value changes a gateway gets the one or the other, never a mixture, an error or nothing."""
    user = user_of(server, "changing")
    put(server, user, value="a" * 60_000, provider="a")

    def act(number: int) -> list[httpx.Response]:
        if number < 4:
            letters = itertools.cycle("abcd"[number:] + "abcd"[:number])
            for letter in itertools.islice(letters, 15):
                put(server, user, value=letter * 60_000, provider=letter)
            return []
        return [revealed(server, user) for _ in range(30)]

    answers = list(itertools.chain.from_iterable(together(8, act)))
    assert len(answers) == 120
    for answer in answers:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["value"] == body["provider"] * 60_000


def test_set_removed_restored_and_revealed_at_once(server: httpx.Client) -> None:
    """No order of them is an internal error, and what is left is consistent."""
    user = user_of(server, "fought-over")
    path = f"{secrets_of(user)}/openai"
    put(server, user)

    def act(number: int) -> httpx.Response:
        match number % 4:
            case 0:
                return server.put(path, json={"provider": "openai", "value": f"value {number}"})
            case 1:
                return server.delete(path)
            case 2:
                return server.post(f"{path}/restore", json={"version": 1})
        return revealed(server, user)

    for answer in together(16, act):
        assert answer.status_code in {200, 201, 204, 404}, answer.text
    kept = numbers(server, user)
    assert kept == list(range(len(kept), 0, -1))
    assert len(listed(server, user)) <= 1


# A large table


def test_every_query_goes_by_an_index(ada: str, sql: psycopg.Connection) -> None:
    """With a hundred thousand versions a reveal reads one row, and a change some of its own name."""
    sql.execute(
        """
        INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words)
        SELECT gen_random_uuid(), 'u' || n, 'u', 'u', 'service', 'member', 'active', '{}', '{}', ''
        FROM generate_series(1, 5000) AS n
        """
    )
    sql.execute(
        r"""
        INSERT INTO user_secrets (id, user_id, name, version, provider, value, last_four, ended_at)
        SELECT gen_random_uuid(), users.id, 'n' || n, number, 'openai', '\x01010474657374', '',
               CASE number WHEN 1 THEN now() - n * interval '1 day' END
        FROM users, generate_series(1, 10) AS n, generate_series(1, 2) AS number
        """
    )
    sql.execute("VACUUM ANALYZE users, user_secrets")
    asked = {"user_id": ada, "name": "n1", "version": 1, "history": timedelta(days=9), "most": 0, "id": ada}
    values = asked | {"provider": "openai", "value": b"x", "last_four": "", "created_by": None}
    for name, query in _SQL.items():
        plan = str(sql.execute(f"EXPLAIN {query}", values).fetchall())
        assert "Seq Scan" not in plan, f"{name}: {plan}"
        assert "Index" in plan, name
