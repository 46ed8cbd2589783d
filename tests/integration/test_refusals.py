"""Every refusal is one event, wherever it is decided, and sign-ins and sign-outs are events."""

import json
from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask

from ai_admin.access import rates, sessions
from ai_admin.audit.refusals import Refusals
from ai_admin.transfer.views import IMPORT
from tests.conftest import OWNER_ID, flask_client
from tests.integration import test_access, test_console, test_console_provider
from tests.integration.test_access import NOBODY, bearer, events, key_of, user_of
from tests.integration.test_console import CONSOLE, Browser, made, services_of
from tests.integration.test_console_provider import World, ada
from tests.serving import USERS

# Fixtures that these tests share with others.
_no_refusals_dropped = test_access._no_refusals_dropped
browser, owner, server_browser = test_console.browser, test_console.owner, test_console_provider.browser
world, provider = test_console_provider.world, test_console_provider.provider
pytestmark = pytest.mark.in_process
ONLY_OWNERS = "Only an owner can see or change what belongs to an owner."


def refusals(api: httpx.Client, **query: str) -> list[dict[str, Any]]:
    """The refusals in the log, oldest first."""
    return events(api, action="access:refuse", **query)


def lines(*users: dict[str, Any]) -> str:
    """A file of users, one a line."""
    return "".join(json.dumps(user) + "\n" for user in users)


def signed_in(browser: Browser, role: str) -> tuple[Browser, str]:
    """A browser in which a new user of this role is signed in, and the user's id."""
    user = made(browser, tag=f"an-{role}", role=role)["id"]
    own = browser.another()
    assert own.sign_in(key_of(browser.api, user)["key"]).status_code == 303
    return own, user


# Imports


@pytest.mark.parametrize("dry_run", [False, True])
def test_import_of_rows_without_the_right_records_each(browser: Browser, dry_run: bool) -> None:
    """An admin who tries `role=owner` in a file would leave no trace, neither by a check of the file."""
    api = browser.api
    admin, boss = user_of(api, "admin", role="admin"), user_of(api, "boss", role="owner")
    file = lines(
        {"tag": "new", "kind": "service", "role": "owner"},
        {"tag": "fine", "kind": "service"},
        {"tag": "not a tag"},
        {"tag": "boss", "kind": "service", "name": "Gone"},
    )
    headers = bearer(key_of(api, admin)["key"]) | {"Content-Type": "application/x-ndjson"}
    answer = api.post(IMPORT, params={"dryRun": str(dry_run).lower()}, content=file, headers=headers)
    assert [reject["line"] for reject in answer.json()["rejects"]] == [1, 3, 4]
    first, second = refusals(api)
    assert (first["actor"], first["target"], first["changes"]) == (
        admin,
        None,
        {
            "method": "POST",
            "route": IMPORT,
            "status": 403,
            "reason": ONLY_OWNERS,
            "line": 1,
            "dryRun": dry_run,
        },
    )
    assert (second["target"], second["changes"]["line"]) == (boss, 4)
    assert {event["requestId"] for event in (first, second)} == {answer.headers["X-Fission-Request-ID"]}


# The console


def test_bulk_change_records_each_user_who_was_refused(browser: Browser) -> None:
    """An admin who tries to suspend owners among others would leave no trace, as the page is answered with 200."""
    boss, bob = (made(browser, tag=tag, role=role)["id"] for tag, role in (("boss", "owner"), ("bob", "member")))
    admin, admin_id = signed_in(browser, "admin")
    answer = admin.post("/users/bulk/apply", {"action": "suspend", "user": [f"{boss}:1", f"{bob}:1"]})
    assert answer.status_code == 200
    (event,) = refusals(browser.api)
    assert (event["actor"], event["target"], event["changes"]["status"]) == (admin_id, boss, 403)
    assert browser.api.get(f"{USERS}/{bob}").json()["status"] == "suspended"


def test_bulk_change_stops_where_the_administrator_is_suspended(browser: Browser, sql: psycopg.Connection) -> None:
    """The rest would be reported as a fault of each user; one refusal is recorded, and the sign-in asked for."""
    bob, eve = (made(browser, tag=tag)["id"] for tag in ("bob", "eve"))
    admin, admin_id = signed_in(browser, "admin")
    page = admin.get("/account").text
    token = test_console._TOKEN.search(page)
    assert token
    suspend = f"UPDATE users SET status = 'suspended' WHERE id = '{admin_id}'"
    # Within the request: after the guard has let it pass.
    sql.execute(
        f"""
        CREATE FUNCTION put_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {suspend}; RETURN NEW; END $$;
        CREATE TRIGGER put_out AFTER UPDATE ON users FOR EACH ROW WHEN (NEW.tag = 'bob') EXECUTE FUNCTION put_out();
        """.encode()
    )
    form = {"csrf_token": token[1], "action": "suspend", "user": [f"{bob}:1", f"{eve}:1"]}
    answer = admin.http.post(f"{CONSOLE}/users/bulk/apply", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{CONSOLE}/sign-in")
    (event,) = refusals(browser.api)
    assert event["actor"] == admin_id
    assert browser.api.get(f"{USERS}/{eve}").json()["status"] == "active"


def test_form_that_is_refused_says_why_in_the_log(browser: Browser) -> None:
    """The event of a refused form had an empty reason."""
    boss = made(browser, tag="boss", role="owner")["id"]
    admin, admin_id = signed_in(browser, "admin")
    assert admin.post(f"/users/{boss}/status", {"status": "suspended", "version": "1"}).status_code == 403
    assert admin.get("/audit").status_code == 403
    status, page = refusals(browser.api)
    assert (status["actor"], status["target"]) == (admin_id, boss)
    assert status["changes"]["reason"] == ONLY_OWNERS
    assert "audit:read" in page["changes"]["reason"]


@pytest.mark.parametrize("how", ["suspended", "deleted"])
def test_session_of_a_user_who_is_out_is_a_refusal(browser: Browser, how: str) -> None:
    """The page leads to the sign-in, and the log would not tell that a suspended person is still trying."""
    own, user = signed_in(browser, "admin")
    if how == "suspended":
        browser.api.put(f"{USERS}/{user}", json={"status": "suspended"})
    else:
        browser.api.delete(f"{USERS}/{user}")
    assert own.get("/users").status_code == 303
    (event,) = refusals(browser.api)
    assert (event["actor"], event["changes"]["reason"], event["changes"]["status"]) == (user, f"user {how}", 401)


def test_session_that_is_unknown_or_expired_is_a_refusal(browser: Browser, sql: psycopg.Connection) -> None:
    """A guessed token, and one that is used after its time, stand in the log; the end by time itself does not."""
    own, user = signed_in(browser, "admin")
    sql.execute("UPDATE console_sessions SET expires_at = now() - interval '1 second'")
    assert own.get("/users").status_code == 303
    assert browser.another(**{sessions.COOKIE: "guessed"}).get("/users").status_code == 303
    expired, unknown = refusals(browser.api)
    assert (expired["actor"], expired["changes"]["reason"]) == (user, "expired session")
    assert (unknown["actor"], unknown["changes"]["reason"]) == (None, "unknown session")
    own.post("/sign-out", at="/sign-in")
    assert events(browser.api, action="sessions:end") == []


def test_first_visit_is_no_refusal_and_a_form_without_a_session_is(browser: Browser) -> None:
    """Everybody who opens the console first is led to the sign-in: the log would be full of them."""
    assert browser.get("/users").status_code == 303
    assert refusals(browser.api) == []
    assert browser.http.post(f"{CONSOLE}/users/{NOBODY}/status", data={"status": "deleted"}).status_code == 303
    (event,) = refusals(browser.api)
    assert (event["actor"], event["target"], event["changes"]["reason"]) == (None, NOBODY, "no session")


# The rate


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        """At the beginning."""
        self.now = 0.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all buckets."""
    clock = Clock()
    monkeypatch.setattr(rates, "time", clock)
    return clock


@pytest.mark.parametrize("callers", [1, 2, 5, 50])
def test_refusals_recorded_in_any_second_stay_within_the_bound(clock: Clock, callers: int) -> None:
    """Two callers had 109 refusals recorded in one second, of 20 that are documented: the log would fill the disk."""
    taken = Refusals(20)
    recorded = []
    for _ in range(3_000):
        clock.now += 0.001
        recorded += [clock.now for caller in range(callers) if taken.take(None if caller == 0 else caller)]  # type: ignore[arg-type]
    most = max(sum(start <= at < start + 1 for at in recorded) for start in recorded)
    assert most <= (8 if callers == 1 else 20)
    assert len(recorded) <= 20 + 2 * 10
    clock.now += 10
    assert taken.take(None)


def test_flood_of_strangers_leaves_room_for_a_known_caller(clock: Clock) -> None:
    """A flood without a credential would hide what somebody known tries meanwhile."""
    taken = Refusals(20)
    for _ in range(1_000):
        clock.now += 0.01
        taken.take(None)
    assert [taken.take(OWNER_ID) for _ in range(4)] == [True] * 4


# Where it came from


@pytest.mark.config(TRUSTED_PROXIES="127.0.0.1 10.0.0.0/8", CREDENTIAL_CACHE_S="0")
def test_source_behind_a_trusted_proxy_is_the_callers(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """Behind an ingress every event and log line would name the ingress, and an attacker's address be nowhere."""
    api, forwarded = browser.api, {"X-Forwarded-For": "198.51.100.66, 203.0.113.7, 10.0.0.2"}
    user = user_of(api, "ada", role="auditor")
    key = key_of(api, user)["key"]
    api.get("/ai/me", headers=forwarded)
    line: Any = caplog.records[-1]
    assert line.fields["client"] == "203.0.113.7"
    api.post(USERS, json={"tag": "bob", "kind": "service"}, headers=forwarded)
    api.get("/ai/me", headers=bearer("x") | forwarded)
    browser.http.headers.update(forwarded)
    assert browser.sign_in(key).status_code == 303
    api.put(f"{USERS}/{user}", json={"status": "suspended"})
    assert browser.get("/account").status_code == 303
    found = {event["action"]: event["source"] for event in events(api) if event["source"] != "127.0.0.1"}
    assert found == dict.fromkeys(("users:create", "access:refuse", "sessions:begin"), "203.0.113.7")
    (last,) = refusals(api, actor=user)
    assert last["source"] == "203.0.113.7"


@pytest.mark.parametrize(
    "value", ["unknown", "", ",", "x" * 4_000, "10.0.0.1" + ",10.0.0.1" * 400, "[", "[]:", "203.0.113.7, _"]
)
@pytest.mark.config(TRUSTED_PROXIES="127.0.0.1 ::1")
def test_malformed_forwarded_address_names_the_proxy(browser: Browser, value: str) -> None:
    """A header that is no list of addresses would be a 500, or stand in the log as it was sent."""
    answer = browser.api.get("/ai/me", headers={"Authorization": "x", "X-Forwarded-For": value})
    assert answer.status_code == 401
    (event,) = refusals(browser.api)
    assert event["source"] in {"127.0.0.1", "10.0.0.1"}


def test_forwarded_address_without_trusted_proxies_is_not_read(browser: Browser) -> None:
    """Anybody would choose their own address."""
    browser.api.get("/ai/me", headers={"Authorization": "x", "X-Forwarded-For": "203.0.113.7"})
    (event,) = refusals(browser.api)
    assert event["source"] == "127.0.0.1"


# Sessions


def test_sign_in_and_out_with_a_key_are_events(browser: Browser) -> None:
    """Somebody who asks who was in the console, when, and from where, would find nothing."""
    user = made(browser, tag="ada", role="auditor")["id"]
    key = key_of(browser.api, user)
    own = browser.another()
    assert own.sign_in(key["key"]).status_code == 303
    # Signing in again ends the session that the browser had.
    assert own.sign_in(key["key"]).status_code == 303
    own.post("/sign-out")
    own.post("/sign-out", at="/sign-in")
    found = [event for event in events(browser.api, actor=user) if event["action"].startswith("sessions:")]
    assert [event["action"].partition(":")[2] for event in found] == ["begin", "begin", "end", "end"]
    for event in found:
        assert (event["target"], event["key"], event["source"]) == (user, key["id"], "127.0.0.1")
        assert event["changes"] == {"signIn": "key"}


@pytest.mark.config(SESSIONS_PER_USER="1")
def test_session_that_makes_room_for_another_ends_with_an_event(browser: Browser) -> None:
    """A session that somebody else's sign-in has ended would seem to go on."""
    user = made(browser, tag="ada", role="auditor")["id"]
    for _ in range(2):
        assert browser.another().sign_in(key_of(browser.api, user)["key"]).status_code == 303
    found = [event["action"] for event in events(browser.api, actor=user)]
    assert found == ["sessions:begin", "sessions:begin", "sessions:end"]


def test_sign_in_and_out_with_the_provider_are_events(world: World, server_browser: Browser, postgres: Any) -> None:
    """The subject that signed in is in the log, sealed as all that tells of a person."""
    with postgres.connect(world.settings.secret.pg_database) as sql:
        user = ada(server_browser, sql)
        assert world.sign_in(server_browser).status_code == 200
        server_browser.post("/sign-out")
        log = server_browser.api.get("/ai/admin/audit", params={"actor": user, "sort": "at"}).json()["data"]
        assert [event["action"] for event in log] == ["sessions:begin", "sessions:end"]
        for event in log:
            assert event["key"] is None
            assert event["changes"]["signIn"] == "provider"
            assert event["changes"]["identity"]["subject"] == "ada"
        raw = str(sql.execute("SELECT changes::text FROM audit_events").fetchall())
        assert '"ada"' not in raw


@pytest.mark.parametrize("how", ["suspend", "delete", "purge", "revoke", "rotate", "report"])
def test_end_of_session_by_administrator_is_event(browser: Browser, how: str) -> None:
    """Somebody who asks why a person was signed out, and by whom, would find nothing."""
    api, user = browser.api, made(browser, tag="ada", role="auditor")["id"]
    key = key_of(api, user)
    own = browser.another()
    assert own.sign_in(key["key"]).status_code == 303
    path = f"{USERS}/{user}"
    answer = {
        "suspend": lambda: api.put(path, json={"status": "suspended"}),
        "delete": lambda: api.delete(path),
        "purge": lambda: api.delete(path, params={"purge": "true"}),
        "revoke": lambda: api.delete(f"{path}/keys/{key['id']}"),
        "rotate": lambda: api.post(f"{path}/keys/{key['id']}/rotate", json={}),
        "report": lambda: api.post("/ai/admin/keys/report-leak", json={"key": key["key"]}),
    }[how]()
    assert answer.is_success, answer.text
    (event,) = events(api, action="sessions:end")
    assert (event["actor"], event["target"]) == (str(OWNER_ID), user)
    assert event["changes"] == {"key": key["id"], "signIn": "key"}
    assert own.get("/account").status_code == 303


def test_rotation_with_overlap_leaves_session(browser: Browser) -> None:
    """A session would end though the value that began it still works."""
    key = key_of(browser.api, made(browser, tag="ada", role="auditor")["id"])
    own = browser.another()
    own.sign_in(key["key"])
    user = events(browser.api, action="sessions:begin")[0]["actor"]
    path = f"{USERS}/{user}/keys/{key['id']}/rotate"
    assert browser.api.post(path, json={"overlapSeconds": 600}).is_success
    assert own.get("/account").status_code == 200
    assert events(browser.api, action="sessions:end") == []


@pytest.mark.parametrize("status", ["suspended", "deleted"])
def test_session_of_suspended_user_stays_ended_after_return(browser: Browser, status: str) -> None:
    """A stolen cookie would open the console again as soon as the user is back."""
    api, user = browser.api, made(browser, tag="ada", role="auditor")["id"]
    own = browser.another()
    own.sign_in(key_of(api, user)["key"])
    path = f"{USERS}/{user}"
    assert (api.delete(path) if status == "deleted" else api.put(path, json={"status": status})).is_success
    assert api.put(path, json={"status": "active"}).is_success
    assert own.get("/account").status_code == 303


def test_user_suspended_but_remembered_begins_no_session(browser: Browser) -> None:
    """A session that begins while a process remembers the user would come alive when the user is back."""
    api, user = browser.api, made(browser, tag="ada", role="auditor")["id"]
    key = key_of(api, user)["key"]
    services_of(browser).principals._cache_s = 60.0
    own = browser.another()
    assert own.sign_in(key).status_code == 303
    assert api.put(f"{USERS}/{user}", json={"status": "suspended"}).is_success
    assert browser.another().sign_in(key).status_code == 401


# The filters


def test_log_is_filtered_by_key_and_by_request(browser: Browser) -> None:
    """After a leak the first question is what was done with this key, and after a report, by this request."""
    api = browser.api
    user = user_of(api, "ada", role="admin")
    keys = [key_of(api, user) for _ in range(2)]
    made_by = []
    for number in range(6):
        headers = bearer(keys[number % 2]["key"]) | {"X-Fission-Request-ID": f"request-{number}"}
        answer = api.post(USERS, json={"tag": f"u{number}", "kind": "service"}, headers=headers)
        made_by.append(answer.json()["id"])
    of_first = events(api, key=keys[0]["id"])
    assert [event["target"] for event in of_first] == made_by[::2]
    assert {event["key"] for event in of_first} == {keys[0]["id"]}
    (event,) = events(api, requestId="request-3")
    assert (event["target"], event["requestId"]) == (made_by[3], "request-3")
    assert events(api, requestId="request-3", key=keys[0]["id"]) == []
    both = api.get("/ai/admin/audit", params={"requestId": ["request-1", "request-2"]}).json()["data"]
    assert [event["target"] for event in both] == made_by[2:0:-1]
    for wrong in ({"key": "x"}, {"requestId": ""}, {"requestId": "x" * 193}, {"requestId": "\0"}, {"request_id": "x"}):
        assert api.get("/ai/admin/audit", params=wrong).status_code == 400


def test_console_log_is_filtered_by_key_and_by_request(owner: Browser) -> None:
    """An administrator follows a request from the page of an error, and a key from the page of its user."""
    first, second = (
        owner.api.post(
            USERS, json={"tag": tag, "name": f"Name {tag}", "kind": "service"}, headers={"X-Fission-Request-ID": tag}
        ).json()["id"]
        for tag in ("first", "second")
    )
    page = owner.get("/audit?key=&requestId=first").text
    assert first in page
    assert second not in page
    assert 'value="first"' in page
    assert "Request: <bdi>first</bdi>" in page
    by_key = owner.get(f"/audit?key={OWNER_ID}").text
    assert first in by_key
    assert f"/audit?key={OWNER_ID}" in by_key
    assert "/audit?requestId=second" in by_key


def test_refused_method_or_path_is_no_text_in_the_log(server_app: Flask) -> None:
    """What a stranger writes into a path or a method would stand in the log for good."""
    client = flask_client(server_app)
    for path in ("/ai/admin/users/ada-lovelace", "/ai/admin/users?q=ada-lovelace"):
        assert client.get(path, headers={"Authorization": "Bearer ada-lovelace"}).status_code == 401
    client.open("/ai/admin/users", method="ADA-LOVELACE", headers={"Authorization": ""})
    log = client.get("/ai/admin/audit").get_data(as_text=True)
    assert log.count("access:refuse") == 2
    assert "lovelace" not in log.lower()
