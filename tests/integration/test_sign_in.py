"""Signing in with a token of the organisation's identity provider: who gets in as whom, and who never does."""

import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ai_admin.access import identity, principals
from ai_admin.config import Settings
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.users.schemas import Role
from tests.conftest import OWNER_ID, ROOT, assert_problem
from tests.identity_provider import (
    AUDIENCE,
    ED,
    ISSUER,
    RSA,
    RSA_OTHER,
    SIGNERS,
    Handler,
    Provider,
    b64,
    claims,
    jwk,
    token,
    unsigned,
)
from tests.identity_provider import serving as serving_keys
from tests.integration.test_access import AUDIT, MATRIX, ME, Headers, bearer, call, events, key_of, user_of
from tests.integration.test_introspection import AUTHORIZE, INTROSPECT
from tests.integration.test_standing import held_up
from tests.serving import USERS, own_database, together

ADA = {"tag": "ada", "email": "Ada@Example.com", "name": "Ada Lovelace"}
VERIFIED = {"email": "ada@example.com", "email_verified": True}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider with a key of each kind."""
    # On a busy machine three seconds are not long.
    monkeypatch.setattr(identity, "_TIMEOUT_S", 20.0)
    with serving_keys(Provider()) as provider:
        yield provider


def provider_settings(url: str) -> dict[str, str]:
    """The ConfigMap's values that name the provider."""
    return {"OIDC_ISSUER": ISSUER, "OIDC_AUDIENCE": AUDIENCE, "OIDC_JWKS_URL": url}


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, tmp_path: Path, provider: Provider
) -> Iterator[Settings]:
    """Settings that lead to an empty migrated database, and to the provider."""
    marker = request.node.get_closest_marker("config")
    config = {"LOG_LEVEL": "WARNING", **provider_settings(provider.url), **(marker.kwargs if marker else {})}
    with own_database(postgres, tmp_path, **config) as settings:
        yield settings


def of_now(**changes: Any) -> dict[str, Any]:
    """Claims of a good token of `ada`, but for the changes."""
    now = int(time.time())
    return claims(**{"iat": now, "exp": now + 300, **changes})


def as_token(**changes: Any) -> Headers:
    """The header that presents such a token."""
    return bearer(token(of_now(**changes)))


def person(api: httpx.Client, **members: object) -> str:
    """The id of a new human, Ada unless it is said otherwise."""
    answer = api.post(USERS, json=ADA | members)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def bind(sql: psycopg.Connection, user: object, subject: str = "ada") -> None:
    """Bind a subject as an operator does."""
    sql.execute("INSERT INTO identities (issuer, subject, user_id) VALUES (%s, %s, %s)", [ISSUER, subject, user])


def bindings(sql: psycopg.Connection) -> list[tuple[str, str, str]]:
    """All that is bound."""
    return sql.execute("SELECT issuer, subject, user_id::text FROM identities ORDER BY subject").fetchall()


# Who gets in


@pytest.mark.parametrize("alg", SIGNERS)
def test_a_bound_subject_is_its_user(api: httpx.Client, sql: psycopg.Connection, alg: str) -> None:
    """People use the API as themselves, and the log names them without a key."""
    user = person(api, role="admin")
    bind(sql, user)
    ada = bearer(token(of_now(), alg=alg))
    assert api.get(ME, headers=ada).json()["id"] == user
    made = api.post(USERS, json={"tag": "by-ada", "kind": "service"}, headers=ada).json()["id"]
    (event,) = events(api, target=made)
    assert (event["actor"], event["key"], event["source"]) == (user, None, "127.0.0.1")


def test_each_role_may_do_what_the_table_says(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A token gives what the role gives, on every route, as a key without limits does."""
    callers = {}
    for role in Role:
        bind(sql, user_of(api, f"one-{role.value}", role=role.value), role.value)
        callers[role.value] = as_token(sub=role.value, scope="users:read users:write")
    for (method, path), allowed in MATRIX.items():
        for role_name, headers in callers.items():
            answer = call(api, method, path, headers)
            if role_name in allowed:
                assert answer.status_code not in {401, 403}, (method, path, role_name, answer.text)
            else:
                assert_problem(answer, 403, "FORBIDDEN")


def test_several_audiences(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A token for several services counts if our own client got it, and no stranger's."""
    bind(sql, OWNER_ID)
    assert api.get(ME, headers=as_token(aud=[AUDIENCE, "account"], azp=AUDIENCE)).status_code == 200
    assert api.get(ME, headers=as_token(aud=[AUDIENCE, "account"], azp="console")).status_code == 401


@pytest.mark.config(OIDC_AUTHORIZED_PARTIES="console cli")
def test_authorized_parties(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Keycloak names the audience `account` beside ours: the clients that get such tokens are a setting."""
    bind(sql, OWNER_ID)
    for party, status in (("console", 200), ("cli", 200), ("console cli", 401), ("stranger", 401)):
        answer = api.get(ME, headers=as_token(aud=[AUDIENCE, "account"], azp=party))
        assert answer.status_code == status


def test_who_signs_in_makes_keys(api: httpx.Client) -> None:
    """A token is the way to a first key, which outlives it."""
    person(api)
    made = api.post(f"{ME}/keys", json={"name": "laptop"}, headers=as_token(**VERIFIED))
    assert made.status_code == 201
    assert api.get(ME, headers=bearer(made.json()["key"])).json()["tag"] == "ada"


# Who is refused


def forged(secret: bytes, **header: object) -> str:
    """A token that an HMAC signs."""
    signed = unsigned({"alg": "HS256", "kid": "RS256", "typ": "JWT", **header}, of_now())
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def raw(payload: bytes) -> str:
    """A token whose claims are these bytes, well signed."""
    return token(payload)


def written(name: str, value: bytes) -> bytes:
    """Good claims with one that is written in this way."""
    return json.dumps(of_now(**{name: "?"})).encode().replace(b'"?"', value)


def flipped(place: int) -> str:
    """A good token in which one bit of a part is another."""
    parts = token(of_now(), alg="ES256").split(".")
    middle = len(parts[place]) // 2
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = letters[letters.index(parts[place][middle]) ^ 1]
    parts[place] = parts[place][:middle] + other + parts[place][middle + 1 :]
    return ".".join(parts)


PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
STRANGER = ed25519.Ed25519PrivateKey.generate()
HOUR = 3600
REFUSED: dict[str, Callable[[], str]] = {
    "no signature": lambda: unsigned({"alg": "EdDSA", "kid": "EdDSA"}, of_now()) + ".",
    "two parts": lambda: unsigned({"alg": "EdDSA", "kid": "EdDSA"}, of_now()),
    "none": lambda: unsigned({"alg": "none"}, of_now()) + ".",
    "nOnE": lambda: unsigned({"alg": "nOnE", "kid": "EdDSA"}, of_now()) + ".AA",
    "HS256 with the public key": lambda: forged(PEM),
    "HS256 with the published key": lambda: forged(json.dumps(jwk(RSA)).encode()),
    "HS256 with nothing": lambda: forged(b""),
    "RS256 that is HS256": lambda: forged(PEM, alg="RS256"),
    "another algorithm of the key": lambda: token(of_now(), {"alg": "RS512"}, alg="RS256"),
    "the key of another algorithm": lambda: token(of_now(), {"kid": "ES256"}),
    "another provider's key": lambda: token(of_now(), by=STRANGER),
    "another provider's key of its own": lambda: token(of_now(), {"kid": "other"}, by=STRANGER),
    "jwk": lambda: token(of_now(), {"jwk": jwk(RSA_OTHER)}, alg="RS256", by=RSA_OTHER),
    "jwk of the provider": lambda: token(of_now(), {"jwk": jwk(ED)}),
    "jku": lambda: token(of_now(), {"jku": "https://evil.example/keys"}),
    "x5u": lambda: token(of_now(), {"x5u": "https://evil.example/cert"}),
    "x5c": lambda: token(of_now(), {"x5c": ["MIIB"]}),
    "crit": lambda: token(of_now(), {"crit": ["exp"]}),
    "b64": lambda: token(of_now(), {"b64": False}),
    "kid unknown": lambda: token(of_now(), {"kid": "unknown"}),
    "kid absent": lambda: token(of_now(), {"kid": ...}),
    "kid that is a path": lambda: token(of_now(), {"kid": "../../dev/null"}),
    "kid that is SQL": lambda: token(of_now(), {"kid": "' OR '1'='1"}),
    "typ of a logout token": lambda: token(of_now(), {"typ": "logout+jwt"}),
    "iss absent": lambda: token(of_now(iss=...)),
    "iss of another": lambda: token(of_now(iss="https://evil.example")),
    "iss with a slash more": lambda: token(of_now(iss=ISSUER + "/")),
    "iss list": lambda: token(of_now(iss=[ISSUER])),
    "aud absent": lambda: token(of_now(aud=...)),
    "aud of another": lambda: token(of_now(aud="other")),
    "aud in capitals": lambda: token(of_now(aud=AUDIENCE.upper())),
    "aud empty": lambda: token(of_now(aud=[])),
    "exp absent": lambda: token(of_now(exp=...)),
    "exp past": lambda: token(of_now(exp=int(time.time()) - HOUR)),
    "exp just past, within the leeway of clocks": lambda: token(of_now(exp=int(time.time()) - 1)),
    "exp text": lambda: token(of_now(exp=str(int(time.time()) + HOUR))),
    "exp null": lambda: token(of_now(exp=None)),
    "exp of no year": lambda: token(of_now(exp=10**30)),
    "exp infinite": lambda: raw(written("exp", b"1e999")),
    "nbf to come": lambda: token(of_now(nbf=int(time.time()) + HOUR)),
    "iat to come": lambda: token(of_now(iat=int(time.time()) + HOUR)),
    "sub absent": lambda: token(of_now(sub=...)),
    "sub empty": lambda: token(of_now(sub="")),
    "sub number": lambda: token(of_now(sub=1)),
    "sub with NUL": lambda: token(of_now(sub="ada\x00")),
    "sub with a line break": lambda: token(of_now(sub="ada\n")),
    "sub in another case": lambda: token(of_now(sub="ADA")),
    "sub with a space": lambda: token(of_now(sub="ada ")),
    "sub twice": lambda: raw(json.dumps(of_now(sub="x")).encode()[:-1] + b', "sub": "ada"}'),
    "sub twice, escaped": lambda: raw(json.dumps(of_now()).encode()[:-1] + b', "s\\u0075b": "ada"}'),
    "cnf": lambda: token(of_now(cnf={"jkt": "x"})),
    "nested": lambda: raw(written("x", b"[" * 4500)),
    "nested objects": lambda: raw(written("x", b'{"a":' * 900)),
    "long number": lambda: raw(written("x", b"9" * 5000)),
    "NaN": lambda: raw(written("x", b"NaN")),
    "list": lambda: raw(b"[]"),
    "a token in a token": lambda: raw(token(of_now()).encode()),
    "oversized": lambda: token(of_now(x="x" * 9000)),
    "bit of the header": lambda: flipped(0),
    "bit of the claims": lambda: flipped(1),
    "bit of the signature": lambda: flipped(2),
    "signature of another token": lambda: (
        token(of_now(sub="x")).rpartition(".")[0] + "." + token(of_now()).split(".")[2]
    ),
    "claims in two alphabets": lambda: token(of_now()).replace(".", ".+", 1),
    "padded": lambda: token(of_now()) + "==",
    "five parts": lambda: token(of_now()) + ".AA.AA",
    "twice": lambda: f"{token(of_now())} {token(of_now())}",
}


@pytest.mark.config(CREDENTIAL_CACHE_S="0")
@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_a_token_that_proves_nothing_opens_nothing(
    api: httpx.Client, sql: psycopg.Connection, make: Callable[[], str]
) -> None:
    """Though the subject is an owner's: 401, the same for all, and for a gateway no more than `active: false`."""
    bind(sql, OWNER_ID)
    assert api.get(ME, headers=as_token()).status_code == 200
    bad = make()
    answer = api.get(ME, headers=bearer(bad))
    assert_problem(answer, 401, "UNAUTHENTICATED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    without = api.get(ME, headers={"Authorization": ""})
    assert {**answer.json(), "requestId": ""} == {**without.json(), "requestId": ""}
    if len(bad) <= identity.LONGEST_TOKEN:
        assert api.post(INTROSPECT, data={"token": bad}).json() == {"active": False}
    refused = api.get(AUDIT, params={"action": "access:refuse"})
    assert refused.json()["data"][-1]["changes"]["reason"]
    assert not [part for part in bad.split(".") if len(part) > 8 and part in refused.text]


def test_every_route_refuses_a_bad_token(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Nor does any other route."""
    bind(sql, OWNER_ID)
    for method, path in MATRIX:
        assert_problem(call(api, method, path, bearer(flipped(2))), 401, "UNAUTHENTICATED")


def test_no_key_is_fetched_from_where_a_token_says(api: httpx.Client, provider: Provider) -> None:
    """A token that names an address cannot make the service call it."""
    with serving_keys(Provider()) as attacker:
        attacker.keys = [jwk(RSA_OTHER)]
        for header in ({"jku": attacker.url}, {"x5u": attacker.url}, {"kid": attacker.url}):
            forgery = token(of_now(iss=attacker.url), header, alg="RS256", by=RSA_OTHER)
            assert api.get(ME, headers=bearer(forgery)).status_code == 401
        assert attacker.hits == 0
    assert provider.hits <= 2


@pytest.mark.config(LOG_LEVEL="DEBUG")
def test_a_token_is_kept_nowhere(api: httpx.Client, sql: psycopg.Connection, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the database nor the log holds one that another could present, nor the signature of one."""
    person(api)
    shown = [token(of_now(**VERIFIED)), token(of_now(sub="x")), flipped(2)]
    for one in shown:
        api.get(ME, headers=bearer(one))
        api.post(INTROSPECT, data={"token": one})
    captured = capfd.readouterr()
    dump = captured.out + captured.err
    for (table,) in sql.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
        dump += str(sql.execute(f'SELECT t::text FROM "{table}" AS t').fetchall())
    assert "ada@example.com" in dump.lower()
    for one in shown:
        assert not [part for part in one.split(".")[1:] if part in dump]


# Binding by email


def test_a_verified_email_binds_once(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Whoever the directory knows by address signs in at once; from then on the subject alone counts."""
    user = person(api)
    first = as_token(email="ADA@example.COM", email_verified=True)
    assert api.get(ME, headers=first).json()["id"] == user
    assert bindings(sql) == [(ISSUER, "ada", user)]
    (event,) = events(api, action="identities:bind")
    assert (event["actor"], event["target"], event["key"]) == (user, user, None)
    assert event["changes"] == {"identity": {"before": None, "after": {"issuer": ISSUER, "subject": "ada"}}}
    assert api.put(f"{USERS}/{user}", json={"email": "countess@example.com"}).status_code == 200
    assert api.get(ME, headers=as_token()).json()["id"] == user
    assert api.get(ME, headers=as_token(email="other@example.com", email_verified=True)).json()["id"] == user
    second = as_token(sub="second", email="countess@example.com", email_verified=True)
    assert_problem(api.get(ME, headers=second), 401, "UNAUTHENTICATED")
    assert bindings(sql) == [(ISSUER, "ada", user)]


@pytest.mark.parametrize("subjects", [["ada"] * 20, [f"ada-{number}" for number in range(20)]], ids=["same", "others"])
def test_a_race_binds_once(api: httpx.Client, sql: psycopg.Connection, subjects: list[str]) -> None:
    """Twenty requests at once: one subject gets the user, whose every request is answered, and no other does."""
    user = person(api)
    headers = [as_token(sub=subject, **VERIFIED) for subject in subjects]
    answers = together(20, lambda number: api.get(ME, headers=headers[number]).status_code)
    ((_, winner, bound_to),) = bindings(sql)
    assert bound_to == user
    assert [status == 200 for status in answers] == [subject == winner for subject in subjects]
    assert set(answers) <= {200, 401}
    assert len(events(api, action="identities:bind")) == 1


@pytest.mark.parametrize(
    "change", ["role = 'admin'", "status = 'suspended'", "email = 'other@example.com'"], ids=["role", "status", "email"]
)
def test_first_sign_in_during_change_of_user_binds_nobody(
    api: httpx.Client, sql: psycopg.Connection, change: str
) -> None:
    """A subject that waits for a promotion would otherwise sign in as the new admin by its address."""
    user, headers = person(api), as_token(**VERIFIED)
    with held_up(sql, lambda: api.get(ME, headers=headers)) as (answers, go):
        sql.execute(f"UPDATE users SET {change} WHERE id = %s", [user])
        go()
    assert_problem(answers[0], 401, "UNAUTHENTICATED")
    assert bindings(sql) == []


UNBINDABLE: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "owner": ({"role": "owner"}, VERIFIED),
    "admin": ({"role": "admin"}, VERIFIED),
    "suspended": ({"status": "suspended"}, VERIFIED),
    "nobody of this address": ({"email": "other@example.com"}, VERIFIED),
    "not verified": ({}, {**VERIFIED, "email_verified": False}),
    "verified in words": ({}, {**VERIFIED, "email_verified": "true"}),
    "verified as a number": ({}, {**VERIFIED, "email_verified": 1}),
    "nothing said of verification": ({}, {"email": VERIFIED["email"]}),
    "no email": ({}, {"email_verified": True}),
    "list of emails": ({}, {"email": [VERIFIED["email"]], "email_verified": True}),
    "look-alike": ({"email": "kelvin@example.com"}, {"email": "\u212aelvin@example.com", "email_verified": True}),
    "with a space": ({}, {"email": "ada@example.com ", "email_verified": True}),
    "pattern": ({}, {"email": "%@example.com", "email_verified": True}),
    "tag": ({"kind": "service", "email": None}, {"email": "ada", "email_verified": True}),
}


@pytest.mark.parametrize(("members", "said"), UNBINDABLE.values(), ids=UNBINDABLE)
def test_who_is_not_bound_by_email(
    api: httpx.Client, sql: psycopg.Connection, members: dict[str, object], said: dict[str, object]
) -> None:
    """Whoever runs the provider's mail domain does not become an owner here; the answer tells nothing of the reason."""
    person(api, **members)
    answer = api.get(ME, headers=as_token(**said))
    assert_problem(answer, 401, "UNAUTHENTICATED")
    unknown = api.get(ME, headers=as_token(sub="x", email="nobody@example.com", email_verified=True))
    assert {**answer.json(), "requestId": ""} == {**unknown.json(), "requestId": ""}
    assert bindings(sql) == []
    assert {event["changes"]["reason"] for event in events(api, action="access:refuse")} == {"subject of no user"}


def test_nobody_rises_by_anothers_email(api: httpx.Client, sql: psycopg.Connection) -> None:
    """An admin, who may not read the log, does not become the auditor by giving them another address."""
    auditor, member = person(api, role="auditor"), person(api, tag="m", email="m@example.com")
    admin = bearer(key_of(api, user_of(api, "admin", role="admin"))["key"])
    change = {"email": "mine@example.com"}
    assert_problem(api.put(f"{USERS}/{auditor}", json=change, headers=admin), 403, "FORBIDDEN")
    assert api.put(f"{USERS}/{auditor}", json={"name": "Ada King"}, headers=admin).status_code == 200
    assert api.put(f"{USERS}/{member}", json=change, headers=admin).status_code == 200
    assert api.put(f"{USERS}/{auditor}", json={"email": "countess@example.com"}).status_code == 200
    assert bindings(sql) == []


@pytest.mark.config(CREDENTIAL_CACHE_S="0")
@pytest.mark.parametrize("role", ["owner", "admin", "auditor"])
def test_a_lent_address_signs_nobody_in_who_is_promoted(api: httpx.Client, sql: psycopg.Connection, role: str) -> None:
    """An admin gives a member their own address, signs in, and gives the address back before the promotion."""
    admin = bearer(key_of(api, user_of(api, "admin", role="admin"))["key"])
    member = person(api, tag="m", email="m@example.com")
    path, attacker = f"{USERS}/{member}", as_token(sub="attacker", **VERIFIED)
    assert api.put(path, json={"email": VERIFIED["email"]}, headers=admin).status_code == 200
    assert api.get(ME, headers=attacker).json()["id"] == member
    assert api.put(path, json={"email": "m@example.com"}, headers=admin).status_code == 200
    assert api.put(path, json={"role": role}).status_code == 200
    assert_problem(api.get(ME, headers=attacker), 401, "UNAUTHENTICATED")
    (event,) = events(api, action="identities:unbind", target=member)
    assert event["changes"]["identity"]["before"]["subject"] == "attacker"
    assert bindings(sql) == []


def test_who_signs_in_by_their_address_or_an_operators_word_does_so_after_a_promotion(
    api: httpx.Client, sql: psycopg.Connection
) -> None:
    """A promotion is no reason to lock somebody out."""
    ada, bob = person(api), person(api, tag="bob", email="bob@example.com")
    assert api.get(ME, headers=as_token(**VERIFIED)).json()["id"] == ada
    bind(sql, bob, "bob")
    assert api.put(f"{USERS}/{bob}", json={"email": "robert@example.com"}).status_code == 200
    for user, subject in ((ada, "ada"), (bob, "bob")):
        assert api.put(f"{USERS}/{user}", json={"role": "owner"}).status_code == 200
        assert api.get(ME, headers=as_token(sub=subject)).json()["id"] == user


@pytest.mark.parametrize("purge", ["false", "true"])
def test_who_was_deleted_is_not_bound(api: httpx.Client, sql: psycopg.Connection, purge: str) -> None:
    """A deleted user's address brings nobody in."""
    assert api.delete(f"{USERS}/{person(api)}", params={"purge": purge}).status_code == 204
    assert_problem(api.get(ME, headers=as_token(**VERIFIED)), 401, "UNAUTHENTICATED")
    assert bindings(sql) == []


def test_purge_takes_the_subject_along(api: httpx.Client, sql: psycopg.Connection) -> None:
    """What is left in the log no longer says who it was, and the address may be bound anew."""
    user = person(api)
    subject = "5f3c-subject-of-ada"
    assert api.get(ME, headers=as_token(sub=subject, **VERIFIED)).status_code == 200
    assert api.delete(f"{USERS}/{user}", params={"purge": "true"}).status_code == 204
    assert bindings(sql) == []
    (event,) = events(api, action="identities:bind")
    assert event["changes"] == {"erased": True}
    left = str(sql.execute("SELECT e::text FROM audit_events AS e").fetchall())
    assert subject not in left
    assert subject.encode().hex() not in left


@pytest.mark.config(CREDENTIAL_CACHE_S="0")
@pytest.mark.parametrize(
    "end",
    [
        "UPDATE users SET status = 'suspended' WHERE tag = 'ada'",
        "UPDATE users SET status = 'deleted', deleted_at = now(), updated_at = now() WHERE tag = 'ada'",
        "DELETE FROM users WHERE tag = 'ada'",
        "DELETE FROM identities",
    ],
)
def test_who_is_out_is_out_everywhere(api: httpx.Client, sql: psycopg.Connection, end: str) -> None:
    """A token that the provider has given for hours to come ends here with its user."""
    bind(sql, person(api, role="owner"))
    ada = as_token(exp=int(time.time()) + HOUR)
    assert api.get(USERS, headers=ada).status_code == 200
    sql.execute(end.encode())
    for method, path in MATRIX:
        assert_problem(call(api, method, path, ada), 401, "UNAUTHENTICATED")


@pytest.mark.config(CREDENTIAL_CACHE_S="1")
def test_a_suspended_user_is_out_within_seconds(api: httpx.Client, sql: psycopg.Connection) -> None:
    """What a process remembers of a token ends by itself, however often it is used meanwhile."""
    user = person(api)
    ada = as_token(**VERIFIED)
    assert api.get(ME, headers=ada).status_code == 200
    sql.execute("UPDATE users SET status = 'suspended' WHERE id = %s", [user])
    deadline = time.monotonic() + 5
    while api.get(ME, headers=ada).status_code == 200:
        assert time.monotonic() < deadline, "the cache goes on for more than five seconds"
        time.sleep(0.05)
    assert_problem(api.get(ME, headers=ada), 401, "UNAUTHENTICATED")


@pytest.mark.in_process
@pytest.mark.config(CREDENTIAL_CACHE_S="5")
def test_an_unbound_subject_changes_nothing_more(api: httpx.Client, sql: psycopg.Connection) -> None:
    """What a process remembers is good for reading: it was the wrong person, and would make a key to stay."""
    user = person(api, role="owner")
    assert api.put(f"{USERS}/{user}/secrets/openai", json={"provider": "openai", "value": "sk-x"}).is_success
    for subject in ("right", "wrong"):
        bind(sql, user, subject)
    right, wrong = as_token(sub="right"), as_token(sub="wrong")
    for headers in (right, wrong):
        assert api.get(ME, headers=headers).status_code == 200
    sql.execute("DELETE FROM identities WHERE subject = 'wrong'")
    for path, body in (
        (f"{USERS}/{user}/secrets/openai/reveal", {"reason": "x"}),
        (f"{ME}/keys", {"name": "to stay"}),
        (USERS, {"tag": "new", "kind": "service"}),
    ):
        assert_problem(api.post(path, json=body, headers=wrong), 401, "UNAUTHENTICATED")
        assert api.post(path, json=body, headers=right).is_success


@pytest.mark.in_process
@pytest.mark.config(CREDENTIAL_CACHE_S="5")
def test_what_is_remembered_ends_with_the_token(
    api: httpx.Client, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache does not go on with a token that has expired meanwhile."""
    bind(sql, OWNER_ID)
    ada = as_token()
    assert api.get(ME, headers=ada).status_code == 200

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=301)

    monkeypatch.setattr(principals, "datetime", Later)
    assert_problem(api.get(ME, headers=ada), 401, "UNAUTHENTICATED")
    assert api.get(ME).status_code == 200


# The provider comes and goes


def away(request: Handler) -> None:
    """Answer as a provider that is down."""
    request.send(b"", 503)


def test_a_provider_that_is_away_holds_up_nobody_with_a_key(api: httpx.Client, provider: Provider) -> None:
    """503 with Retry-After for tokens, which nobody can judge, also from introspection; keys work as ever."""
    provider.answer = away
    refused = api.get(ME, headers=as_token())
    asked = api.post(INTROSPECT, data={"token": token(of_now())})
    for answer in (refused, asked):
        assert_problem(answer, 503, "IDENTITY_PROVIDER_UNAVAILABLE")
        assert answer.headers["Retry-After"] == "5"
    assert api.get(ME).status_code == 200
    assert provider.hits <= 2
    assert_problem(api.get(ME, headers=bearer("not.a.token")), 401, "UNAUTHENTICATED")


@pytest.mark.in_process
def test_a_provider_comes_back(
    api: httpx.Client, sql: psycopg.Connection, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart."""
    bind(sql, OWNER_ID)
    provider.answer = away
    assert api.get(ME, headers=as_token()).status_code == 503
    monkeypatch.setattr(identity, "_PAUSE_WITHOUT_KEYS_S", 0)
    provider.answer = provider.publish
    assert api.get(ME, headers=as_token()).status_code == 200


@pytest.mark.in_process
@pytest.mark.config(CREDENTIAL_CACHE_S="0")
def test_known_keys_outlast_an_outage(api: httpx.Client, sql: psycopg.Connection, provider: Provider) -> None:
    """While the provider is down for a minute, who has a token works on."""
    bind(sql, OWNER_ID)
    assert api.get(ME, headers=as_token()).status_code == 200
    provider.answer = away
    assert api.get(ME, headers=as_token(jti="another")).status_code == 200
    assert api.get(ME, headers=bearer(token(of_now(), {"kid": "new"}))).status_code == 401
    assert api.get(ME, headers=as_token(jti="a third")).status_code == 200
    assert provider.hits == 1


def test_tokens_do_not_flood_the_provider(api: httpx.Client, provider: Provider) -> None:
    """Whoever invents key ids makes the service ask the provider once a minute, and not once a token."""
    for number in range(40):
        answer = api.get(ME, headers=bearer(token(of_now(), {"kid": f"invented-{number}"})))
        assert_problem(answer, 401, "UNAUTHENTICATED")
    # By each of two processes at most.
    assert provider.hits <= 2


@pytest.mark.in_process
@pytest.mark.config(CREDENTIAL_CACHE_S="0")
def test_new_keys_are_taken_up(
    api: httpx.Client, sql: psycopg.Connection, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider changes its keys whenever it likes; the old one ends with the set that no longer has it."""
    monkeypatch.setattr(identity, "_PAUSE_S", 0)
    bind(sql, OWNER_ID)
    old, new = token(of_now()), token(of_now(), {"kid": "new"}, by=STRANGER)
    assert api.get(ME, headers=bearer(old)).status_code == 200
    assert api.get(ME, headers=bearer(new)).status_code == 401
    provider.keys = [jwk(STRANGER, kid="new")]
    assert api.get(ME, headers=bearer(new)).status_code == 200
    assert api.get(ME, headers=bearer(old)).status_code == 401


# What gateways learn


def test_a_gateway_asks_about_a_token(api: httpx.Client) -> None:
    """A person's token is described as their key would be, but for limits that it does not have."""
    user = person(api, models=["gpt-5*"], role="auditor")
    gateway_user = user_of(api, "gateway")
    key = key_of(api, gateway_user, scopes=["tokens:introspect"])
    claimed = of_now(**VERIFIED)
    question = {"token": token(claimed), "model": "gpt-5-mini"}
    answer = api.post(INTROSPECT, data=question, headers=bearer(key["key"]))
    assert answer.json() == {
        "active": True,
        "sub": user,
        "scope": "audit:read users:read",
        "token_type": "Bearer",
        "tag": "ada",
        "kind": "human",
        "models": ["gpt-5*"],
        "exp": claimed["exp"],
        "modelAllowed": True,
    }
    (event,) = events(api, action="identities:bind")
    assert (event["actor"], event["key"], event["target"]) == (gateway_user, key["id"], user)
    for model, status in (("gpt-5", 204), ("other", 403)):
        assert api.get(AUTHORIZE, params={"model": model}, headers=as_token()).status_code == status
    stranger = {"token": token(of_now(sub="stranger"))}
    assert api.post(INTROSPECT, data=stranger, headers=bearer(key["key"])).json() == {"active": False}


# What is not paid for

# The modules of a process that answers a request: before a token comes, and after.
_LOADED = """
import sys
from ai_admin.app import create_app
client = create_app().test_client()
for token in sys.argv[1:]:
    status = client.get("/ai/me", headers={"Authorization": f"Bearer {token}"}).status_code
    print(status, "joserfc" in sys.modules)
"""


@pytest.mark.parametrize("configured", [True, False])
def test_libraries_are_loaded_for_the_first_token(
    postgres: EmbeddedPostgres, tmp_path: Path, provider: Provider, configured: bool
) -> None:
    """A cold start with an API key does not wait for them; without a provider no token is looked at."""
    config = provider_settings(provider.url) if configured else {}
    with own_database(postgres, tmp_path, LOG_LEVEL="ERROR", **config) as settings:
        done = subprocess.run(
            [sys.executable, "-c", _LOADED, "not-a-token", token(of_now())],
            env={"PYTHONPATH": str(ROOT / "apps"), "AI_ADMIN_ROOT": str(settings.root)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.split() == ["401", "False", "401", str(configured)]
    assert provider.hits == configured
