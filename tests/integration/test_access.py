"""Who gets in, and who does not: the matrix of all routes, keys, roles, and the tricks to get around them."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import psycopg
import pytest
from flask import Blueprint

from ai_admin.access.guard import RouteWithoutEntry
from ai_admin.access.scopes import ROLE_SCOPES, Scope
from ai_admin.access.tokens import digest, is_key, make_key
from ai_admin.app import create_app
from ai_admin.config import Settings
from ai_admin.operations import operation_of
from ai_admin.users.schemas import Role
from tests.conftest import AS_OWNER, OWNER_ID, OWNER_KEY, assert_problem, assert_shielded
from tests.serving import USERS, together

NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
AUDIT = "/ai/admin/audit"
ALL_KEYS = "/ai/admin/keys"
ME = "/ai/me"
Headers = dict[str, str]

# Every route that is not public, and who may call it: a new route without a row here fails the tests.
READ_USERS = {"owner", "admin", "auditor"}
CHANGE_USERS = {"owner", "admin"}
EVERYBODY = {"owner", "admin", "auditor", "member"}
MATRIX: dict[tuple[str, str], set[str]] = {
    ("GET", USERS): READ_USERS,
    ("POST", USERS): CHANGE_USERS,
    ("GET", f"{USERS}/<UserID>"): READ_USERS,
    ("PUT", f"{USERS}/<UserID>"): CHANGE_USERS,
    ("DELETE", f"{USERS}/<UserID>"): CHANGE_USERS,
    ("GET", ALL_KEYS): CHANGE_USERS,
    ("POST", f"{ALL_KEYS}/report-leak"): CHANGE_USERS,
    ("GET", f"{USERS}/<UserID>/keys"): CHANGE_USERS,
    ("POST", f"{USERS}/<UserID>/keys"): CHANGE_USERS,
    ("PUT", f"{USERS}/<UserID>/keys/<KeyID>"): CHANGE_USERS,
    ("POST", f"{USERS}/<UserID>/keys/<KeyID>/rotate"): CHANGE_USERS,
    ("DELETE", f"{USERS}/<UserID>/keys/<KeyID>"): CHANGE_USERS,
    ("GET", f"{USERS}/<UserID>/secrets"): CHANGE_USERS,
    ("PUT", f"{USERS}/<UserID>/secrets/<Name>"): CHANGE_USERS,
    ("DELETE", f"{USERS}/<UserID>/secrets/<Name>"): CHANGE_USERS,
    ("POST", f"{USERS}/<UserID>/secrets/<Name>/reveal"): {"owner"},
    ("GET", f"{USERS}/<UserID>/secrets/<Name>/versions"): CHANGE_USERS,
    ("POST", f"{USERS}/<UserID>/secrets/<Name>/restore"): CHANGE_USERS,
    ("GET", AUDIT): {"owner", "auditor"},
    ("POST", "/ai/introspect"): CHANGE_USERS,
    ("GET", "/ai/authorize"): EVERYBODY,
    ("GET", ME): EVERYBODY,
    ("GET", f"{ME}/keys"): EVERYBODY,
    ("POST", f"{ME}/keys"): EVERYBODY,
    ("PUT", f"{ME}/keys/<KeyID>"): EVERYBODY,
    ("POST", f"{ME}/keys/<KeyID>/rotate"): EVERYBODY,
    ("DELETE", f"{ME}/keys/<KeyID>"): EVERYBODY,
}
CASES = [(method, path) for method, path in MATRIX]
uncached = pytest.mark.config(CREDENTIAL_CACHE_S="0", LOG_LEVEL="WARNING")


@dataclass
class People:
    """One active user of each role, each with a key."""

    ids: dict[str, str]
    headers: dict[str, Headers]


def bearer(key: str) -> Headers:
    """The header that presents a key."""
    return {"Authorization": f"Bearer {key}"}


def user_of(api: httpx.Client, tag: str, **members: object) -> str:
    """The id of a new service."""
    answer = api.post(USERS, json={"tag": tag, "kind": "service", **members})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def key_of(api: httpx.Client, user: str, **members: object) -> dict[str, Any]:
    """A new key of a user."""
    answer = api.post(f"{USERS}/{user}/keys", json={"name": "test", **members})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
def people(api: httpx.Client) -> People:
    """One active user of each role."""
    ids = {role.value: user_of(api, f"one-{role.value}", role=role.value) for role in Role}
    return People(ids, {role: bearer(key_of(api, user)["key"]) for role, user in ids.items()})


def call(api: httpx.Client, method: str, path: str, headers: Headers | None) -> httpx.Response:
    """Call a route on users and keys that do not exist, with a body that is no use."""
    url = path.replace("<UserID>", NOBODY).replace("<KeyID>", NOBODY).replace("<Name>", "x")
    bare = httpx.Client(transport=api._transport, base_url=api.base_url)
    return bare.request(method, url, headers=headers, json={} if method in {"POST", "PUT"} else None)


# The matrix


def test_every_route_has_its_row(settings: Settings) -> None:
    """A route that nobody has thought about is one that anybody may call."""
    app = create_app(settings)
    guarded = set()
    for rule in app.url_map.iter_rules():
        operation = operation_of(app, rule.endpoint)
        assert operation is not None
        if operation.entry != "public":
            guarded |= {(method, rule.rule) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert guarded == set(MATRIX)


def test_a_route_that_does_not_say_who_may_call_it_stops_the_start(settings: Settings) -> None:
    """Deny is the default, also for what a developer forgets."""
    extra = Blueprint("extra", __name__)
    extra.add_url_rule("/extra", view_func=lambda: "open")
    with pytest.raises(RouteWithoutEntry, match="/extra"):
        create_app(settings, [extra])


BAD: dict[str, Headers | None] = {
    "none": None,
    "empty": {"Authorization": ""},
    "scheme alone": {"Authorization": "Bearer"},
    "other scheme": {"Authorization": f"Basic {OWNER_KEY}"},
    "no scheme": {"Authorization": OWNER_KEY},
    "unknown key": bearer(make_key()),
    "wrong checksum": bearer(OWNER_KEY[:-1] + ("0" if OWNER_KEY[-1] != "0" else "1")),
    "digest for key": bearer(digest(OWNER_KEY).hex()),
    "last four": bearer(OWNER_KEY[-4:]),
    "two keys": bearer(f"{OWNER_KEY} {OWNER_KEY}"),
    "list": bearer(f"{OWNER_KEY}, Bearer {OWNER_KEY}"),
    "none token": bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJvd25lciJ9."),
    "other header": {"X-Api-Key": OWNER_KEY, "Cookie": f"key={OWNER_KEY}"},
}


@pytest.mark.parametrize("credential", BAD.values(), ids=BAD)
def test_without_a_valid_credential_nobody_gets_in(api: httpx.Client, credential: Headers | None) -> None:
    """401 on every route, with the header that says how to sign in; the user's id makes no difference."""
    for method, path in CASES:
        answer = call(api, method, path, credential)
        assert_problem(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@uncached
@pytest.mark.parametrize(
    "end",
    [
        "UPDATE users SET status = 'suspended' WHERE tag = 'gone'",
        "UPDATE users SET status = 'deleted', deleted_at = now() WHERE tag = 'gone'",
        "DELETE FROM users WHERE tag = 'gone'",
        "UPDATE api_keys SET expires_at = now() WHERE name = 'gone'",
        "DELETE FROM api_keys WHERE name = 'gone'",
    ],
)
def test_who_is_out_is_out_everywhere(api: httpx.Client, sql: psycopg.Connection, end: str) -> None:
    """Suspended, deleted, purged, expired, revoked: 401 on every route, an owner's too."""
    gone = bearer(key_of(api, user_of(api, "gone", role="owner"), name="gone")["key"])
    assert call(api, "GET", USERS, gone).status_code == 200
    sql.execute(end)
    for method, path in CASES:
        assert_problem(call(api, method, path, gone), 401, "UNAUTHENTICATED")


def test_each_role_may_do_what_the_table_says(api: httpx.Client, people: People) -> None:
    """Who may not gets the same 403 for a user who exists and for one who does not."""
    for (method, path), allowed in MATRIX.items():
        for role, headers in people.headers.items():
            answer = call(api, method, path, headers)
            if role in allowed:
                assert answer.status_code not in {401, 403}, (method, path, role, answer.text)
            else:
                assert_problem(answer, 403, "FORBIDDEN")
                assert re.search(r"the scope \w+:\w+", answer.json()["detail"])
    for role in ("member",):
        known = api.get(f"{USERS}/{people.ids['admin']}", headers=people.headers[role])
        unknown = api.get(f"{USERS}/{NOBODY}", headers=people.headers[role])
        assert {**known.json(), "requestId": ""} == {**unknown.json(), "requestId": ""}


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_does_no_more_than_its_scopes(api: httpx.Client, settings: Settings, scope: Scope) -> None:
    """An owner's key with one scope opens the routes of that scope, and no other."""
    key = bearer(key_of(api, str(OWNER_ID), scopes=[scope.value])["key"])
    app = create_app(settings)
    for rule in app.url_map.iter_rules():
        operation = operation_of(app, rule.endpoint)
        assert operation
        for method in {"GET", "POST", "PUT", "DELETE"} & (rule.methods or set()):
            opened = call(api, method, rule.rule, key).status_code not in {401, 403}
            expected = operation.entry in {scope, "signed-in", "public"}
            # Revoking and making keys for oneself asks for as much as the key would have.
            if rule.rule.startswith(f"{ME}/keys") and method != "GET":
                continue
            assert opened == expected, (method, rule.rule)


# Nobody rises


def test_nobody_gives_what_they_lack(api: httpx.Client, people: People) -> None:
    """An admin makes no owner and no auditor, raises nobody to them, themselves included, and keys follow suit."""
    admin = people.headers["admin"]
    for role in ("owner", "auditor"):
        new = {"tag": f"x-{role}", "kind": "service", "role": role}
        assert_problem(api.post(USERS, json=new, headers=admin), 403, "FORBIDDEN")
        for user in (people.ids["member"], people.ids["admin"]):
            assert_problem(api.put(f"{USERS}/{user}", json={"role": role}, headers=admin), 403, "FORBIDDEN")
    assert (
        api.post(USERS, json={"tag": "x-admin", "kind": "service", "role": "admin"}, headers=admin).status_code == 201
    )
    keys = f"{USERS}/{people.ids['auditor']}/keys"
    assert_problem(api.post(keys, json={"name": "x"}, headers=admin), 403, "FORBIDDEN")


def test_an_owner_is_out_of_an_admins_reach(api: httpx.Client, people: People) -> None:
    """No change, no removal, and no key that would be the owner's."""
    owner, admin = f"{USERS}/{people.ids['owner']}", people.headers["admin"]
    key = api.get(f"{owner}/keys").json()["data"][0]["id"]
    for answer in (
        api.put(owner, json={"name": "x"}, headers=admin),
        api.put(owner, json={"email": "mine@example.com"}, headers=admin),
        api.put(owner, json={"status": "suspended"}, headers=admin),
        api.put(owner, json={"role": "member"}, headers=admin),
        api.delete(owner, headers=admin),
        api.delete(owner, params={"purge": "true"}, headers=admin),
        api.post(f"{owner}/keys", json={"name": "x", "scopes": []}, headers=admin),
        api.put(f"{owner}/keys/{key}", json={"name": "x"}, headers=admin),
        api.delete(f"{owner}/keys/{key}", headers=admin),
    ):
        assert_problem(answer, 403, "FORBIDDEN")
    assert api.get(owner).json()["version"] == 1


def test_a_narrow_key_makes_no_wider_one(api: httpx.Client) -> None:
    """Whoever finds an owner's key with one scope cannot turn it into all of them, nor end the others."""
    narrow = bearer(key_of(api, str(OWNER_ID), scopes=["users:read"], models=["a*"])["key"])
    wide = api.get(f"{ME}/keys").json()["data"][0]["id"]
    mine = api.get(f"{ME}/keys").json()["data"][-1]["id"]
    for body in (
        {"name": "x"},
        {"name": "x", "scopes": ["users:write"], "models": ["a*"]},
        {"name": "x", "scopes": ["users:read"]},
        {"name": "x", "scopes": ["users:read"], "models": ["*"]},
    ):
        assert_problem(api.post(f"{ME}/keys", json=body, headers=narrow), 403, "FORBIDDEN")
    for change in ({"scopes": None}, {"scopes": ["users:read", "audit:read"]}, {"models": None}):
        assert_problem(api.put(f"{ME}/keys/{mine}", json=change, headers=narrow), 403, "FORBIDDEN")
    assert_problem(api.delete(f"{ME}/keys/{wide}", headers=narrow), 403, "FORBIDDEN")
    same = {"name": "x", "scopes": ["users:read"], "models": ["a*"]}
    assert api.post(f"{ME}/keys", json=same, headers=narrow).status_code == 201
    assert api.delete(f"{ME}/keys/{mine}", headers=narrow).status_code == 204


def test_a_key_makes_none_that_outlives_it(api: httpx.Client) -> None:
    """A key for an hour that leaks is a key for an hour."""
    end = datetime.now(timezone.utc) + timedelta(hours=1)
    short = bearer(key_of(api, str(OWNER_ID), expiresAt=end.isoformat())["key"])
    for later in (None, (end + timedelta(seconds=1)).isoformat()):
        assert_problem(api.post(f"{ME}/keys", json={"name": "x", "expiresAt": later}, headers=short), 403, "FORBIDDEN")
    assert api.post(f"{ME}/keys", json={"name": "x", "expiresAt": end.isoformat()}, headers=short).status_code == 201


@pytest.mark.parametrize("member", ["id", "version", "createdAt", "deletedAt", "auditKey", "audit_key", "scopes"])
def test_no_member_is_set_that_is_not_offered(api: httpx.Client, member: str) -> None:
    """Mass assignment: what a body may say is a closed list."""
    body = {"tag": "x", "kind": "service", member: "x"}
    assert_problem(api.post(USERS, json=body), 400, "VALIDATION_ERROR")
    assert_problem(api.put(f"{USERS}/{OWNER_ID}", json={member: "x"}), 400, "VALIDATION_ERROR")
    key = {"name": "x", "digest": "x", "createdBy": NOBODY, "key": OWNER_KEY, "userId": NOBODY}
    for name in key.keys() - {"name"}:
        body = {"name": "x", name: key[name]}
        assert_problem(api.post(f"{ME}/keys", json=body), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "header", ["X-Fission-Params-UserID", "X-Fission-Full-Url", "X-Forwarded-User", "X-Original-URL", "X-HTTP-Method"]
)
def test_headers_of_routers_give_nothing(api: httpx.Client, people: People, header: str) -> None:
    """Who forges what a router would set is who they were before."""
    forged = people.headers["member"] | {header: f"{USERS}/{people.ids['owner']}"}
    assert_problem(api.get(USERS, headers=forged), 403, "FORBIDDEN")
    assert api.get(ME, headers=forged).json()["id"] == people.ids["member"]


# The last owner


def remove_an_owner(api: httpx.Client, path: str) -> list[Callable[[], httpx.Response]]:
    """Each way in which an owner can be lost."""
    return [
        lambda: api.put(path, json={"status": "suspended"}),
        lambda: api.put(path, json={"role": "admin"}),
        lambda: api.delete(path),
        lambda: api.delete(path, params={"purge": "true"}),
    ]


def test_the_last_owner_stays(api: httpx.Client) -> None:
    """Without an owner nobody could ever make one again."""
    for remove in remove_an_owner(api, f"{USERS}/{OWNER_ID}"):
        assert_problem(remove(), 409, "LAST_OWNER")
    second = user_of(api, "second", role="owner")
    suspended = user_of(api, "third", role="owner", status="suspended")
    assert api.delete(f"{USERS}/{suspended}", params={"purge": "true"}).status_code == 204
    assert api.put(f"{USERS}/{second}", json={"role": "member"}).status_code == 200
    assert_problem(api.put(f"{USERS}/{OWNER_ID}", json={"role": "member"}), 409, "LAST_OWNER")


@uncached
def test_the_last_owner_stays_in_a_race(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Ten owners who are removed all at once: one is left, whoever it is."""
    owners = [str(OWNER_ID), *(user_of(api, f"owner-{number}", role="owner") for number in range(9))]
    keys = {owner: bearer(key_of(api, owner)["key"]) for owner in owners}

    def remove(number: int) -> int:
        return api.put(f"{USERS}/{owners[number]}", json={"role": "member"}, headers=keys[owners[number]]).status_code

    answers = together(10, remove)
    assert sorted(answers) == [200] * 9 + [409]
    assert sql.execute("SELECT count(*) FROM users WHERE role = 'owner' AND status = 'active'").fetchone() == (1,)


# Keys


def test_a_key_is_shown_once_and_kept_as_a_digest(api: httpx.Client, sql: psycopg.Connection) -> None:
    """open-webui keeps keys as they are. Here a dump of every table holds none that works."""
    user = user_of(api, "holder")
    answer = api.post(f"{USERS}/{user}/keys", json={"name": "CI"})
    made = answer.json()
    assert is_key(made["key"])
    assert answer.headers["Cache-Control"] == "no-store"
    assert made["lastFour"] == made["key"][-4:]
    (listed,) = api.get(f"{USERS}/{user}/keys").json()["data"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    dump = ""
    for (table,) in sql.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
        dump += str(sql.execute(f'SELECT t::text FROM "{table}" AS t').fetchall())
    assert made["key"] not in dump
    assert made["key"][4:30] not in dump
    assert digest(made["key"]).hex() in dump


def test_keys_have_a_form_that_scanners_find_and_typos_miss() -> None:
    """A fixed prefix, and a checksum that any changed character breaks."""
    key = make_key()
    assert re.fullmatch(r"aia_[0-9A-Za-z]{49}", key)
    assert len({make_key() for _ in range(1000)}) == 1000
    for place in range(4, len(key)):
        other = "a" if key[place] != "a" else "b"
        assert not is_key(key[:place] + other + key[place + 1 :])
    for wrong in (key[:-1], key + "a", key.upper(), f" {key}", f"{key}\n", "", "aia_"):
        assert not is_key(wrong)


def test_a_user_has_at_most_a_hundred_keys(api: httpx.Client, sql: psycopg.Connection) -> None:
    """authentik #21570: an answer without a bound. A list of keys has one."""
    user = user_of(api, "collector")
    sql.execute(
        """INSERT INTO api_keys (id, user_id, digest, name, last_four)
           SELECT gen_random_uuid(), %s, sha256(n::text::bytea), n::text, '0000' FROM generate_series(1, 100) AS n""",
        [user],
    )
    assert_problem(api.post(f"{USERS}/{user}/keys", json={"name": "x"}), 409, "TOO_MANY_KEYS")


def test_keys_are_changed_and_revoked(api: httpx.Client) -> None:
    """The members that are sent change; a revoked key is gone, and another user's is not found."""
    user, other = user_of(api, "one"), user_of(api, "other")
    key = key_of(api, user, models=["a*"])
    path = f"{USERS}/{user}/keys/{key['id']}"
    changed = api.put(path, json={"name": "renamed"}).json()
    assert (changed["name"], changed["models"]) == ("renamed", ["a*"])
    assert api.put(path, json={"models": None}).json()["models"] is None
    for method in ("PUT", "DELETE"):
        answer = api.request(method, f"{USERS}/{other}/keys/{key['id']}", json={} if method == "PUT" else None)
        assert_problem(answer, 404, "KEY_NOT_FOUND")
    assert api.delete(path).status_code == 204
    assert_problem(api.delete(path), 404, "KEY_NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": ["users:read"]},
        {"name": "x", "expiresAt": "2020-01-01T00:00:00Z"},
        {"name": "x", "expiresAt": "2030-01-01"},
        {"name": "x", "overlapSeconds": 60},
        {"name": "x", "models": ["\u0000"]},
    ],
)
def test_keys_that_cannot_be_made(api: httpx.Client, body: dict[str, object]) -> None:
    """A clear 400 that names the member, and nothing is made."""
    user = user_of(api, "member")
    assert_problem(api.post(f"{USERS}/{user}/keys", json=body), 400, "VALIDATION_ERROR")
    assert api.get(f"{USERS}/{user}/keys").json()["data"] == []


def test_last_use_costs_no_write_per_request(api: httpx.Client, sql: psycopg.Connection) -> None:
    """One write a minute a key, however many requests there are."""
    key = key_of(api, user_of(api, "busy"))
    version = "SELECT xmin::text, last_used_at FROM api_keys WHERE id = %s"
    for _ in range(5):
        assert api.get(ME, headers=bearer(key["key"])).status_code == 200
    first = sql.execute(version, [key["id"]]).fetchone()
    assert first
    assert first[1] is not None
    for _ in range(5):
        api.get(ME, headers=bearer(key["key"]))
    assert sql.execute(version, [key["id"]]).fetchone() == first


@pytest.mark.config(CREDENTIAL_CACHE_S="1")
def test_a_cache_does_not_bring_a_revoked_key_back(api: httpx.Client, sql: psycopg.Connection) -> None:
    """litellm #25553, #35535: what a process remembers ends by itself, however often the key is used meanwhile."""
    user = user_of(api, "cached")
    key = key_of(api, user)
    assert api.get(ME, headers=bearer(key["key"])).status_code == 200
    sql.execute("UPDATE users SET status = 'suspended' WHERE id = %s", [user])
    deadline = time.monotonic() + 5
    while api.get(ME, headers=bearer(key["key"])).status_code == 200:
        assert time.monotonic() < deadline, "the cache goes on for more than five seconds"
        time.sleep(0.05)
    assert_problem(api.get(ME, headers=bearer(key["key"])), 401, "UNAUTHENTICATED")


@pytest.mark.config(RATE_PER_SECOND="5")
def test_one_caller_cannot_take_everything(api: httpx.Client) -> None:
    """Who asks too often is told to wait, and the others are answered."""
    other = bearer(key_of(api, user_of(api, "other"))["key"])
    answers = [api.get(ME) for _ in range(40)]
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(refused, 429, "RATE_LIMITED")
    assert refused.headers["Retry-After"] == "1"
    assert api.get(ME, headers=other).status_code == 200


def test_cursors_and_idempotency_keys_are_of_one_caller(api: httpx.Client, people: People) -> None:
    """Another's cursor opens nothing, and another's idempotency key replays nothing."""
    cursor = api.get(USERS, params={"size": "1"}).json()["nextCursor"]
    query = {"size": "1", "cursor": cursor}
    assert api.get(USERS, params=query).status_code == 200
    assert_problem(api.get(USERS, params=query, headers=people.headers["admin"]), 400, "VALIDATION_ERROR")
    first = api.post(USERS, json={"tag": "a", "kind": "service"}, headers={"Idempotency-Key": "k"})
    other = api.post(
        USERS, json={"tag": "b", "kind": "service"}, headers={"Idempotency-Key": "k", **people.headers["admin"]}
    )
    assert (first.status_code, other.status_code) == (201, 201)


# The log


def events(api: httpx.Client, **query: str) -> list[dict[str, Any]]:
    """Events, oldest first."""
    answer = api.get(AUDIT, params={"sort": "at", "size": "200", **query})
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def test_every_change_is_an_event_with_before_and_after(api: httpx.Client) -> None:
    """litellm writes its log after the change, and swallows what goes wrong. Here the event is in its transaction."""
    ada = {"tag": "ada", "email": "ada@example.com", "name": "Ada"}
    created = api.post(USERS, json=ada, headers={"X-Fission-Request-ID": "request-1"})
    path = created.headers["Location"]
    user = created.json()["id"]
    api.put(path, json={"role": "auditor", "name": "Ada King"})
    api.put(path, json={"role": "auditor"})
    api.put(path, json={"status": "suspended"})
    api.put(path, json={"status": "active"})
    api.delete(path)
    api.put(path, json={"status": "active"})
    key = key_of(api, user, scopes=["users:read"])
    api.put(f"{path}/keys/{key['id']}", json={"name": "renamed"})
    api.delete(f"{path}/keys/{key['id']}")
    found = events(api, target=user)
    assert [event["action"] for event in found] == [
        "users:create", "users:update", "users:suspend", "users:activate", "users:delete", "users:restore",
        "keys:create", "keys:update", "keys:revoke",
    ]  # fmt: skip
    first, second = found[:2]
    assert first["changes"]["email"] == {"before": None, "after": "ada@example.com"}
    assert (first["requestId"], first["actor"], first["source"]) == ("request-1", str(OWNER_ID), "127.0.0.1")
    assert second["changes"] == {
        "role": {"before": "member", "after": "auditor"},
        "name": {"before": "Ada", "after": "Ada King"},
    }
    assert key["key"] not in str(found)
    assert str(digest(key["key"])) not in str(found)


def test_every_refusal_is_an_event(api: httpx.Client, people: People) -> None:
    """Who tried, what, and why it was refused; also where nobody knows who it was."""
    api.get(USERS, headers=people.headers["member"])
    api.get(USERS, headers=bearer(make_key()))
    known, unknown = events(api, action="access:refuse")
    assert (known["actor"], known["changes"]["route"], known["changes"]["status"]) == (
        people.ids["member"],
        USERS,
        403,
    )
    assert "users:read" in known["changes"]["reason"]
    assert (unknown["actor"], unknown["changes"]["reason"], unknown["source"]) == (None, "unknown key", "127.0.0.1")


def test_a_change_that_fails_leaves_no_event_and_one_without_an_event_fails(
    api: httpx.Client, sql: psycopg.Connection
) -> None:
    """Change and event are one: neither is there without the other."""
    user_of(api, "taken")
    before = len(events(api))
    assert api.post(USERS, json={"tag": "taken", "kind": "service"}).status_code == 409
    assert len(events(api)) == before
    sql.execute("ALTER TABLE audit_events ADD CONSTRAINT broken CHECK (action <> 'users:create') NOT VALID")
    answer = api.post(USERS, json={"tag": "unlogged", "kind": "service"})
    # A server's tests share a database.
    sql.execute("ALTER TABLE audit_events DROP CONSTRAINT broken")
    assert_problem(answer, 500, "INTERNAL_ERROR")
    assert api.get(USERS, params={"tag": "unlogged", "count": "none"}).json()["data"] == []


@pytest.mark.parametrize("statement", ["UPDATE {} SET at = now()", "DELETE FROM {}", "TRUNCATE {}"])
def test_nobody_changes_the_log(settings: Settings, api: httpx.Client, statement: str) -> None:
    """keycloak #52199: administrators could delete events. The database refuses it to the service itself."""
    user_of(api, "logged")
    secret = settings.secret
    with psycopg.connect(host=secret.pg_host, dbname=secret.pg_database, user=secret.pg_user, autocommit=True) as own:
        for table in ("audit_events", "audit_seals"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                own.execute(
                    statement.format(table).replace("at =", "at =" if table == "audit_events" else "sealed_at =")
                )
    assert len(events(api)) >= 1


def test_purge_leaves_events_that_tell_nothing(api: httpx.Client, sql: psycopg.Connection) -> None:
    """What is left in the log no longer identifies the person, nor the address they came from."""
    ada = {"tag": "ada-to-go", "email": "ada-to-go@example.com", "name": "Ada Togo", "role": "admin"}
    user = api.post(USERS, json=ada | {"attributes": {"badge": "b-4711"}}).json()["id"]
    as_ada = bearer(key_of(api, user)["key"])
    api.post(USERS, json={"tag": "by-ada", "kind": "service"}, headers=as_ada)
    assert api.delete(f"{USERS}/{user}", params={"purge": "true"}).status_code == 204
    left = events(api, target=user)
    assert [event["action"] for event in left] == ["users:create", "keys:create", "users:purge"]
    assert left[0]["changes"]["erased"] is True
    assert "ada-to-go" not in str(events(api))
    (done,) = events(api, actor=user)
    assert (done["action"], done["source"]) == ("users:create", None)
    raw = str(sql.execute("SELECT e::text FROM audit_events AS e").fetchall())
    for value in ("ada-to-go", "Togo", "b-4711"):
        assert value not in raw
        assert value.encode().hex() not in raw


def test_paging_the_log(api: httpx.Client) -> None:
    """Every event once, newest first or oldest first, with filters, by cursors."""
    for number in range(7):
        user_of(api, f"u{number}")
    everything = events(api)
    found: list[dict[str, Any]] = []
    query = {"size": "3"}
    while True:
        page = api.get(AUDIT, params=query).json()
        found += page["data"]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert [event["id"] for event in found] == [event["id"] for event in reversed(everything)]
    assert events(api, actor=str(OWNER_ID), action="users:create") == everything
    assert events(api, actor=NOBODY) == []
    middle = everything[3]["at"]
    assert [event["at"] for event in events(api, **{"at[gt]": middle})] == [event["at"] for event in everything[4:]]
    for bad in ({"action": "users:dance"}, {"actor": "x"}, {"q": "x"}, {"cursor": "x"}, {"size": "0"}):
        assert_problem(api.get(AUDIT, params=bad), 400, "VALIDATION_ERROR")


def test_roles_are_as_the_document_says() -> None:
    """One table of roles: the one in the code."""
    assert {role.value: sorted(scope.value for scope in ROLE_SCOPES[role]) for role in Role} == {
        "owner": sorted(scope.value for scope in Scope),
        "admin": [
            "keys:read",
            "keys:write",
            "secrets:read",
            "secrets:write",
            "tokens:introspect",
            "users:read",
            "users:write",
        ],
        "auditor": ["audit:read", "users:read"],
        "member": [],
    }


def test_the_owners_key_is_what_tests_use(api: httpx.Client) -> None:
    """So that a test of all others cannot pass because nobody is asked for anything."""
    assert api.headers["Authorization"] == AS_OWNER["Authorization"]
    assert api.get(ME).json()["id"] == str(OWNER_ID)


@pytest.fixture(autouse=True)
def _no_refusals_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of refusals a second are normal here."""
    monkeypatch.setattr("ai_admin.app._RECORDED_REFUSALS", 10_000)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", USERS, 200), ("GET", f"{USERS}/{OWNER_ID}", 200), ("GET", ME, 200), ("GET", AUDIT, 200),
     ("GET", "/ai/authorize", 204), ("OPTIONS", USERS, 204)],
)  # fmt: skip
def test_answers_stay_with_their_caller(api: httpx.Client, method: str, path: str, status: int) -> None:
    """A directory of people must not lie in a browser's cache, nor be framed, nor be taken for a page."""
    response = api.request(method, path, headers=AS_OWNER)
    assert response.status_code == status
    assert_shielded(response)
