"""The console as a function: page by page what the application shows, octet for octet, and no link that leads nowhere.

Only what no two deployments share is masked: ids, times, keys, and what is sealed or signed.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest import mock
from urllib.parse import urlsplit

import httpx
import pytest

from ai_admin import fission
from ai_admin.app import create_app
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.console.views import console
from ai_admin.console.views.files import FILES
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import OWNER_ID, OWNER_KEY, ROOT, calling
from tests.fission import double
from tests.integration.test_console import CONSOLE, Browser
from tests.mounts import mounted
from tests.serving import OFTEN, own_database

Answer = tuple[int, list[tuple[str, str]], str]
# What concerns the connection or the server that writes to it. Flask 2.1, with no session left, says no Vary: Cookie;
# nothing stores such an answer.
_OF_THE_SERVER = {"connection", "keep-alive", "transfer-encoding", "date", "server", "content-length", "vary"}
_MASKS = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "<id>",
    r'name="csrf_token" value="[^"]+"': "<token>",
    r"\b[0-9a-f]{60,}\b": "<sealed>",
    r"\baia_(session|form)=[^;]+": "<cookie>",
    r"\baia_\w{49}\b": "<key>",
    r"…\w{4}<": "…<end of a key><",
    r"<time[^>]*>[^<]*</time>": "<time>",
    r"\bhue-\d+\b": "<hue>",
    r"Expires=[^;]+": "<time>",
}
# The header as the router has it from an ingress.
_TLS = {"X-Forwarded-Proto": "https"}


def masked(text: str) -> str:
    """The text without what no two deployments share."""
    for pattern, name in _MASKS.items():
        text = re.sub(pattern, name, text)
    return text


def in_order(name: str, value: str) -> str:
    """The header's value; the attributes of a cookie are a set (RFC 6265, 4.1.1), which Werkzeugs order differently."""
    return "; ".join(sorted(value.split("; "))) if name == "set-cookie" else value


def shown(answer: httpx.Response) -> Answer:
    """Status, headers and body of an answer, masked."""
    headers = [(name.decode().lower(), masked(value.decode("latin-1"))) for name, value in answer.headers.raw]
    kept = sorted((name, in_order(name, value)) for name, value in headers if name not in _OF_THE_SERVER)
    return answer.status_code, kept, masked(answer.text)


def visit(browser: Browser) -> dict[str, Answer]:
    """What a browser sees that signs in, goes to every page and sends every kind of form."""
    seen = {}

    def see(name: str, answer: httpx.Response) -> httpx.Response:
        seen[name] = shown(answer)
        return answer

    for path in ("", "/users", "/nothing", "/files/console.js.map", "/files/..%2f..%2fforms.py", "//users", "/a%3Fb"):
        see(f"signed out: {path}", browser.get(path))
    for file in FILES:
        tag = see(file, browser.get(f"/files/{file}")).headers["ETag"]
        see(f"{file} again", browser.http.get(f"{CONSOLE}/files/{file}", headers={"If-None-Match": tag}))
    see("sign-in", browser.get("/sign-in?next=x"))
    see("sign-in in Vietnamese", browser.http.get(f"{CONSOLE}/sign-in", headers={"Accept-Language": "vi"}))
    see("wrong key", browser.sign_in("aia_wrong"))
    see("no token", browser.http.post(f"{CONSOLE}/sign-in", data={"key": OWNER_KEY}))
    see("over TLS", browser.http.post(f"{CONSOLE}/sign-in", data=_form(browser, key=OWNER_KEY), headers=_TLS))
    see("signed in", browser.sign_in())
    see("empty list", browser.get("/users"))
    made = see("created", browser.post("/users/new", {"tag": "ada", "email": "ada@example.com", "name": "Zoë <b>"}))
    one = made.headers["Location"].removeprefix(CONSOLE).partition("?")[0]
    see("created again", browser.post("/users/new", {"tag": "ada", "email": "ada@example.com"}))
    changed = {"tag": "ada", "email": "ada@example.com", "kind": "human", "role": "admin", "models": "gpt-5*\nclaude-*"}
    changed |= {"name": "Zoë", "attributes": '{"team": "a&b"}', "version": "1"}
    see("changed", browser.post(one, dict(changed)))
    see("changed by another", browser.post(one, {**changed, "name": "Other"}))
    see("key", browser.post(f"{one}/keys", {"name": "k"}))
    see("credential", browser.post(f"{one}/secrets", {"name": "openai", "provider": "openai", "value": "sk-12345678"}))
    see("revealed", browser.post(f"{one}/secrets/openai/reveal", {"reason": "ticket 4711"}))
    see("versions", browser.get(f"{one}/secrets/openai/versions"))
    user = f"{one.rpartition('/')[2]}:2"
    see("asked about", browser.post("/users/bulk", {"action": "suspend", "id": user[:-2]}))
    see("suspended", browser.post("/users/bulk/apply", {"action": "suspend", "user": user}))
    for path in ("", "/overview", "/users?q=zo%C3%AB&sort=-name", "/users?x=1", "/users/%C3%A4%2F", "/users/import"):
        see(f"signed in: {path}", browser.get(path))
    for path in ("/users/new", one, "/audit?action=users:create", "/account"):
        see(re.sub(r"[0-9a-f-]{36}", "<id>", path), browser.get(path))
    see("verified", browser.post("/audit/verify"))
    see("language", browser.post("/language", {"language": "vi"}))
    see("users in Vietnamese", browser.get("/users"))
    browser.http.headers["Sec-Fetch-Site"] = "cross-site"
    see("from another site", browser.post("/sign-out"))
    del browser.http.headers["Sec-Fetch-Site"]
    see("too much", browser.post("/language", {"language": "x" * 70_000}))
    see("signed out", browser.post("/sign-out"))
    return seen


def _form(browser: Browser, **members: str) -> dict[str, str]:
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/sign-in").text)
    assert token
    return {"csrf_token": token[1], **members}


Visits = dict[str, dict[str, Answer]]


@pytest.fixture(scope="module")
def visits(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Visits:
    """The visit to the application, to the function behind the router, and to it by a trigger that keeps the path."""
    mount = pytestconfig.getoption("--mount")
    function = mount if mount == "environment" else "function"
    found = {}
    ways: dict[str, Callable[[Settings], AbstractContextManager[httpx.Client]]] = {
        "application": lambda settings: calling(create_app(settings, (console,))),
        "mounted": lambda settings: mounted(settings, pytestconfig, function),
        "path kept": path_kept,
    }
    for way, at in ways.items():
        with (
            own_database(postgres, tmp_path_factory.mktemp(way), MAX_BODY_BYTES="65536", **OFTEN) as settings,
            at(settings) as api,
        ):
            found[way] = visit(Browser(api))
    return found


@contextmanager
def path_kept(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the console's function in an environment that takes every path, behind `keepPrefix`."""
    with mock.patch.dict(os.environ, {ROOT_VARIABLE: str(settings.root)}):
        fission.application.cache_clear()
        environment = double.environment(double.load(ROOT / "apps", "console.main"), every_path=True)
    with calling(fission.application(console), environment) as api:
        yield api


@pytest.mark.parametrize("way", ["mounted", "path kept"])
def test_pages_are_the_same(visits: Visits, way: str) -> None:
    """Who moves from the local server to Fission meets the same console."""
    assert visits[way].keys() == visits["application"].keys()
    for name, (status, headers, text) in visits["application"].items():
        own_status, own_headers, own_text = visits[way][name]
        # What differs is shown in few lines.
        assert set(own_headers) ^ set(headers) == set(), name
        assert set(own_text.splitlines()) ^ set(text.splitlines()) == set(), name
        assert (own_status, own_headers, own_text) == (status, headers, text), name


def test_the_visit_sees_every_answer(visits: Visits) -> None:
    """The comparison means something: every status that a page of the console has, and the pages themselves."""
    found = visits["application"]
    assert {status for status, _, _ in found.values()} == {200, 303, 304, 400, 401, 403, 404, 409, 412, 413}
    assert {"Other", "Zoë"} <= set(re.findall(r"<bdi>(\w+)</bdi>", found["changed by another"][2]))
    assert "sk-12345678" in found["revealed"][2]
    assert "Người dùng" in found["users in Vietnamese"][2]


def test_behind_the_router_cookies_are_for_tls(visits: Visits) -> None:
    """The ingress ends TLS and the router hands on what it says: a session never travels without (RFC 6265, 4.1.2)."""
    _, headers, _ = visits["mounted"]["over TLS"]
    (session,) = [value for name, value in headers if name == "set-cookie" and "Max-Age=28800" in value]
    assert {"Secure", "HttpOnly", "SameSite=Strict", f"Path={CONSOLE}"} <= set(session.split("; "))


def test_no_link_leads_nowhere(visits: Visits, settings: Settings) -> None:
    """What a page offers is there: a user's link names an id, and neither import nor export is one."""
    routes = create_app(settings, (console,)).url_map.bind("")
    found = set()
    for _, _, text in visits["mounted"].values():
        for tag in re.findall(r"<(?:a|img|link|script|form)\b[^>]*>", text.replace("<id>", str(OWNER_ID))):
            for address in re.findall(r'(?:href|src|action)="([^"#]+)"', tag):
                endpoint, values = routes.match(urlsplit(address).path, "POST" if 'method="post"' in tag else "GET")
                assert values.get("UserID", str(OWNER_ID)) == str(OWNER_ID), tag
                found.add(endpoint)
    assert {"console.list_users", "console.get_file", "console.verify", "console.change_several"} <= found
