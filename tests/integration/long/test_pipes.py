"""Commands beside others in a shell: files through pipes, readers that leave, exit codes as docs/cli.md has them."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from ai_admin.cli import app
from ai_admin.config import Settings
from ai_admin.terminal import Exit
from tests.conftest import OWNER_KEY, ROOT, write_mount
from tests.serving import free_port, serving

CSV = "tag,email\nada,ada@example.com\nno tag,x@example.com\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "apps"), "COLUMNS": "200"}
AI_ADMIN = [sys.executable, "-m", "ai_admin"]


def sql_tags(sql: psycopg.Connection) -> list[str]:
    """Who is there, but for the tests' owner."""
    return [tag for (tag,) in sql.execute("SELECT tag FROM users WHERE tag <> 'zz-owner' ORDER BY tag").fetchall()]


@pytest.mark.parametrize("way", ["pipe", "redirection", "fifo"])
def test_a_file_comes_through_a_pipe(settings: Settings, sql: psycopg.Connection, tmp_path: Path, way: str) -> None:
    """What another command writes is imported without a file of its own, and its rejects are in this folder."""
    file = tmp_path / "users.csv"
    if way == "fifo":
        os.mkfifo(file)
        threading.Thread(target=file.write_text, args=(CSV,), daemon=True).start()
    else:
        file.write_text(CSV)
    source = str(file) if way == "fifo" else "-"
    command = [*AI_ADMIN, "users", "import", source, "--format", "csv", "--json", "--root", str(settings.root)]
    folder = tmp_path / "here"
    folder.mkdir()
    with (tmp_path / "given").open("w+b") as given:
        given.write(CSV.encode())
        given.seek(0)
        done = subprocess.run(
            command,
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
            **({"stdin": given} if way == "redirection" else {"input": CSV.encode()} if way == "pipe" else {}),
        )
    assert done.returncode == Exit.REFUSED, done.stderr
    assert json.loads(done.stdout)["created"] == 1
    assert sql_tags(sql) == ["ada"]
    [reject] = (folder / "users.rejects.ndjson").read_text().splitlines()
    assert json.loads(reject)["line"] == 3


def test_what_is_no_file_stays_what_it_is(settings: Settings, tmp_path: Path) -> None:
    """`--output /dev/stdout` and `--rejects /dev/null` write there, and put no file in the place of a device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    result = CliRunner().invoke(app, ["users", "export", "--output", str(pipe), "--root", str(settings.root)])
    reader.join(20)
    assert result.exit_code == Exit.DONE, result.output
    assert pipe.is_fifo()
    assert json.loads(found[0])["tag"] == "zz-owner"


def test_a_file_is_written_where_it_is_named(settings: Settings, tmp_path: Path) -> None:
    """In a folder that others write to, what they have put beside it neither leads the users away nor shows them."""
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    (tmp_path / "users.csv.part").symlink_to(theirs)
    output = tmp_path / "users.csv"
    command = ["users", "export", "--format", "csv", "--output", str(output), "--root", str(settings.root)]
    assert CliRunner().invoke(app, command).exit_code == Exit.DONE
    assert theirs.read_text() == "precious"
    assert (output.is_symlink(), output.stat().st_mode & 0o777) == (False, 0o600)
    assert [file.name for file in tmp_path.glob("*.part")] == []


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("option", ["--output", "--rejects"])
def test_a_link_is_neither_replaced_nor_followed(
    settings: Settings, sql: psycopg.Connection, tmp_path: Path, option: str, is_there: bool
) -> None:
    """Root's `--output /dev/stdout > file` would replace the device of all; it is told before anything is done."""
    target, link, source = tmp_path / "target", tmp_path / "link", tmp_path / "users.csv"
    source.write_text(CSV)
    if is_there:
        target.write_text("precious")
    link.symlink_to(target)
    command = ["export"] if option == "--output" else ["import", str(source)]
    result = CliRunner().invoke(app, ["users", *command, option, str(link), "--root", str(settings.root)])
    assert (result.exit_code, "is a link" in result.stderr, result.stdout) == (Exit.TROUBLE, True, "")
    assert link.readlink() == target
    assert (target.read_text() if target.exists() else None) == ("precious" if is_there else None)
    assert sql_tags(sql) == []
    assert sql.execute("SELECT FROM audit_events WHERE action = 'users:export'").rowcount == 0


def test_a_link_to_a_pipe_is_as_good_as_it(settings: Settings) -> None:
    """`--output /dev/stdout | gzip` goes on to work."""
    command = [*AI_ADMIN, "users", "export", "--output", "/dev/stdout", "--root", str(settings.root)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True)
    assert json.loads(done.stdout)["tag"] == "zz-owner"


def test_a_report_that_cannot_be_written_is_told_first(
    settings: Settings, sql: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import of an hour does not end with its rejects nowhere."""
    file = tmp_path / "users.csv"
    file.write_text(CSV)
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    result = CliRunner().invoke(app, ["users", "import", str(file), "--root", str(settings.root)])
    assert (result.exit_code, "--rejects" in result.stderr) == (Exit.TROUBLE, True)
    assert sql_tags(sql) == []


@pytest.mark.parametrize("options", [["list", "--all", "--json"], ["list", "--all"], ["export"]])
def test_a_reader_that_leaves_ends_the_command(settings: Settings, tmp_path: Path, options: list[str]) -> None:
    """`ai-admin users list | head` says nothing of a broken pipe."""
    (tmp_path / "owner.key").write_text(OWNER_KEY)
    file = tmp_path / "users.ndjson"
    file.write_text("".join(f'{{"tag": "n-{number}", "kind": "service"}}\n' for number in range(600)))
    root = ["--root", str(settings.root)]
    assert CliRunner().invoke(app, ["users", "import", str(file), *root]).exit_code == Exit.DONE
    with serving(settings, tmp_path, workers=1) as api:
        server = ["--url", str(api.base_url), "--key-file", str(tmp_path / "owner.key")]
        command = [*AI_ADMIN, "users", *options, *(root if options == ["export"] else server)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == Exit.UNREAD


def nowhere(tmp_path: Path) -> list[list[str]]:
    """Commands that find no settings, no database, no server, no file or no sense in their arguments."""
    empty = ["--root", str(tmp_path / "empty")]
    gone = ["--root", str(write_mount(tmp_path / "gone", _SECRET | {"PG_PORT": str(free_port())}, {}))]
    server = ["--url", f"http://127.0.0.1:{free_port()}", "--key-file", str(tmp_path / "key")]
    (tmp_path / "key").write_text("aia_x")
    (tmp_path / "users.csv").write_text(CSV)
    local = [
        ["migrate"], ["make-owner"], ["bind-identity", "ada", "https://id.example.com", "s"], ["users", "export"],
        ["users", "import", str(tmp_path / "users.csv")], ["audit", "verify"], ["audit", "seal"],
        ["audit", "proof", "01890a5d-ac96-774b-bcce-b302099a8057"], ["vault", "status"], ["vault", "rotate"],
    ]  # fmt: skip
    remote = [
        ["users", "list"], ["users", "get", "ada"], ["users", "create", "x"], ["users", "update", "x", "--name", "y"],
        ["users", "delete", "x"], ["users", "restore", "x"], ["keys", "list", "x"], ["secrets", "list", "x"],
        ["audit", "tail"],
    ]  # fmt: skip
    return [
        *([*each, *empty] for each in [*local, ["serve"], ["audit", "public-key"]]),
        *([*each, *gone] for each in local),
        *([*each, *server] for each in remote),
        ["users", "list", "--colour", "red"],
        ["users", "import", str(tmp_path / "missing.csv"), *gone],
        ["deploy", "render", "nowhere", "--out", str(tmp_path / "out"), "--project", str(ROOT)],
        ["deploy", "diff", "nowhere", "dev", "--project", str(ROOT)],
        ["vault", "promote", "x", "--file", str(tmp_path / "missing.json")],
    ]


_SECRET = {
    "PG_HOST": "127.0.0.1",
    "CURSOR_KEY": "Y3Vyc2N1cnNjdXJzY3Vyc2N1cnNjdXJzY3Vyc2N1cnM=",
    "VAULT_KEYS": '{"keys": [{"id": "a", "state": "primary", "key": "dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q="}]}',
    "AUDIT_SEAL_KEY": "c2VhbHNlYWxzZWFsc2VhbHNlYWxzZWFsc2VhbHNlYWw=",
}


def test_trouble_is_two(tmp_path: Path) -> None:
    """A script can tell a no from no answer, whatever the command: nothing on standard output, one message, and 2."""
    for arguments in nowhere(tmp_path):
        result = CliRunner().invoke(app, arguments)
        assert (arguments, result.exit_code) == (arguments, Exit.TROUBLE), result.output
        assert result.stdout == ""
        assert re.search("^error: |^Usage: ", result.stderr, re.MULTILINE), arguments
        assert isinstance(result.exception, SystemExit)


def test_exit_codes_are_documented() -> None:
    """All of them, and no others."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == sorted(Exit)


def test_the_members_of_json_are_documented(settings: Settings) -> None:
    """What operators' commands print with --json is as stable as its table: a member that goes or comes is noticed."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `ai-admin (.+?) --json` \| (.+?) \|", text, re.MULTILINE))
    write_mount(settings.root, {"AUDIT_SEAL_KEY": _SECRET["AUDIT_SEAL_KEY"]}, {})
    (settings.root / "users.csv").write_text("tag,kind\nbot,service\n")
    # It asks a deployment: tests/fission/test_apply.py.
    rows.pop("deploy verify")
    for name, members in rows.items():
        arguments = [str(settings.root / "users.csv")] if name == "users import" else []
        result = CliRunner().invoke(app, [*name.split(), *arguments, "--json", "--root", str(settings.root)])
        assert result.exit_code == Exit.DONE, result.output
        printed = [list(json.loads(line)) for line in result.stdout.splitlines()]
        assert printed
        assert all(names == re.findall(r"`(\w+)`", members) for names in printed), (name, printed[0])
    documented = {"users import", "config check", "doctor", "audit verify", "vault status"}
    assert set(rows) == documented
