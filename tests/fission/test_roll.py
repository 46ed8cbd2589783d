"""A changed Secret replaces the pods: those with the old and the new one answer side by side, and no request fails.

Fission's fetcher writes the files of a pod once, when the pod is specialised. So each generation of processes has a
Secret of its own here, which never changes.
"""

import base64
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from ai_admin import migrate
from ai_admin.audit.sealing import signing_key, verify_log
from ai_admin.audit.seals import key_id
from ai_admin.cli import app
from ai_admin.config import Settings, load_settings
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import OWNER_ID, OWNER_KEY, ROLE, add_owner, database_secret, write_mount
from tests.fission.test_secret_rotation import accepts, demanding_postgres
from tests.keyrings import entry, text_of
from tests.serving import USERS, serving

CONSOLE = "/ai/admin/console"
OLD, NEW = entry("old", bytes(range(32))), entry("new", bytes(range(1, 33)))
PRIMARY, RETIRED = {"state": "primary"}, {"state": "retired"}
FORMER, LATER = (base64.b64encode(bytes(range(start, start + 32))).decode() for start in (40, 80))
SEAL_1, SEAL_2 = (base64.b64encode(bytes(range(start, start + 32))).decode() for start in (120, 160))
SECOND_ROLE = f"{ROLE}_2"
FIRST, SECOND = {"PG_USER": ROLE, "PG_PASSWORD": "first"}, {"PG_USER": SECOND_ROLE, "PG_PASSWORD": "second"}
# The documented order (docs/operations.md): what each generation of pods is given.
GENERATIONS: tuple[dict[str, str], ...] = (
    {"VAULT_KEYS": text_of(OLD | PRIMARY), "CURSOR_KEY": FORMER, "AUDIT_SEAL_KEY": SEAL_1, **FIRST},
    {"VAULT_KEYS": text_of(OLD | PRIMARY, NEW), "CURSOR_KEY": f"{FORMER} {LATER}", "AUDIT_SEAL_KEY": SEAL_1, **FIRST},
    {"VAULT_KEYS": text_of(OLD, NEW | PRIMARY), "CURSOR_KEY": f"{LATER} {FORMER}", "AUDIT_SEAL_KEY": SEAL_2, **SECOND},
    {"VAULT_KEYS": text_of(OLD | RETIRED, NEW | PRIMARY), "CURSOR_KEY": LATER, "AUDIT_SEAL_KEY": SEAL_2, **SECOND},
)
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_numbers = count(1)


@pytest.fixture(scope="module")
def postgres_with_passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that demands passwords, with a second role that acts as the first."""
    with demanding_postgres(tmp_path_factory.mktemp("pg")) as postgres, postgres.connect("postgres") as sql:
        sql.execute(f"ALTER ROLE {ROLE} PASSWORD 'first'")
        sql.execute(f"CREATE ROLE {SECOND_ROLE} LOGIN PASSWORD 'second' IN ROLE {ROLE}")
        sql.execute(f"ALTER ROLE {SECOND_ROLE} SET role = {ROLE}")
        yield postgres


@dataclass
class Generation:
    """Processes with one Secret."""

    settings: Settings
    api: httpx.Client


def settings_of(postgres: EmbeddedPostgres, number: int, folder: Path) -> Settings:
    """The mount of a generation, written once."""
    secret = database_secret(postgres, "ai_admin") | GENERATIONS[number]
    return load_settings(write_mount(folder / f"mount-{number}", secret, {"LOG_LEVEL": "ERROR"}))


def succeed(response: httpx.Response) -> httpx.Response:
    """Nothing is lost, and nothing refused."""
    assert response.is_success, (response.request.method, response.url, response.status_code, response.text)
    return response


def exchange(one: httpx.Client, other: httpx.Client) -> None:
    """Give each generation what the other has sealed: credentials, kept answers, cursors, the console's forms."""
    secret = f"{USERS}/{OWNER_ID}/secrets/n{next(_numbers)}"
    succeed(one.put(secret, json={"provider": "openai", "value": "a marked value"}))
    assert succeed(other.post(f"{secret}/reveal", json={"reason": "test"})).json()["value"] == "a marked value"

    create = {"tag": f"user-{next(_numbers)}", "kind": "service"}
    key = {"Idempotency-Key": f"key-{next(_numbers)}"}
    created = succeed(one.post(USERS, json=create, headers=key))
    again = succeed(other.post(USERS, json=create, headers=key))
    assert (again.headers["Idempotent-Replayed"], again.json()) == ("true", created.json())

    page = succeed(one.get(USERS, params={"size": 1, "sort": "tag"})).json()
    succeed(other.get(USERS, params={"size": 1, "sort": "tag", "cursor": page["nextCursor"]}))

    # A browser's cookies go to both. What a form takes back was given by the other generation.
    cookies = httpx.Cookies()
    form = succeed(one.get(f"{CONSOLE}/sign-in"))
    cookies.update(form.cookies)
    token = _TOKEN.search(form.text)
    assert token
    answer = other.post(
        f"{CONSOLE}/sign-in", data={"csrf_token": token[1], "key": OWNER_KEY}, headers={"Cookie": _header(cookies)}
    )
    assert answer.status_code == 303, answer.text
    cookies.update(answer.cookies)
    for each in (one, other):
        succeed(each.get(f"{CONSOLE}/overview", headers={"Cookie": _header(cookies)}))
    for client in (one, other):
        client.cookies.clear()


def _header(cookies: httpx.Cookies) -> str:
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies.jar)


def rotate(settings: Settings) -> None:
    """Seal everything anew under the primary key."""
    result = CliRunner().invoke(app, ["vault", "rotate", "--root", str(settings.root)])
    assert result.exit_code == 0, result.output


def renew(postgres: EmbeddedPostgres) -> None:
    """Make the database an empty one, and let both roles in."""
    with postgres.connect("postgres") as sql:
        sql.execute("DROP DATABASE IF EXISTS ai_admin WITH (FORCE)")
        sql.execute(f"CREATE DATABASE ai_admin OWNER {ROLE}")
        sql.execute(f"ALTER ROLE {ROLE} LOGIN")


@pytest.mark.parametrize("number", range(3))
def test_two_generations_of_pods_lose_and_refuse_no_request(
    postgres_with_passwords: EmbeddedPostgres, tmp_path: Path, number: int
) -> None:
    """At each step of a rotation of ring, cursor key, seal key and password, whichever pod a request reaches."""
    postgres = postgres_with_passwords
    renew(postgres)
    before, after = (settings_of(postgres, each, tmp_path) for each in (number, number + 1))
    migrate.upgrade(before.secret)
    with postgres.connect("ai_admin") as sql, ExitStack() as stack:
        add_owner(sql)
        for folder in ("old", "new"):
            (tmp_path / folder).mkdir()
        with serving(before, tmp_path / "old", workers=1) as old:
            secret = f"{USERS}/{OWNER_ID}/secrets/from-before"
            succeed(old.put(secret, json={"provider": "openai", "value": "from before"}))
            new = stack.enter_context(serving(after, tmp_path / "new", workers=1))
            for _ in range(3):
                exchange(old, new)
                exchange(new, old)
        # The old generation has ended; what follows is the next step of the order.
        rotate(after)
        if after.secret.pg_user == SECOND_ROLE:
            sql.execute(f"ALTER ROLE {ROLE} NOLOGIN")
            assert not accepts(postgres, "first")
        revealed = succeed(new.post(f"{secret}/reveal", json={"reason": "test"}))
        assert revealed.json()["value"] == "from before"
        exchange(new, new)
    keys = [key for each in (before, after) if (key := signing_key(each.secret))]
    publics = [key.verify_key for key in keys]
    result, _ = verify_log(after.secret, {key_id(public): public for public in publics}, None, lambda *_: None)
    assert result.ok, result.findings


def test_a_step_that_is_left_out_fails_requests(postgres_with_passwords: EmbeddedPostgres, tmp_path: Path) -> None:
    """The order is needed, and the test above can fail: old pods do not open what is sealed two steps later."""
    renew(postgres_with_passwords)
    before, after = (settings_of(postgres_with_passwords, each, tmp_path) for each in (0, 2))
    migrate.upgrade(before.secret)
    with postgres_with_passwords.connect("ai_admin") as sql:
        add_owner(sql)
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    with serving(before, tmp_path / "old", workers=1) as old, serving(after, tmp_path / "new", workers=1) as new:
        secret = f"{USERS}/{OWNER_ID}/secrets/new"
        succeed(new.put(secret, json={"provider": "openai", "value": "a marked value"}))
        refused = old.post(f"{secret}/reveal", json={"reason": "test"})
        assert (refused.status_code, refused.json()["errorCode"]) == (500, "SEALED_VALUE_UNREADABLE")
        succeed(new.post(USERS, json={"tag": "bot", "kind": "service"}))
        page = succeed(new.get(USERS, params={"size": 1, "sort": "tag"})).json()
        assert old.get(USERS, params={"size": 1, "sort": "tag", "cursor": page["nextCursor"]}).status_code == 400
