"""Signing in to the console with an identity provider: who gets in, and the tricks played on the way."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import psycopg
import pytest
from flask import Flask

from ai_admin.access import identity, sessions
from ai_admin.access.tokens import digest
from ai_admin.config import ROOT_VARIABLE, SECRET_NAME, Settings
from ai_admin.console.sealed import seal, unseal
from ai_admin.console.views import provider as views
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.errors import DatabaseUnavailable
from ai_admin.server import create_server_app
from tests.conftest import AS_OWNER, ROOT
from tests.identity_provider import AUDIENCE, ISSUER, RSA_OTHER, Handler, serving, token
from tests.integration.test_console import CONSOLE, USERS, Browser, made
from tests.openid_provider import CLIENT, OpenIdProvider
from tests.serving import own_database

PUBLIC = "https://ai-admin.test"
pytestmark = pytest.mark.in_process


def browser_at(app: Flask) -> Browser:
    """A browser at the public address of an application."""
    return Browser(httpx.Client(transport=httpx.WSGITransport(app=app), base_url=PUBLIC, headers=AS_OWNER), app)


@dataclass
class World:
    """A console, a provider that it knows, and a browser."""

    app: Flask
    provider: OpenIdProvider
    settings: Settings

    def browser(self) -> Browser:
        """A new one, at the public address."""
        return browser_at(self.app)

    def answered(self, browser: Browser, **query: str) -> str:
        """The address that the provider leads this browser back to."""
        return self.provider.answer_to(
            browser.http.get(f"{CONSOLE}/sign-in/provider", params=query).headers["Location"]
        )

    def sign_in(self, browser: Browser, **query: str) -> httpx.Response:
        """The whole way; the last answer."""
        return browser.http.get(self.answered(browser, **query))


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenIdProvider]:
    """Of the person `ada`."""
    # On a busy machine three seconds are not long.
    monkeypatch.setattr(identity, "_TIMEOUT_S", 20.0)
    with serving(OpenIdProvider()) as provider:
        yield provider


@pytest.fixture
def world(postgres: EmbeddedPostgres, provider: OpenIdProvider, tmp_path: Path) -> Iterator[World]:
    """An empty directory whose console knows the provider."""
    with (
        own_database(postgres, tmp_path, LOG_LEVEL="INFO", **provider.settings(PUBLIC)) as settings,
        mock.patch.dict(os.environ, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}),
    ):
        app = create_server_app(settings)
        yield World(app, provider, settings)
        app.extensions["ai_admin"].database.close()


@pytest.fixture
def browser(world: World) -> Browser:
    """One that has been nowhere."""
    return world.browser()


@pytest.fixture
def sql(world: World, postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """The database of the console."""
    with postgres.connect(world.settings.secret.pg_database) as connection:
        yield connection


def ada(browser: Browser, sql: psycopg.Connection, **members: object) -> str:
    """The id of a new user to whom an operator has bound the subject."""
    user = made(browser, **{"tag": "ada", "role": "admin", **members})["id"]
    sql.execute("INSERT INTO identities (issuer, subject, user_id) VALUES (%s, 'ada', %s)", [ISSUER, user])
    return user


def is_in(browser: Browser) -> bool:
    """Whether the browser has a session that holds."""
    return browser.get("/account").status_code == 200


def refused(browser: Browser, answer: httpx.Response, status: int = 401) -> str:
    """The text of the sign-in page that tells of a fault; nobody is signed in by it."""
    assert answer.status_code == status
    assert browser.session() is None
    assert not is_in(browser)
    assert 'role="alert"' in answer.text
    return answer.text


def reasons(browser: Browser) -> list[str]:
    """Why somebody was refused, as the audit log has it."""
    log = browser.api.get("/ai/admin/audit", params={"action": "access:refuse", "sort": "at"}).json()["data"]
    return [event["changes"]["reason"] for event in log if event["changes"]["route"].startswith(CONSOLE)]


# The way in


def test_the_whole_way(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """From the button to a page of one's own; the database has a digest, and whom the session rests on."""
    user = ada(browser, sql)
    link = f"{PUBLIC}{CONSOLE}/sign-in/provider?next="
    assert link in browser.get("/sign-in").text
    led = browser.get("/sign-in/provider")
    assert led.status_code == 303
    asked = dict(parse_qsl(urlsplit(led.headers["Location"]).query))
    assert asked["redirect_uri"] == f"{PUBLIC}{CONSOLE}/sign-in/callback"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    answer = browser.http.get(world.provider.answer_to(led.headers["Location"]))
    assert answer.status_code == 200
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert f'<meta http-equiv="refresh" content="0; url={CONSOLE}">' in answer.text
    assert is_in(browser)
    assert browser.get("/users").status_code == 200
    token = browser.session()
    assert token
    rows = sql.execute("SELECT digest, user_id::text, key_id, issuer, subject FROM console_sessions").fetchall()
    assert rows == [(digest(token), user, None, ISSUER, "ada")]


def test_what_they_change_is_theirs(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """The log names them, without a key; and what their role does not give is refused as ever."""
    user = ada(browser, sql)
    world.sign_in(browser)
    assert browser.post("/users/new", {"tag": "by-ada", "kind": "service"}).status_code == 303
    assert browser.post("/users/new", {"tag": "an-owner", "kind": "service", "role": "owner"}).status_code == 403
    (event,) = browser.api.get("/ai/admin/audit", params={"action": "users:create", "actor": user}).json()["data"]
    assert event["key"] is None
    assert browser.get("/audit").status_code == 403


def test_what_lies_in_the_browser_meanwhile(browser: Browser) -> None:
    """It is read by nobody, sent to the one path alone, over TLS, for minutes; and it is gone afterwards."""
    answer = browser.get("/sign-in/provider")
    (cookie,) = (line for line in answer.headers.get_list("Set-Cookie") if line.startswith(views.COOKIE))
    assert {"HttpOnly", "Secure", "SameSite=Lax", f"Path={views.CALLBACK}", "Max-Age=600"} <= set(cookie.split("; "))
    asked = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    assert asked["state"] not in cookie
    assert browser.http.cookies.get(views.COOKIE)
    browser.get("/sign-in/callback")
    assert browser.http.cookies.get(views.COOKIE) is None


def test_the_session_is_kept_as_that_of_a_key(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """From scripts, from other sites, and from what travels without TLS."""
    ada(browser, sql)
    answer = world.sign_in(browser)
    (cookie,) = (line for line in answer.headers.get_list("Set-Cookie") if line.startswith(sessions.COOKIE))
    assert {"HttpOnly", "Secure", "SameSite=Strict", f"Path={CONSOLE}"} <= set(cookie.split("; "))


def test_nothing_of_it_without_the_settings(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """No button that leads nowhere, and no route."""
    with (
        own_database(postgres, tmp_path) as settings,
        mock.patch.dict(os.environ, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}),
    ):
        app = create_server_app(settings)
        browser = browser_at(app)
        assert "/sign-in/provider" not in browser.get("/sign-in").text
        for path in ("/sign-in/provider", "/sign-in/callback?code=x&state=y"):
            assert browser.get(path).status_code == 404
        app.extensions["ai_admin"].database.close()


def test_a_secret_is_sent_in_the_one_place(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """As HTTP Basic to the token endpoint, as the file has it now: Kubernetes swaps it under a running process."""
    ada(browser, sql)
    (folder,) = world.settings.root.glob(f"secrets/*/{SECRET_NAME}")
    for secret in ("canary-first", "canary-second"):
        (folder / "OIDC_CLIENT_SECRET").write_text(secret)
        world.provider.secret = secret
        led = browser.get("/sign-in/provider").headers["Location"]
        assert secret not in led
        assert browser.http.get(world.provider.answer_to(led)).status_code == 200
    world.provider.secret = "canary-third"
    assert "does not answer" in refused(world.browser(), world.sign_in(other := world.browser()), 503)
    assert not is_in(other)


# Whom it signs in


def test_a_verified_email_binds_once(world: World, browser: Browser) -> None:
    """A member or auditor whom no subject is bound to; the log says so, and the address counts no more afterwards."""
    user = made(browser, tag="ada", kind="human", role="auditor", email="Ada@Example.com")["id"]
    world.provider.claims = {"email": "ada@example.com", "email_verified": True}
    assert world.sign_in(browser).status_code == 200
    assert is_in(browser)
    (event,) = browser.api.get("/ai/admin/audit", params={"action": "identities:bind"}).json()["data"]
    assert (event["target"], event["actor"]) == (user, user)
    world.provider.claims["sub"] = "somebody else"
    other = world.browser()
    assert "no active user here" in refused(other, world.sign_in(other))


@pytest.mark.parametrize(
    ("role", "verified"), [("owner", True), ("admin", True), ("auditor", False), ("member", "true"), ("member", None)]
)
def test_an_email_makes_nobody_an_administrator(world: World, browser: Browser, role: str, verified: object) -> None:
    """Whoever runs the mail of the organisation does not so administer the directory (litellm #36942)."""
    made(browser, tag="ada", kind="human", role=role, email="ada@example.com")
    world.provider.claims = {"email": "ada@example.com", "email_verified": verified}
    assert "no active user here" in refused(browser, world.sign_in(browser))
    assert reasons(browser) == ["subject of no user"]


@pytest.mark.parametrize("status", ["suspended", "deleted"])
def test_who_is_out_stays_out(world: World, browser: Browser, sql: psycopg.Connection, status: str) -> None:
    """The provider does not know whom the directory has put out; the log says whose sign-in it was."""
    user = ada(browser, sql)
    browser.api.put(f"{USERS}/{user}", json={"status": "suspended"})
    if status == "deleted":
        browser.api.delete(f"{USERS}/{user}")
    refused(browser, world.sign_in(browser))
    log = browser.api.get("/ai/admin/audit", params={"action": "access:refuse", "actor": user}).json()["data"]
    assert [event["changes"]["reason"] for event in log] == [f"user {status}"]


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": AUDIENCE}, {"aud": "another client"}, {"aud": [CLIENT, "another"]}, {"azp": "another"},
        {"nonce": "another"}, {"nonce": ...}, {"iss": "https://another.example"}, {"exp": 1}, {"exp": ...},
        {"sub": ""}, {"cnf": {}},
    ],
    ids=str,
)  # fmt: skip
def test_an_id_token_that_is_not_for_this(
    world: World, browser: Browser, sql: psycopg.Connection, changes: dict[str, Any]
) -> None:
    """Of another client, another sign-in, another issuer, another time (OpenID Connect Core, 3.1.3.7)."""
    ada(browser, sql)
    world.provider.claims = changes
    refused(browser, world.sign_in(browser))
    assert reasons(browser)[0].startswith("token: ")


def test_an_id_token_that_somebody_else_signed(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """Whatever it says, and although it came from the right address."""
    ada(browser, sql)
    good = world.provider.id_token
    with mock.patch.object(world.provider, "id_token", lambda nonce: good(nonce)[:-8] + "AAAAAAAA"):
        refused(browser, world.sign_in(browser))
    forged = token(alg="RS256", by=RSA_OTHER)
    with mock.patch.object(world.provider, "id_token", return_value=forged):
        refused(browser, world.sign_in(browser))


# When it ends


@pytest.mark.parametrize("way", ["unbound", "bound anew", "suspended", "deleted", "purged", "used no more", "too long"])
def test_what_ends_a_session(world: World, browser: Browser, sql: psycopg.Connection, way: str) -> None:
    """At once, with what it rests on; and by itself."""
    user = ada(browser, sql)
    world.sign_in(browser)
    assert is_in(browser)
    if way == "unbound":
        sql.execute("DELETE FROM identities")
    elif way == "bound anew":
        other = made(browser, tag="bob", role="admin")["id"]
        sql.execute("UPDATE identities SET user_id = %s", [other])
    elif way == "suspended":
        browser.api.put(f"{USERS}/{user}", json={"status": "suspended"})
    elif way == "deleted":
        browser.api.delete(f"{USERS}/{user}")
    elif way == "purged":
        browser.api.delete(f"{USERS}/{user}", params={"purge": "true"})
    elif way == "used no more":
        sql.execute("UPDATE console_sessions SET expires_at = now()")
    else:
        past = timedelta(seconds=1) + sessions.LONGEST
        sql.execute("UPDATE console_sessions SET created_at = now() - %s, expires_at = now() + interval '5 s'", [past])
        assert is_in(browser)
        (left,) = sql.execute("SELECT max(expires_at) - now() FROM console_sessions").fetchone() or ()
        assert left <= timedelta(seconds=5)
        return
    assert not is_in(browser)


def test_a_session_ends_with_its_provider(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """Who takes a provider that was broken into out of the settings keeps nobody in whom it vouched for."""
    ada(browser, sql)
    world.sign_in(browser)
    assert is_in(browser)
    config = world.settings.config
    with mock.patch.dict(config.__dict__, {"oidc_issuer": "https://another.example"}):
        assert not is_in(browser)
    assert is_in(browser)


def test_whatever_fails_the_attempt_is_over(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """The code is told to no page that follows, and the browser keeps nothing of the attempt."""
    ada(browser, sql)
    address = world.answered(browser)
    with mock.patch.object(sessions, "begin", side_effect=DatabaseUnavailable()):
        answer = browser.http.get(address)
    assert (answer.status_code, answer.headers["Referrer-Policy"]) == (503, "no-referrer")
    assert browser.http.cookies.get(views.COOKIE) is None


def test_a_subject_that_was_unbound_begins_no_session(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """Between the provider's answer and the session somebody may take the binding away."""
    ada(browser, sql)
    begin = sessions.begin

    def unbound_first(*arguments: Any) -> str:
        sql.execute("DELETE FROM identities")
        return begin(*arguments)

    with mock.patch.object(sessions, "begin", unbound_first):
        refused(browser, world.sign_in(browser))


def test_signing_out(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """Ends it on the server, as one of a key."""
    ada(browser, sql)
    world.sign_in(browser)
    browser.post("/sign-out")
    assert sql.execute("SELECT count(*) FROM console_sessions").fetchone() == (0,)


# Tricks


def test_an_answer_that_another_browser_began(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """A link with an attacker's code signs nobody in (login CSRF), nor does a stolen one: the provider is not asked."""
    ada(browser, sql)
    attacker = world.browser()
    stolen = world.answered(attacker)
    victims = [world.browser(), world.browser()]
    victims[1].get("/sign-in/provider")
    for victim in victims:
        assert "another browser" in refused(victim, victim.http.get(stolen))
    assert world.provider.redeemed == []
    assert set(reasons(browser)) >= {"no sign-in under way in this browser", "state: of no sign-in of this browser"}


def without_state(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """An answer's parameters but for the one."""
    return [pair for pair in pairs if pair[0] != "state"]


@pytest.mark.parametrize("more", [[], [("state", "x")], [("state", "")], "twice"], ids=str)
def test_a_state_that_is_not_ours(world: World, browser: Browser, sql: psycopg.Connection, more: Any) -> None:
    """None, another, or the right one among others: the answer completes no sign-in."""
    ada(browser, sql)
    address, _, query = world.answered(browser).partition("?")
    pairs = parse_qsl(query)
    pairs = [*pairs, *pairs] if more == "twice" else [*without_state(pairs), *more]
    assert "another browser" in refused(browser, browser.http.get(f"{address}?{urlencode(pairs)}"))
    assert world.provider.redeemed == []


def keep(browser: Browser, sealed: str) -> None:
    """Put something in the place of what the browser has under way."""
    browser.http.cookies.set(views.COOKIE, sealed, domain="ai-admin.test", path=views.CALLBACK)


def test_a_sign_in_that_we_have_not_begun(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """What the browser keeps cannot be made up or changed, serves for this alone, and for some minutes."""
    ada(browser, sql)
    address = world.answered(browser)
    kept = browser.http.cookies.get(views.COOKIE)
    assert kept
    with world.app.app_context():
        attempt, target, until = unseal(kept, views._PURPOSE)
        others = [
            "", "00", kept[:-2], kept[:-2] + f"{int(kept[-2:], 16) ^ 1:02x}",
            seal([attempt, target, until], b"another use"),
            seal([attempt, target, until - 601], views._PURPOSE),
        ]  # fmt: skip
    for other in others:
        keep(browser, other)
        assert "another browser" in refused(browser, browser.http.get(address))
    assert world.provider.redeemed == []
    keep(browser, kept)
    assert browser.http.get(address).status_code == 200


@pytest.mark.parametrize(
    ("issuers", "lets_in"),
    [([ISSUER], True), ([], True), (["https://evil.example"], False), ([ISSUER, ISSUER], False), ([""], False)],
)
def test_an_answer_that_names_an_issuer(
    world: World, browser: Browser, sql: psycopg.Connection, issuers: list[str], lets_in: bool
) -> None:
    """No other provider's answer is taken to ours, which would hand it the code (mix-up; RFC 9207)."""
    ada(browser, sql)
    world.provider.names_itself = False
    address = world.answered(browser)
    answer = browser.http.get(f"{address}&{urlencode([('iss', one) for one in issuers])}")
    assert (answer.status_code, is_in(browser)) == ((200, True) if lets_in else (401, False))
    assert bool(world.provider.redeemed) == lets_in


def test_a_code_serves_once(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """An address from the history opens nothing, nor does a copy of the browser from before."""
    ada(browser, sql)
    address = world.answered(browser)
    kept = browser.http.cookies.get(views.COOKIE)
    assert kept
    assert browser.http.get(address).status_code == 200
    copy = world.browser()
    refused(copy, copy.http.get(address))
    keep(copy, kept)
    refused(copy, copy.http.get(address))
    assert reasons(browser) == ["no sign-in under way in this browser", "code: refused by the provider"]
    assert sql.execute("SELECT count(*) FROM console_sessions").fetchone() == (1,)


def test_a_code_of_another_verifier(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """A code that was injected into a sign-in of one's own does not fit it (PKCE, RFC 7636)."""
    ada(browser, sql)
    caught = parse_qs(urlsplit(world.answered(world.browser())).query)["code"][0]
    own = dict(parse_qsl(urlsplit(world.answered(browser)).query))
    refused(browser, browser.http.get(f"{CONSOLE}/sign-in/callback", params={**own, "code": caught}))
    assert reasons(browser)[0] == "code: refused by the provider"


@pytest.mark.parametrize("error", ["access_denied", "login_required", "ada_lovelace", "<script>alert(1)</script>"])
def test_what_the_provider_calls_an_error(world: World, browser: Browser, error: str) -> None:
    """The page tells in its own words, and repeats none of another site's."""
    world.provider.error = error
    text = refused(browser, world.sign_in(browser))
    assert "broken off" in text
    assert "words of the provider" not in text
    assert "<script>alert" not in text
    known = error in {"access_denied", "login_required"}
    assert reasons(browser)[0] == f"provider: {error if known else 'no standard error code'}"


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/ai/admin/users", "00", "javascript:x"])
def test_it_leads_nowhere_else(world: World, browser: Browser, sql: psycopg.Connection, target: str) -> None:
    """An address that comes with a link is followed only where we have sealed it (CWE-601)."""
    ada(browser, sql)
    answer = world.sign_in(browser, next=target)
    assert f'content="0; url={CONSOLE}"' in answer.text
    assert target not in answer.text or target == "00"


def test_it_leads_back_to_the_page(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """A link reproduces the view, also for who had to sign in first; one too long for a cookie is forgotten."""
    ada(browser, sql)
    asked = browser.get("/users?q=winifred&sort=name").headers["Location"]
    sealed = parse_qs(urlsplit(asked).query)["next"][0]
    assert f'content="0; url={CONSOLE}/users?q=winifred&amp;sort=name"' in world.sign_in(browser, next=sealed).text
    browser.post("/sign-out")
    asked = browser.get(f"/users?q={'w' * 1000}").headers["Location"]
    sealed = parse_qs(urlsplit(asked).query)["next"][0]
    assert f'content="0; url={CONSOLE}"' in world.sign_in(browser, next=sealed).text


def test_a_session_from_before_is_not_taken_over(world: World, browser: Browser, sql: psycopg.Connection) -> None:
    """Whoever plants cookies shares neither the session that follows nor the token of its forms (CWE-384)."""
    ada(browser, sql)
    attacker = world.browser()
    attacker.get("/sign-in")
    planted = attacker.http.cookies.get("aia_form", path=CONSOLE)
    assert planted
    browser.http.cookies.set("aia_form", planted, domain="ai-admin.test", path=CONSOLE)
    browser.http.cookies.set(sessions.COOKIE, "planted", domain="ai-admin.test", path=CONSOLE)
    world.sign_in(browser)
    assert browser.session() not in {None, "planted"}
    assert browser.http.cookies.get("aia_form", path=CONSOLE) is None


# Trouble


def _say(body: bytes, status: int = 200, **headers: str) -> Any:
    def answer(request: Handler) -> None:
        request.send(body, status, **headers)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        _say(b"", 500), _say(b"not JSON"), _say(b"[]"), _say(b"{}"), _say(b'{"id_token": 5}'), _say(b"x" * 300_000),
        _say(b"", 302, Location="http://127.0.0.1:9/"), _say(b'{"error": ["x"]}', 400), _say(b"", 429),
    ],
    ids=["broken", "no JSON", "list", "no token", "number", "large", "redirect", "odd", "busy"],
)  # fmt: skip
def test_a_provider_that_fails(world: World, browser: Browser, answer: Any) -> None:
    """It is told in words, keys work as ever, and nobody is led to another address with the code."""
    address = world.answered(browser)
    with mock.patch.object(world.provider, "redeem", answer):
        assert "does not answer" in refused(browser, browser.http.get(address), 503)
    assert browser.sign_in().status_code == 303


def test_no_secret_is_in_the_log(
    world: World, browser: Browser, sql: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the code, the tokens, the client's secret, what the browser keeps, or the session."""
    ada(browser, sql)
    (folder,) = world.settings.root.glob(f"secrets/*/{SECRET_NAME}")
    (folder / "OIDC_CLIENT_SECRET").write_text("canary-secret")
    world.provider.secret = "canary-secret"
    with caplog.at_level(logging.DEBUG):
        address = world.answered(browser)
        kept = browser.http.cookies.get(views.COOKIE)
        browser.http.get(address)
        world.provider.secret = "another"
        world.sign_in(browser)
    # httpx, which is the browser here, has a log of its own.
    ours = [record for record in caplog.records if record.name.startswith("ai_admin")]
    logged = str([(record.getMessage(), vars(record)) for record in ours])
    assert "invalid_client" in logged
    query = dict(parse_qsl(urlsplit(address).query))
    for secret in ("canary", query["code"], query["state"], kept, browser.session(), "eyJ"):
        assert secret
        assert secret not in logged


# The libraries that a process has loaded: with the sign-in page, and once somebody is on their way.
_LOADED = """
import sys
from ai_admin.config import load_settings
from ai_admin.server import create_server_app
client = create_server_app(load_settings()).test_client()
for path in ("/sign-in", "/sign-in/provider"):
    print(client.get("/ai/admin/console" + path).status_code, "authlib" in sys.modules, "joserfc" in sys.modules)
"""


def test_libraries_are_loaded_for_the_first_sign_in(world: World, tmp_path: Path) -> None:
    """A cold start does not wait for them, whatever the settings."""
    environment = {
        "PYTHONPATH": str(ROOT / "apps"),
        ROOT_VARIABLE: str(world.settings.root),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", _LOADED], env=environment, capture_output=True, text=True, check=True)
    # The log is there too.
    shown, led = (line for line in done.stdout.splitlines() if not line.startswith("{"))
    assert shown == "200 False False"
    assert led.startswith("303 True")
