"""A demotion takes the scopes of a gateway from the user's keys; nothing but a new grant gives them back."""

from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask

from tests.conftest import OWNER_ID, assert_problem
from tests.integration.test_access import ME, bearer, events, key_of, uncached, user_of
from tests.integration.test_standing import REVEAL, SECRET, as_admin, cached
from tests.integration.test_transfer import client_of
from tests.serving import USERS

REASON = {"reason": "x"}
GATEWAY = ["secrets:reveal", "tokens:introspect"]


@pytest.fixture
def owners_secret(api: httpx.Client) -> None:
    """A credential of the first owner's, to be revealed."""
    assert api.put(f"{USERS}/{OWNER_ID}/secrets/openai", json=SECRET).status_code == 201


def scopes_of(api: httpx.Client, user: str) -> list[list[str] | None]:
    """The scopes of each key of a user, oldest first."""
    return [key["scopes"] for key in api.get(f"{USERS}/{user}/keys").json()["data"]]


@uncached
@pytest.mark.usefixtures("owners_secret")
def test_key_of_demoted_service_owner_reveals_nothing(api: httpx.Client) -> None:
    """A demoted owner would still read every credential, and make further keys that do."""
    eve = user_of(api, "eve", role="owner")
    key = key_of(api, eve, scopes=["users:read", *GATEWAY])
    headers = bearer(key["key"])
    assert api.post(REVEAL, json=REASON, headers=headers).status_code == 200
    assert api.put(f"{USERS}/{eve}", json={"role": "member"}).status_code == 200
    assert_problem(api.post(REVEAL, json=REASON, headers=headers), 403, "FORBIDDEN")
    for scope in GATEWAY:
        new = {"name": "x", "scopes": [scope]}
        assert_problem(api.post(f"{ME}/keys", json=new, headers=headers), 403, "FORBIDDEN")
    assert scopes_of(api, eve) == [["users:read"]]
    (event,) = events(api, target=eve, action="keys:update")
    before, after = ["users:read", *GATEWAY], ["users:read"]
    assert event["changes"] == {"key": key["id"], "scopes": {"before": before, "after": after}}


@cached
@pytest.mark.usefixtures("owners_secret")
def test_key_of_demoted_service_owner_reveals_nothing_at_once(api: httpx.Client) -> None:
    """A process that remembers the key would let it reveal for five seconds more."""
    eve = user_of(api, "eve", role="owner")
    headers = bearer(key_of(api, eve, scopes=GATEWAY)["key"])
    assert api.post(REVEAL, json=REASON, headers=headers).status_code == 200
    assert api.put(f"{USERS}/{eve}", json={"role": "member"}).status_code == 200
    assert api.post(REVEAL, json=REASON, headers=headers).status_code in {401, 403}


@uncached
@pytest.mark.parametrize(
    ("before", "change", "scopes", "kept"),
    [
        ({"role": "owner"}, {"role": "admin"}, ["users:read", *GATEWAY], ["tokens:introspect", "users:read"]),
        ({"role": "owner"}, {"role": "auditor"}, ["users:read", *GATEWAY], ["users:read"]),
        ({"role": "admin"}, {"role": "member"}, GATEWAY, []),
        ({"role": "admin"}, {"role": "auditor"}, GATEWAY, []),
        ({"role": "auditor"}, {"role": "member"}, GATEWAY, []),
        ({}, {"kind": "human", "email": "eve@example.com"}, GATEWAY, []),
        ({"role": "owner"}, {"role": "member", "kind": "human", "email": "eve@example.com"}, GATEWAY, []),
        ({}, {"role": "auditor"}, GATEWAY, GATEWAY),
        ({}, {"role": "admin"}, ["tokens:introspect"], ["tokens:introspect"]),
        ({"role": "owner"}, {"role": "member"}, None, None),
    ],
)
def test_change_of_role_or_kind_keeps_gateway_scopes_of_promotions_only(
    api: httpx.Client, before: dict[str, str], change: dict[str, str], scopes: list[str], kept: list[str]
) -> None:
    """A key keeps what its new role gives, and what it did while nothing was taken from its user."""
    user = user_of(api, "eve", **before)
    key_of(api, user, scopes=scopes)
    assert api.put(f"{USERS}/{user}", json=change).status_code == 200
    assert scopes_of(api, user) == [kept]


@uncached
@pytest.mark.usefixtures("owners_secret")
def test_unlimited_key_of_service_keeps_no_gateway_scope_as_auditor(api: httpx.Client) -> None:
    """A promotion writes down what a key did before: for an admin's service that is a gateway's work too."""
    user = user_of(api, "eve", role="admin")
    key = bearer(key_of(api, user)["key"])
    assert api.put(f"{USERS}/{user}", json={"role": "auditor"}).status_code == 200
    assert_problem(api.post("/ai/introspect", data={"token": "x"}, headers=key), 403, "FORBIDDEN")


@uncached
@pytest.mark.usefixtures("owners_secret")
@pytest.mark.parametrize("by", ["admin", "owner"])
def test_dormant_scope_of_person_does_not_wake_in_service(api: httpx.Client, sql: psycopg.Connection, by: str) -> None:
    """A person demoted by an earlier version kept the scope in their key: as a service's it would work again."""
    eve = api.post(USERS, json={"tag": "eve", "email": "eve@example.com", "role": "owner"}).json()["id"]
    headers = bearer(key_of(api, eve, scopes=GATEWAY)["key"])
    sql.execute("UPDATE users SET role = 'member' WHERE id = %s", [eve])
    changer = as_admin(api) if by == "admin" else {}
    assert api.put(f"{USERS}/{eve}", json={"kind": "service"}, headers=changer).status_code == 200
    assert_problem(api.post(REVEAL, json=REASON, headers=headers), 403, "FORBIDDEN")
    assert scopes_of(api, eve) == [[]]


@uncached
@pytest.mark.usefixtures("owners_secret")
def test_gateway_keeps_its_scopes_while_role_and_kind_stay(api: httpx.Client) -> None:
    """A gateway that is renamed, suspended, deleted and restored works on without a new grant."""
    gateway = user_of(api, "gateway")
    headers = bearer(key_of(api, gateway, scopes=GATEWAY)["key"])
    path = f"{USERS}/{gateway}"
    changes: list[dict[str, Any]] = [
        {"name": "Gateway", "models": ["*"], "attributes": {"a": 1}, "role": "member", "kind": "service"},
        {"status": "suspended"},
        {"status": "active"},
    ]
    for change in changes:
        assert api.put(path, json=change).status_code == 200
    assert api.delete(path).status_code == 204
    assert api.put(path, json={"status": "active"}).status_code == 200
    assert api.post(REVEAL, json=REASON, headers=headers).status_code == 200
    assert events(api, target=gateway, action="keys:update") == []


@uncached
@pytest.mark.usefixtures("owners_secret")
def test_owner_grants_gateway_scopes_again_after_demotion(api: httpx.Client) -> None:
    """A service that was an owner can become a gateway: an owner says so, and an admin cannot."""
    eve = user_of(api, "eve", role="owner")
    key = key_of(api, eve, scopes=GATEWAY)
    assert api.put(f"{USERS}/{eve}", json={"role": "member"}).status_code == 200
    path, grant = f"{USERS}/{eve}/keys/{key['id']}", {"scopes": ["secrets:reveal"]}
    assert_problem(api.put(path, json=grant, headers=as_admin(api)), 403, "FORBIDDEN")
    assert api.put(path, json=grant).status_code == 200
    assert api.post(REVEAL, json=REASON, headers=bearer(key["key"])).status_code == 200


@uncached
@pytest.mark.usefixtures("owners_secret")
def test_restored_owner_who_is_demoted_reveals_nothing(api: httpx.Client) -> None:
    """A restore with a lower role is a demotion like any other."""
    eve = user_of(api, "eve", role="owner")
    headers = bearer(key_of(api, eve, scopes=GATEWAY)["key"])
    assert api.delete(f"{USERS}/{eve}").status_code == 204
    assert api.put(f"{USERS}/{eve}", json={"status": "active", "role": "member"}).status_code == 200
    assert_problem(api.post(REVEAL, json=REASON, headers=headers), 403, "FORBIDDEN")


@uncached
def test_demotion_by_import_takes_gateway_scopes(server_app: Flask) -> None:
    """A file changes roles as a request does."""
    with client_of(server_app) as api:
        eve = user_of(api, "eve", role="owner")
        key_of(api, eve, scopes=GATEWAY)
        file = "tag,kind,role\neve,service,member\n"
        answer = api.post(f"{USERS}/import", content=file, headers={"Content-Type": "text/csv"})
        assert answer.json()["changed"] == 1
        assert scopes_of(api, eve) == [[]]
