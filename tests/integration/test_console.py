"""The console over HTTP: who gets in, what they may do there, and the tricks that are played on pages."""

import base64
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import cast
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from flask import Flask, session
from nacl.signing import SigningKey
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from ai_admin import fission
from ai_admin.access import sessions
from ai_admin.access.tokens import digest, make_key
from ai_admin.audit.sealing import seal_waiting
from ai_admin.config import Settings
from ai_admin.console import catalogue
from ai_admin.console.views import console
from ai_admin.database import Database
from ai_admin.operations import operation_of
from ai_admin.services import Services
from ai_admin.users.schemas import Role
from tests.conftest import BASE_URL, OWNER_ID, OWNER_KEY, calling, write_mount
from tests.keyrings import entry, text_of

CONSOLE = "/ai/admin/console"
USERS = "/ai/admin/users"
_FOLDER = catalogue.FOLDER
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


_FORM = "application/x-www-form-urlencoded"


class Browser:
    """A browser without scripts: cookies, forms with their tokens, and no credential of its own."""

    def __init__(self, api: httpx.Client, app: Flask | None = None) -> None:
        """At the console beside an API; `app` is what serves it, where that is in this process."""
        self.api = api
        self.app = app
        self.http = httpx.Client(transport=api._transport, base_url=api.base_url)

    def another(self, **cookies: str) -> "Browser":
        """Another browser at the same console."""
        made = Browser(self.api, self.app)
        for name, value in cookies.items():
            made.keep(name, value)
        return made

    def keep(self, name: str, value: str) -> None:
        """Have a cookie of the console."""
        self.http.cookies.set(name, value, domain=self.http.base_url.host, path=CONSOLE)

    def get(self, path: str) -> httpx.Response:
        """A page."""
        return self.http.get(f"{CONSOLE}{path}")

    def post(self, path: str, form: dict[str, object] | None = None, at: str = "/account") -> httpx.Response:
        """A form with the token that the page `at` gives out."""
        token = _TOKEN.search(self.get(at).text)
        assert token
        return self.http.post(f"{CONSOLE}{path}", data={"csrf_token": token[1], **(form or {})})

    def sign_in(self, key: str = OWNER_KEY, **form: object) -> httpx.Response:
        """Sign in with a key."""
        return self.post("/sign-in", {"key": key, **form}, "/sign-in")

    def session(self) -> str | None:
        """The token of the session."""
        return self.http.cookies.get(sessions.COOKIE, path=CONSOLE)


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser at the console of an empty directory: that of a server, or that of the function as `--mount` says."""
    mount = request.config.getoption("--mount")
    if mount == "application":
        app = request.getfixturevalue("server_app")
        with calling(app) as api:
            yield Browser(api, app)
    else:
        api = request.getfixturevalue("api")
        yield Browser(api, fission.application(console) if mount == "function" else None)


@pytest.fixture
def owner(browser: Browser) -> Browser:
    """A browser in which the owner is signed in."""
    assert browser.sign_in().status_code == 303
    return browser


def services_of(browser: Browser) -> Services:
    """What the application is made of."""
    assert browser.app
    return cast(Services, browser.app.extensions["ai_admin"])


def made(browser: Browser, **members: object) -> dict[str, str]:
    """A user, made through the API."""
    answer = browser.api.post(USERS, json={"kind": "service", **members})
    assert answer.status_code == 201, answer.text
    user: dict[str, str] = answer.json()
    return user


def key_of(browser: Browser, role: str) -> str:
    """The key of a new user of a role."""
    user = made(browser, tag=f"a-{role}", role=role)
    return str(browser.api.post(f"{USERS}/{user['id']}/keys", json={"name": "k"}).json()["key"])


# Getting in and out


def test_the_api_has_no_session_of_flask(server_app: Flask) -> None:
    """Each request of the API would otherwise make what signs one, at a tenth of its cost, for nobody."""
    with server_app.test_request_context(CONSOLE):
        session["form"] = "its token"
    with server_app.test_request_context(USERS), pytest.raises(RuntimeError):
        session["form"] = "of no use"


def test_a_key_is_exchanged_for_a_session(browser: Browser, sql: psycopg.Connection) -> None:
    """The cookie is kept from scripts and other sites; the key is in no cookie, the token not in the database."""
    answer = browser.sign_in()
    assert answer.headers["Location"] == CONSOLE
    cookie = next(line for line in answer.headers.get_list("Set-Cookie") if line.startswith(sessions.COOKIE))
    assert {"HttpOnly", "SameSite=Strict", f"Path={CONSOLE}"} <= set(cookie.split("; "))
    assert OWNER_KEY not in str(answer.headers)
    token = browser.session()
    assert token
    rows = sql.execute("SELECT digest FROM console_sessions").fetchall()
    assert rows == [(digest(token),)]
    assert browser.get("/users").status_code == 200


def test_behind_tls_the_cookie_is_for_tls(browser: Browser) -> None:
    """A proxy that ends TLS says so, and then the cookie never travels without."""
    token = _TOKEN.search(browser.get("/sign-in").text)
    assert token
    browser.http.headers["X-Forwarded-Proto"] = "https"
    answer = browser.http.post(f"{CONSOLE}/sign-in", data={"csrf_token": token[1], "key": OWNER_KEY})
    cookies = [
        *answer.headers.get_list("Set-Cookie"),
        *browser.another().http.get(f"{CONSOLE}/sign-in", headers=browser.http.headers).headers.get_list("Set-Cookie"),
    ]
    assert {cookie.partition("=")[0] for cookie in cookies} >= {sessions.COOKIE, "aia_form"}
    assert all("Secure" in cookie for cookie in cookies if "Max-Age=0" not in cookie)


@pytest.mark.parametrize(
    "key", ["", "aia_cut", make_key(), "a.b.c", "x" * 5000], ids=["none", "cut", "other", "jwt", "long"]
)
def test_what_is_no_key_opens_nothing(browser: Browser, key: str) -> None:
    """The form again, with the fault beside the field; what was typed is not in it."""
    answer = browser.sign_in(key)
    assert answer.status_code == 401
    assert 'aria-invalid="true"' in answer.text
    assert not key or key not in answer.text
    assert browser.get("/users").headers["Location"].startswith(f"{CONSOLE}/sign-in?next=")


def test_a_revoked_key_ends_its_sessions(owner: Browser) -> None:
    """At once: nobody keeps a page open that their key no longer opens."""
    key = owner.api.post(f"{USERS}/{OWNER_ID}/keys", json={"name": "second"}).json()
    owner.sign_in(key["key"])
    assert owner.get("/users").status_code == 200
    owner.api.delete(f"{USERS}/{OWNER_ID}/keys/{key['id']}")
    assert owner.get("/users").status_code == 303


@pytest.mark.in_process
def test_a_key_that_is_revoked_but_remembered_begins_no_session(browser: Browser, sql: psycopg.Connection) -> None:
    """For some seconds a process remembers a key; that is no fault of the server's, and opens nothing."""
    user = made(browser, tag="eve", role="admin")["id"]
    key = browser.api.post(f"{USERS}/{user}/keys", json={"name": "x"}).json()
    services_of(browser).principals._cache_s = 60.0
    assert browser.sign_in(key["key"]).status_code == 303
    sql.execute("DELETE FROM api_keys WHERE id = %s", [key["id"]])
    another = browser.another()
    assert another.sign_in(key["key"]).status_code == 401
    assert another.session() is None


def test_a_form_says_how_long_it_is(browser: Browser) -> None:
    """A function would read one without a length to its end, before anybody is asked who they are."""

    def parts() -> Iterator[bytes]:
        yield b"key=x"

    answer = browser.http.post(f"{CONSOLE}/sign-in", content=parts(), headers={"Content-Type": _FORM})
    assert answer.status_code == 400


def test_signing_out_ends_the_session_on_the_server(owner: Browser) -> None:
    """A cookie that somebody kept a copy of is worth nothing."""
    token = owner.session()
    assert token
    owner.post("/sign-out")
    assert owner.session() is None
    owner.keep(sessions.COOKIE, token)
    assert owner.get("/users").status_code == 303


def test_a_session_ends_by_itself(owner: Browser, sql: psycopg.Connection) -> None:
    """Over is over, whatever the browser still sends."""
    sql.execute("UPDATE console_sessions SET expires_at = now()")
    assert owner.get("/users").status_code == 303


def test_a_session_from_before_is_not_taken_over(browser: Browser) -> None:
    """Whoever plants a token or signs in first does not share the session that follows (CWE-384)."""
    browser.keep(sessions.COOKIE, "planted")
    browser.sign_in()
    first = browser.session()
    assert first != "planted"
    browser.sign_in()
    assert browser.session() != first
    other = browser.another(**{sessions.COOKIE: str(first)})
    assert other.get("/users").status_code == 303


def test_a_session_opens_no_api_and_a_key_no_page(owner: Browser) -> None:
    """What a browser sends along by itself changes nothing through the API, and a page asks for its own sign-in."""
    assert owner.http.get(USERS).status_code == 401
    assert owner.api.get(f"{CONSOLE}/users").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/ai/admin/console/..//evil",
        "/ai/admin/consolex",
        "javascript:alert(1)",
        "/ai/admin/users",
        "/ai/admin/console\r\nX: y",
    ],
)
def test_signing_in_leads_nowhere_else(browser: Browser, target: str) -> None:
    """An address that comes with a link is followed only within the console (CWE-601)."""
    assert browser.sign_in(next=target).headers["Location"] == CONSOLE
    shown = browser.http.get(f"{CONSOLE}/sign-in", params={"next": target})
    assert target not in shown.text
    (sealed, _) = re.findall(r'name="next" value="([0-9a-f]+)"', shown.text)
    assert browser.sign_in(next=sealed).headers["Location"] == CONSOLE


@pytest.mark.parametrize("path", ["%252e%252e/%252e%252e/%252e%252e/other?all=1", "%252e/%252e%252e/x", "a%252fb"])
def test_an_address_is_led_back_to_as_it_was(browser: Browser, path: str) -> None:
    """Decoded once more it would lead to any path of the host (CWE-601, CWE-174)."""
    asked = browser.get(f"/{path}").headers["Location"]
    answer = browser.sign_in(next=parse_qs(urlsplit(asked).query)["next"][0])
    assert answer.headers["Location"] == f"{CONSOLE}/{path}"


def test_signing_in_leads_back_to_the_page(browser: Browser) -> None:
    """A link reproduces the view, also for who had to sign in first."""
    asked = browser.get("/users?q=winifred").headers["Location"]
    assert "winifred" not in asked
    sealed = parse_qs(urlsplit(asked).query)["next"][0]
    assert browser.sign_in(next=sealed).headers["Location"] == f"{CONSOLE}/users?q=winifred"


# Forms of others, frames, scripts


def test_no_form_without_its_token(owner: Browser) -> None:
    """Every POST of the console wants the token of this browser's own form; nothing is changed without (CWE-352)."""
    user = made(owner, tag="ada")
    other = owner.another()
    foreign = _TOKEN.search(other.get("/sign-in").text)
    assert foreign
    for path in ("/users/new", f"/users/{user['id']}/status", "/users/bulk", "/language", "/sign-out", "/sign-in"):
        for token in ({}, {"csrf_token": ""}, {"csrf_token": foreign[1]}):
            form = {"status": "deleted", "version": "1", "tag": "x", "email": "x@y.zz", **token}
            assert owner.http.post(f"{CONSOLE}{path}", data=form).status_code == 400, path
    assert owner.api.get(f"{USERS}/{user['id']}").json()["status"] == "active"
    assert owner.get("/users").status_code == 200


def test_no_form_from_another_site(owner: Browser) -> None:
    """A browser says where a form comes from, and that is believed too."""
    owner.http.headers["Sec-Fetch-Site"] = "same-site"
    assert owner.post("/language", {"language": "vi"}).status_code == 403


_HOST = urlsplit(BASE_URL).netloc


def _sent_from(browser: Browser, **headers: str) -> int:
    """The status of a form with a good token that is sent with these headers, `_` for `-`."""
    token = _TOKEN.search(browser.get("/account").text)
    assert token
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    form = {"csrf_token": token[1], "language": "en"}
    return browser.http.post(f"{CONSOLE}/language", data=form, headers=named).status_code


@pytest.mark.in_process
@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "https://evil.example", f"https://{_HOST}", f"http://{_HOST}:8080", f"http://{_HOST}.evil.example",
        f"http://{_HOST}/", f"http://{_HOST}, http://{_HOST}", f"http://{_HOST}@evil.example",
    ],
)  # fmt: skip
def test_form_from_a_foreign_origin_is_refused(owner: Browser, origin: str) -> None:
    """Over plain HTTP a browser sends no Sec-Fetch-Site: a page on another port of the host could act for a person."""
    assert _sent_from(owner, Origin=origin) == 403


@pytest.mark.in_process
def test_form_from_its_own_origin_is_taken(owner: Browser) -> None:
    """The console works over plain HTTP, and without any of these headers."""
    assert _sent_from(owner) == 303
    assert _sent_from(owner, Origin=f"http://{_HOST}") == 303
    assert _sent_from(owner, Origin=f"http://{_HOST}", Host=f"{_HOST.upper()}:80") == 303
    assert _sent_from(owner, Origin=f"http://{_HOST}:8080", Host=f"{_HOST}:8080") == 303


@pytest.mark.in_process
def test_form_behind_a_proxy_is_taken_from_the_address_that_the_browser_had(owner: Browser) -> None:
    """A proxy that ends TLS, or names another host to the service, does not lock people out of the console."""
    assert _sent_from(owner, Origin=f"https://{_HOST}", X_Forwarded_Proto="https") == 303
    assert _sent_from(owner, Origin=f"http://{_HOST}", X_Forwarded_Proto="https") == 403
    inside = {"Host": "10.0.0.7:8080", "X_Forwarded_Proto": "https, http", "X_Forwarded_Host": "ai.example.com, inner"}
    assert _sent_from(owner, Origin="https://ai.example.com", **inside) == 303
    assert _sent_from(owner, Origin="https://inner", **inside) == 403
    # The browser itself has compared the two addresses, which the service does not know.
    assert _sent_from(owner, Origin="https://ai.example.com", Host="inner", Sec_Fetch_Site="same-origin") == 303
    assert _sent_from(owner, Origin="null", Sec_Fetch_Site="same-origin") == 403


@pytest.mark.config(PUBLIC_URL="https://ai.example.com")
def test_form_from_the_public_url_is_taken(owner: Browser) -> None:
    """Where a proxy says nothing of TLS and host, the setting does."""
    assert _sent_from(owner, Origin="https://ai.example.com") == 303
    assert _sent_from(owner, Origin="https://evil.example") == 403


def test_pages_and_their_files_are_for_no_other_origin(owner: Browser) -> None:
    """A page holds what its reader may see: with CORS headers, any page that a browser shows could ask for it too."""
    evil = {"Origin": "https://evil.example"}
    for path in ("", "/users", "/sign-in", "/nothing", "/files/console.js", "/files/nothing", "/users/export"):
        for method in ("GET", "OPTIONS", "POST"):
            answer = owner.http.request(method, f"{CONSOLE}{path}", headers=evil)
            assert not [name for name in answer.headers if name.startswith("access-control-")], (method, path)
    assert owner.api.get(USERS, headers=evil).headers["Access-Control-Allow-Origin"] == "*"


def test_pages_are_framed_by_nobody_and_run_nothing_foreign(owner: Browser) -> None:
    """Each page, and each error, has the policy; none has a script, a style or a handler in it."""
    user = made(owner, tag="ada")
    for path in (
        "/sign-in",
        "/overview",
        "/users",
        "/users/new",
        f"/users/{user['id']}",
        "/audit",
        "/account",
        "/users?x=1",
    ):
        answer = owner.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<style|style=|\son\w+=|<script(?! src=\"/ai/admin/console/files/)", answer.text), path
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", answer.text), path


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_nothing_that_people_write_becomes_markup(owner: Browser) -> None:
    """Names, attributes, searches, names of keys, reasons, and the log of all of them (CWE-79)."""
    user = made(owner, tag="ada", name=EVIL, attributes={EVIL: EVIL})
    page = f"/users/{user['id']}"
    owner.post(page + "/keys", {"name": EVIL})
    owner.post(page + "/secrets", {"name": "openai", "provider": "openai", "value": "sk-1234567890abcdef"})
    revealed = owner.post(page + "/secrets/openai/reveal", {"reason": EVIL})
    assert "sk-1234567890abcdef" in revealed.text
    answers = [revealed, owner.post("/users/new", {"tag": EVIL, "name": EVIL, "models": EVIL, "attributes": EVIL})]
    answers += [owner.post("/users/bulk", {"action": "suspend", "id": user["id"]})]
    found = owner.http.get(f"{CONSOLE}/users", params={"q": EVIL, "attributes[" + EVIL + "]": EVIL, "sort": "name"})
    answers += [found, owner.get("/users"), owner.get(page), owner.get("/audit"), owner.get("/overview")]
    for answer in answers:
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "alert(1)" in answer.text or answer.url.path.endswith("/overview")


# Roles


def test_each_role_sees_and_does_what_it_may(browser: Browser) -> None:
    """A page that is not theirs is a 403 in words, and what they may not do is not offered."""
    user = made(browser, tag="ada")
    pages = {"/overview", "/users", f"/users/{user['id']}", "/keys", "/audit", "/users/new", "/account"}
    refused = {
        "owner": set(),
        "admin": {"/audit"},
        "auditor": {"/users/new", "/keys"},
        "member": pages - {"/account"},
    }
    forms = {
        "/users/new": {"owner", "admin"},
        "/users/bulk": {"owner", "admin"},
        f"/users/{user['id']}": {"owner", "admin"},
        f"/users/{user['id']}/keys": {"owner", "admin"},
        "/keys/report-leak": {"owner", "admin"},
        f"/users/{user['id']}/secrets": {"owner", "admin"},
        f"/users/{user['id']}/secrets/x/reveal": {"owner"},
        f"/users/{user['id']}/secrets/x/restore": {"owner", "admin"},
    }
    for role in Role:
        own = browser.another()
        assert own.sign_in(key_of(browser, role.value)).status_code == 303
        answers = {path: own.get(path).status_code for path in pages}
        assert {path for path, status in answers.items() if status == 403} == refused[role.value], role
        assert all(status in {200, 403} for status in answers.values()), answers
        for path, allowed in forms.items():
            assert (own.post(path).status_code == 403) == (role.value not in allowed), (role, path)
    assert browser.api.get(f"{USERS}/{user['id']}").json()["version"] == 1


def test_every_page_says_who_may_enter(server_app: Flask) -> None:
    """The pages that anybody may see are these; each of the others wants a session."""
    public = set()
    for rule in server_app.url_map.iter_rules():
        operation = operation_of(server_app, rule.endpoint)
        assert operation
        assert operation.page == rule.rule.startswith(CONSOLE)
        if operation.page:
            assert (rule.methods or set()) <= {"GET", "HEAD", "POST", "OPTIONS"}
            if operation.entry == "public":
                public.add(rule.rule.removeprefix(CONSOLE))
    sign_in = {"/sign-in", "/sign-in/provider", "/sign-in/callback", "/sign-out"}
    assert public == {*sign_in, "/language", "/files/<File>"}


# Work


def names_on(page: str) -> list[str]:
    """The names in a list, in their order."""
    return re.findall(r'<td class="main-cell">.*?<bdi>(.*?)</bdi>', page, re.DOTALL)


def link(page: str, relation: str) -> str | None:
    """The address of the page before or after."""
    found = re.search(rf'rel="{relation}" href="{CONSOLE}([^"]+)"', page)
    return found and found[1].replace("&amp;", "&")


def test_pages_turn_both_ways(owner: Browser) -> None:
    """Forward to the end and back to the start, each page the same on both ways and nobody twice."""
    for number in range(23):
        made(owner, tag=f"u{number:02}", name=f"Name {number:02}")
    page = owner.get("/users?q=name&sort=name&size=5").text
    forward = [names_on(page)]
    while after := link(page, "next"):
        page = owner.get(after).text
        forward.append(names_on(page))
    assert list(chain(*forward)) == [f"Name {number:02}" for number in range(23)]
    back = [names_on(page)]
    while before := link(page, "prev"):
        page = owner.get(before).text
        back.append(names_on(page))
    assert list(chain(*back[::-1]))[-23:] == list(chain(*forward))
    assert back[-1] == forward[0]


def test_list_with_too_many_parameters_is_refused(owner: Browser) -> None:
    """A list with 1,001 parameters was a fault of ours, and no page."""
    for path in ("/users", "/audit", "/users/export"):
        answer = owner.get(f"{path}?{'a=1&' * 1001}")
        assert (answer.status_code, "More than 1000 parameters" in answer.text) == (400, True)
        assert owner.get(f"{path}?q=%ff").status_code == 400


@pytest.mark.parametrize("version", ["9" * 5000, "9" * 10, "\u0661", "", "-1", "1.0"])
def test_form_with_odd_version_is_refused(owner: Browser, version: str) -> None:
    """Python makes no integer of 5,000 digits, and the page was a fault of ours."""
    user = made(owner, tag="ada")["id"]
    owner.api.put(f"{USERS}/{user}/secrets/openai", json={"provider": "openai", "value": "sk-1"})
    for path, form in (
        (f"/users/{user}", {"tag": "eve", "kind": "service", "role": "member", "version": version}),
        (f"/users/{user}/status", {"status": "deleted", "version": version}),
        ("/users/bulk/apply", {"action": "delete", "user": f"{user}:{version}"}),
        (f"/users/{user}/secrets/openai/restore", {"version": version}),
        (f"/users/{user}/secrets/openai/remove", {"seen": f"openai:{version}"}),
    ):
        assert owner.post(path, dict(form)).status_code == 400, path
    assert owner.api.get(f"{USERS}/{user}").json()["version"] == 1


def test_form_with_repeated_field_is_refused(owner: Browser) -> None:
    """A proxy that looks at the last `role`, and the console at the first, see two forms."""
    form: dict[str, object] = {"tag": "ada", "kind": "service", "role": ["owner", "member"]}
    answer = owner.post("/users/new", form)
    assert (answer.status_code, "The field role was sent twice." in answer.text) == (400, True)
    form = {"tag": "ada", "kind": "service", "attributes": '{"a": {"b": 1, "b": 2}}'}
    answer = owner.post("/users/new", form)
    assert (answer.status_code, "The member b occurs twice." in answer.text) == (400, True)
    assert owner.api.get(USERS, params={"tag": "ada"}).json()["data"] == []


def test_filters_stand_in_the_address_as_chips(owner: Browser) -> None:
    """Each chip is a link to the same list without it; what the list does not know is refused."""
    made(owner, tag="ada", role="admin")
    made(owner, tag="bob")
    page = owner.get("/users?role=admin&q=&sort=tag").text
    assert names_on(page) == ["ada"]
    assert f'href="{CONSOLE}/users?sort=tag"' in page
    assert owner.get("/users?rolle=admin").status_code == 400
    assert "No user matches" in owner.get("/users?q=nobody").text


def test_an_attribute_is_typed_into_the_form(owner: Browser) -> None:
    """It becomes the filter that the API has, beside those that were there; what is none is told."""
    made(owner, tag="ada", attributes={"team": "a b&c"})
    made(owner, tag="bob", attributes={"team": "other"})
    asked = {"q": "a", "attributes[team]": "other", "attribute": " team = a b&c "}
    answer = owner.http.get(f"{CONSOLE}/users", params=asked)
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["Location"]).query) == {"q": ["a"], "attributes[team]": ["a b&c"]}
    text = owner.http.get(answer.headers["Location"]).text
    assert ">ada<" in text
    assert ">bob<" not in text
    for wrong in ("team", "=x", "team="):
        assert owner.http.get(f"{CONSOLE}/users", params={"attribute": wrong}).status_code == 400


def test_a_user_is_created_and_faults_stand_beside_their_fields(owner: Browser) -> None:
    """What was typed is still there when the form comes back."""
    made(owner, tag="taken")
    wrong = owner.post("/users/new", {"tag": "taken", "kind": "human", "name": "Ada", "email": "ada@example.com"})
    assert wrong.status_code == 409
    assert "Another user has this tag." in wrong.text
    assert 'value="Ada"' in wrong.text
    assert 'id="h-email"' in owner.post("/users/new", {"tag": "ada", "kind": "human"}).text.split("f-kind")[0]
    right = owner.post("/users/new", {"tag": "ada", "email": "ada@example.com", "models": "gpt-5*\nclaude-*"})
    assert right.status_code == 303
    assert owner.api.get(f"{USERS}?tag=ada").json()["data"][0]["models"] == ["gpt-5*", "claude-*"]


def form_of(user: dict[str, str], **members: str) -> dict[str, object]:
    """The profile's form as it was loaded, with changes."""
    present = {name: user[name] or "" for name in ("tag", "email", "name", "kind", "role")}
    return {**present, "models": "", "attributes": "", "version": user["version"], **members}


def test_who_was_slower_sees_both_and_chooses(owner: Browser) -> None:
    """Nothing of another's change is overwritten unawares; the second save goes by the version that was shown."""
    user = made(owner, tag="ada", name="Ada")
    page = f"/users/{user['id']}"
    owner.api.put(f"{USERS}/{user['id']}", json={"name": "Theirs"})
    answer = owner.post(page, form_of(user, name="Ours"))
    assert answer.status_code == 412
    assert "Theirs" in answer.text
    assert "Ours" in answer.text
    assert owner.api.get(f"{USERS}/{user['id']}").json()["name"] == "Theirs"
    assert owner.post(page, form_of(user, name="Ours", version="2")).status_code == 303
    assert owner.api.get(f"{USERS}/{user['id']}").json()["name"] == "Ours"


def test_a_key_is_shown_once(owner: Browser) -> None:
    """In the answer that makes it, and on no page after."""
    page = f"/users/{made(owner, tag='ada')['id']}"
    key = re.search(r"aia_\w{49}", owner.post(f"{page}/keys", {"name": "k"}).text)
    assert key
    assert owner.api.get("/ai/me", headers={"Authorization": f"Bearer {key[0]}"}).status_code == 200
    assert key[0] not in owner.get(page).text
    listed = owner.api.get(f"{USERS}{page.removeprefix('/users')}/keys").json()["data"]
    rotated = owner.post(f"{page}/keys/{listed[0]['id']}/rotate", {"hours": "0"})
    assert re.search(r"aia_\w{49}", rotated.text)
    assert owner.post(f"{page}/keys/{listed[0]['id']}/revoke").status_code == 303


def test_a_key_is_limited_to_what_is_ticked(owner: Browser) -> None:
    """Scopes and models of a key, offered as far as its user may have them; ticking nothing gives nothing."""
    user = made(owner, tag="ada", role="auditor", models=["gpt-5*", "claude-*"])
    page = f"/users/{user['id']}"
    text = owner.get(page).text
    offered = set(re.findall(r'name="scope" value="([^"]+)"', text))
    assert offered == {"audit:read", "users:read", "secrets:reveal", "tokens:introspect"}
    form: dict[str, object] = {"name": "one", "limited": "on", "scope": ["users:read"], "models": "gpt-5*"}
    assert owner.post(f"{page}/keys", form).status_code == 200
    assert owner.post(f"{page}/keys", {"name": "none", "limited": "on"}).status_code == 200
    assert owner.post(f"{page}/keys", {"name": "all"}).status_code == 200
    keys = owner.api.get(f"{USERS}/{user['id']}/keys").json()["data"]
    assert [(key["name"], key["scopes"], key["models"]) for key in keys] == [
        ("one", ["users:read"], ["gpt-5*"]),
        ("none", [], None),
        ("all", None, None),
    ]
    wrong = owner.post(f"{page}/keys", {"name": "x", "limited": "on", "scope": ["users:fly"], "models": "a b"})
    assert (wrong.status_code, "<details" in wrong.text) == (400, True)


def test_an_earlier_credential_is_in_force_again(owner: Browser) -> None:
    """Its versions stand on a page of their own, without their values; removed ones can come back too."""
    user = made(owner, tag="ada")
    page, secret = f"/users/{user['id']}", f"{USERS}/{user['id']}/secrets/openai"
    for value in ("sk-first-1234567890", "sk-second-1234567890"):
        assert owner.api.put(secret, json={"provider": "openai", "value": value}).is_success
    versions = owner.get(f"{page}/secrets/openai/versions").text
    assert "sk-" not in versions
    assert versions.count("/secrets/openai/restore") == 1
    assert owner.post(f"{page}/secrets/openai/restore", {"version": "1"}).status_code == 303
    assert owner.api.post(f"{secret}/reveal", json={"reason": "t"}).json()["value"] == "sk-first-1234567890"
    owner.post(f"{page}/secrets/openai/remove", {"seen": "openai:3"})
    assert owner.get(f"{page}/secrets/openai/versions").text.count("/secrets/openai/restore") == 3
    assert owner.post(f"{page}/secrets/openai/restore", {"version": "2"}).status_code == 303
    assert owner.api.post(f"{secret}/reveal", json={"reason": "t"}).json()["value"] == "sk-second-1234567890"
    for version in ("", "0", "x", "99", "1" * 40):
        assert owner.post(f"{page}/secrets/openai/restore", {"version": version}).status_code in {400, 404}, version


def test_a_credential_that_somebody_else_has_set(owner: Browser) -> None:
    """Nobody replaces or removes a version that their page has not shown; the page that says so shows it."""
    user = made(owner, tag="ada")
    page, secret = f"/users/{user['id']}", f"{USERS}/{user['id']}/secrets/openai"
    form: dict[str, object] = {"name": "openai", "provider": "openai", "value": "sk-ours-1234567890"}
    assert owner.api.put(secret, json={"provider": "openai", "value": "sk-theirs-1234567890"}).is_success
    for answer in (owner.post(f"{page}/secrets", form), owner.post(f"{page}/secrets/openai/remove", {"seen": "x"})):
        assert answer.status_code == 412
        assert "Somebody else has made a change meanwhile." in answer.text
        assert 'name="seen" value="openai:1"' in answer.text
        assert "sk-ours" not in answer.text
    assert owner.api.post(f"{secret}/reveal", json={"reason": "t"}).json()["value"] == "sk-theirs-1234567890"
    assert owner.post(f"{page}/secrets", {**form, "seen": ["other:9", "openai:1"]}).status_code == 303
    assert owner.post(f"{page}/secrets/openai/remove", {"seen": "openai:2"}).status_code == 303


def test_what_is_wrong_is_told_in_the_readers_language(browser: Browser) -> None:
    """Not in the words of the API, which are for programs."""
    browser.sign_in(key_of(browser, "member"))
    refused = browser.get("/users").text
    assert "does not give the scope users:read" in refused
    browser.http.headers["Accept-Language"] = "vi"
    assert "không cho phạm vi users:read" in browser.get("/users").text
    browser.sign_in()
    assert "Không có người dùng này" in browser.get(f"/users/{uuid7()}").text
    assert "Không có trang nào" in browser.get("/nowhere/at/all").text


def test_times_in_events_are_times(owner: Browser) -> None:
    """What a script shows in the reader's zone, and no text of the database."""
    user = made(owner, tag="ada")
    ends = (datetime.now(timezone.utc) + timedelta(days=3)).replace(microsecond=0)
    owner.api.post(f"{USERS}/{user['id']}/keys", json={"name": "k", "expiresAt": ends.isoformat()})
    for path in (f"/users/{user['id']}", "/audit"):
        text = owner.get(path).text
        assert f'<bdi><time datetime="{ends.isoformat()}"' in text


def test_a_credential_is_shown_to_who_says_why(owner: Browser) -> None:
    """Not by default, not without a reason, and not in the answer that refuses it; the log has the reason."""
    page = f"/users/{made(owner, tag='ada')['id']}"
    value = "sk-canary-1234567890"
    assert value not in owner.post(f"{page}/secrets", {"name": "UPPER", "provider": "x", "value": value}).text
    assert owner.post(f"{page}/secrets", {"name": "openai", "provider": "openai", "value": value}).status_code == 303
    assert value not in owner.get(page).text
    assert value not in owner.post(f"{page}/secrets/openai/reveal", {"reason": " "}).text
    assert value in owner.post(f"{page}/secrets/openai/reveal", {"reason": "ticket 4711"}).text
    assert "ticket 4711" in owner.get(page).text


def test_several_users_at_once_and_back(owner: Browser) -> None:
    """Asked about by name, done, and undone; who was changed meanwhile is left alone."""
    users = [made(owner, tag=f"u{number}") for number in range(3)]
    ids = [user["id"] for user in users]
    asked = owner.post("/users/bulk", {"action": "suspend", "id": ids})
    assert "Suspend 3 users?" in asked.text
    chosen = re.findall(r'name="user" value="([^"]+)"', asked.text)
    owner.api.put(f"{USERS}/{ids[0]}", json={"name": "changed meanwhile"})
    done = owner.post("/users/bulk/apply", {"action": "suspend", "user": chosen})
    assert "2 users suspended" in done.text
    assert "1 was left alone" in done.text
    undo = re.search(r'name="undo" value="([^"]+)"', done.text)
    assert undo
    assert "2 users as before" in owner.post("/users/bulk/undo", {"undo": undo[1]}).text
    assert {owner.api.get(f"{USERS}/{user_id}").json()["status"] for user_id in ids} == {"active"}
    assert owner.post("/users/bulk/undo", {"undo": undo[1][:-2] + "00"}).status_code == 400
    assert owner.post("/users/bulk", {"action": "purge", "id": ids}).status_code == 400
    assert owner.post("/users/bulk", {"action": "suspend"}).status_code == 400


@pytest.mark.in_process
def test_the_overview_says_what_ends_and_what_is_to_rotate(owner: Browser, settings: Settings) -> None:
    """Keys that end soon, the soonest first, and under which keys of the vault values are."""
    user = made(owner, tag="ada", name="Ada")
    for name, days in (("later", 20), ("sooner", 3), ("far", 400), ("never", None)):
        ends = days and (datetime.now(timezone.utc) + timedelta(days=days)).isoformat()
        owner.api.post(f"{USERS}/{user['id']}/keys", json={"name": f"key-{name}", "expiresAt": ends})
    text = owner.get("/overview").text
    assert 0 < text.index("key-sooner") < text.index("key-later")
    assert "key-far" not in text
    assert "key-never" not in text
    assert "No value is under another key." in text
    owner.api.put(f"{USERS}/{user['id']}/secrets/x", json={"provider": "x", "value": "sk-1"})
    rings = {
        "Values are still under test": text_of(entry("test", b"test" * 8), entry("next", b"next" * 8, "primary")),
        "Values need the key test": text_of(entry("next", b"next" * 8, "primary")),
    }
    for told, ring in rings.items():
        write_mount(settings.root, {"VAULT_KEYS": ring}, {})
        services_of(owner).key_ring._look()
        assert told in owner.get("/overview").text


@pytest.mark.in_process
def test_the_log_is_verified_from_its_page(owner: Browser, sql: psycopg.Connection, database: Database) -> None:
    """What the command says, in words; a log that was changed is told as such, and a long one is not waited for."""
    assert "AUDIT_SEAL_KEY is not set" in owner.post("/audit/verify").text
    seed = b"seal" * 8
    key = SecretStr(base64.b64encode(seed).decode())
    object.__setattr__(services_of(owner).settings.secret, "audit_seal_key", key)
    made(owner, tag="ada")
    list(seal_waiting(database, SigningKey(seed)))
    assert "All is as it was sealed." in owner.post("/audit/verify").text
    with mock.patch("ai_admin.console.views.audit._PATIENCE_S", -1):
        assert "longer than a page can wait for" in owner.post("/audit/verify").text
    sql.execute("SET session_replication_role = replica")
    sql.execute("UPDATE audit_events SET source = '192.0.2.1'")
    assert "The log is not as it was sealed." in owner.post("/audit/verify").text


@pytest.mark.in_process
def test_a_fault_of_ours_is_told_on_a_page(owner: Browser) -> None:
    """With the id under which the log has it, and nothing else of what went wrong."""
    with mock.patch("ai_admin.console.views.overview._bars", side_effect=RuntimeError("of the inside")):
        answer = owner.get("/overview")
    assert answer.status_code == 500
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["X-Fission-Request-ID"] in answer.text
    assert "of the inside" not in answer.text


def test_pages_are_vietnamese_for_who_reads_it(owner: Browser) -> None:
    """By the browser's wish, and by a choice that outlasts it."""
    assert 'lang="vi"' in owner.http.get(f"{CONSOLE}/users", headers={"Accept-Language": "vi"}).text
    owner.post("/language", {"language": "vi"})
    page = owner.get("/users").text
    assert 'lang="vi"' in page
    assert "Người dùng" in page
    assert owner.post("/language", {"language": "xx"}).status_code == 400


def test_every_string_is_in_the_catalogue() -> None:
    """A page is in one language, not in two; what is compiled is what is written."""
    folder = _FOLDER / "vi" / "LC_MESSAGES"
    with (folder / "console.po").open("rb") as file:
        written = read_po(file, locale="vi")
    with (folder / "console.mo").open("rb") as file:
        compiled = read_mo(file)
    methods = [("**.py", "python"), ("**.html", "jinja2")]
    keywords = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
    options = {"**.html": {"trim_blocks": "true"}}
    found = extract_from_dir(_FOLDER.parent, methods, options, keywords)
    strings = {message if isinstance(message, str) else message[0] for _, _, message, *_ in found}
    assert len(strings) > 100
    for known in (written, compiled):
        assert {text for text in strings if text not in known or not known[text].string} == set()
    for message in written:
        if message.id:
            assert tuple(compiled[message.id].string or ()) == tuple(message.string or ())
