"""The commands that speak to a server: what they do, what they print, and what becomes of wrong input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from ai_admin.cli import app
from ai_admin.client.api import KEY_FILE_VARIABLE, URL_VARIABLE
from ai_admin.config import Settings
from ai_admin.terminal import Exit, printable
from tests.conftest import OWNER_KEY, ROOT
from tests.serving import USERS, free_port, serving

Run = Callable[..., Result]
# A name that would be bold, and a link.
HOSTILE = "[bold]x[/] [link=https://evil.example]y[/link]"


@pytest.fixture
def api(settings: Settings, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a real server."""
    with serving(settings, tmp_path, workers=1) as client:
        yield client


@pytest.fixture
def run(api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against that server, with the owner's key; the exit code must be the one expected."""
    (tmp_path / "owner.key").write_text(OWNER_KEY + "\n")
    monkeypatch.setenv(URL_VARIABLE, str(api.base_url))
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "owner.key"))

    def invoke(*arguments: str, expected: int = Exit.DONE, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, arguments, input=stdin)
        assert result.exit_code == expected, result.output
        if expected != Exit.DONE:
            # What was typed at a question is shown there, as in a terminal.
            assert result.stdout.strip() == ("n" if "Erase" in result.stderr else "")
            assert result.stderr.startswith(("error: ", "Aborted", "Erase "))
        return result

    return invoke


def objects(result: Result) -> list[dict[str, Any]]:
    """What a command with --json printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_users_from_creation_to_erasure(run: Run, api: httpx.Client) -> None:
    """Each change is the API's; what is printed as JSON is what the API answers."""
    created = run("users", "create", "ada", "--email", "ada@example.com", "--model", "gpt-5*", "--json")
    (ada,) = objects(created)
    assert ada == api.get(f"{USERS}/{ada['id']}").json()
    run("users", "create", "bot", "--kind", "service", "--attribute", 'team="a"', "--attribute", "level=3")
    assert "bot@" not in run("users", "list").stdout
    assert [user["tag"] for user in objects(run("users", "list", "--where", "kind=human", "--json"))] == ["ada"]
    assert [user["tag"] for user in objects(run("users", "list", "--limit", "1", "--sort", "tag", "--json"))] == ["ada"]
    assert len(objects(run("users", "list", "--all", "--json"))) == 3
    (bot,) = objects(run("users", "update", "bot", "--attribute", 'team="b"', "--name", "Robot", "--json"))
    assert (bot["attributes"], bot["name"], bot["version"]) == ({"team": "b", "level": 3}, "Robot", 2)
    assert objects(run("users", "get", bot["id"], "--json")) == [bot]
    assert objects(run("users", "get", "ADA@example.com", "--json")) == [ada]
    assert "VERSION_MISMATCH" in run("users", "update", "bot", "--name", "x", "--if-version", "1", expected=1).stderr
    run("users", "delete", "ada")
    assert "no user with the tag ada" in run("users", "get", "ada", expected=1).stderr
    (ada,) = objects(run("users", "restore", "ada", "--json"))
    assert ada["status"] == "active"
    run("users", "delete", "ada", "--purge", expected=1, stdin="n\n")
    run("users", "delete", "ada", "--purge", "--yes")
    assert "USER_NOT_FOUND" in run("users", "get", ada["id"], expected=1).stderr


def test_a_list_follows_the_pages(run: Run, api: httpx.Client) -> None:
    """More than a page is read to the end, and no further than was asked for."""
    file = b"".join(json.dumps({"tag": f"n-{number}", "kind": "service"}).encode() + b"\n" for number in range(450))
    assert api.post(f"{USERS}/import", content=file, headers={"Content-Type": "application/x-ndjson"}).is_success
    assert len(objects(run("users", "list", "--where", "tag[prefix]=n-", "--all", "--json"))) == 450
    some = run("users", "list", "--where", "tag[prefix]=n-", "--limit", "201", "--json")
    assert len(objects(some)) == 201
    assert "there are more than these 201" in some.stderr
    assert run("users", "list", "--where", "tag[prefix]=n-", "--limit", "450", "--json").stderr == ""


def _in_days(number: int) -> str:
    """A time to come, as the API answers it."""
    return (datetime.now(timezone.utc) + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_rotate_command_keeps_the_end_unless_told(run: Run) -> None:
    """`ai-admin keys rotate` made a key that never ends of one that does."""
    end = _in_days(5)
    run("users", "create", "bot", "--kind", "service")
    first = run("keys", "create", "bot", "CI", "--expires", end).stdout.strip()
    (listed,) = objects(run("keys", "list", "bot", "--json"))
    second = run("keys", "rotate", "bot", first[-4:], "--overlap", "0").stdout.strip()
    assert second != first
    rotated = objects(run("keys", "list", "bot", "--json"))
    assert [(key["id"], key["expiresAt"]) for key in rotated] == [(listed["id"], listed["expiresAt"])]
    later_end = _in_days(9)
    (new,) = objects(run("keys", "rotate", "bot", listed["id"], "--expires", later_end, "--json"))
    assert (new["id"], new["expiresAt"]) == (listed["id"], later_end)
    (new,) = objects(run("keys", "rotate", "bot", listed["id"], "--expires", "never", "--json"))
    assert new["expiresAt"] is None
    assert "VALIDATION_ERROR" in run("keys", "rotate", "bot", listed["id"], "--expires", "soon", expected=1).stderr


@pytest.mark.parametrize(
    ("zone", "end"), [("UTC", "2099-01-02T00:00:00Z"), ("Asia/Ho_Chi_Minh", "2099-01-01T17:00:00Z")]
)
def test_key_that_ends_on_a_date_works_through_that_day(
    run: Run, monkeypatch: pytest.MonkeyPatch, zone: str, end: str
) -> None:
    """`--expires 2099-01-01` is that day of the caller's time zone, to its end; it was refused."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        (made,) = objects(run("keys", "create", "zz-owner", "CI", "--expires", "2099-01-01", "--json"))
        assert made["expiresAt"] == end
        (made,) = objects(run("keys", "rotate", "zz-owner", made["id"], "--expires", "2099-01-01", "--json"))
        assert made["expiresAt"] == end
        for day in ("2099-02-30", "9999-12-31"):
            assert (
                f"{day}: there is no such day"
                in run("keys", "create", "zz-owner", "CI", "--expires", day, expected=2).stderr
            )
    finally:
        monkeypatch.undo()
        time.tzset()


def test_tag_of_a_deleted_user_leads_on(run: Run) -> None:
    """The message says that the user is deleted, and each command in it does what it says."""
    (ada,) = objects(run("users", "create", "ada", "--email", "ada@example.com", "--json"))
    run("users", "delete", "ada")
    for name in ("ada", "ada@example.com"):
        told = run("users", "get", name, expected=1).stderr
        assert f"the deleted user {ada['id']} had it" in told
        commands = [line.split()[2:] for line in told.splitlines() if " ai-admin " in line]
        assert [command[1] for command in commands] == ["list", "restore", "delete"]
        (found,) = objects(run(*commands[0], "--json"))
        assert found["id"] == ada["id"]
        run(*commands[1])
        run("users", "delete", ada["id"])
    run(*commands[2], "--yes")
    assert "deleted" not in run("users", "get", "ada", expected=1).stderr


@pytest.mark.parametrize(
    "command",
    ["users list --all --json", "users list", "users get zz-owner --json", "keys list zz-owner --json", "--help",
     "secrets list zz-owner", "secrets versions zz-owner k --json", "users list --help", "deploy schema"],
)  # fmt: skip
def test_command_whose_reader_has_left_ends_with_141(run: Run, command: str) -> None:
    """`ai-admin users list --all | head` in a script with pipefail gets the documented code, and no traceback."""
    run("secrets", "set", "zz-owner", "k", "--provider", "x", stdin="sk-1")
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "ai_admin", *command.split()],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "apps")},
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (Exit.UNREAD, b"")


def test_list_of_all_keys_and_report_of_a_leak(run: Run, tmp_path: Path) -> None:
    """A key from a repository is found and revoked; it is never an argument, which other processes see."""
    for number in range(3):
        run("users", "create", f"bot-{number}", "--kind", "service")
    texts = [run("keys", "create", f"bot-{number}", f"key {number}").stdout.strip() for number in range(3)]
    everything = objects(run("keys", "list", "--all-users", "--json"))
    assert [key["userTag"] for key in everything] == ["bot-2", "bot-1", "bot-0", "zz-owner"]
    some = run("keys", "list", "--all-users", "--where", "neverUsed=true", "--sort", "createdAt", "--limit", "2")
    assert "key 0" in some.stdout
    assert "key 2" not in some.stdout
    assert "there are more than these 2" in some.stderr
    assert "VALIDATION_ERROR" in run("keys", "list", "--all-users", "--where", "x=1", expected=1).stderr
    run("keys", "list", expected=2)
    run("keys", "list", "bot-0", "--all-users", expected=2)
    run("keys", "list", "bot-0", "--where", "state=active", expected=2)
    assert "revoked" in run("keys", "report-leak", stdin=f"{texts[0]}\n").stdout
    (tmp_path / "leaked").write_text(texts[1])
    (found,) = objects(run("keys", "report-leak", "--file", str(tmp_path / "leaked"), "--json"))
    assert (found["userId"], found["revoked"]) == (everything[1]["userId"], True)
    assert "had stopped working" in run("keys", "report-leak", stdin=texts[0]).stdout
    refused = run("keys", "report-leak", stdin=f"{texts[2]}x", expected=1)
    assert texts[2] not in refused.output
    run("keys", "report-leak", "--file", str(tmp_path / "none"), expected=2)
    assert [key["userTag"] for key in objects(run("keys", "list", "--all-users", "--json"))] == ["bot-2", "zz-owner"]


def test_keys_and_credentials(run: Run, api: httpx.Client, tmp_path: Path) -> None:
    """A new key, and a value that is revealed, stand alone on standard output, and nowhere else."""
    run("users", "create", "bot", "--kind", "service", "--role", "auditor")
    key = run("keys", "create", "bot", "CI of search", "--scope", "users:read").stdout.strip()
    assert api.get(USERS, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    (listed,) = objects(run("keys", "list", "bot", "--json"))
    assert (listed["name"], listed["scopes"]) == ("CI of search", ["users:read"])
    assert key not in run("keys", "list", "bot").output
    second = run("keys", "rotate", "bot", key[-4:], "--overlap", "0").stdout.strip()
    assert api.get(USERS, headers={"Authorization": f"Bearer {second}"}).status_code == 200
    (newest,) = objects(run("keys", "list", "bot", "--json"))
    assert (newest["id"], newest["lastFour"], newest["scopes"]) == (listed["id"], second[-4:], ["users:read"])
    run("keys", "revoke", "bot", newest["id"])
    assert "no key abcd" in run("keys", "revoke", "bot", "abcd", expected=1).stderr
    (tmp_path / "value").write_text("sk-first")
    assert (
        "sk-first"
        not in run(
            "secrets", "set", "bot", "openai", "--provider", "openai", "--value-file", str(tmp_path / "value")
        ).output
    )
    run("secrets", "set", "bot", "openai", "--provider", "openai", stdin="sk-second\n")
    assert run("secrets", "reveal", "bot", "openai", "--reason", "test").stdout == "sk-second"
    assert "sk-" not in run("secrets", "list", "bot").output
    assert [version["version"] for version in objects(run("secrets", "versions", "bot", "openai", "--json"))] == [2, 1]
    run("secrets", "restore", "bot", "openai", "1")
    assert objects(run("secrets", "reveal", "bot", "openai", "--reason", "t", "--json"))[0]["value"] == "sk-first"
    run("secrets", "remove", "bot", "openai")
    assert "SECRET_NOT_FOUND" in run("secrets", "reveal", "bot", "openai", "--reason", "t", expected=1).stderr
    value = api.put(f"{USERS}/{newest['createdBy']}/secrets/bytes", json={"provider": "x", "valueBase64": "/wD+"})
    assert value.is_success
    revealed = CliRunner().invoke(app, ["secrets", "reveal", "zz-owner", "bytes", "--reason", "t"])
    assert revealed.stdout_bytes == b"\xff\x00\xfe"


# An SSH key with its last line break, line breaks of Windows, a byte order mark, and bytes that are no text.
PEM = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n-----END OPENSSH PRIVATE KEY-----\n"
FILES = (
    PEM,
    b"sk-1\n",
    b"sk-1",
    b"sk-1\r\n",
    b"\n\n",
    b"\xef\xbb\xbfsk-1",
    b"\xff\x00\xfe\n",
    b"a\x00b",
    "mật mã\n".encode(),
)


@pytest.mark.parametrize("content", FILES)
def test_value_of_a_file_is_stored_byte_for_byte(run: Run, tmp_path: Path, content: bytes) -> None:
    """A key without its last line break is refused by SSH (Infisical #895); keystores are bytes (vault #1423)."""
    (tmp_path / "value").write_bytes(content)
    set_it = run("secrets", "set", "zz-owner", "k", "--provider", "x", "--value-file", str(tmp_path / "value"))
    assert ("ends with a line break" in set_it.stderr) == (content.count(b"\n") == 1 and content.endswith(b"\n"))
    assert run("secrets", "reveal", "zz-owner", "k", "--reason", "t").stdout_bytes == content


@pytest.mark.parametrize(
    ("piped", "stored"),
    [(b"sk-1\n", b"sk-1"), (b"sk-1", b"sk-1"), (b"sk-1\n\n", b"sk-1\n\n"), (PEM, PEM), (b"\xff\xfe\n", b"\xff\xfe\n")],
)
def test_value_of_a_pipe_loses_only_the_line_break_of_echo(run: Run, piped: bytes, stored: bytes) -> None:
    """The line break that `echo` adds is no part of a key; those of a PEM file and of bytes are."""
    run("secrets", "set", "zz-owner", "k", "--provider", "x", stdin=piped)
    assert run("secrets", "reveal", "zz-owner", "k", "--reason", "t").stdout_bytes == stored


def test_message_about_a_file_or_text_names_the_option_that_was_given(run: Run, tmp_path: Path) -> None:
    """A file that was no text was blamed on --url, which nobody had given (hashicorp/vault #1423)."""
    missing = str(tmp_path / "missing")
    told = run("secrets", "set", "zz-owner", "k", "--provider", "x", "--value-file", missing, expected=2).stderr
    assert told == f"error: --value-file {missing}: No such file or directory\n"
    assert f"--file {missing}" in run("keys", "report-leak", "--file", missing, expected=2).stderr
    assert f"--key-file {missing}" in run("users", "list", "--key-file", missing, expected=2).stderr
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    told = run("keys", "report-leak", "--file", str(tmp_path / "bytes"), expected=2).stderr
    assert told == f"error: --file {tmp_path / 'bytes'}: that is no API key\n"
    assert "standard input: that is no API key" in run("login", stdin=b"\xff", expected=2).stderr
    told = run("users", "update", "zz-owner", "--name", "a\udcff", expected=2).stderr
    assert "is not text in UTF-8; nothing was sent" in told
    assert "--url" not in told


def test_key_that_may_not_read_prints_no_record_and_no_key_of_owner(
    run: Run, api: httpx.Client, tmp_path: Path
) -> None:
    """A command shows what the API answers: nothing for a change without the right to read, no key of an owner's."""
    admin = api.post(USERS, json={"tag": "admin", "kind": "service", "role": "admin"}).json()["id"]
    for name, scopes in (("writer", ["users:read", "secrets:write"]), ("reader", ["users:read", "keys:read"])):
        made = api.post(f"{USERS}/{admin}/keys", json={"name": name, "scopes": scopes}).json()
        (tmp_path / name).write_text(made["key"])
    writer = ("--key-file", str(tmp_path / "writer"))
    for _ in range(2):
        set_it = run("secrets", "set", "admin", "openai", "--provider", "openai", *writer, stdin="sk-1")
        assert set_it.stdout == ""
    assert run("secrets", "restore", "admin", "openai", "1", *writer).stdout == ""
    refused = run("keys", "list", "zz-owner", "--key-file", str(tmp_path / "reader"), expected=Exit.REFUSED)
    assert "Only an owner can see or change what belongs to an owner." in refused.stderr


def test_the_log_is_followed(run: Run, api: httpx.Client) -> None:
    """The newest events, oldest first; then what comes, until Ctrl-C, which is no error."""
    for tag in ("a", "b"):
        run("users", "create", tag, "--kind", "service")
    run("users", "delete", "a")
    events = objects(run("audit", "tail", "--json"))
    assert [event["action"] for event in events] == ["users:create", "users:create", "users:delete"]
    assert objects(run("audit", "tail", "-n", "1", "--action", "users:create", "--json")) == [events[1]]
    assert len(objects(run("audit", "tail", "--user", "b", "--json"))) == 1
    command = [sys.executable, "-m", "ai_admin", "audit", "tail", "--follow", "--json", "-n", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "apps")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        assert process.stderr
        try:
            assert [json.loads(process.stdout.readline()) for _ in range(2)] == events[1:]
            for tag in ("c", "d"):
                api.post(USERS, json={"tag": tag, "kind": "service"})
                newest = api.get("/ai/admin/audit", params={"size": 1}).json()["data"][0]
                assert json.loads(process.stdout.readline()) == newest
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == Exit.INTERRUPTED
        assert process.stderr.read() in {b"", b"Aborted.\n"}


def test_wrong_input_is_told_in_one_place(run: Run, tmp_path: Path) -> None:
    """On standard error with a code that scripts can tell: 1 the server said no, 2 there was no answer."""
    faults = run("users", "create", "No Tag", "--kind", "service", expected=1).stderr
    assert "VALIDATION_ERROR" in faults
    assert "body.tag" in faults
    run("users", "update", "zz-owner", expected=2)
    run("users", "list", "--where", "role", expected=2)
    run("users", "create", "x", "--attribute", "team=research", expected=2)
    assert "FORBIDDEN" not in run("users", "list", "--where", "colour=red", expected=1).stderr
    nobody = ["--url", f"http://127.0.0.1:{free_port()}"]
    assert "cannot be reached" in run("users", "list", *nobody, expected=2).stderr
    assert "https" in run("users", "list", "--url", "http://ai-admin.example.com", expected=2).stderr
    run("users", "list", "--key-file", str(tmp_path / "missing"), expected=2)
    (tmp_path / "bad").write_bytes(b"\xff\xfe\n")
    run("users", "list", "--key-file", str(tmp_path / "bad"), expected=2)
    (tmp_path / "wrong").write_text("aia_wrong")
    refused = run("users", "list", "--key-file", str(tmp_path / "wrong"), expected=1)
    assert "UNAUTHENTICATED" in refused.stderr
    assert "aia_wrong" not in refused.output


def test_what_users_call_themselves_moves_no_cursor(run: Run, api: httpx.Client) -> None:
    """Names are other people's: no markup, no turning of the text. Programs get them as they are."""
    assert api.post(USERS, json={"tag": "eve", "kind": "service", "name": HOSTILE}).is_success
    assert HOSTILE in run("users", "list").stdout
    assert objects(run("users", "get", "eve", "--json"))[0]["name"] == HOSTILE
    assert printable("a\x1b[2J\x9b\n\u2028\u202e") == r"a\x1b[2J\x9b\n\u2028\u202e"
    assert printable("می\u200cخواهم 👩\u200d💻") == "می\u200cخواهم 👩\u200d💻"


def test_a_create_is_sent_once_more_where_no_answer_came(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And makes one user: both carry the same Idempotency-Key."""
    send = httpx.HTTPTransport.handle_request
    lost: list[bytes] = []

    def lose_first(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        response = send(self, request)
        if request.method == "POST" and not lost:
            lost.append(response.read())
            raise httpx.ReadError("connection reset")
        return response

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lose_first)
    (user,) = objects(run("users", "create", "once", "--kind", "service", "--json"))
    assert json.loads(lost[0]) == user


def test_a_key_is_kept_in_the_keyring(run: Run, api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """`login` tries the key first; without a keyring it says what to install."""
    monkeypatch.delenv(KEY_FILE_VARIABLE)
    kept: dict[tuple[str, str], str] = {}
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "ai-admin[keyring]" in run("login", stdin=OWNER_KEY, expected=2).stderr
    assert "ai-admin[keyring]" in run("users", "list", expected=2).stderr
    fake = SimpleNamespace(
        get_password=lambda service, name: kept.get((service, name)),
        set_password=lambda service, name, value: kept.update({(service, name): value}),
    )
    monkeypatch.setitem(sys.modules, "keyring", fake)
    assert "ai-admin login" in run("users", "list", expected=2).stderr
    assert "UNAUTHENTICATED" in run("login", stdin="aia_wrong\n", expected=1).stderr
    assert kept == {}
    assert OWNER_KEY not in run("login", stdin=f"{OWNER_KEY}\n").output
    assert kept == {("ai-admin", str(api.base_url).rstrip("/")): OWNER_KEY}
    assert "zz-owner" in run("users", "list").stdout


# What may be typed for a name or an id, and would lead elsewhere if it went into a path as it is.
ODD_SEGMENTS = ("", ".", "..", "../..", "x/../y", "%2e%2e%2f", "a?purge=true#b", "a b", "\x00", "\udcff")
COMMANDS = (
    "users get {}", "users update {} --name Changed", "users delete {}", "users delete {} --purge --yes",
    "users restore {}", "keys list {}", "keys create {} laptop", "keys rotate {} abcd", "keys rotate ada {}",
    "keys revoke {} abcd", "keys revoke ada {}", "secrets list {}", "secrets set {} openai --provider openai",
    "secrets set ada {} --provider openai", "secrets reveal {} openai --reason test",
    "secrets reveal ada {} --reason test", "secrets remove {} openai", "secrets remove ada {}",
    "secrets versions {} openai", "secrets versions ada {}", "secrets restore {} openai 1", "secrets restore ada {} 1",
    "audit tail --user {}",
)  # fmt: skip


def test_command_with_an_odd_name_or_id_is_refused_and_changes_nothing(run: Run, api: httpx.Client) -> None:
    """`secrets remove USER ..` deleted the user (of a kind with opensearch security-dashboards-plugin #590)."""
    run("users", "create", "ada", "--email", "ada@example.com")
    run("keys", "create", "ada", "laptop")
    run("secrets", "set", "ada", "openai", "--provider", "openai", stdin="sk-1")

    def state() -> list[Any]:
        ada = api.get(USERS, params={"tag": "ada"}).json()["data"][0]
        changes = [event for event in api.get("/ai/admin/audit").json()["data"] if event["action"] != "access:refuse"]
        return [ada, *(api.get(f"{USERS}/{ada['id']}/{what}").json() for what in ("keys", "secrets")), len(changes)]

    before = state()
    for command in COMMANDS:
        for odd in ODD_SEGMENTS:
            arguments = [odd if part == "{}" else part for part in command.split()]
            result = CliRunner().invoke(app, arguments, input="sk-2")
            assert result.exit_code in {Exit.REFUSED, Exit.TROUBLE}, (command, odd, result.output, result.exception)
            assert (result.stdout, result.stderr[:7]) == ("", "error: "), (command, odd, result.output)
    assert state() == before


@pytest.mark.parametrize("name", ["x/../..", "../keys", "x/reveal", "x\\\\..\\\\.."])
def test_name_with_slash_is_not_sent(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A proxy that decodes `%2F` and takes the dots out would delete the user."""
    run("users", "create", "ada", "--kind", "service")
    send, sent = httpx.HTTPTransport.handle_request, []

    def noting(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return send(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", noting)
    assert "nothing was sent" in run("secrets", "remove", "ada", name, expected=2).stderr
    assert sent == ["GET"]


def test_every_command_that_takes_a_name_is_tried_with_odd_ones() -> None:
    """A new command with a user, a key or a credential in its arguments must be among those tried."""
    tried = {tuple(command.split()[:2]) for command in COMMANDS}
    # Typer's own classes, and not those of the package click.
    group: Any = get_command(app)
    needed = set()
    for name in ("users", "keys", "secrets"):
        for command in group.commands[name].commands.values():
            takes = {parameter.name for parameter in command.params if parameter.param_type_name == "argument"}
            if takes & {"user", "key"}:
                needed.add((name, command.name))
    assert len(needed) >= 14
    assert needed <= tried
