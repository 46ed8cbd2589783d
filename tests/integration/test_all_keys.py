"""The list of all users' keys, and the revocation of a leaked key by its text."""

import html
import json
import random
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import psycopg
import pytest
from uuid_utils.compat import uuid7

from ai_admin.access.tokens import digest, make_key
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.keys.schemas import KeyOrder
from tests.conftest import OWNER_ID, OWNER_KEY, assert_problem
from tests.integration.test_access import ALL_KEYS, ME, People, bearer, events, key_of, people, uncached, user_of
from tests.integration.test_console import Browser, browser, owner
from tests.integration.test_key_rotation import HOUR, later, path_of, rotate
from tests.integration.test_standing import as_admin, held_up

__all__ = ["browser", "owner", "people"]
LEAK = f"{ALL_KEYS}/report-leak"
NUMBER = 103
SORTS = [order.value for order in KeyOrder]


def listed(api: httpx.Client, size: int = 200, headers: dict[str, str] | None = None, **query: Any) -> list[Any]:
    """The keys of the list, over all pages."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        answer = api.get(ALL_KEYS, params={**query, "size": str(size), **cursor}, headers=headers)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        if answer.json()["nextCursor"] is None:
            return found
        cursor = {"cursor": answer.json()["nextCursor"]}


def report(api: httpx.Client, key: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Report a key as leaked."""
    return api.post(LEAK, json={"key": key}, headers=headers)


@pytest.fixture
def keys(api: httpx.Client, sql: psycopg.Connection) -> list[dict[str, Any]]:
    """Keys of ten users: of each time there are several, and many have no end and no use."""
    chance = random.Random(8)
    users = [user_of(api, f"user-{number}") for number in range(10)]
    rows = []
    for number in range(NUMBER):
        times = [f"2026-0{chance.randrange(1, 8)}-01T00:00:00+00:00" for _ in range(3)]
        scopes = chance.choice([None, [], ["users:read"], ["keys:read", "secrets:reveal"]])
        rows.append(
            {
                "id": str(uuid7()),
                "user_id": chance.choice(users),
                "digest": digest(f"key {number}").hex(),
                "scopes": scopes,
                "created_at": times[0],
                "expires_at": times[1].replace("2026", chance.choice(["2025", "2099"])) if number % 3 else None,
                "last_used_at": times[2] if number % 4 else None,
            }
        )
    chance.shuffle(rows)
    sql.execute(
        """INSERT INTO api_keys (id, user_id, digest, name, last_four, scopes, created_at, expires_at, last_used_at)
           SELECT id, user_id, decode(digest, 'hex'), 'k', '0000', scopes, created_at, expires_at, last_used_at
           FROM jsonb_to_recordset(%s) AS row (id uuid, user_id uuid, digest text, scopes text[],
                created_at timestamptz, expires_at timestamptz, last_used_at timestamptz)""",
        [json.dumps(rows)],
    )
    return rows


def in_order(keys: list[dict[str, Any]], sort: str) -> list[str]:
    """The ids of keys in an order of the list."""
    column, missing = {
        "createdAt": ("created_at", ""),
        "expiresAt": ("expires_at", "9999"),
        "lastUsedAt": ("last_used_at", "0000"),
    }[sort.lstrip("-")]
    chosen = sorted(keys, key=lambda key: (key[column] or missing, key["id"]), reverse=sort.startswith("-"))
    return [key["id"] for key in chosen]


# The list


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("size", [1, 7, 50, NUMBER, 200])
def test_list_of_all_keys_is_in_order_and_whole(
    api: httpx.Client, keys: list[dict[str, Any]], sort: str, size: int
) -> None:
    """An administrator who walks the pages would miss the key that ends tomorrow, or see others twice."""
    found = [key["id"] for key in listed(api, size, sort=sort) if key["id"] != str(OWNER_ID)]
    assert found == in_order(keys, sort)


def test_filters_of_all_keys_find_what_they_say(api: httpx.Client, keys: list[dict[str, Any]]) -> None:
    """The review before an audit asks for keys by their end, their last use, their scope and their user."""
    user = keys[0]["user_id"]
    some = "2026-04-01T00:00:00+00:00"
    cases: dict[str, Any] = {
        f"user={user}": lambda key: key["user_id"] == user,
        f"user={user}&user={OWNER_ID}": lambda key: key["user_id"] == user,
        "neverExpires=true": lambda key: key["expires_at"] is None,
        "neverExpires=false": lambda key: key["expires_at"] is not None,
        "neverUsed=true": lambda key: key["last_used_at"] is None,
        "neverUsed=false": lambda key: key["last_used_at"] is not None,
        "state=expired": lambda key: (key["expires_at"] or "9999") < "2026-10",
        "state=active": lambda key: (key["expires_at"] or "9999") > "2026-10",
        "expiresAt[lt]=2025-04-01T00:00:00Z": lambda key: (key["expires_at"] or "9999") < "2025-04-01",
        "expiresAt[gte]=2099-04-01T00:00:00Z": lambda key: (key["expires_at"] or "9999") > "2099-03-30",
        "expiresAt[gte]=2099-04-01T00:00:00Z&neverExpires=false": lambda key: (key["expires_at"] or "") > "2099-03-30",
        "lastUsedAt[lte]=2026-04-01T00:00:00Z": lambda key: (key["last_used_at"] or "") <= some,
        "lastUsedAt[lt]=2026-04-01T00:00:00Z&neverUsed=false": lambda key: "" < (key["last_used_at"] or "") < some,
        "createdAt[gt]=2026-04-01T00:00:00Z": lambda key: key["created_at"] > some,
        "scope=users:read": lambda key: key["scopes"] == ["users:read"],
        "scope=secrets:reveal&scope=users:read": lambda key: key["scopes"] not in (None, []),
        f"user={user}&neverUsed=true&state=active&scope=secrets:reveal": lambda key: (
            key["user_id"] == user
            and key["last_used_at"] is None
            and (key["expires_at"] or "9999") > "2026-10"
            and "secrets:reveal" in (key["scopes"] or ())
        ),
    }
    for query, holds in cases.items():
        for sort in SORTS:
            answer = api.get(f"{ALL_KEYS}?{query}&sort={sort}&size=200").json()["data"]
            found = [key["id"] for key in answer if key["id"] != str(OWNER_ID)]
            assert found == in_order([key for key in keys if holds(key)], sort), (query, sort)
    for bad in ("scope=x", "user=x", "state=x", "neverUsed=1", "sort=name", "expiresAt[lt]=2025-01-01", "x=1"):
        assert_problem(api.get(f"{ALL_KEYS}?{bad}"), 400, "VALIDATION_ERROR")


def test_scope_filter_finds_keys_that_have_the_scope_by_their_role(api: httpx.Client) -> None:
    """A key without limits is the strongest of all, and names no scope."""
    auditor, member = user_of(api, "auditor", role="auditor"), user_of(api, "member")
    unlimited, limited = key_of(api, auditor), key_of(api, auditor, scopes=["users:read"])
    key_of(api, member)
    found = {key["id"] for key in listed(api, scope="audit:read")}
    assert found == {unlimited["id"], str(OWNER_ID)}
    assert {key["id"] for key in listed(api, scope="users:read")} == {unlimited["id"], limited["id"], str(OWNER_ID)}


def test_list_of_all_keys_shows_each_caller_what_they_may_see(api: httpx.Client, people: People) -> None:
    """An admin sees nothing of an owner's, and a key without users:read no tags."""
    owners = {str(OWNER_ID), people.ids["owner"]}
    everybody = listed(api)
    assert {key["userId"] for key in everybody} == {*owners, *people.ids.values()}
    assert {key["userTag"] for key in everybody} == {"zz-owner", *(f"one-{role}" for role in people.ids)}
    of_admin = listed(api, headers=people.headers["admin"])
    assert {key["userId"] for key in of_admin} == {*people.ids.values()} - owners
    asked: dict[str, Any] = {"user": people.ids["owner"], "scope": "audit:read"}
    assert listed(api, headers=people.headers["admin"], **asked) == []
    assert listed(api, headers=people.headers["admin"], scope="audit:read")[0]["userId"] == people.ids["auditor"]
    narrow = bearer(key_of(api, str(OWNER_ID), scopes=["keys:read"])["key"])
    assert all("userTag" not in key for key in listed(api, headers=narrow))
    assert not any(key in str(everybody) for key in (OWNER_KEY, digest(OWNER_KEY).hex()))


@pytest.mark.usefixtures("keys")
def test_cursor_of_all_keys_belongs_to_its_filters(api: httpx.Client) -> None:
    """Used with other filters, or by another caller, a cursor would show rows of another list."""
    cursor = api.get(ALL_KEYS, params={"size": "5"}).json()["nextCursor"]
    assert_problem(api.get(ALL_KEYS, params={"cursor": cursor, "neverUsed": "true"}), 400, "VALIDATION_ERROR")
    assert_problem(api.get(ALL_KEYS, params={"cursor": cursor}, headers=as_admin(api)), 400, "VALIDATION_ERROR")


# Leaks


@uncached
def test_leaked_key_is_revoked_by_its_text(api: httpx.Client) -> None:
    """A scanner finds a key in a repository, and nobody knows whose it is."""
    user = user_of(api, "careless")
    key = key_of(api, user, name="in a repository")
    answer = report(api, f"  {key['key']}\n")
    assert answer.status_code == 200
    body = answer.json()
    ended = datetime.fromisoformat(body.pop("endedAt").replace("Z", "+00:00"))
    assert body == {"keyId": key["id"], "userId": user, "revoked": True}
    assert abs(datetime.now(timezone.utc) - ended) < timedelta(minutes=1)
    assert "was revoked" in api.get(ME, headers=bearer(key["key"])).json()["detail"]
    (event,) = events(api, action="keys:report_leak")
    assert (event["target"], event["changes"]) == (user, {"key": key["id"], "revoked": True})
    again = report(api, key["key"]).json()
    assert (again["keyId"], again["revoked"]) == (key["id"], False)


@uncached
def test_leaked_text_of_a_rotated_key_ends_the_key_while_it_works(api: httpx.Client) -> None:
    """During the overlap the old text opens everything; afterwards it opens nothing, and the key must go on working."""
    user = user_of(api, "careless")
    for overlap, revoked in ((HOUR, True), (0, False)):
        old = key_of(api, user)
        new = rotate(api, path_of(user, old), {"overlapSeconds": overlap}).json()
        answer = report(api, old["key"]).json()
        assert (answer["keyId"], answer["revoked"]) == (old["id"], revoked)
        assert api.get(ME, headers=bearer(new["key"])).status_code == (401 if revoked else 200)
        assert api.get(ME, headers=bearer(old["key"])).status_code == 401


@uncached
def test_leaked_expired_key_is_revoked(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Otherwise somebody would prolong it, and the text in the repository with it."""
    user = user_of(api, "careless")
    key = key_of(api, user)
    sql.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", [key["id"]])
    assert report(api, key["key"]).json()["revoked"] is True
    change = api.put(path_of(user, key), json={"expiresAt": later(days=1)})
    assert_problem(change, 404, "KEY_NOT_FOUND")


@uncached
def test_leaked_key_is_revoked_whoever_its_user_is(api: httpx.Client, people: People) -> None:
    """An admin who holds an owner's key must end it now, not look for an owner; the key could do worse."""
    key = key_of(api, people.ids["owner"])
    answer = report(api, key["key"], people.headers["admin"])
    assert (answer.status_code, answer.json()["userId"]) == (200, people.ids["owner"])
    assert api.get(ME, headers=bearer(key["key"])).status_code == 401
    for role in ("auditor", "member"):
        mine = people.headers[role]["Authorization"].removeprefix("Bearer ")
        assert_problem(report(api, mine, people.headers[role]), 403, "FORBIDDEN")


@uncached
def test_leaked_key_ends_its_sessions_and_itself(api: httpx.Client) -> None:
    """Whoever reports the key that they present is let in once more, and no longer."""
    key = key_of(api, str(OWNER_ID))
    assert report(api, key["key"], bearer(key["key"])).json()["revoked"] is True
    assert_problem(report(api, key["key"], bearer(key["key"])), 401, "UNAUTHENTICATED")


def test_unknown_text_is_no_key(api: httpx.Client) -> None:
    """A typo must not look like a revocation."""
    assert_problem(report(api, make_key()), 404, "KEY_NOT_FOUND")
    changed = OWNER_KEY[:-1] + ("0" if OWNER_KEY[-1] != "0" else "1")
    assert_problem(report(api, changed), 404, "KEY_NOT_FOUND")
    for wrong in ("", "x", OWNER_KEY[:-1], OWNER_KEY + "x", f"{OWNER_KEY} {OWNER_KEY}", "aia_" + "é" * 49):
        answer = report(api, wrong)
        assert_problem(answer, 400, "VALIDATION_ERROR")
        assert answer.json()["details"][0]["msg"].endswith("must be an API key: aia_ and 49 letters and digits")
        assert len(wrong) < 9 or wrong not in answer.text
    for body in ({}, {"key": None}, {"key": 1}, {"key": OWNER_KEY, "x": 1}):
        assert_problem(api.post(LEAK, json=body), 400, "VALIDATION_ERROR")
    assert api.get(ME).status_code == 200


@uncached
@pytest.mark.config(LOG_LEVEL="DEBUG")
def test_leaked_text_is_kept_nowhere(
    api: httpx.Client, sql: psycopg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    """The report of a leak must not be another one: in logs, events, kept answers, or the answer itself."""
    key = key_of(api, user_of(api, "careless"))["key"]
    answers = [
        report(api, key),
        report(api, key),
        report(api, f"{key}x"),
        report(api, key, {"Idempotency-Key": "once"}),
        api.post(LEAK, params={"key": key[:20]}, json={"key": key}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 400, 400]
    assert not any(key in answer.text for answer in answers)
    dump = str(events(api))
    for (table,) in sql.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
        dump += str(sql.execute(f'SELECT t::text FROM "{table}" AS t'.encode()).fetchall())
    assert key not in dump
    assert key[4:30] not in dump
    assert key[4:30] not in "".join(capfd.readouterr())


@uncached
def test_leaked_key_that_is_rotated_meanwhile_is_judged_afterwards(
    api: httpx.Client, sql: psycopg.Connection, postgres: EmbeddedPostgres
) -> None:
    """A report that waits for a rotation must not revoke the key that the rotation has saved."""
    key = key_of(api, user_of(api, "careless"))
    with postgres.connect(sql.info.dbname) as other, held_up(other, lambda: report(api, key["key"])) as (answers, go):
        other.execute(
            """UPDATE api_keys SET previous_digest = digest, digest = sha256('new'), rotated_at = now(),
               previous_expires_at = now() WHERE id = %s""",
            [key["id"]],
        )
        go()
    assert answers[0].json()["revoked"] is False
    assert sql.execute("SELECT count(*) FROM api_keys WHERE id = %s", [key["id"]]).fetchone() == (1,)


# The console


def test_page_of_all_keys_filters_and_turns(owner: Browser, keys: list[dict[str, Any]]) -> None:
    """An administrator finds in the console what the API finds, both ways, and in the address."""
    shown: list[str] = []
    address = "?size=20&neverUsed=true&sort=lastUsedAt"
    while address:
        text = owner.get(f"/keys{address}").text
        shown += re.findall(r'class="main-cell"><bdi>([^<]+)', text)
        found = re.search(r'rel="next" href="/ai/admin/console/keys([^"]+)"', text)
        address = html.unescape(found[1]) if found else ""
    # The owner's own key of the tests was used.
    assert len(shown) == sum(key["last_used_at"] is None for key in keys)
    page = owner.get("/keys?expiresAt[lt]=2025-04-01").text
    assert page.count("data-row") == sum((key["expires_at"] or "9999") < "2025-04-01" for key in keys)
    assert "Ends before" in page
    assert "No key matches" in owner.get("/keys?lastUsedAt[lt]=1999-01-01&neverUsed=false").text
    assert owner.get("/keys?state=broken").status_code == 400


def test_page_of_all_keys_shows_an_admin_no_owner(browser: Browser) -> None:
    """Names and last uses of an owner's keys are nothing for an admin, on this page as on others."""
    owners = key_of(browser.api, str(OWNER_ID), name="of an owner")
    admin = key_of(browser.api, user_of(browser.api, "an-admin", role="admin"), name="of an admin")
    browser.sign_in(admin["key"])
    text = browser.get("/keys").text
    assert "of an admin" in text
    assert "of an owner" not in text
    assert str(OWNER_ID) not in text
    # The tags of users are for those who may read users.
    narrow = key_of(browser.api, str(OWNER_ID), scopes=["keys:read"])
    browser.sign_in(narrow["key"])
    text = browser.get("/keys").text
    assert "of an owner" in text
    assert "an-admin" not in text
    assert "Report a leaked key" not in text
    assert owners["key"] not in text


def test_form_reports_a_leaked_key(owner: Browser) -> None:
    """A leak is reported where an administrator works; the page says whose key it was, and never shows it."""
    user = user_of(owner.api, "careless")
    key = key_of(owner.api, user)
    done = owner.post("/keys/report-leak", {"key": key["key"]})
    assert done.status_code == 200
    assert "The key is revoked." in done.text
    assert f"/ai/admin/console/users/{user}" in done.text
    assert owner.api.get(ME, headers=bearer(key["key"])).status_code == 401
    again = owner.post("/keys/report-leak", {"key": key["key"]})
    assert "had stopped working before" in again.text
    unknown = owner.post("/keys/report-leak", {"key": make_key()})
    assert (unknown.status_code, "No key has this text" in unknown.text) == (404, True)
    wrong = owner.post("/keys/report-leak", {"key": "aia_cut"})
    assert (wrong.status_code, "must be an API key" in wrong.text) == (400, True)
    for answer in (done, again, unknown, wrong):
        assert not re.search(r"aia_\w{3}", answer.text)


def test_form_reports_a_leaked_key_without_showing_keys(browser: Browser) -> None:
    """A key with keys:write alone learns the result, and no other key."""
    key = key_of(browser.api, user_of(browser.api, "careless"), name="careless key")
    key_of(browser.api, user_of(browser.api, "other"), name="other key")
    browser.sign_in(key_of(browser.api, str(OWNER_ID), scopes=["keys:write"])["key"])
    assert browser.get("/keys").status_code == 403
    done = browser.post("/keys/report-leak", {"key": key["key"]})
    assert (done.status_code, "The key is revoked." in done.text) == (200, True)
    assert "other key" not in done.text
    assert "careless" not in done.text
