"""Input that is wrong, by mistake or on purpose: told precisely, never a 5xx, and nothing changes."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from flask import Flask

from ai_admin.app import create_app
from ai_admin.config import Settings
from ai_admin.domains import ascii_domain
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import OWNER_ID, assert_problem, flask_client, other_deployment
from tests.mounts import mounted
from tests.serving import own_database

USERS = "/ai/admin/users"
ADA = {"tag": "ada", "email": "ada@example.com", "name": "Ada Lovelace"}
JSON = {"Content-Type": "application/json"}
ABSENT = f"{USERS}/01890a5d-ac96-774b-bcce-b302099a8057"
TEN_MEGABYTES = 10 * 1024 * 1024
# What looks like "ada" or "k" and is not: Cyrillic, full-width, the Kelvin sign, the dotless i, a ligature.
LOOK_ALIKES = ("\u0430da", "\uff41\uff44\uff41", "ada\u212a", "ad\u0131", "\ufb01", "ad\u00e1", "ada\u200b")
# How U+0000 and lone surrogates can be written inside a JSON string: escaped, and as raw bytes.
UNSTORABLE = (rb"\u0000", b"\x00", rb"\ud800", rb"\udfff", rb"\udc00\ud800", b"\xed\xa0\x80", b"\xff")


@contextmanager
def unchanged(sql: psycopg.Connection) -> Iterator[None]:
    """Whatever happens inside leaves every row of the database as it is."""
    before = dump(sql)
    yield
    assert dump(sql) == before


def dump(sql: psycopg.Connection) -> list[object]:
    """Everything that the service stores."""
    tables = ("users", "idempotency_keys")
    return [sql.execute(f"SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY 1").fetchall() for table in tables]


@dataclass(frozen=True)
class Probe:
    """A directory with two users, ada and zoe, and requests to it that must be refused.

    `app` is the application in this process, whatever the mount, for what httpx does not send.
    """

    api: httpx.Client
    sql: psycopg.Connection
    app: Flask
    settings: Settings
    ada: str

    def refused(
        self,
        method: str,
        url: str,
        status: int = 400,
        code: str = "VALIDATION_ERROR",
        *,
        content: bytes | None = None,
        json: object = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | dict[bytes, bytes] | None = None,
    ) -> httpx.Response:
        """The request is answered by this problem, and nothing has changed."""
        with unchanged(self.sql):
            response = self.api.request(
                method, url, content=content, json=json, params=params, headers=headers, follow_redirects=False
            )
            assert_problem(response, status, code)
        return response

    def refused_octets(
        self, method: str, url: str, environ: dict[str, str], status: int = 400, code: str = "VALIDATION_ERROR"
    ) -> None:
        """As `refused`, for octets that httpx does not hand to a WSGI application: PEP 3333 has them as Latin-1."""
        with unchanged(self.sql):
            response = flask_client(self.app).open(url, method=method, environ_overrides=environ)
        assert (response.status_code, (response.json or {})["errorCode"]) == (status, code)
        assert response.content_type == "application/problem+json"

    def refused_body(self, body: bytes, status: int = 400, code: str = "VALIDATION_ERROR") -> None:
        """Neither POST nor PUT takes this body."""
        for method, url in (("POST", USERS), ("PUT", self.ada)):
            self.refused(method, url, status, code, content=body, headers=JSON)

    def tags(self, query: str) -> list[str]:
        """The tags that a query finds, in order of tag."""
        response = self.api.get(f"{USERS}?{query}&sort=tag&size=200")
        assert response.status_code == 200, response.text
        found = response.json()
        assert found["total"] == len(found["data"])
        return [user["tag"] for user in found["data"] if user["id"] != str(OWNER_ID)]


@pytest.fixture(scope="module")
def probe(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Probe]:
    """A directory shared by all tests that leave it as it is."""
    with (
        own_database(postgres, tmp_path_factory.mktemp("bad-input")) as settings,
        mounted(settings, pytestconfig) as api,
        postgres.connect(settings.secret.pg_database) as sql,
    ):
        yield Probe(api, sql, create_app(settings), settings, two_users(api))


@pytest.fixture
def own(api: httpx.Client, sql: psycopg.Connection, settings: Settings) -> Probe:
    """A directory of its own for a test that also does what is allowed."""
    return Probe(api, sql, create_app(settings), settings, two_users(api))


def unsendable(header: bytes) -> Any:
    """A case with a header that no client or server lets through."""
    return pytest.param(header, marks=pytest.mark.in_process)


def two_users(api: httpx.Client) -> str:
    """Create ada and zoe; returns where ada is."""
    api.post(USERS, json={"tag": "zoe", "kind": "service"})
    return api.post(USERS, json=ADA).headers["Location"]


def places(response: httpx.Response) -> set[str]:
    """Where a problem finds faults, as `query.page`."""
    return {".".join(map(str, detail["loc"])) for detail in response.json()["details"]}


# Bodies


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b'{"tag": "x"', b"tag=x&kind=service", b"{'tag': 'x'}", b'{"tag": "x",}', b'{"tag": "x"} {}',
     b"\x00", b"\xff\xfe", '{"tag": "x", "kind": "service"}'.encode("utf-16"), b'{"tag": x}', b"nul", b"<x/>"],
)  # fmt: skip
def test_body_that_is_not_json(probe: Probe, body: bytes) -> None:
    """A body that cannot be read is a 400 that says so."""
    probe.refused_body(body)


@pytest.mark.parametrize("body", [b"[]", b"[{}]", b'"x"', b"1", b"1.5", b"null", b"true", b'[["tag", "x"]]'])
def test_body_that_is_not_an_object(probe: Probe, body: bytes) -> None:
    """JSON that is no object has no members, and is not taken for an empty one."""
    probe.refused_body(body)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("around", [b"%s", b'{"tag": "x", "kind": "service", "attributes": {"a": %s}}'])
def test_body_that_is_nested_ten_thousand_deep(probe: Probe, opening: bytes, closing: bytes, around: bytes) -> None:
    """A small body must not exhaust the stack, whether it is ever closed or not."""
    probe.refused_body(around % (opening * 10_000 + b"1" + closing * 10_000))
    probe.refused_body(around % (opening * 10_000))


def test_attributes_at_the_border_of_what_nests(own: Probe) -> None:
    """What is accepted can be read back, listed and changed: no layer nests less than the one before it."""
    for depth in (100, *range(190, 204), 250, 255, 300, 1000):
        value = b'{"a":' * depth + b"1" + b"}" * depth
        body = b'{"tag": "x", "kind": "service", "attributes": %s}' % value
        response = own.api.post(USERS, content=body, headers=JSON)
        if response.status_code == 400:
            assert depth > 100, "an ordinary depth is accepted"
            continue
        assert response.status_code == 201
        path = response.headers["Location"]
        assert own.api.get(path).json()["attributes"] == json.loads(value)
        assert own.api.get(USERS).json()["total"] == 4
        assert own.api.put(path, json={"name": "X"}).json()["version"] == 2
        assert own.api.delete(path).status_code == 204


def test_body_of_ten_megabytes(probe: Probe) -> None:
    """A body is not read into memory beyond the limit, whatever it holds."""
    padded = b'{"tag": "x", "kind": "service"' + b" " * TEN_MEGABYTES + b"}"
    probe.refused_body(padded, 413, "PAYLOAD_TOO_LARGE")
    probe.refused_body(b"\x00" * TEN_MEGABYTES, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.in_process
def test_body_of_ten_megabytes_without_a_length(probe: Probe) -> None:
    """Nor is a chunked one, whose length nobody has declared, read to its end."""
    body = io.BytesIO(b" " * TEN_MEGABYTES)
    with unchanged(probe.sql):
        response = flask_client(probe.app).post(
            USERS,
            input_stream=body,
            headers=JSON,
            environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
        )
    assert (response.status_code, (response.json or {})["errorCode"]) == (413, "PAYLOAD_TOO_LARGE")
    assert body.tell() < TEN_MEGABYTES / 2


@pytest.mark.config(MAX_BODY_BYTES="65536")
def test_the_limit_of_a_body_is_the_one_that_is_set(own: Probe) -> None:
    """The last byte that fits is taken, the next is not."""
    body = b'{"tag": "x", "kind": "service"}'
    own.refused_body(body.ljust(65_537), 413, "PAYLOAD_TOO_LARGE")
    assert own.api.post(USERS, content=body.ljust(65_536), headers=JSON).status_code == 201


@pytest.mark.in_process
@pytest.mark.parametrize("length", ["100", "-1", "x", "1e3", "", "99999999999999999999999"])
def test_content_length_that_is_not_true(probe: Probe, length: str) -> None:
    """A body that ends early, or whose length is no number, is the caller's fault; no part of it counts."""
    with unchanged(probe.sql):
        response = flask_client(probe.app).post(
            USERS,
            input_stream=io.BytesIO(b'{"tag": "x", "kind": "service"'),
            headers=JSON,
            environ_overrides={"CONTENT_LENGTH": length},
        )
    assert response.status_code in {400, 413}
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/xml", "application/problem+json", "application/merge-patch+json", "application/json5", "json",
     "application/json, text/plain", "*/*"],
)  # fmt: skip
def test_wrong_or_missing_content_type(probe: Probe, content_type: str | None) -> None:
    """A browser form cannot post a user across origins: only application/json is read as JSON."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps({"tag": "x", "kind": "service"}).encode()
    for method, url in (("POST", USERS), ("PUT", probe.ada)):
        probe.refused(method, url, 415, "UNSUPPORTED_MEDIA_TYPE", content=body, headers=headers)
        probe.refused_octets(method, url, {"CONTENT_TYPE": "\xe4"}, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_content_type_may_have_parameters_and_capitals(own: Probe) -> None:
    """Media types are case-insensitive, and a charset is no reason to refuse."""
    for number, name in enumerate(("Application/JSON", "application/json; charset=utf-8", "application/json;")):
        body = json.dumps({"tag": f"x{number}", "kind": "service"}).encode()
        assert own.api.post(USERS, content=body, headers={"Content-Type": name}).status_code == 201


@pytest.mark.parametrize(
    "member",
    ['"tag": "x@@"', '"email": "a@@b@example.com"', '"name": "a@@b"', '"name": "@@"', '"models": ["gpt@@"]',
     '"kind": "human@@"', '"role": "member@@"', '"status": "active@@"', '"attributes": {"a@@b": 1}',
     '"attributes": {"a": "x@@"}', '"attributes": {"a": [{"b": ["@@"]}]}', '"attributes": {"a": [{"@@": 1}]}',
     '"a@@b": 1'],
)  # fmt: skip
def test_nul_and_lone_surrogates_in_a_body(probe: Probe, member: str) -> None:
    """PostgreSQL cannot keep U+0000 and UTF-8 has no surrogates: neither may reach the driver or an answer."""
    for text in UNSTORABLE:
        # The member stands last, so that it is the one that counts where it is there twice.
        start = b'{"tag": "x", "email": "x@example.com", '
        probe.refused("POST", USERS, content=start + member.encode().replace(b"@@", text) + b"}", headers=JSON)
        probe.refused("PUT", probe.ada, content=b"{" + member.encode().replace(b"@@", text) + b"}", headers=JSON)


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", str(2**64), str(-(2**63) - 1), "1" * 400, "9" * 5000],
)
@pytest.mark.parametrize("attributes", ['{"a": %s}', '{"a": [1, {"b": %s}]}'])
def test_numbers_that_cannot_be_kept(probe: Probe, number: str, attributes: str) -> None:
    """What JSON cannot say, or what would come back as another number, is refused rather than altered."""
    probe.refused_body(f'{{"tag": "x", "kind": "service", "attributes": {attributes % number}}}'.encode())


def test_numbers_that_can_be_kept_come_back_as_they_were(own: Probe) -> None:
    """The largest integers, small fractions and negative zero survive the way to the database and back."""
    numbers = [2**64 - 1, 1e19, -(2**63), 0, 0.1, 1e-300, 1.7976931348623157e308, 123456789.123456789]
    created = own.api.post(USERS, json={"tag": "x", "kind": "service", "attributes": {"a": numbers}})
    assert created.json()["attributes"] == {"a": numbers}
    assert own.api.get(created.headers["Location"]).json()["attributes"] == {"a": numbers}


def test_attributes_above_16_kib(own: Probe) -> None:
    """The limit counts bytes of JSON: 16,384 are kept, one more is not, and characters are not bytes."""
    empty = len(b'{"a":""}')
    for text in ("x" * (16_385 - empty), "\u00e9" * 8_200, "\U0001f600" * 4_100, '"' * 8_200):
        body = {"tag": "x", "kind": "service", "attributes": {"a": text}}
        own.refused("POST", USERS, json=body)
        own.refused("PUT", own.ada, json={"attributes": {"a": text}})
    largest = {"a": "x" * (16_384 - empty)}
    assert own.api.put(own.ada, json={"attributes": largest}).json()["attributes"] == largest


@pytest.mark.parametrize(
    "body",
    [
        {"tag": ""}, {"tag": "-x"}, {"tag": ".x"}, {"tag": "a b"}, {"tag": "a/b"}, {"tag": "a\n"}, {"tag": "x" * 64},
        {"tag": 1}, {"tag": None}, {"tag": ["x"]}, {"tag": True},
        {"email": ""}, {"email": "x"}, {"email": "x@"}, {"email": "@x"}, {"email": "a b@x.example"},
        {"email": "x@y.example\n"}, {"email": "x@-y.example"}, {"email": "x" * 250 + "@y.example"}, {"email": 1},
        {"name": ""}, {"name": " "}, {"name": "\u3000\u00a0"}, {"name": "a\nb"}, {"name": "a\u202eb"}, {"name": 1},
        {"name": "x" * 201}, {"name": "a\x1bb"}, {"name": "\u2028"},
        {"kind": "robot"}, {"kind": "Human"}, {"kind": 1}, {"role": "root"}, {"role": ""}, {"role": ["member"]},
        {"status": "deleted"}, {"status": "frozen"}, {"status": ""},
        {"models": "gpt"}, {"models": [""]}, {"models": [1]}, {"models": ["a b"]}, {"models": {"a": 1}},
        {"models": [f"m{n}" for n in range(101)]}, {"models": ["x" * 129]}, {"models": [["x"]]}, {"models": [None]},
        {"attributes": []}, {"attributes": "x"}, {"attributes": 1}, {"attributes": None},
    ],
)  # fmt: skip
def test_members_of_the_wrong_form(probe: Probe, body: dict[str, object]) -> None:
    """Each member has its form, in creating and in changing, and the answer names the one that has not."""
    (member,) = body
    created = probe.refused("POST", USERS, json={"tag": "x", "email": "x@example.com"} | body)
    changed = probe.refused("PUT", probe.ada, json=body)
    for response in (created, changed):
        assert all(place.split(".")[:2] == ["body", member] for place in places(response))


def test_unknown_members_are_all_named(probe: Probe) -> None:
    """litellm's and open-webui's SCIM ignored what they did not know; here every unknown name is told at once."""
    unknown = {"id": "x", "version": 7, "createdAt": "x", "Tag": "x", "displayName": "x", "": 1, "\u00e4": {}}
    for response in (
        probe.refused("POST", USERS, json={"tag": "x", "kind": "service"} | unknown),
        probe.refused("PUT", probe.ada, json={"name": "X"} | unknown),
    ):
        assert places(response) == {f"body.{name}" for name in unknown}


def test_the_answer_to_a_bad_body_stays_small(probe: Probe) -> None:
    """A large body of faults must not come back as a larger list of details."""
    many = {f"x{number}": 1 for number in range(20_000)}
    long_name = {"x" * 200_000: 1}
    for body in (many, long_name, {"models": [1] * 50_000}):
        response = probe.refused("POST", USERS, json={"tag": "x", "kind": "service"} | body)
        assert len(response.content) < 100_000


# Look-alikes


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_tags_and_emails_in_look_alike_forms(probe: Probe, text: str) -> None:
    """Nobody can take a handle or an address that reads like another's: both are ASCII, domains in their IDNA form."""
    probe.refused("POST", USERS, json={"tag": text, "kind": "service"})
    probe.refused("POST", USERS, json={"tag": "x", "email": f"{text}@example.com"})
    probe.refused("PUT", probe.ada, json={"email": f"{text}@example.com"})
    for email in (f"ada@{text}.com", f"ada@example.c{text}"):
        kept = str(ascii_domain(email))
        assert kept == email or "xn--" in kept
        if kept == email:
            probe.refused("POST", USERS, json={"tag": "x", "email": email})
            probe.refused("PUT", probe.ada, json={"email": email})
    probe.refused("PUT", probe.ada, json={"tag": text})
    for name in ("tag", "email", "tag[prefix]", "email[prefix]"):
        assert probe.tags(f"{name}={quote(text)}") == []


def test_tags_and_emails_in_another_case_are_the_same(probe: Probe) -> None:
    """litellm #6189: the constraint decides about duplicates, and case makes no difference to it."""
    other = {"tag": "x", "email": "x@example.com"}
    probe.refused("POST", USERS, 409, "DUPLICATE_TAG", json=other | {"tag": "ADA"})
    probe.refused("POST", USERS, 409, "DUPLICATE_EMAIL", json=other | {"email": "Ada@EXAMPLE.Com"})
    for query in ("tag=ADA", "tag[prefix]=AD", "email=ADA@example.COM", "email[prefix]=ADA@", "name[prefix]=ADA"):
        assert probe.tags(query) == ["ada"]


def test_a_kelvin_sign_is_no_k(own: Probe) -> None:
    """Python lowers U+212A to k and PostgreSQL may not: in tags and addresses it matches nothing."""
    own.api.post(USERS, json={"tag": "kim", "email": "kim@example.com"})
    for name, text in product(("tag", "tag[prefix]", "email", "email[prefix]"), ("\u212a", "\u212aim", "\u212aim@")):
        assert own.tags(f"{name}={quote(text)}") == []
    assert own.tags("tag[prefix]=K") == ["kim"]


# Queries

TEXT_FILTERS = (
    "tag", "email", "name", "tag[prefix]", "email[prefix]", "name[prefix]", "q", "attributes[a]", "cursor",
)  # fmt: skip


@pytest.mark.parametrize("text", ["%00", "a%00b", "%ED%A0%80", "%ED%BF%BFx", "%FF", "%C3", "%C0%80", "%F5%80%80%80"])
def test_nul_and_lone_surrogates_in_a_query(probe: Probe, text: str) -> None:
    """Octets that are no UTF-8, and U+0000, are refused before the database could stumble over them."""
    for name in (*TEXT_FILTERS, "id", "kind", "sort", "page", "createdAt[gte]", "unknown"):
        probe.refused("GET", f"{USERS}?{quote(name)}={text}")
    for name in (f"attributes[{text}]", text, f"tag[{text}]"):
        probe.refused("GET", f"{USERS}?{name}=1")
    probe.refused("DELETE", f"{probe.ada}?purge=true&{text}=1")
    probe.refused("DELETE", f"{probe.ada}?purge={text}")


@pytest.mark.parametrize("raw", ["q=\xff", "q=\xc3\xa4", "\xff=1", "q=\x80&tag=a"])
def test_a_query_with_raw_octets(probe: Probe, raw: str) -> None:
    """A URI is ASCII; a server that hands other octets through must not make the service guess."""
    probe.refused_octets("GET", USERS, {"QUERY_STRING": raw})


LITERALS = {
    "percent": "100% sure",
    "underscore": "50_50 chance",
    "backslash": "back\\slash",
    "quote": "O'Brien's",
    "double": 'dou"ble',
    "dollar": "$1 $$ %(v0)s %s {value}",
    "sql": "'; DROP TABLE users; --",
    "operators": "(a & b) | !c <-> d:*",
}
DECOYS = {
    "percent": "100x sure", "underscore": "50x50 chance", "backslash": "backslash", "quote": "OBrien",
    "double": "double", "dollar": "1", "sql": "DROP", "operators": "a",
}  # fmt: skip


def test_special_characters_match_literally(own: Probe) -> None:
    r"""`%`, `_`, `\` and quotes are letters like others: no filter takes them for a pattern or for SQL."""
    for kind, names in (("literal", LITERALS), ("decoy", DECOYS)):
        for tag, name in names.items():
            body = {"tag": f"{kind}-{tag}", "kind": "service", "name": name, "attributes": {"a": name, name: "x"}}
            assert own.api.post(USERS, json=body).status_code == 201
    with unchanged(own.sql):
        for tag, name in LITERALS.items():
            found = [f"literal-{tag}"]
            assert own.tags(f"name={quote(name)}") == found
            assert own.tags(f"name[prefix]={quote(name.upper())}") == found
            assert own.tags(f"attributes[a]={quote(name)}") == found
            assert own.tags(f"attributes[{quote(name)}]=x") == found
            assert f"literal-{tag}" in own.tags(f"q={quote(name)}")
            for other in ("tag", "tag[prefix]"):
                assert own.tags(f"{other}={quote(name)}") == []
            for other in ("email", "email[prefix]"):
                # No address has a blank; one in the query is a plus that was not encoded.
                assert own.tags(f"{other}={quote(name.replace(' ', ''))}") == []


@pytest.mark.parametrize(
    "text", ["%", "_", "\\", "'", '"', "%%", "__", "\\%", "%a", "a%", "_d_", "*", ".*", "''", "$$"]
)
def test_patterns_find_nothing(probe: Probe, text: str) -> None:
    """A wildcard alone finds nobody: it never stands for everyone."""
    for name in TEXT_FILTERS[:-1]:
        # A word search looks at letters and digits alone, so `%a` asks for the word a.
        expected = ["ada"] if name == "q" and text in {"%a", "a%"} else []
        assert probe.tags(f"{name}={quote(text)}") == expected
    for name in ("id", "kind", "role", "status", "sort", "size", "page", "count", "createdAt[gt]", "updatedAt[lte]"):
        assert all(name in place for place in places(probe.refused("GET", f"{USERS}?{name}={quote(text)}")))


def test_wildcards_in_prefixes_of_tags_and_emails(own: Probe) -> None:
    """`_` and `%` may stand in tags and addresses; a prefix with them matches these letters alone."""
    for tag, email in (("a_b", "a_b%c@example.com"), ("axb", "axbxc@example.com"), ("a-b", "a-b@example.com")):
        own.api.post(USERS, json={"tag": tag, "email": email})
    assert own.tags("tag[prefix]=a_") == ["a_b"]
    assert own.tags("email[prefix]=a_b%25") == ["a_b"]
    assert own.tags("email=a_b%25c@example.com") == ["a_b"]
    assert own.tags("tag=a_b") == ["a_b"]


@pytest.mark.parametrize("text", ["\u0301", "\u0301\u0308", "\ufe0f\u0301"])
def test_a_prefix_of_nothing_but_marks_is_not_ignored(probe: Probe, text: str) -> None:
    """litellm's and open-webui's SCIM returned everyone for a filter they could not use."""
    response = probe.api.get(USERS, params={"name[prefix]": text})
    assert response.status_code == 400 or response.json()["total"] == 0


@pytest.mark.parametrize(
    "page",
    ["0", "-1", "-0", str(10**30), "1" + "0" * 5000, "1.0", "1e1", "", " 1", "1_0", "0x1", "\u0661", "NaN", "one"],
)
def test_page_that_is_none(probe: Probe, page: str) -> None:
    """kratos #2286: page 0 was the same as page 1. Here pages begin at 1 and end at row 10,000."""
    response = probe.refused("GET", USERS, params={"page": page})
    assert places(response) == {"query.page"}


def test_pages_end_at_row_ten_thousand(probe: Probe) -> None:
    """Deep pages would read all that stands before them; the answer points to the cursor."""
    assert probe.api.get(USERS, params={"page": "50", "size": "200"}).json()["data"] == []
    for page, size in (("51", "200"), ("10001", "1"), ("51", str(10**9))):
        response = probe.refused("GET", USERS, params={"page": page, "size": size})
        assert "nextCursor" in response.json()["details"][0]["msg"]


def test_page_and_cursor_together(probe: Probe) -> None:
    """Two positions at once have no meaning; neither is silently preferred."""
    cursor = probe.api.get(USERS, params={"size": "1"}).json()["nextCursor"]
    for page in ("1", "2"):
        response = probe.refused("GET", USERS, params={"page": page, "cursor": cursor})
        assert places(response) == {"query.page"}


@pytest.mark.parametrize("host", ["a, b", "a/b", "user@a", "a:b", "[::1", "a:80:80"])
def test_host_that_is_not_one_valid_host_is_refused(probe: Probe, host: str) -> None:
    """A server joins two Host lines by a comma; a proxy may have routed the request by the other one."""
    probe.refused("GET", USERS, 400, "BAD_REQUEST", headers={"Host": host})


@pytest.mark.routing
def test_host_is_judged_before_the_path(probe: Probe) -> None:
    """An unknown path must not say that the host was right."""
    probe.refused("GET", "/no/such/path", 400, "BAD_REQUEST", headers={"Host": "a, b"})


@pytest.mark.parametrize("size", ["0", "-1", str(-(10**30)), "", "1.5", "many", "1e2", "0x10", "+", "--1"])
def test_size_that_is_none(probe: Probe, size: str) -> None:
    """A page of no rows would never end; it is refused, not turned into a default."""
    assert places(probe.refused("GET", USERS, params={"size": size})) == {"query.size"}


@pytest.mark.parametrize("size", ["201", str(10**9), str(10**30)])
def test_size_beyond_the_largest(probe: Probe, size: str) -> None:
    """authentik #21570, casdoor #4954: an answer is bounded, and says by how much."""
    response = probe.api.get(USERS, params={"size": size})
    assert (response.status_code, response.json()["size"]) == (200, 200)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sort", "tag"), ("size", "5"), ("page", "1"), ("count", "none"), ("q", "ada"), ("tag[prefix]", "a"),
     ("email[prefix]", "a"), ("name[prefix]", "a"), ("createdAt[gte]", "2026-01-01T00:00:00Z"),
     ("createdAt[gt]", "2026-01-01T00:00:00Z"), ("updatedAt[lte]", "2036-01-01T00:00:00Z"),
     ("updatedAt[lt]", "2036-01-01T00:00:00Z"), ("attributes[a]", "1"), ("cursor", "x")],
)  # fmt: skip
def test_a_single_parameter_that_is_repeated(probe: Probe, name: str, value: str) -> None:
    """Which of two values counts differs from server to server; here neither does."""
    response = probe.refused("GET", f"{USERS}?{name}={value}&{name}={value}")
    assert f"query.{name}" in places(response)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('{"tag": "x", "kind": "service", "role": "member", "role": "owner"}', "body.role"),
        (r'{"tag": "x", "kind": "service", "role": "member", "r\u006fle": "owner"}', "body.role"),
        ('{"tag": "x", "kind": "service", "attributes": {"a": [{"b": 1, "b": 1}]}}', "body.attributes.a.0.b"),
    ],
)
def test_body_with_repeated_member_is_refused(probe: Probe, content: str, place: str) -> None:
    """A proxy that looks at the first `role` would let an owner pass as a member."""
    for method, url in (("POST", USERS), ("PUT", probe.ada)):
        body = content if method == "POST" else content.replace('"tag": "x", "kind": "service", ', "")
        response = probe.refused(method, url, content=body.encode(), headers=JSON)
        assert places(response) == {place}
        assert response.json()["details"][0]["type"] == "repeated"


def test_a_repeated_purge_is_refused(probe: Probe) -> None:
    """`purge=false&purge=true` must not erase anyone."""
    for query in ("purge=false&purge=true", "purge=true&purge=true", "purge=1", "purge=TRUE", "purge=", "purge"):
        assert places(probe.refused("DELETE", f"{probe.ada}?{query}")) == {"query.purge"}


def test_unknown_parameters_are_all_named(probe: Probe) -> None:
    """litellm's and open-webui's SCIM ignored a filter they did not know and returned everyone."""
    unknown = [
        "Tag", "emails", "filter", "limit", "offset", "name[suffix]", "tag[]", "createdAt", "createdAt[eq]",
        "tag_prefix", "created_gte", "q[prefix]", "attributes", "attributes[]", "", "\u00e4", "role[gt]",
    ]  # fmt: skip
    query = "&".join(f"{quote(name, safe='')}=1" for name in unknown)
    assert places(probe.refused("GET", f"{USERS}?{query}")) == {f"query.{name}" for name in unknown}
    for method, url, body in (("POST", USERS, {"tag": "x", "kind": "service"}), ("PUT", probe.ada, {"name": "X"})):
        response = probe.refused(method, f"{url}?dryRun=true&x=1", json=body)
        assert places(response) == {"query.dryRun", "query.x"}
    assert places(probe.refused("GET", f"{probe.ada}?fields=tag")) == {"query.fields"}
    assert places(probe.refused("DELETE", f"{probe.ada}?force=1&purge=true")) == {"query.force"}


def test_too_many_of_something(probe: Probe) -> None:
    """Lists of values, members and parameters are bounded before they reach the database."""
    probe.refused("GET", f"{USERS}?{'&'.join(f'tag=t{n}' for n in range(101))}")
    probe.refused("GET", f"{USERS}?{'&'.join(f'attributes[a{n}]=1' for n in range(11))}")
    probe.refused("GET", f"{USERS}?{'&'.join(f'x{n}=1' for n in range(1001))}")
    probe.refused("GET", USERS, params={"q": "x" * 201})
    probe.refused("GET", USERS, params={"name": "x" * 255})
    assert probe.tags("&".join(f"tag=t{n}" for n in range(99)) + "&tag=ada") == ["ada"]


@pytest.mark.parametrize("name", ["q", "name", "name[prefix]"])
def test_text_that_grows_when_it_is_folded(probe: Probe, name: str) -> None:
    """One character may fold to eighteen; the search for two hundred of them is still no fault of ours."""
    assert probe.tags(f"{name}={quote(chr(0xFDFA) * 200)}") == []
    assert probe.tags(f"{name}={quote(chr(0x3316) * 200)}") == []


def test_names_that_grow_when_they_are_folded(own: Probe) -> None:
    """Such a name can be stored, found, sorted by, and passed by a cursor."""
    squared = "".join(chr(0x3300 + number % 88) for number in range(0, 200 * 37, 37))
    names = {"x1": chr(0xFDFA) * 200, "x2": chr(0xFDFA) * 199, "x3": squared, "x4": "\U0001f600" * 200}
    for tag, name in names.items():
        assert own.api.post(USERS, json={"tag": tag, "kind": "service", "name": name}).status_code == 201
        assert own.tags(f"name={quote(name)}") == [tag]
    found: list[str] = []
    query = {"sort": "name", "size": "1"}
    while True:
        response = own.api.get(USERS, params=query)
        assert response.status_code == 200, response.text
        found += [user["tag"] for user in response.json()["data"]]
        if response.json()["nextCursor"] is None:
            break
        query["cursor"] = response.json()["nextCursor"]
    assert sorted(found) == ["ada", *names, "zoe", "zz-owner"]


# Cursors


@pytest.fixture
def cursor(probe: Probe) -> str:
    """A cursor of the list of all users by tag."""
    response = probe.api.get(USERS, params={"size": "1", "sort": "tag"})
    return str(response.json()["nextCursor"])


def test_cursor_that_was_cut(probe: Probe, cursor: str) -> None:
    """A cursor that a terminal or a log has cut is not taken for another position."""
    for length in (1, 2, 3, 4, 23, 24, 31, 32, 33, 53, 54, 55, len(cursor) // 2, len(cursor) - 2, len(cursor) - 1):
        response = probe.refused("GET", USERS, params={"sort": "tag", "cursor": cursor[:length]})
        assert places(response) == {"query.cursor"}
    probe.refused("GET", USERS, params={"sort": "tag", "cursor": cursor[1:]})
    probe.refused("GET", USERS, params={"sort": "tag", "cursor": ""})


def test_cursor_that_was_changed(probe: Probe, cursor: str) -> None:
    """A cursor is sealed: no character of it can be changed, added or moved."""
    for index in range(len(cursor)):
        others = [letter for letter in "AB_9" if letter != cursor[index]]
        # All letters in the last place: base64 ignores some of its bits.
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef0123456789-_" if index == len(cursor) - 1 else others[:1]:
            if letter != cursor[index]:
                changed = cursor[:index] + letter + cursor[index + 1 :]
                response = probe.api.get(USERS, params={"sort": "tag", "cursor": changed})
                assert_problem(response, 400, "VALIDATION_ERROR")
    for added in (cursor + "A", cursor + "=", cursor + "==", " " + cursor, cursor + "\n", cursor * 2, "AAAA" + cursor):
        probe.refused("GET", USERS, params={"sort": "tag", "cursor": added})


@pytest.mark.parametrize(
    "text",
    ["x", "\u00e4", "null", "{}", "1", "A" * 100, "../x", "=", "A===",
     # Under gevent Fission's environment takes request lines of 8 KiB.
     *(pytest.param("A" * length, marks=pytest.mark.routing) for length in (8192, 8193))],
)  # fmt: skip
def test_cursor_that_never_was_one(probe: Probe, text: str) -> None:
    """Whatever stands in its place is refused the same way, and tells nothing about the key."""
    probe.refused("GET", USERS, params={"cursor": text})


@pytest.mark.parametrize(
    "query",
    ["sort=tag&kind=human", "sort=tag&q=a", "sort=tag&tag[prefix]=a", "sort=tag&status=deleted", "sort=tag&role=member",
     "sort=tag&attributes[a]=1", "sort=tag&createdAt[gte]=2020-01-01T00:00:00Z", "sort=-tag", "sort=name", ""],
)  # fmt: skip
def test_cursor_of_another_filter_or_order(probe: Probe, cursor: str, query: str) -> None:
    """A cursor that is used with other filters would skip rows without a word."""
    probe.refused("GET", f"{USERS}?{query}&cursor={cursor}")


def test_cursor_goes_with_any_size_and_count(probe: Probe, cursor: str) -> None:
    """The size of a page and the total are no part of the list."""
    response = probe.api.get(f"{USERS}?sort=tag&size=7&count=none&cursor={cursor}")
    assert [user["tag"] for user in response.json()["data"]] == ["zoe", "zz-owner"]


@pytest.mark.in_process
def test_cursor_of_another_deployment(probe: Probe, cursor: str) -> None:
    """A cursor of the test stage says nothing to production: the key is the deployment's own."""
    client = flask_client(create_app(other_deployment(probe.settings)))
    response = client.get(USERS, query_string={"sort": "tag", "cursor": cursor})
    assert (response.status_code, (response.json or {})["errorCode"]) == (400, "VALIDATION_ERROR")
    assert probe.api.get(USERS, params={"sort": "tag", "cursor": cursor}).status_code == 200


# Headers


@pytest.mark.parametrize(
    "header",
    [b"", b"1", b'"1', b'1"', b'"', b"'1'", b'"1" "2"', b'"1",', b',"1"', b'"1",,"2"', b"W/", b'w/"1"', b'W/ "1"',
     b"**", b'*, "1"', b'"1", *', b'"a b"', b'"1"; x', unsendable(b'"\x01"')],
)  # fmt: skip
def test_if_match_malformed(probe: Probe, header: bytes) -> None:
    """A condition that cannot be read is never taken for one that holds."""
    headers = {b"If-Match": header}
    probe.refused("PUT", probe.ada, json={"name": "X"}, headers=headers | {b"Content-Type": b"application/json"})
    probe.refused("DELETE", probe.ada, headers=headers)
    probe.refused("DELETE", f"{probe.ada}?purge=true", headers=headers)
    probe.refused_octets("DELETE", probe.ada, {"HTTP_IF_MATCH": "\xff"})


@pytest.mark.parametrize(
    "header", ['W/"1"', 'W/"1", W/"2"', '"01"', '"1.0"', '""', '"2"', '"' + "9" * 1000 + '"', '"*"']
)
def test_if_match_that_does_not_hold(probe: Probe, header: str) -> None:
    """RFC 9110, 13.1.1: If-Match compares strongly, so a weak tag never matches, not even its own version."""
    headers = {"If-Match": header}
    probe.refused("PUT", probe.ada, 412, "VERSION_MISMATCH", json={"name": "X"}, headers=headers)
    # Nor where nothing would change.
    probe.refused("PUT", probe.ada, 412, "VERSION_MISMATCH", json={}, headers=headers)
    probe.refused("DELETE", probe.ada, 412, "VERSION_MISMATCH", headers=headers)
    probe.refused("DELETE", f"{probe.ada}?purge=true", 412, "VERSION_MISMATCH", headers=headers)


def test_if_match_any_needs_someone(own: Probe) -> None:
    """RFC 9110, 13.1.1: `*` holds for whatever exists, and for nothing else."""
    headers = {"If-Match": "*"}
    own.refused("PUT", ABSENT, 404, "USER_NOT_FOUND", json={"name": "X"}, headers=headers)
    own.refused("DELETE", ABSENT, 404, "USER_NOT_FOUND", headers=headers)
    assert own.api.put(own.ada, json={"name": "X"}, headers=headers).json()["version"] == 2
    assert own.api.delete(f"{own.ada}?purge=true", headers=headers).status_code == 204


@pytest.mark.parametrize("header", ["", "1", '"1', '*, "1"', '"1" "2"'])
def test_if_none_match_malformed(probe: Probe, header: str) -> None:
    """The same form holds for the condition of a read."""
    probe.refused("GET", probe.ada, headers={"If-None-Match": header})


@pytest.mark.parametrize("key", [b"", b"a b", b"x" * 256, b"a\tb", *map(unsendable, [b" ", b"\x01", b"\x7f"])])
def test_idempotency_key_malformed(probe: Probe, key: bytes) -> None:
    """A key that a proxy may alter would not find its answer again, so it is refused before anything is made."""
    headers = {b"Idempotency-Key": key, b"Content-Type": b"application/json"}
    response = probe.refused("POST", USERS, content=b'{"tag": "x", "kind": "service"}', headers=headers)
    assert places(response) == {"header.Idempotency-Key"}
    octets = {"HTTP_IDEMPOTENCY_KEY": "\xc3\xa4", "CONTENT_TYPE": "application/json"}
    probe.refused_octets("POST", USERS, octets)


# Times and ids


@pytest.mark.parametrize(
    "time",
    ["2026-01-31T12:00:00", "2026-01-31", "1769860800", "1769860800.5", "2026-01-31T12:00:00+01:00", "",
     "2026-01-31T12:00:00%2B1:00x", "2026-02-30T00:00:00Z", "2026-01-31T25:00:00Z", "now", "today", "infinity",
     "-infinity", "2026-01-31T12:00:00%20UTC", "P1D", "T", "1T", "0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z",
     "2026-01-31%2012:00:00Z", "2026-01-31T12:00:00%2B24:00", "NaN", "2026-01-31T12:00:60Z", "12:00:00Z"],
)  # fmt: skip
def test_time_of_the_wrong_form(probe: Probe, time: str) -> None:
    """A time without a zone means another hour to each reader; an unencoded + arrives as a space."""
    for name in ("createdAt[gte]", "createdAt[lt]", "updatedAt[gt]", "updatedAt[lte]"):
        assert places(probe.refused("GET", f"{USERS}?{name}={time}")) == {f"query.{name}"}


@pytest.mark.parametrize(
    "zone", ["Z", "z", "%2B00:00", "-00:00", "%2B14:00", "-12:00", "%2B15:59", "%2B16:00", "-23:59"]
)
@pytest.mark.parametrize("time", ["2001-01-31T12:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"])
def test_times_at_the_border_of_what_can_be_said(probe: Probe, time: str, zone: str) -> None:
    """What passes for a time here must pass in the database too: its years and zones reach less far."""
    response = probe.api.get(f"{USERS}?createdAt[gte]={time}{zone}")
    assert response.status_code in {200, 400}, response.text
    if response.status_code == 200:
        assert response.json()["total"] == (0 if time.startswith("9999") else 3)


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_time_beyond_the_calendar_is_refused(own: Probe, time: str) -> None:
    """A zone can lead out of the years that Python has: PostgreSQL kept the time, and nobody could list the keys."""
    keys = f"{own.ada}/keys"
    key = own.api.post(keys, json={"name": "k"}).json()["id"]
    body = {"expiresAt": time}
    assert places(own.refused("POST", keys, json={"name": "x", **body})) == {"body.expiresAt"}
    for method, path in (("PUT", f"{keys}/{key}"), ("POST", f"{keys}/{key}/rotate")):
        assert places(own.refused(method, path, json=body)) == {"body.expiresAt"}
    for path, name in ((USERS, "createdAt[gte]"), (USERS, "updatedAt[lt]"), ("/ai/admin/audit", "at[gte]")):
        assert places(own.refused("GET", path, params={name: time})) == {f"query.{name}"}
    assert own.api.get(keys).status_code == 200


@pytest.mark.parametrize("version", ["9" * 5000, "9" * 30])
def test_version_of_many_digits_is_refused(own: Probe, version: str) -> None:
    """Python makes no integer of 5,000 digits: what tries is a fault of ours."""
    own.api.put(f"{own.ada}/secrets/openai", json={"provider": "openai", "value": "sk-1"})
    body = f'{{"version": {version}}}'.encode()
    own.refused("POST", f"{own.ada}/secrets/openai/restore", content=body, headers=JSON)
    answer = own.api.put(own.ada, json={"name": "x"}, headers={"If-Match": f'"{version}"'})
    assert answer.status_code in {400, 412}


@pytest.mark.parametrize(
    "user_id",
    ["1", "me", "ada", "01890a5d-ac96-774b-bcce-b302099a805", "01890a5d-ac96-774b-bcce-b302099a80577",
     "01890a5dac96774bbcceb302099a8057", "%7B01890a5d-ac96-774b-bcce-b302099a8057%7D", "%27", "null",
     "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a805g", "*",
     # On Fission an id travels in a header, which cannot hold these.
     *(pytest.param(text, marks=pytest.mark.routing) for text in ("%00", "%20", ABSENT.rpartition("/")[2] + "%0A"))],
)  # fmt: skip
def test_id_that_is_no_uuid(probe: Probe, user_id: str) -> None:
    """An id has one form, in the path and in a query; a malformed one is a 400, not a lookup that finds nobody."""
    for method, body in (("GET", None), ("PUT", {"name": "X"}), ("DELETE", None)):
        assert places(probe.refused(method, f"{USERS}/{user_id}", json=body)) == {"path.UserID"}
    probe.refused("DELETE", f"{USERS}/{user_id}?purge=true")
    for octets in ("\xff", "\xd9\xa01890a5d-ac96-774b-bcce-b302099a8057"):
        probe.refused_octets("DELETE", USERS, {"PATH_INFO": f"{USERS}/{octets}"})
    probe.refused("GET", f"{USERS}?id={user_id}")
    probe.refused("GET", f"{USERS}?id=01890a5d-ac96-774b-bcce-b302099a8057&id={user_id}")


def test_id_in_capitals_is_the_same(probe: Probe) -> None:
    """RFC 9562, 4: case makes no difference in reading a UUID."""
    user_id = probe.ada.rpartition("/")[2]
    assert probe.api.get(f"{USERS}/{user_id.upper()}").json()["tag"] == "ada"
    assert probe.tags(f"id={user_id.upper()}") == ["ada"]


def test_id_of_nobody(probe: Probe) -> None:
    """A well-formed id that nobody has is 404 for each method, with and without a purge."""
    for method, url, body in (
        ("GET", ABSENT, None),
        ("PUT", ABSENT, {"name": "X"}),
        ("PUT", ABSENT, {}),
        ("DELETE", ABSENT, None),
        ("DELETE", f"{ABSENT}?purge=true", None),
    ):
        probe.refused(method, url, 404, "USER_NOT_FOUND", json=body)


# Methods and paths


@pytest.mark.routing
@pytest.mark.parametrize("method", ["PATCH", "TRACE", "FROBNICATE", "PROPFIND", "CONNECT", "QUERY"])
def test_unknown_method(probe: Probe, method: str) -> None:
    """RFC 9110, 15.5.6: 405 says in Allow what would be taken."""
    for url, allowed in (
        (USERS, {"GET", "HEAD", "OPTIONS", "POST"}),
        (probe.ada, {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}),
    ):
        response = probe.refused(method, url, 405, "METHOD_NOT_ALLOWED", json={"name": "X"})
        assert response.headers["Allow"].split(", ") == sorted(allowed)


@pytest.mark.routing
def test_method_of_the_other_path(probe: Probe) -> None:
    """Nobody deletes or replaces all users at once, and nobody posts to one."""
    for method, url in (("DELETE", USERS), ("PUT", USERS), ("POST", probe.ada), ("POST", ABSENT)):
        response = probe.refused(method, url, 405, "METHOD_NOT_ALLOWED", json={"name": "X"})
        assert method not in response.headers["Allow"].split(", ")


@pytest.mark.routing
@pytest.mark.parametrize(
    "path",
    ["/ai", "/ai/admin/", "/ai/admin/user", "/ai/admin/usersx", "/ai/admin/users/",
     "/ai/admin/Users", "/ai/admin/users/x/y", "/ai/admin/users/01890a5d-ac96-774b-bcce-b302099a8057/", "/%00",
     "/ai/admin/users/..%2f..%2fetc%2fpasswd", "/ai/admin/users;x", "/static/x", "/ai//admin/users",
     "/ai/admin//users", "/.env", "/ai/admin/users%20"],
)  # fmt: skip
def test_unknown_path(probe: Probe, path: str) -> None:
    """There is no HTML page anywhere: an unknown path is a problem too, for every method."""
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        probe.refused(method, path, 404, "NOT_FOUND")
    probe.refused_octets("GET", "/", {"PATH_INFO": "/\xff\xc3"}, 404, "NOT_FOUND")


@pytest.mark.in_process
@pytest.mark.config(ALLOWED_ORIGINS="https://console.example https://other.example")
def test_errors_carry_cors_headers_for_chosen_origins_alone(settings: Settings) -> None:
    """Without the headers a browser hides the reason of a failure; with too many of them it shows it to anyone."""
    client = flask_client(create_app(settings))
    requests = (("GET", f"{USERS}?page=0"), ("GET", "/nowhere"), ("PATCH", USERS), ("POST", USERS), ("PUT", ABSENT))
    for method, url in requests:
        for origin, granted in (("https://console.example", True), ("https://evil.example", False), ("", False)):
            response = client.open(url, method=method, headers={"Origin": origin})
            assert response.status_code >= 400
            assert response.headers.get("Access-Control-Allow-Origin") == (origin if granted else None)
            assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("name", ["\u200b", "\u200d\u200c", "\ufeff \u2060", "\u00ad"])
def test_names_of_which_nothing_shows(probe: Probe, name: str) -> None:
    """A user whose name shows nothing cannot be told from an empty row; joiners inside a name are letters' business."""
    response = probe.refused("POST", USERS, json={"tag": "unseen", "kind": "service", "name": name})
    assert places(response) == {"body.name"}
