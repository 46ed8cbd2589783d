"""The same requests to the application and to its functions: the answers are the same, octet for octet.

Only what no two deployments share is masked: ids that the service makes, times, sealed cursors.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest

from ai_admin.access.tokens import digest, make_key
from ai_admin.database import SCHEMA_VERSION
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.errors import ErrorCode
from ai_admin.idempotency import _digest
from tests.conftest import OWNER_ID
from tests.identity_provider import AUDIENCE, ISSUER, claims, unsigned
from tests.mounts import OVER_HTTP, mounted
from tests.serving import OFTEN, USERS, own_database

ABSENT = f"{USERS}/01890a5d-ac96-774b-bcce-b302099a8057"
ADA = {"tag": "ada", "email": "ada@example.com", "name": "Ada Lovelace", "attributes": {"team": "a&b"}}
BOT = {"tag": "bot", "kind": "service", "name": "Zoë Ünï"}
CONSOLE = {"Origin": "https://console.example"}
STRANGER = {"Origin": "https://evil.example"}
_LOCK = int.from_bytes(_digest(f"create user, {OWNER_ID}", "held")[:8], "big", signed=True)
# What concerns the connection or the server that writes to it.
_OF_THE_SERVER = {"connection", "keep-alive", "transfer-encoding", "date", "server"}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_CURSOR = re.compile(r'"nextCursor":"([\w-]+)"')


@dataclass(frozen=True)
class Step:
    """One request, and SQL that makes the circumstances before it and takes them away after it.

    `{ada}` in the path is where the user is whom the step that is named `ada` has created, `{cursor}` the last cursor.
    """

    name: str
    request: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    given: str = "SELECT"
    after: str = "SELECT"
    # What an HTTP client does not send, and what the router does not hand on.
    in_process: bool = False
    unrouted: bool = False


MEMBER_KEY = make_key()
# Nobody has signed it, which nobody finds out without the provider's keys.
TOKEN = f"{unsigned({'alg': 'RS256', 'kid': '1'}, claims())}.AA"
# With the digest of that key alone, as every table has it.
MEMBER = f"""
    INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words)
    VALUES ('00000000-0000-7000-8000-000000000002', 'member', 'm', 'm', 'service', 'member', 'active', '{{}}', '{{}}',
            '');
    INSERT INTO api_keys (id, user_id, digest, name, last_four)
    VALUES ('00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000002',
            '\\x{digest(MEMBER_KEY).hex()}', 'm', '0000')
"""
SUSPENDED = f"{MEMBER}; UPDATE users SET status = 'suspended' WHERE tag = 'member'"
NO_MEMBER = "DELETE FROM users WHERE tag = 'member'"
MEMBER_PATH = f"{USERS}/00000000-0000-7000-8000-000000000002"
SECRETS = f"{USERS}/{OWNER_ID}/secrets"
NO_KEY = f"{OWNER_ID.hex[:8]}-0000-7000-8000-000000000009"
# A hundred credentials that nothing opens.
UNREADABLE = f"""
    INSERT INTO user_secrets (id, user_id, name, version, provider, value, last_four)
    SELECT gen_random_uuid(), '{OWNER_ID}', 'n' || n, 1, 'openai', '\\x01010474657374', ''
    FROM generate_series(1, 100) AS n
"""
NONE_UNREADABLE = "DELETE FROM user_secrets WHERE name LIKE 'n%'"
VALUE = {"provider": "openai", "value": "a marked value"}


def whole(path: str) -> dict[str, str]:
    """The header by which a direct call says which of a function's paths it means."""
    return {"X-Fission-Full-Url": path}


STEPS = (
    Step("schema outdated", f"POST {USERS}", ADA, given="UPDATE alembic_version SET version_num = '0000'",
         after=f"UPDATE alembic_version SET version_num = '{SCHEMA_VERSION}'"),
    Step("no credential", f"GET {USERS}", headers={"Authorization": ""}),
    Step("unknown key", f"DELETE {USERS}/{OWNER_ID}", headers={"Authorization": f"Bearer {make_key()}"}),
    Step("a member", f"GET {USERS}", headers={"Authorization": f"Bearer {MEMBER_KEY}"}, given=MEMBER,
         after="DELETE FROM users WHERE tag = 'member'"),
    Step("token of an identity provider that is away", "GET /ai/me", headers={"Authorization": f"Bearer {TOKEN}"}),
    Step("last owner", f"DELETE {USERS}/{OWNER_ID}"),
    Step("owner's keys", f"GET {USERS}/{OWNER_ID}/keys"),
    Step("no such key", f"DELETE {USERS}/{OWNER_ID}/keys/{NO_KEY}"),
    Step("rotate no key", f"POST {USERS}/{OWNER_ID}/keys/{NO_KEY}/rotate", {},
         whole(f"{USERS}/{OWNER_ID}/keys/{NO_KEY}/rotate")),
    Step("rotate no key of oneself", f"POST /ai/me/keys/{NO_KEY}/rotate", {}, whole(f"/ai/me/keys/{NO_KEY}/rotate")),
    Step("all keys", "GET /ai/admin/keys?neverUsed=true"),
    Step("leaked key of nobody", "POST /ai/admin/keys/report-leak", {"key": make_key()},
         whole("/ai/admin/keys/report-leak")),
    Step("leaked key that is none", "POST /ai/admin/keys/report-leak", {"key": "x"},
         whole("/ai/admin/keys/report-leak")),
    Step("oneself", "GET /ai/me"),
    Step("one's keys", "GET /ai/me/keys"),
    Step("no such key of oneself", f"PUT /ai/me/keys/{NO_KEY}", {"name": "x"}),
    Step("audit of nobody", f"GET /ai/admin/audit?actor={OWNER_ID}&action=users:purge"),
    Step("no credentials", f"GET {SECRETS}"),
    Step("set a credential", f"PUT {SECRETS}/openai", VALUE, CONSOLE),
    Step("set it again", f"PUT {SECRETS}/openai", VALUE),
    Step("set none", f"PUT {SECRETS}/openai", {"provider": "openai"}),
    Step("set one of a bad name", f"PUT {SECRETS}/OpenAI", VALUE),
    Step("credentials", f"GET {SECRETS}"),
    Step("reveal", f"POST {SECRETS}/openai/reveal", {"reason": "x"}, whole(f"{SECRETS}/openai/reveal")),
    Step("reveal without a reason", f"POST {SECRETS}/openai/reveal", {}, whole(f"{SECRETS}/openai/reveal")),
    Step("reveal none", f"POST {SECRETS}/other/reveal", {"reason": "x"}, whole(f"{SECRETS}/other/reveal")),
    Step("reveal of a suspended user", f"POST {MEMBER_PATH}/secrets/openai/reveal", {"reason": "x"},
         whole(f"{MEMBER_PATH}/secrets/openai/reveal"), given=SUSPENDED, after=NO_MEMBER),
    Step("reveal what does not open", f"POST {SECRETS}/n1/reveal", {"reason": "x"}, whole(f"{SECRETS}/n1/reveal"),
         given=UNREADABLE, after=NONE_UNREADABLE),
    Step("too many credentials", f"PUT {SECRETS}/one-more", VALUE, given=UNREADABLE, after=NONE_UNREADABLE),
    Step("remove a credential", f"DELETE {SECRETS}/openai"),
    Step("remove it again", f"DELETE {SECRETS}/openai"),
    Step("versions", f"GET {SECRETS}/openai/versions", headers=whole(f"{SECRETS}/openai/versions")),
    Step("restore", f"POST {SECRETS}/openai/restore", {"version": 1}, whole(f"{SECRETS}/openai/restore")),
    Step("empty list", f"GET {USERS}"),
    Step("ada", f"POST {USERS}", ADA, {"Idempotency-Key": "ada"}),
    Step("bot", f"POST {USERS}", BOT, CONSOLE),
    Step("create again", f"POST {USERS}", ADA),
    Step("create with the same email", f"POST {USERS}", ADA | {"tag": "b"}),
    Step("create nothing", f"POST {USERS}", {}),
    Step("create from broken JSON", f"POST {USERS}", b'{"tag": '),
    Step("create with a query", f"POST {USERS}?x=1", ADA),
    Step("create from text", f"POST {USERS}", b"ada", {"Content-Type": "text/plain"}),
    Step("create from too much", f"POST {USERS}", b" " * 70_000, STRANGER),
    Step("create from a body cut short", f"POST {USERS}", b"{", {"Content-Length": "9"}, in_process=True),
    Step("keyed", f"POST {USERS}", BOT | {"tag": "keyed"}, {"Idempotency-Key": "k"}),
    Step("replay", f"POST {USERS}", BOT | {"tag": "keyed"}, {"Idempotency-Key": "k"}),
    Step("key reused", f"POST {USERS}", BOT | {"tag": "other"}, {"Idempotency-Key": "k"}),
    Step("key in use", f"POST {USERS}", BOT | {"tag": "other"}, {"Idempotency-Key": "held"},
         given=f"SELECT pg_advisory_lock({_LOCK})", after=f"SELECT pg_advisory_unlock({_LOCK})"),
    Step("bad key", f"POST {USERS}", BOT, {"Idempotency-Key": "a b"}),
    Step("internal error", f"POST {USERS}", BOT | {"tag": "boom"},
         given="ALTER TABLE users ADD CONSTRAINT surprise CHECK (tag <> 'boom')",
         after="ALTER TABLE users DROP CONSTRAINT surprise"),
    Step("list", f"GET {USERS}", headers=CONSOLE),
    Step("list for a stranger", f"GET {USERS}", headers=STRANGER),
    Step("head of the list", f"HEAD {USERS}"),
    Step("page", f"GET {USERS}?sort=tag&size=1"),
    Step("next page", f"GET {USERS}?sort=tag&size=1&count=none&cursor={{cursor}}"),
    Step("cursor of another list", f"GET {USERS}?sort=name&cursor={{cursor}}"),
    Step("page none", f"GET {USERS}?page=0"),
    Step("empty query", f"GET {USERS}?"),
    Step("query of nothing", f"GET {USERS}?&&"),
    Step("parameter without a value", f"GET {USERS}?tag"),
    Step("words with plus", f"GET {USERS}?q=ada+love"),
    Step("words with encoded plus", f"GET {USERS}?q=ada%2Blove"),
    Step("encoded name of a parameter", f"GET {USERS}?%74ag=%61da"),
    Step("other script", f"GET {USERS}?q=%C3%BCn%C3%AF"),
    Step("octets that are no UTF-8", f"GET {USERS}?q=%FF"),
    Step("brackets", f"GET {USERS}?attributes[team]=a%26b&tag%5Bprefix%5D=a"),
    Step("question mark and semicolon", f"GET {USERS}?tag=a?b;c=d"),
    Step("repeated", f"GET {USERS}?tag=ada&tag=bot&sort=tag&sort=name"),
    Step("unknown parameter", f"GET {USERS}?x-fission-params-userid=1"),
    Step("get", "GET {ada}", headers=CONSOLE),
    Step("head of one", "HEAD {ada}"),
    Step("not modified", "GET {ada}", headers={"If-None-Match": 'W/"1"'}),
    Step("modified", "GET {ada}", headers={"If-None-Match": '"7"'}),
    Step("bad condition", "GET {ada}", headers={"If-None-Match": "1"}),
    Step("get with a query", "GET {ada}?tag=ada"),
    Step("get an absent one", f"GET {ABSENT}"),
    Step("head of an absent one", f"HEAD {ABSENT}"),
    Step("id in capitals", f"GET {ABSENT.upper().replace(USERS.upper(), USERS)}"),
    Step("percent-encoded id", f"GET {USERS}/%30%31890a5d%2Dac96-774b-bcce-b302099a8057"),
    Step("encoded octets in the id", f"GET {USERS}/%C3%A4%2B+%25"),
    Step("no id", f"GET {USERS}/ada"),
    Step("own parameter", "GET {ada}", headers={"X-Fission-Params-Other": "x", "X-Fission-Params-UserId": "y"}),
    Step("request id", "GET {ada}", headers={"X-Fission-Request-ID": "from-the-router.1"}),
    Step("bad request id", "GET {ada}", headers={"X-Fission-Request-ID": "a b"}),
    Step("change", "PUT {ada}", {"name": "Ada King"}, {"If-Match": '"1"'}),
    Step("change nothing", "PUT {ada}", {}),
    Step("change another version", "PUT {ada}", {"name": "X"}, {"If-Match": '"1"', **CONSOLE}),
    Step("change to a taken tag", "PUT {ada}", {"tag": "bot"}),
    Step("change from text", "PUT {ada}", b"x", {"Content-Type": "text/plain"}),
    Step("change with faults", "PUT {ada}", {"name": "", "colour": 1, "models": ["\u00e9"]}),
    Step("change an absent one", f"PUT {ABSENT}", {}),
    Step("delete another version", "DELETE {ada}", headers={"If-Match": '"1"'}),
    Step("delete", "DELETE {ada}"),
    Step("delete again", "DELETE {ada}"),
    Step("get a deleted one", "GET {ada}"),
    Step("bring back", "PUT {ada}", {"status": "active"}),
    Step("purge with a fault", "DELETE {ada}?purge=1"),
    Step("purge", "DELETE {ada}?purge=true"),
    Step("create an erased one again", f"POST {USERS}", ADA, {"Idempotency-Key": "ada"}),
    Step("key on a list", f"GET {USERS}", headers={"Idempotency-Key": "k"}),
    Step("preflight", f"OPTIONS {USERS}", headers={**CONSOLE, "Access-Control-Request-Method": "POST"}),
    Step("preflight of one", f"OPTIONS {ABSENT}", headers={**STRANGER, "Access-Control-Request-Method": "PUT"}),
    Step("method of the other path", f"DELETE {USERS}", unrouted=True),
    Step("method of the other function", "POST {bot}", {}, CONSOLE, unrouted=True),
    Step("database away", f"GET {USERS}", headers=CONSOLE,
         given="ALTER ROLE ai_admin CONNECTION LIMIT 0; SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
         " WHERE usename = 'ai_admin'"),
    Step("database away for a change", "PUT {bot}", {}, after="ALTER ROLE ai_admin CONNECTION LIMIT -1"),
)  # fmt: skip

Answer = tuple[int, list[tuple[str, str]], str]


def masked(text: str, names: dict[str, str]) -> str:
    """The text without what no two deployments share: ids are named, in the order in which they appear."""
    text = _UUID.sub(lambda found: names.setdefault(found[0], f"<id {len(names)}>"), text)
    return _CURSOR.sub('"nextCursor":"<cursor>"', _TIME.sub("<time>", text))


def in_order(name: str, value: str) -> str:
    """The header's value; Allow is a set (RFC 9110, 10.2.1), which each process has in an order of its own."""
    return ", ".join(sorted(value.split(", "))) if name == "allow" else value


def answers(api: httpx.Client, sql: psycopg.Connection, *, routed: bool, over_http: bool) -> dict[str, Answer]:
    """What the API answers to each step, by the steps' names."""
    known: dict[str, str] = {"cursor": ""}
    names: dict[str, str] = {}
    given: dict[str, Answer] = {}
    for step in STEPS:
        if (step.unrouted and routed) or (step.in_process and over_http):
            continue
        sql.execute(step.given.encode())
        response = send(api, step, known)
        sql.execute(step.after.encode())
        location = response.headers.get("Location")
        if location:
            known[step.name] = location
            names[location.removeprefix(f"{USERS}/")] = f"<{step.name}>"
        cursor = _CURSOR.search(response.text)
        if cursor:
            known["cursor"] = cursor[1]
        # An id that no step has made is one of this answer alone. The router puts one of the headers first.
        own = dict(names)
        raw = sorted((name.decode().lower(), value.decode("latin-1")) for name, value in response.headers.raw)
        headers = [(name, masked(value, own)) for name, value in raw]
        kept = sorted((name, in_order(name, value)) for name, value in headers if name not in _OF_THE_SERVER)
        given[step.name] = (response.status_code, kept, masked(response.content.decode(), own))
    return given


def send(api: httpx.Client, step: Step, known: dict[str, str]) -> httpx.Response:
    """The answer to a step's request."""
    method, url = step.request.format(**known).split(" ")
    body: dict[str, Any] = {"content": step.body} if isinstance(step.body, bytes) else {"json": step.body}
    headers = {"Content-Type": "application/json", **step.headers} if step.body is not None else step.headers
    return api.request(method, url, headers=headers, **(body if step.body is not None else {}))


@pytest.fixture(scope="module")
def given(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> dict[str, dict[str, Answer]]:
    """The answers of the application, of its functions (or of what `--mount` says) and of direct calls of them."""
    mount = pytestconfig.getoption("--mount")
    function = mount if mount in {"function", "environment"} else "function"
    ways = {
        "application": ("application", False),
        "mounted": (function if mount == "application" else mount, False),
        "direct": (function, True),
    }
    config = {
        "ALLOWED_ORIGINS": CONSOLE["Origin"],
        "MAX_BODY_BYTES": "65536",
        **OFTEN,
        "POOL_TIMEOUT_MS": "500",
        "OIDC_ISSUER": ISSUER,
        "OIDC_AUDIENCE": AUDIENCE,
        # The port of the discard service, where nobody listens.
        "OIDC_JWKS_URL": "http://127.0.0.1:9/keys",
    }
    found = {}
    for way, (chosen, direct) in ways.items():
        with (
            own_database(postgres, tmp_path_factory.mktemp(way), **config) as settings,
            postgres.connect(settings.secret.pg_database) as sql,
            mounted(settings, pytestconfig, chosen, direct=direct) as api,
        ):
            routed = chosen in {"function", "environment"} and not direct
            found[way] = answers(api, sql, routed=routed, over_http=chosen in OVER_HTTP)
    return found


@pytest.mark.parametrize("way", ["mounted", "direct"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_answers_are_the_same(given: dict[str, dict[str, Answer]], way: str, step: Step) -> None:
    """Who moves from the local server to Fission, or calls a function by itself, meets the same API."""
    if step.name not in given[way]:
        pytest.skip("this way does not take such a request")
    status, headers, body = given["application"][step.name]
    if way == "direct" and step.name == "request id":
        # A function leaves an id that it was given to the router.
        headers = [(name, value) for name, value in headers if name != "x-fission-request-id"]
    assert given[way][step.name] == (status, headers, body)


def test_the_requests_reach_every_answer(given: dict[str, dict[str, Answer]]) -> None:
    """The comparison means something: each status of success, and each error but those of the server alone."""
    found = given["application"].values()
    assert {status for status, _, _ in found} >= {200, 201, 204, 304}
    codes = {json.loads(body)["errorCode"] for status, _, body in found if status >= 400 and body}
    # No request of a function's route is NOT_FOUND, functions take no files, and Fission holds bodies. A database
    # that is read-only is tried in test_observability.py. The two about too many take many requests, and are answered
    # like the rest. KEY_ENDED needs the answer with a key before it, which is random.
    assert {code.value for code in ErrorCode} - codes == {
        "NOT_FOUND",
        "DATABASE_READ_ONLY",
        "IMPORT_RUNNING",
        "REQUEST_TIMEOUT",
        "OVERLOADED",
        "RATE_LIMITED",
        "TOO_MANY_KEYS",
        "KEY_ENDED",
    }
