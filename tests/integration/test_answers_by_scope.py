"""Every route and page with each scope alone: an answer shows a record only to a caller who may read it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask
from werkzeug.routing import Rule

from ai_admin.access.scopes import Scope
from ai_admin.operations import operation_of
from tests.conftest import OWNER_ID, assert_problem
from tests.integration.test_access import ME, bearer, key_of, uncached, user_of
from tests.integration.test_console import _TOKEN, CONSOLE, Browser, browser
from tests.integration.test_console_transfer import upload
from tests.integration.test_standing import BODIES, SECRET
from tests.integration.test_transfer import client_of
from tests.serving import USERS

__all__ = ["browser"]
# Words that stand in a user's record, key and credential alone; and the scopes that show them.
SHOWN_BY = {
    "zanzibar": {Scope.USERS_READ},
    # A gateway is told the tag and models of its caller.
    "serengeti": {Scope.USERS_READ, Scope.TOKENS_INTROSPECT},
    "tanganyika": {Scope.KEYS_READ},
    # The provider is part of a reveal, and of the event of the change.
    "pemba": {Scope.SECRETS_READ, Scope.SECRETS_REVEAL, Scope.AUDIT_READ},
}


@dataclass
class Victim:
    """A user whose record, key and credential hold the words of `SHOWN_BY`, in no event."""

    user: str
    key: str
    token: str
    number: int

    def at(self, rule: Rule) -> str:
        """The address of a route that is about them."""
        values = {"UserID": self.user, "KeyID": self.key, "Name": "openai", "File": "console.css"}
        adapter = rule.map.bind("") if rule.map else None
        assert adapter
        return adapter.build(rule.endpoint, {name: values.get(name, "x") for name in rule.arguments})

    def forms(self) -> Iterator[dict[str, str]]:
        """Fields of all forms at once: none, as they would be taken, and as they would be refused."""
        yield {}
        taken = {
            "tag": f"new-{self.number}", "email": "", "name": "openai", "kind": "service", "role": "member",
            "models": "*", "attributes": "{}", "status": "suspended", "action": "suspend", "id": self.user,
            "hours": "0", "reason": "why", "provider": "openai", "value": "sk-new", "format": "csv", "language": "en",
            "version": "1", "user": f"{self.user}:1", "seen": "openai:2",
        }  # fmt: skip
        yield taken
        yield {**taken, "version": "9", "user": f"{self.user}:9", "seen": "openai:9", "expiresAt": "2000-01-01"}
        yield {**taken, "tag": "no tag!", "name": "", "attributes": "no JSON", "reason": "", "value": ""}

    def bodies(self, case: tuple[str, str]) -> Iterator[tuple[object, dict[str, str]]]:
        """Bodies and headers of a request: none, as they would be taken, and as they would be refused."""
        yield {}, {}
        yield BODIES.get(case), {"If-Match": '"9"'}
        if case[1].startswith(USERS) and "email" not in str(BODIES.get(case)):
            taken = {"tag": f"serengeti-{self.number}", "email": f"zanzibar-{self.number}@example.com"}
            yield {**taken, "name": "x"}, {}
        yield BODIES.get(case), {}


def victims(api: httpx.Client, sql: psycopg.Connection) -> Iterator[Victim]:
    """One after another: what a request changes, the next one does not meet."""
    for number in itertools.count():
        user = user_of(api, f"victim-{number}", role="auditor")
        key = key_of(api, user)
        for value in ("sk-first", "sk-second"):
            put = api.put(f"{USERS}/{user}/secrets/openai", json={"provider": "pemba", "value": value})
            assert put.is_success
        sql.execute(
            """
            UPDATE users
            SET tag = %s, email = %s, name = 'Zanzibar', attributes = '{"place": "Zanzibar"}', models = '{serengeti-*}'
            WHERE id = %s
            """,
            [f"serengeti-{number}", f"zanzibar-{number}@example.com", user],
        )
        sql.execute("UPDATE api_keys SET name = 'Tanganyika' WHERE id = %s", [key["id"]])
        yield Victim(user, key["id"], key["key"], number)


def answers(browser: Browser, key: str, sql: psycopg.Connection) -> Iterator[tuple[str, httpx.Response]]:
    """What every route that is not public answers to a key, by the API or a session."""
    assert browser.app
    assert browser.sign_in(key).status_code == 303
    token = _TOKEN.search(browser.get("/account").text)
    assert token
    source = victims(browser.api, sql)
    victim = next(source)
    for rule in browser.app.url_map.iter_rules():
        operation = operation_of(browser.app, rule.endpoint)
        assert operation
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}) if operation.entry != "public" else ():
            about = f"{method} {rule.rule}"
            sendings: Any = victim.forms() if operation.page else victim.bodies((method, rule.rule))
            for sent in [{}] if method == "GET" else sendings:
                address = victim.at(rule)
                if method == "GET":
                    answer = (browser.http if operation.page else browser.api).get(
                        address, headers={} if operation.page else bearer(key)
                    )
                elif operation.page:
                    file = {"file": ("users.csv", f"tag,kind\nserengeti-{victim.number},service\n".encode())}
                    answer = browser.http.post(
                        address,
                        data={"csrf_token": token[1], **sent},
                        files=file if rule.rule.endswith("/import") and sent else None,
                        follow_redirects=True,
                    )
                elif rule.rule == "/ai/introspect":
                    answer = browser.api.post(address, data={"token": victim.token}, headers=bearer(key))
                else:
                    body, headers = sent
                    if body and rule.rule.endswith("/report-leak"):
                        body = {"key": victim.token}
                    answer = browser.api.request(method, address, json=body, headers={**headers, **bearer(key)})
                yield about, answer
                if method != "GET" and (answer.is_success or answer.history):
                    victim = next(source)


@uncached
@pytest.mark.in_process
@pytest.mark.routing
@pytest.mark.parametrize("scope", list(Scope))
def test_answer_with_one_scope_shows_no_more_than_it_gives(
    server_app: Flask, sql: psycopg.Connection, scope: Scope
) -> None:
    """A key that changes keys or credentials, or a gateway's, would otherwise read the profile of anybody."""
    with client_of(server_app) as api:
        caller = user_of(api, "caller", role="owner")
        key = key_of(api, caller, scopes=[scope.value])["key"]
        found: dict[str, set[str]] = {word: set() for word in SHOWN_BY}
        successes = 0
        for about, answer in answers(Browser(api, server_app), key, sql):
            assert answer.status_code < 500, (about, answer.text)
            successes += answer.status_code < 400
            text = f"{answer.text} {answer.headers}".lower()
            for word in SHOWN_BY:
                if word in text:
                    found[word].add(about)
        # The record of a successor, which its maker gets, has the name of the key that it replaces.
        found["tanganyika"] = {about for about in found["tanganyika"] if not about.endswith("/rotate")}
        assert {word: about for word, about in found.items() if scope not in SHOWN_BY[word] and about} == {}
        assert successes > 5
        assert all(found[word] for word in SHOWN_BY if scope in SHOWN_BY[word] and scope != Scope.AUDIT_READ)


# The results themselves


@uncached
def test_change_by_key_that_may_not_read_has_no_record_in_its_answer(api: httpx.Client) -> None:
    """`PUT {}` would otherwise be a GET for a key that may not read."""
    user = user_of(api, "ada")
    key = key_of(api, user)
    path = f"{USERS}/{user}"
    assert api.put(f"{path}/secrets/openai", json=SECRET).status_code == 201
    changes: list[tuple[str, str, str, object]] = [
        ("PUT", path, "users", {}),
        ("PUT", path, "users", {"name": "Ada"}),
        ("PUT", f"{path}/keys/{key['id']}", "keys", {}),
        ("PUT", f"{path}/secrets/openai", "secrets", SECRET),
        ("PUT", f"{path}/secrets/another", "secrets", SECRET),
        ("POST", f"{path}/secrets/openai/restore", "secrets", {"version": 1}),
    ]
    for method, address, of, body in changes:
        blind, seeing = (
            bearer(key_of(api, str(OWNER_ID), scopes=scopes)["key"])
            for scopes in ([f"{of}:write"], [f"{of}:read", f"{of}:write"])
        )
        answer = api.request(method, address, json=body, headers=blind)
        assert (answer.status_code, answer.text) == (204, ""), address
        shown = api.request(method, address, json=body, headers=seeing)
        assert shown.status_code == 200
        assert shown.json()
        assert answer.headers.get("ETag") == shown.headers.get("ETag")
    assert api.get(path).json()["name"] == "Ada"


@uncached
@pytest.mark.routing
def test_dry_run_of_import_needs_scope_to_read(server_app: Flask) -> None:
    """Its counts would otherwise tell whether a guess about a user is right, and change nothing."""
    with client_of(server_app) as api:
        user_of(api, "ada", role="auditor")
        headers = {"Content-Type": "text/csv"} | bearer(key_of(api, str(OWNER_ID), scopes=["users:write"])["key"])
        file, path = "tag,kind,role\nada,service,auditor\n", f"{USERS}/import"
        dry = api.post(path, params={"dryRun": "true"}, content=file, headers=headers)
        assert_problem(dry, 403, "FORBIDDEN")
        assert api.post(path, content=file, headers=headers).json()["records"] == 1
        browser = Browser(api, server_app)
        browser.sign_in(headers["Authorization"].partition(" ")[2])
        assert upload(browser, file.encode()).status_code == 403


@uncached
def test_own_record_and_key_are_shown_after_change_without_scope_to_read(api: httpx.Client) -> None:
    """Everybody reads these at /ai/me anyway."""
    user = user_of(api, "ada", role="admin")
    key = key_of(api, user, scopes=["users:write", "keys:write"])
    mine = bearer(key["key"])
    assert api.put(f"{USERS}/{user}", json={"name": "Ada"}, headers=mine).json()["name"] == "Ada"
    for keys in (f"{USERS}/{user}/keys", f"{ME}/keys"):
        assert api.put(f"{keys}/{key['id']}", json={"name": "mine"}, headers=mine).json()["name"] == "mine"


@uncached
def test_create_by_key_that_may_not_read_answers_what_was_sent(api: httpx.Client) -> None:
    """The caller needs the id of the new user, and has sent the rest."""
    headers = bearer(key_of(api, str(OWNER_ID), scopes=["users:write"])["key"]) | {"Idempotency-Key": "once"}
    body = {"tag": "ada", "kind": "service", "name": "Ada"}
    made = api.post(USERS, json=body, headers=headers)
    assert api.put(made.headers["Location"], json={"name": "Changed by another"}).status_code == 200
    again = api.post(USERS, json=body, headers=headers)
    assert (again.status_code, again.json()) == (201, made.json())
    assert_problem(api.get(made.headers["Location"], headers=headers), 403, "FORBIDDEN")


@uncached
@pytest.mark.in_process
def test_console_answers_result_alone_to_key_that_may_not_read(browser: Browser) -> None:
    """A form that was taken or refused says so; the new key and the revealed value are shown all the same."""
    api = browser.api
    user = user_of(api, "ada", name="Ada Lovelace")
    key = key_of(api, user, name="first")
    page = f"/users/{user}"
    assert api.put(f"{USERS}/{user}/secrets/openai", json=SECRET).status_code == 201

    def ask(scope: str, path: str, **form: object) -> httpx.Response:
        browser.sign_in(key_of(api, str(OWNER_ID), scopes=[scope])["key"])
        answer = browser.post(path, form)
        assert "Lovelace" not in answer.text
        assert answer.headers.get("Location", f"{CONSOLE}/account").startswith(f"{CONSOLE}/account")
        return answer

    assert "aia_" in ask("keys:write", f"{page}/keys", name="second").text
    assert "in the future" in ask("keys:write", f"{page}/keys", name="x", expiresAt="2000-01-01").text
    rotate = f"{page}/keys/{key['id']}/rotate"
    assert "aia_" in ask("keys:write", rotate, hours="1").text
    assert "in the future" in ask("keys:write", rotate, hours="1", expiresAt="2000-01-01").text
    assert SECRET["value"] in ask("secrets:reveal", f"{page}/secrets/openai/reveal", reason="ticket").text
    assert "1 to 500 characters" in ask("secrets:reveal", f"{page}/secrets/openai/reveal").text
    secret = {"name": "openai", "provider": "openai", "value": "sk-x"}
    assert ask("secrets:write", f"{page}/secrets", **secret, seen="openai:1").status_code == 303
    profile = {"tag": "ada", "name": "x", "kind": "service", "role": "member", "version": "9"}
    stale = {"status": "suspended", "version": "9"}
    for answer in (
        ask("secrets:write", f"{page}/secrets", **secret),
        ask("users:write", page, **profile),
        ask("users:write", f"{page}/status", **stale),
    ):
        assert (answer.status_code, "Somebody else has made a change" in answer.text) == (412, True)
    assert ask("users:write", f"{page}/status", status="suspended", version="1").status_code == 303
    assert "Saved." in browser.get("/account?saved=1").text
    assert api.get(f"{USERS}/{user}").json()["status"] == "suspended"
    for path in ("/users/bulk", "/users/bulk/apply"):
        answer = ask("users:write", path, action="activate", id=user, user=f"{user}:2")
        assert (answer.status_code, "users:read" in answer.text) == (403, True)
