"""Input that is generated: forms and pages of the console, files, and the command line never end in a fault of ours."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from ai_admin.cli import app
from ai_admin.client.api import KEY_FILE_VARIABLE, URL_VARIABLE
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.operations import PAGES, operation_of
from ai_admin.transfer.formats import FORMATS
from ai_admin.transfer.importing import import_users
from ai_admin.transfer.tables import FileInvalid
from tests.conftest import OWNER_KEY, calling
from tests.integration.test_console import Browser
from tests.integration.test_import import BY, FOREIGN
from tests.keyrings import entry, text_of
from tests.serving import OFTEN, USERS, serving

# As many as CI has time for; INPUT_EXAMPLES=5000 tries for longer, and other input each time.
EXAMPLES = int(os.environ.get("INPUT_EXAMPLES", "0"))
ABSENT = "01890a5d-ac96-774b-bcce-b302099a8057"
DIGITS = "9" * 5000
# What is at the border of something: numbers, times, JSON, text that PostgreSQL or UTF-8 does not have.
ODD = [
    "", " ", "0", "-1", "1", "1.0", "1e9", "+1", "2147483647", "2147483648", str(2**63), str(2**64), DIGITS,
    "\u0661", "\u00b2",
    "\0", "a\0b", "\r\n", "\u202e", "\ufeff", "\U0001f600", "\u0130", "x" * 300, "x" * 70_000, "..", ".", "/",
    "%", "a:b", ":",
    "null", "true", "[]", "{}", '{"a": 1}', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e400}', f'{{"a": {DIGITS}}}',
    '{"a": 123456789012345678901}', '{"a": "\\ud800"}', '{"a": "\\u0000"}', "[" * 5000, '{"a":' * 500 + "1" + "}" * 500,
    "9999-12-31", "0001-01-01", "0000-00-00", "2026-13-45", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
    "2026-01-01T00:00:00Z", "active", "suspended", "deleted", "delete", "suspend", "owner", "member", "human",
    "service",
    "csv", "ndjson", "ada", "ada@example.com", "openai", "users:read", "secrets:reveal", "*", "gpt-5*", "en",
    "vi", "24",
    ABSENT, f"{ABSENT}:1", f"{ABSENT}:{DIGITS}", "-tag", "tag", "name", "-at",
]  # fmt: skip
VALUES = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8"), max_size=20)
FIELDS = [
    "tag", "email", "name", "kind", "role", "models", "attributes", "version", "status", "action", "id", "user", "undo",
    "next", "key", "provider", "value", "reason", "seen", "hours", "expiresAt", "limited", "scope", "format", "file",
    "language", "attribute", "size", "page", "cursor", "before", "sort", "q", "column", "density", "tag[prefix]",
    "createdAt[gte]", "createdAt[lt]", "updatedAt[lte]", "at[gte]", "at[lt]", "actor", "target", "attributes[a]",
    "dryRun",
    "match", "url", "secret", "keyId", "requestId",
]  # fmt: skip
# Bytes of a form or query that no browser sends.
RAW = st.sampled_from([b"%", b"%ff", b"%00", b"&" * 1100, b"a=1&" * 1100, b"=", b"%ed%a0%80=%ed%a0%80", b"x" * 5000])


def often(default: int) -> trials:
    """As many examples as this test's part of CI has, the same ones each time, or as many as were asked for."""
    return trials(
        max_examples=EXAMPLES or default,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def pairs(draw: st.DrawFn) -> bytes:
    """A form or a query: known fields, some of them several times, and now and then what is neither."""
    given_pairs = draw(st.lists(st.tuples(st.sampled_from(FIELDS) | VALUES, VALUES), max_size=8))
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in given_pairs).encode()
    return text + b"&" + draw(RAW) if draw(st.integers(0, 9)) == 0 else text


@pytest.fixture
def owner(server_app: Flask) -> Iterator[Browser]:
    """A browser in which the owner is signed in, with a user who has a key and a credential."""
    with calling(server_app) as api:
        browser = Browser(api, server_app)
        assert browser.sign_in().status_code == 303
        yield browser


@pytest.mark.config(LOG_LEVEL="ERROR", **OFTEN)
def test_console_any_form_or_query_is_no_fault(owner: Browser) -> None:
    """A page that answers 500 is a bug that anybody can reach, and hides what was wrong with the form."""
    assert owner.app
    user = owner.api.post(USERS, json={"tag": "ada", "email": "ada@example.com"}).json()["id"]
    key = owner.api.post(f"{USERS}/{user}/keys", json={"name": "k"}).json()["id"]
    owner.api.put(f"{USERS}/{user}/secrets/openai", json={"provider": "openai", "value": "sk-1"})
    routes = sorted(
        (rule.rule, method)
        for rule in owner.app.url_map.iter_rules()
        if rule.rule.startswith(PAGES) and operation_of(owner.app, rule.endpoint)
        for method in (rule.methods or set()) & {"GET", "POST"}
        # Signed out, a browser reaches no page that is tried here.
        if "sign-out" not in rule.rule and "<path:" not in rule.rule
    )
    token = owner.http.get(f"{PAGES}/account").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    found: list[str] = []

    @often(400)
    @given(st.sampled_from(routes), pairs(), st.data())
    def try_route(route: tuple[str, str], sent: bytes, data: st.DataObject) -> None:
        path, method = route
        for name, ids in (("UserID", [user, ABSENT]), ("KeyID", [key, ABSENT]), ("Name", ["openai", "absent"])):
            if f"<{name}>" in path:
                # The transport of these tests takes no other letters in a path.
                odd = VALUES.map(lambda value: value.encode("ascii", "replace").decode()[:500] or "x")
                value = data.draw(st.sampled_from(ids) if data.draw(st.integers(0, 3)) else odd)
                path = path.replace(f"<{name}>", quote(value, safe=""))
        if method == "GET":
            answer = owner.http.get(f"{path}?{sent[:60_000].decode('latin-1')}")
        else:
            body = f"csrf_token={quote(token)}&".encode() + sent
            head = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = owner.http.post(path, content=body, headers=head)
        if answer.status_code >= 500:
            found.append(f"{method} {path} {sent[:300]!r}")
        assert answer.status_code < 500, found[-1]

    try_route()


@pytest.mark.config(LOG_LEVEL="ERROR", **OFTEN)
def test_console_any_upload_is_no_fault(owner: Browser) -> None:
    """A file that nobody can read must be told of on the page where it was chosen."""
    token = owner.http.get(f"{PAGES}/account").text.partition('name="csrf_token" value="')[2].partition('"')[0]

    @often(60)
    @given(files(), VALUES | st.sampled_from([*FORMATS]), VALUES)
    def try_file(sent: tuple[str, bytes], form: str, name: str) -> None:
        fields = {"csrf_token": token, "format": form[:100]}
        answer = owner.http.post(f"{PAGES}/users/import", data=fields, files={"file": (name[:100] or "x", sent[1])})
        assert answer.status_code < 500

    try_file()


_NDJSON = (
    b'{"tag": "ada", "email": "ada@example.com", "models": ["*"], "attributes": {"n": 1}, "version": 3}\n{"tag": "b"}\n'
)
_CSV = b'tag,email,name,models,attributes\nada,ada@example.com,"A, B",gpt-5*,"{""n"": 1}"\nbob,bob@example.com,,,\n'
_VALID = {
    "ndjson": _NDJSON,
    "csv": _CSV,
    **{form: (text if isinstance(text, str) else json.dumps(text)).encode() for form, text in FOREIGN.items()},
    "anthropic": b'{"data": [{"id": "user_01", "type": "user", "email": "ada@example.com", "role": "user"}],'
    b' "has_more": false, "first_id": "user_01", "last_id": "user_01"}',
}
_PIECES = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\\u0000",
    b"\\ud800", b"'",
    b"null", b"true", b"NaN", b"1e400", b"-", b"=", b";", b"\t", b"123456789012345678901", DIGITS.encode(),
    b"[" * 300, b"{" * 300,
    b'{"a":' * 300, b'"tag": "x", "tag": "y",', b"9999-12-31T23:59:59-23:59", b"x" * 70_000, "\u202e".encode(),
    b"\xed\xa0\x80",
]  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A format, and a good file of it in which something was put in, taken out or exchanged."""
    form = draw(st.sampled_from([*FORMATS]))
    content = bytearray(_VALID[form])
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        content[start:end] = draw(st.sampled_from(_PIECES) | st.binary(max_size=6))
    return form, bytes(content) * draw(st.integers(1, 2))


def test_import_any_file_is_taken_or_refused(settings: Settings) -> None:
    """An import that ends in a fault of ours says nothing of the row, and takes none of those behind it."""

    @often(300)
    @given(files(), st.sampled_from(["tag", "email", None]), st.booleans())
    def try_file(sent: tuple[str, bytes], match: Any, dry_run: bool) -> None:
        form, content = sent
        try:
            outcome = import_users(settings, BY, io.BytesIO(content), form, match=match, dry_run=dry_run, batch=3)
        except FileInvalid:
            return
        summary = outcome.summary
        assert summary.records == summary.created + summary.changed + summary.unchanged + summary.rejected
        assert len(list(outcome.rejects(settings))) == summary.rejected

    try_file()


# What serves until it is stopped.
_ENDLESS = {("serve",), ("audit", "tail")}


def _commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands with their names; typer has classes of its own in place of click's in some versions."""
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from _commands(command, *path, name)
    elif path not in _ENDLESS:
        yield path, group


@pytest.mark.config(LOG_LEVEL="ERROR", **OFTEN)
def test_command_line_any_arguments_end_without_traceback(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback tells an operator nothing, and may show a secret."""
    (tmp_path / "owner.key").write_text(OWNER_KEY + "\n")
    work = tmp_path / "work"
    commands = list(_commands(get_command(app)))
    runner = CliRunner()
    with serving(settings, tmp_path, workers=1) as api:
        monkeypatch.setenv(URL_VARIABLE, str(api.base_url))
        monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "owner.key"))
        monkeypatch.setenv(ROOT_VARIABLE, str(settings.root))
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
        api.post(USERS, json={"tag": "ada", "email": "ada@example.com"})

        @often(250)
        @given(st.sampled_from(commands), st.data())
        def try_command(command: tuple[tuple[str, ...], Any], data: st.DataObject) -> None:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            (work / "users.csv").write_bytes(_CSV)
            (work / "ring.json").write_text(text_of(entry("ada", b"test" * 8, "primary")))
            monkeypatch.chdir(work)
            path, found = command
            arguments = [*path]
            for parameter in found.params:
                is_option = parameter.param_type_name == "option"
                if parameter.name in {"help", "url", "key_file", "root"} or (
                    is_option and data.draw(st.integers(0, 2))
                ):
                    continue
                if is_option:
                    arguments.append(parameter.opts[0])
                    if parameter.is_flag:
                        continue
                # No operating system passes U+0000 to a program.
                arguments.append(
                    data.draw(st.sampled_from(["ada", "users.csv", "ring.json"]) | VALUES).replace("\0", "")
                )
            result = runner.invoke(app, arguments, input=data.draw(VALUES))
            assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
            assert "Traceback" not in result.output
            assert "INTERNAL_ERROR" not in result.output, arguments

        try_command()
