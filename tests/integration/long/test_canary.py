"""Silence: marked secrets go through every path, and are looked for in all that the service writes and answers.

Secrets are credentials, API keys, tokens, and the keys and the password that the service itself has. They are looked
for whole and in halves, as they are, in hexadecimal digits, in base64 and as Python would print them.
"""

import base64
import io
import json
import logging
import re
import secrets
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from string import ascii_letters
from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask

from ai_admin import embedded
from ai_admin.access import identities
from ai_admin.access.actors import service
from ai_admin.access.tokens import make_key
from ai_admin.app import create_app
from ai_admin.audit import events
from ai_admin.config import Settings, load_settings
from ai_admin.credentials import store
from ai_admin.database import SCHEMA_VERSION
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.errors import ApiError
from ai_admin.http import validation
from ai_admin.server import create_server_app
from ai_admin.vault.keyring import KeyRing
from tests.conftest import OWNER_KEY, ROLE, calling, write_mount
from tests.integration.test_access import AUDIT, ME, NOBODY, Headers, bearer
from tests.keyrings import entry, listening, text_of
from tests.serving import USERS, own_database, serving

# It starts the ways to run the application that it looks at, whatever the mount.
pytestmark = pytest.mark.in_process
# Pairs of a place and the name of a secret that is there.
Found = set[tuple[str, str]]
JSON = {"Content-Type": "application/json"}
REASON = {"reason": "ticket 4711"}
# Every kind of answer that the requests below must have met, or the search means little.
STATUSES = {200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503}

# What breaks the database, and mends it: constraints and a type that do not hold, another schema, a ciphertext that is
# damaged, and no connection at all.
_FLIP = "UPDATE user_secrets SET value = set_byte(value, 40, 255 - get_byte(value, 40))"
_END = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{ROLE}'"
BROKEN = [
    (
        "ALTER TABLE user_secrets ADD CONSTRAINT x CHECK (name <> 'broken')",
        "ALTER TABLE user_secrets DROP CONSTRAINT x",
    ),
    (
        "ALTER TABLE user_secrets ALTER last_four TYPE varchar(2) USING ''",
        "ALTER TABLE user_secrets ALTER last_four TYPE text",
    ),
    (
        "ALTER TABLE audit_events ADD CONSTRAINT x CHECK (action NOT LIKE 'secrets:%') NOT VALID",
        "ALTER TABLE audit_events DROP CONSTRAINT x",
    ),
    (
        "UPDATE alembic_version SET version_num = '0000'",
        f"UPDATE alembic_version SET version_num = '{SCHEMA_VERSION}'",
    ),
    (_FLIP, _FLIP),
    (f"ALTER ROLE {ROLE} CONNECTION LIMIT 0; {_END}", f"ALTER ROLE {ROLE} CONNECTION LIMIT -1"),
]
MISPLACED_IN = (
    "X-Api-Key", "Cookie", "If-Match", "If-None-Match", "Content-Type", "Origin", "User-Agent", "Accept", "Referer",
    "X-Forwarded-For", "X-Fission-Params-UserID", "X-Fission-Full-Url",
)  # fmt: skip


def mark(name: str) -> str:
    """A secret like no other."""
    return f"Canary-{name}-{secrets.token_hex(16)}"


def token() -> str:
    """What looks like a JWT (RFC 7519)."""
    header, claims = ({"alg": "RS256", "kid": "1"}, {"iss": "https://issuer.example", "sub": mark("subject")})
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), secrets.token_bytes(64)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@dataclass
class Secrets:
    """All that must not be found, by name."""

    text: str = field(default_factory=lambda: mark("text"))
    later: str = field(default_factory=lambda: mark("later"))
    refused: str = field(default_factory=lambda: mark("refused"))
    misplaced: str = field(default_factory=lambda: mark("misplaced"))
    letters: str = field(default_factory=lambda: "".join(secrets.choice(ascii_letters) for _ in range(32)))
    raw: bytes = field(default_factory=lambda: secrets.token_bytes(48))
    token: str = field(default_factory=token)
    unknown_key: str = field(default_factory=make_key)
    password: str = field(default_factory=lambda: mark("password"))
    cursor_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    ring_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    other_ring_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    keys: list[str] = field(default_factory=lambda: [OWNER_KEY])

    def named(self) -> Iterator[tuple[str, bytes]]:
        """Each with its name."""
        for name, value in vars(self).items():
            for number, one in enumerate(value if isinstance(value, list) else [value]):
                yield f"{name} {number}", one.encode() if isinstance(one, str) else one


# The search


def forms(secret: bytes) -> set[bytes]:
    """What a secret, or a half of it, may look like."""
    middle = len(secret) // 2
    found = set()
    for part in (secret, secret[:middle], secret[middle:]):
        encoded = {core(part, shift) for shift in range(3)}
        urlsafe = {one.translate(bytes.maketrans(b"+/", b"-_")) for one in encoded}
        printed = {repr(part)[2:-1].encode(), json.dumps(part.decode("latin-1"))[1:-1].encode()}
        found |= {part, part.hex().encode(), part.hex().upper().encode()} | encoded | urlsafe | printed
    return found


def core(part: bytes, shift: int) -> bytes:
    """The base64 digits that depend on the part alone, where it begins `shift` bytes after a group's beginning."""
    encoded = base64.b64encode(bytes(shift) + part).rstrip(b"=")
    complete = (shift + len(part)) % 3 == 0
    return encoded[(0, 2, 3)[shift] : None if complete else -1]


def leaks(known: Secrets, places: dict[str, bytes]) -> Found:
    """Which secret is found where."""
    return {
        (place, name)
        for name, secret in known.named()
        for form in forms(secret)
        for place, content in places.items()
        if form in content
    }


@pytest.mark.parametrize(
    "leak",
    [
        lambda secret: b"x" + secret + b"y",
        lambda secret: secret[: len(secret) // 2],
        lambda secret: b"\\x" + secret.hex().encode(),
        base64.b64encode,
        lambda secret: base64.b64encode(b"t" + secret + b"more"),
        lambda secret: base64.urlsafe_b64encode(b"xy" + secret),
        lambda secret: repr({"value": secret}).encode(),
        lambda secret: json.dumps({"value": secret.decode("latin-1")}).encode(),
    ],
)
def test_the_search_finds_each_form(leak: Callable[[bytes], bytes]) -> None:
    """A search that misses a form proves nothing."""
    known = Secrets()
    for name, secret in known.named():
        assert leaks(known, {"here": leak(secret)}) == {("here", name)}
    assert leaks(known, {"here": secrets.token_bytes(4096)}) == set()


# The requests


@dataclass
class Visit:
    """Sends secrets to an API, and keeps what is answered to those who are not to have them."""

    api: httpx.Client
    sql: psycopg.Connection
    known: Secrets
    answers: list[httpx.Response] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    def send(self, method: str, path: str, *, entitled: bool = False, **how: Any) -> httpx.Response:
        """Send a request; where the caller is entitled to a secret its answer is not searched."""
        answer = self.api.request(method, path, **how)
        self.statuses.add(answer.status_code)
        if not entitled or answer.status_code >= 400:
            self.answers.append(answer)
        return answer

    def key(self, user: str, **members: object) -> Headers:
        """The header with a new key, sent twice under an Idempotency-Key."""
        how: Any = {"json": {"name": "x", **members}, "headers": {"Idempotency-Key": secrets.token_hex(4)}}
        first = self.send("POST", f"{USERS}/{user}/keys", entitled=True, **how)
        again = self.send("POST", f"{USERS}/{user}/keys", entitled=True, **how)
        assert first.json() == again.json()
        self.known.keys.append(first.json()["key"])
        return bearer(first.json()["key"])

    def user(self, tag: str, **members: object) -> str:
        """The id of a new service."""
        return str(self.send("POST", USERS, json={"tag": tag, "kind": "service", **members}).json()["id"])

    def everything(self, routes: Iterable[tuple[str, str]]) -> None:
        """What is done with credentials, right and wrong, and secrets in every wrong place of every route."""
        user = self.user("holder", models=["*"])
        gateway = self.key(self.user("gateway"), scopes=["tokens:introspect", "secrets:reveal"])
        member = self.key(user)
        self.use(user, gateway)
        self.fail(user, member)
        self.break_down(user)
        for (method, path), headers in product(routes, (bearer(OWNER_KEY), member, bearer(self.known.token))):
            self.misplace(method, path, user, headers)
        for _ in range(30):
            self.send("POST", f"{USERS}/{user}/secrets/text/reveal", entitled=True, json=REASON)

    def use(self, user: str, gateway: Headers) -> None:
        """What succeeds."""
        known, path = self.known, f"{USERS}/{user}/secrets"
        raw = base64.b64encode(known.raw).decode()
        self.send("PUT", f"{path}/text", json={"provider": "openai", "value": known.text})
        self.send("PUT", f"{path}/raw", json={"provider": "cloud", "valueBase64": raw})
        self.send("PUT", f"{path}/text", json={"provider": "openai", "value": known.later})
        self.send("PUT", f"{path}/text", json={"provider": "openai", "value": known.later})
        for name, headers in product(("text", "raw"), (None, gateway)):
            answer = self.send("POST", f"{path}/{name}/reveal", entitled=True, json=REASON, headers=headers)
            assert answer.json().get("value", raw) in {known.later, raw}
        self.send("DELETE", f"{path}/text")
        self.send("POST", f"{path}/text/restore", json={"version": 1})
        self.send("GET", path)
        self.send("GET", f"{path}/text/versions")
        for asked in (*known.keys, known.unknown_key, known.token):
            self.send("POST", "/ai/introspect", data={"token": asked, "model": "x"}, headers=gateway)
            self.send("GET", "/ai/authorize", params={"model": "x"}, headers=bearer(asked))
            self.send("GET", ME, headers=bearer(asked))

    def fail(self, user: str, member: Headers) -> None:
        """What is refused for what it says, or for who asks."""
        value, path = self.known.refused, f"{USERS}/{user}/secrets/refused"
        for members in (
            {"value": value},
            {"provider": value, "value": value},
            {"provider": "openai", "value": [value]},
            {"provider": "openai", "value": {"value": value}},
            {"provider": "openai", "valueBase64": value},
            {"provider": "openai", "value": value, "valueBase64": value},
            {"provider": "openai", "value": f"{value}\x00"},
            {"provider": "openai", "value": value + "x" * 65_536},
            {"provider": "openai", "value": value, "valeu": value},
            [value],
            value,
        ):
            self.send("PUT", path, json=members)
        for content in (
            f'{{"provider": "openai", "value": "{value}"',
            f'{{"value": {value}}}',
            value,
            f'"{value}\ud800"',
        ):
            self.send("PUT", path, content=content.encode(errors="surrogatepass"), headers=JSON)
        self.send("PUT", path, content=value, headers={"Content-Type": "text/plain"})
        self.send("PUT", path, content=value * 50_000, headers=JSON)
        good = {"provider": "openai", "value": value}
        self.send("PUT", path, json=good, headers=member)
        self.send("PUT", path, json=good, headers=bearer(self.known.unknown_key))
        self.send("PUT", path.replace(user, NOBODY), json=good)
        self.send("PATCH", path, json=good)
        self.send("POST", f"{path}/reveal", json={"reason": [value]})
        self.send("POST", f"{path}/restore", json={"version": value})
        keyed = {"Idempotency-Key": self.known.misplaced}
        self.send("POST", USERS, json={"tag": "once", "kind": "service"}, headers=keyed)
        self.send("POST", USERS, json={"tag": "twice", "kind": "service"}, headers=keyed)
        self.send("PUT", f"{USERS}/{user}", json={"status": "suspended"})
        self.send("POST", f"{USERS}/{user}/secrets/text/reveal", json=REASON)
        self.send("PUT", f"{USERS}/{user}", json={"status": "active"})

    def break_down(self, user: str) -> None:
        """What fails in the database, whose errors quote values."""
        path = f"{USERS}/{user}/secrets"
        good = {"provider": "openai", "value": self.known.refused}
        for statement, undo in BROKEN:
            self.sql.execute(statement.encode())
            self.send("PUT", f"{path}/broken", json=good)
            self.send("POST", f"{path}/text/reveal", entitled=True, json=REASON)
            self.send("POST", f"{path}/text/restore", json={"version": 2})
            self.sql.execute(undo.encode())

    def misplace(self, method: str, path: str, user: str, headers: Headers) -> None:
        """A secret where a route has no place for one."""
        value = self.known.misplaced
        here = path.replace("<UserID>", user).replace("<KeyID>", NOBODY).replace("<Name>", "misplaced")
        if "<" in path:
            for parameter in ("<UserID>", "<KeyID>", "<Name>", "<asset>"):
                there = path.replace(parameter, value)
                self.send(method, there.replace("<UserID>", user).replace("<Name>", "x"), headers=headers)
        for query in ("value", "q", "token", "cursor", "sort", "purge"):
            self.send(method if method != "DELETE" else "GET", here, params={query: value}, headers=headers)
        # The 400 names what it does not know, to who has sent it; nothing else does.
        self.api.request(method, here, params={value: "", self.known.letters: ""}, headers=headers)
        for name in MISPLACED_IN:
            self.send("GET" if method == "DELETE" else method, here, headers={**headers, name: value})
        if method in {"POST", "PUT"}:
            for content in (f'{{"valeu": "{value}"', f'{{"valeu": "{value}"}}', f'"{value}"', value):
                self.send(method, here, content=content, headers=headers | JSON)
            self.send(method, here, data={"valeu": value}, headers=headers)


@contextmanager
def all_loggers() -> Iterator[io.StringIO]:
    """What every logger says that is not the product's own, debug included, with causes and tracebacks."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    # But for the client, which has the secrets to send.
    handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))
    with listening(logging.getLogger(), handler):
        yield lines


def dump(postgres: EmbeddedPostgres, database: str) -> bytes:
    """The database as pg_dump writes it."""
    command: list[str | Path] = [
        embedded.binaries() / "pg_dump",
        "-h",
        postgres.socket_folder,
        "-U",
        embedded.SUPERUSER,
        database,
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout


def audit(api: httpx.Client) -> bytes:
    """The whole audit log as it is answered."""
    pages, query = [], {"size": "200"}
    while True:
        page = api.get(AUDIT, params=query)
        pages.append(page.content)
        if page.json()["nextCursor"] is None:
            return b"".join(pages)
        query["cursor"] = page.json()["nextCursor"]


def routes_of(app: Flask) -> list[tuple[str, str]]:
    """Every method of every path."""
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
    return [(method, rule.rule) for rule in rules for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]


def search(visit: Visit, postgres: EmbeddedPostgres, logs: bytes) -> Found:
    """Send everything, then look everywhere."""
    answers = [
        b"\n".join([*(name + b": " + value for name, value in answer.headers.raw), answer.content])
        for answer in visit.answers
    ]
    stored = dump(postgres, visit.sql.info.dbname)
    assert b"COPY public.user_secrets" in stored
    assert len(re.findall(rb"\\\\x0[12]01", stored)) >= 5, "ciphertexts are in the dump"
    places = {
        "answers": b"\n".join(answers),
        "metrics": visit.api.get("/metrics").content,
        "audit log": audit(visit.api),
        "logs": logs,
        "database": stored,
        "PostgreSQL's log": postgres.log.read_bytes(),
    }
    # In a process that has had another application before, the metrics are counted in the folder of that one.
    assert [place for place, content in places.items() if not content and place != "metrics"] == []
    return leaks(visit.known, places)


@pytest.fixture
def known() -> Secrets:
    """The secrets of this test."""
    return Secrets()


@pytest.fixture
def marked(postgres: EmbeddedPostgres, tmp_path: Path, known: Secrets) -> Iterator[Settings]:
    """Settings whose keys and password are among the secrets, with all logging on."""
    with own_database(postgres, tmp_path, LOG_LEVEL="DEBUG", POOL_TIMEOUT_MS="300") as settings:
        ring = text_of(entry("test", known.ring_key, "primary"), entry("other", known.other_ring_key))
        keys = {"CURSOR_KEY": base64.b64encode(known.cursor_key).decode(), "VAULT_KEYS": ring}
        yield load_settings(write_mount(settings.root, {**keys, "PG_PASSWORD": known.password}, {}))


@pytest.fixture
def visited(
    marked: Settings,
    postgres: EmbeddedPostgres,
    known: Secrets,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[[bool], Found]:
    """Sends everything to the application in this process, and returns what is found where.

    The argument is whether secrets are put into every wrong place of every route too.
    """

    def visit(misplaced: bool) -> Found:
        monkeypatch.setattr("ai_admin.app._RECORDED_REFUSALS", 10_000)
        (tmp_path / "metrics").mkdir()
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
        with all_loggers() as lines, postgres.connect(marked.secret.pg_database) as sql:
            app = create_server_app(marked)
            with calling(app) as api:
                visit = Visit(api, sql, known)
                visit.everything(routes_of(app) if misplaced else [])
                change_ring(app, marked, known)
                visit.user("after-the-ring-changed")
                written = capfd.readouterr()
                assert visit.statuses >= STATUSES
                assert '"event":"request"' in written.out
                assert "the key ring changed and cannot be used" in written.out
                return search(visit, postgres, (lines.getvalue() + written.out + written.err).encode())

    return visit


def change_ring(app: Flask, settings: Settings, known: Secrets) -> None:
    """Put a ring in force that is wrong, with its keys in the wrong places."""
    wrong = json.dumps(
        {"keys": [entry("x", known.ring_key, "secondary"), {"id": base64.b64encode(known.ring_key).decode()}]}
    )
    write_mount(settings.root, {"VAULT_KEYS": wrong}, {})
    ring = app.extensions["ai_admin"].key_ring
    ring._next_look = 0
    ring.current()


def test_nothing_is_found(visited: Callable[[bool], Found]) -> None:
    """vault #925: debug logs showed keys. No answer, log, metric, event or dump shows a secret to strangers."""
    assert visited(True) == set()


def test_nothing_is_found_where_a_server_runs(
    marked: Settings, postgres: EmbeddedPostgres, known: Secrets, tmp_path: Path
) -> None:
    """The same for a server of its own, with what Granian, its workers and their libraries write."""
    routes = routes_of(create_app(marked))
    with postgres.connect(marked.secret.pg_database) as sql, serving(marked, tmp_path, workers=1) as api:
        visit = Visit(api, sql, known)
        visit.everything(routes)
        assert visit.statuses >= STATUSES
        assert "/ai/admin/users/<UserID>/secrets/<Name>/reveal" in api.get("/metrics").text
        assert search(visit, postgres, (tmp_path / "server.log").read_bytes()) == set()


# What people write, and a purge


@dataclass
class Written:
    """Texts that each stand in one place, lower-case letters and digits, as every grammar takes them."""

    texts: dict[str, str] = field(default_factory=dict)

    def new(self, place: str) -> str:
        """A text for this place."""
        self.texts[place] = f"canary-{secrets.token_hex(12)}"
        return self.texts[place]

    def found_in(self, content: bytes) -> set[str]:
        """The places whose text is there, in any form that the search knows."""
        return {
            place
            for place, text in self.texts.items()
            if any(form in content for form in forms(text.removeprefix("canary-").encode()) if len(form) > 20)
        }


def write_everywhere(api: httpx.Client, written: Written, person: str) -> set[str]:
    """Put a text of their own into everything that the person, and who looks after them, can write.

    Returns the places that the log tells of, and not the row of the person alone.
    """
    new, path = written.new, f"{USERS}/{person}"

    def send(method: str, path: str, **how: Any) -> httpx.Response:
        answer = api.request(method, path, **how)
        assert answer.is_success, answer.text
        return answer

    for round_ in ("first", "second"):
        send(
            "PUT",
            path,
            json={
                "tag": new(f"tag, {round_}"),
                "email": f"{new(f'email, {round_}')}@example.com",
                "name": new(f"name, {round_}"),
                "models": [new(f"models, {round_}")],
                "attributes": {new(f"attribute, {round_}"): [{"x": new(f"attribute's value, {round_}")}]},
            },
        )
    key = send("POST", f"{path}/keys", json={"name": new("key's name"), "models": [new("key's models")]}).json()
    send("PUT", f"{path}/keys/{key['id']}", json={"name": new("key renamed"), "models": [new("key's later models")]})
    mine = bearer(key["key"])
    own = send(
        "POST",
        f"{ME}/keys",
        headers=mine,
        json={"name": new("own key's name"), "models": [written.texts["key's later models"]]},
    ).json()
    send("DELETE", f"{ME}/keys/{own['id']}", headers=mine)
    successor = send("POST", f"{path}/keys/{key['id']}/rotate", json={}).json()
    name, provider = new("credential's name"), new("credential's provider")
    send("PUT", f"{path}/secrets/{name}", json={"provider": provider, "value": "x"})
    send("PUT", f"{path}/secrets/{name}", json={"provider": new("credential's later provider"), "value": "y"})
    send("POST", f"{path}/secrets/{name}/restore", json={"version": 1})
    send("POST", f"{path}/secrets/{name}/reveal", json={"reason": new("reason")})
    send("DELETE", f"{path}/secrets/{name}")
    record = {"tag": written.texts["tag, second"], "name": new("name in a file")}
    lines = json.dumps(record) + "\n" + json.dumps({"tag": new("tag of a bad row"), "email": new("no address")})
    send("POST", f"{USERS}/import", content=lines, headers={"Content-Type": "application/x-ndjson"})
    told = set(written.texts) - {"tag of a bad row", "no address"}
    # What is asked for is told to nobody, nor is what is refused.
    asked = {"q": new("words"), "email": new("address"), f"attributes[{new('attribute asked for')}]": new("value")}
    send("GET", f"{USERS}/export", params=asked)
    headers = bearer(successor["key"]) | {"User-Agent": new("program"), "Referer": new("referrer")}
    for refused in (USERS, f"{path}/secrets/{new('name refused')}/versions", f"{path}/keys?{new('parameter')}=1"):
        assert api.get(refused, headers=headers).status_code == 403
    return told


def test_purge_leaves_no_text_about_the_person(
    server_app: Flask, settings: Settings, postgres: EmbeddedPostgres, sql: psycopg.Connection
) -> None:
    """A purge erases a person: no key's name, reason or provider that was written for them outlives it in the log."""
    written = Written()
    with calling(server_app) as api:
        person = api.post(
            USERS, json={"tag": written.new("tag"), "email": f"{written.new('email')}@example.com"}
        ).json()["id"]
        with server_app.extensions["ai_admin"].database.transaction() as connection:
            identity = written.new("issuer"), written.new("subject")
            identities.bind(connection, service("test"), written.texts["tag"], *identity)
        told = {"tag", "email", "issuer", "subject"} | write_everywhere(api, written, person)
        assert written.found_in(audit(api)) == told, "who reads the log is told all of it before"
        assert api.delete(f"{USERS}/{person}", params={"purge": "true"}).status_code == 204
        left = audit(api)
    assert sql.execute("SELECT count(*) > 15 FROM audit_events WHERE target_id = %s", [person]).fetchone() == (True,)
    assert written.found_in(left) == set()
    assert written.found_in(dump(postgres, settings.secret.pg_database)) == set()


# Deliberate leaks


def leak_in_own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's line for debugging."""
    put = store.put

    def leaking(*given: Any) -> Any:
        logging.getLogger("ai_admin.credentials").debug("put %r", given[5].content().get_secret_value())
        return put(*given)

    monkeypatch.setattr(store, "put", leaking)


def leak_in_another_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that logs what it is given."""
    seal = KeyRing.seal

    def leaking(ring: KeyRing, value: bytes, context: Any) -> bytes:
        logging.getLogger("some.library").debug("sealing %s", value.hex())
        return seal(ring, value, context)

    monkeypatch.setattr(KeyRing, "seal", leaking)


def leak_in_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that is not sealed."""
    monkeypatch.setattr(KeyRing, "seal", lambda _ring, value, _context: b"\x01\x01\x04test" + bytes(40) + value)
    monkeypatch.setattr(KeyRing, "open", lambda _ring, value, _context: value[47:])


def leak_in_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that holds the value sealed, as a reason is: only who reads the log sees it."""
    about_secret = events.about_secret
    last = last_opened(monkeypatch)

    def leaking(sql: Any, by: Any, action: Any, user_id: Any, changes: Any) -> None:
        about_secret(sql, by, action, user_id, {**changes, "reason": last[0]})

    monkeypatch.setattr(events, "about_secret", leaking)


def leak_in_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that holds the value as it is."""
    about_secret = events.about_secret
    last = last_opened(monkeypatch)

    def leaking(sql: Any, by: Any, action: Any, user_id: Any, changes: Any) -> None:
        about_secret(sql, by, action, user_id, {**changes, "value": last[0]})

    monkeypatch.setattr(events, "about_secret", leaking)


def last_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The value that was opened last, as Latin-1 has it and without what JSON in PostgreSQL cannot hold."""
    opened = store._opened
    last = [""]

    def remembering(*given: Any) -> Any:
        content = opened(*given)
        last[0] = content.get_secret_value().decode("latin-1").replace("\x00", "")
        return content

    monkeypatch.setattr(store, "_opened", remembering)
    return last


def leak_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pydantic's errors as they come, with the input."""
    details_of = validation.details_of

    def leaking(error: Any, place: str) -> Any:
        return [{**detail, "ctx": {"input": str(error.errors()[0]["input"])}} for detail in details_of(error, place)]

    monkeypatch.setattr(validation, "details_of", leaking)


def leak_of_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings in the text of an error."""
    problem_body = "ai_admin.http.problems.problem_body"

    def leaking(error: ApiError, request: str) -> dict[str, object]:
        from ai_admin.services import services  # noqa: PLC0415

        return {
            "status": error.status,
            "requestId": request,
            "detail": repr(services().settings.secret.pg_password.get_secret_value()),
        }

    monkeypatch.setattr(problem_body, leaking)


@pytest.mark.parametrize(
    ("leak", "place"),
    [
        (leak_in_own_log, "logs"),
        (leak_in_another_log, "logs"),
        (leak_in_the_database, "database"),
        (leak_in_the_reason, "audit log"),
        (leak_in_an_event, "audit log"),
        (leak_in_an_event, "database"),
        (leak_in_an_error, "answers"),
        (leak_of_the_password, "answers"),
    ],
)
def test_a_deliberate_leak_is_found(
    visited: Callable[[bool], Found],
    monkeypatch: pytest.MonkeyPatch,
    leak: Callable[[pytest.MonkeyPatch], None],
    place: str,
) -> None:
    """The search finds a leak in each place that it looks at: finding nothing means something."""
    leak(monkeypatch)
    assert place in {where for where, _ in visited(False)}
