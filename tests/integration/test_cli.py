"""`ai-admin`, as operators run it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ai_admin import __version__
from ai_admin.app import create_app
from ai_admin.cli import app
from ai_admin.config import Settings
from ai_admin.database import SCHEMA_VERSION
from ai_admin.local import app as local
from ai_admin.terminal import Exit, rate
from tests.conftest import ROOT, write_mount

runner = CliRunner()


def test_config_check_shows_each_setting_and_masks_secrets(settings: Settings) -> None:
    """Operators see what is in force and where it comes from, over the shoulder too."""
    result = runner.invoke(app, ["config", "check", "--root", str(settings.root)])
    assert result.exit_code == 0, result.output
    for key in ("PG_HOST", "CURSOR_KEY", "POOL_SIZE", "LOG_LEVEL"):
        assert key in result.output
    assert f"Settings under {settings.root}" in result.output
    assert "secrets/default/fission-ai-work-env/PG_HOST" in result.output
    assert settings.secret.cursor_key.get_secret_value() not in result.output
    assert "********" in result.output


@pytest.mark.parametrize(
    ("secret", "config", "told"),
    [
        ({"PG_HOST": "h"}, {}, "CURSOR_KEY: is missing"),
        ({"PG_HOST": "h", "CURSOR_KEY": "c2hvcnQ="}, {}, "CURSOR_KEY: Value error, must be 32 bytes"),
        ({"PG_HOST": "h", "CURSOR_KEY": "?"}, {"POOL_SIZE": "0"}, "POOL_SIZE: Input should be greater"),
        ({}, {}, "/secrets/<namespace>/fission-ai-work-env/PG_HOST"),
        ({}, {"ALLOWED_ORIGINS": "example.com"}, "is no origin"),
    ],
)
def test_config_check_fails_with_advice(
    tmp_path: Path, secret: dict[str, str], config: dict[str, str], told: str
) -> None:
    """A bad or missing setting is named, with the file it is read from, and the exit code is 1."""
    result = runner.invoke(app, ["config", "check", "--root", str(write_mount(tmp_path, secret, config))])
    assert result.exit_code == 1
    assert told in " ".join(result.output.split())


def test_config_check_names_unknown_settings(settings: Settings) -> None:
    """A key with a typing error has no effect, which nobody notices until a browser of a stranger calls."""
    root = write_mount(settings.root, {}, {"ALLOWED_ORIGIN": "https://a.example"})
    result = runner.invoke(app, ["config", "check", "--root", str(root)])
    assert result.exit_code == 1
    assert "'ALLOWED_ORIGIN' in /configs/default/fission-ai-work-config is not a setting" in " ".join(
        result.output.split()
    )
    assert "Did you mean ALLOWED_ORIGINS?" in " ".join(result.output.split())


def test_start_with_unknown_setting_logs_it(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Operators who never run `config check` read the log."""
    write_mount(settings.root, {}, {"ALLOWED_ORIGIN": "https://a.example"})
    create_app(settings).extensions["ai_admin"].database.close()
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["level"] == "WARNING"
    assert "Did you mean ALLOWED_ORIGINS?" in line["event"]


def test_migrate_tells_what_it_did(settings: Settings) -> None:
    """On a current schema the command says so and changes nothing."""
    result = runner.invoke(app, ["migrate", "--root", str(settings.root)])
    assert (result.exit_code, result.output.strip()) == (0, f"schema {SCHEMA_VERSION}, up to date")


ISSUER = "https://id.example.com"


def bind_identity(settings: Settings, tag: str, subject: str) -> str:
    """What `ai-admin bind-identity` says, on one line."""
    result = runner.invoke(app, ["bind-identity", tag, ISSUER, subject, "--root", str(settings.root)])
    assert result.exit_code == (0 if "bound to" in result.output else 2 if "subject" in result.output else 1), (
        result.output
    )
    assert result.stdout == ""
    return " ".join(result.output.split())


def bound(sql: psycopg.Connection) -> list[tuple[str, str]]:
    """Tags and subjects."""
    query = "SELECT tag, subject FROM identities JOIN users ON users.id = user_id ORDER BY tag, subject"
    return sql.execute(query).fetchall()


def test_bind_identity_binds_anybody_and_takes_wrong_bindings_back(settings: Settings, sql: psycopg.Connection) -> None:
    """An owner has no other way to sign in by token, and a subject bound to the wrong user no other way to the right.

    A user has one subject of an issuer and a subject one user: what stood in the way goes. Each step is an event.
    """
    assert "OIDC_ISSUER is another one" in bind_identity(settings, "zz-owner", "s-1")
    key = runner.invoke(app, ["make-owner", "second", "--root", str(settings.root)]).output.strip()
    assert bind_identity(settings, "second", "s-2").startswith("bound to second")
    assert bind_identity(settings, "SECOND", "s-2").startswith("bound to SECOND")
    assert bound(sql) == [("second", "s-2"), ("zz-owner", "s-1")]
    taken = bind_identity(settings, "zz-owner", "s-2")
    assert taken.count(f"zz-owner has lost an identity of {ISSUER}") == 1
    assert taken.count(f"second has lost an identity of {ISSUER}") == 1
    assert bound(sql) == [("zz-owner", "s-2")]
    logged = sql.execute(
        "SELECT action, tag FROM audit_events JOIN users ON users.id = target_id"
        " WHERE request_id = 'bind-identity' ORDER BY audit_events.id"
    ).fetchall()
    assert logged[:2] == [("identities:bind", "zz-owner"), ("identities:bind", "second")]
    assert sorted(logged[2:4]) == [("identities:unbind", "second"), ("identities:unbind", "zz-owner")]
    assert logged[4:] == [("identities:bind", "zz-owner")]
    assert key.startswith("aia_")


@pytest.mark.parametrize(
    ("tag", "subject", "told"), [("nobody", "s", "no user with the tag nobody"), ("zz-owner", "", "a subject")]
)
def test_bind_identity_says_what_is_wrong(
    settings: Settings, sql: psycopg.Connection, tag: str, subject: str, told: str
) -> None:
    """No traceback, and nothing bound."""
    assert told in bind_identity(settings, tag, subject)
    assert bound(sql) == []


@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_without_settings_the_message_says_what_is_missing(tmp_path: Path, command: str) -> None:
    """No traceback for an operator who forgot to mount the Secret."""
    result = runner.invoke(app, [command, "--root", str(tmp_path)])
    assert result.exit_code == 2
    assert "PG_HOST: is missing" in result.output
    assert isinstance(result.exception, SystemExit)


def test_serve_answers_until_it_is_told_to_end(settings: Settings, tmp_path: Path) -> None:
    """A process manager starts it, asks for its health as the container image does, and ends it by SIGTERM."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [check] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, re.MULTILINE)
    health = [sys.executable, *json.loads(check.replace(":8080", f":{port}"))[1:]]
    # Nothing but the temporary folder may be written to; a proxy must not come between the check and the process.
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "apps"),
        "TMPDIR": str(scratch),
        "http_proxy": "http://[::1]:1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "ai_admin", "serve", "--root", str(settings.root), "--port", port],
        env={**environment, "NO_COLOR": "1", "no_proxy": "127.0.0.1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        assert next((line for line in process.stderr if line.startswith("Serving")), "") == f"Serving {address}\n"
        with httpx.Client(base_url=address, trust_env=False) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            assert client.get("/readyz").json()["status"] == "ready"
            assert client.get("/metrics").status_code == 200
        subprocess.run(health, env=environment, check=True, timeout=20)
        assert list(scratch.iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert subprocess.run(health, env=environment, capture_output=True, check=False, timeout=20).returncode == 1
    assert list(scratch.iterdir()) == []


SHOW = """#!/bin/sh
echo "${AI_ADMIN_ROOT:-none} ${AI_ADMIN_KEY_FILE:-none} $*"
"""


@pytest.mark.parametrize(
    ("environment", "arguments", "root", "key"),
    [
        ({}, ["users", "list"], "{clone}/.local/data/mount", "{clone}/.local/owner.key"),
        ({"AI_ADMIN_ROOT": "/x"}, ["users", "list"], "/x", "{clone}/.local/owner.key"),
        ({"AI_ADMIN_KEY_FILE": "my.key"}, ["users", "list"], "{clone}/.local/data/mount", "my.key"),
        ({"AI_ADMIN_URL": "https://a.example"}, ["users", "list"], "{clone}/.local/data/mount", "none"),
        ({"AI_ADMIN_URL": "{address}"}, ["users", "list"], "{clone}/.local/data/mount", "{clone}/.local/owner.key"),
        ({}, ["users", "list", "--url", "{address}/"], "{clone}/.local/data/mount", "{clone}/.local/owner.key"),
        ({"AI_ADMIN_URL": "{address}1"}, ["users", "list"], "{clone}/.local/data/mount", "none"),
        ({}, ["users", "list", "--url", "https://a.example"], "{clone}/.local/data/mount", "none"),
        ({}, ["users", "list", "--url=https://a.example"], "{clone}/.local/data/mount", "none"),
    ],
)
def test_a_clone_knows_its_own_server(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], root: str, key: str
) -> None:
    """A newcomer names neither settings nor key; and the key of that server's owner goes to no other address."""
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "ai-admin").write_bytes((ROOT / "script" / "ai-admin").read_bytes())
    address = "http://127.0.0.1:8080"
    environment = {name: value.format(address=address) for name, value in environment.items()}
    arguments = [argument.format(address=address) for argument in arguments]
    made = 'root=$(cd "$(dirname "$0")/.." && pwd)\nprepare_environment() { python=$root/show; }\n'
    (tmp_path / "script" / "environment.sh").write_text(made)
    (tmp_path / "show").write_text(SHOW)
    (tmp_path / "show").chmod(0o755)
    command = ["sh", str(tmp_path / "script" / "ai-admin"), *arguments]

    def said() -> list[str]:
        given = {"PATH": os.environ["PATH"], **environment}
        return subprocess.run(command, env=given, capture_output=True, check=True).stdout.decode().split()[:2]

    assert said() == [environment.get("AI_ADMIN_ROOT", "none"), environment.get("AI_ADMIN_KEY_FILE", "none")]
    (tmp_path / ".local" / "data" / "mount").mkdir(parents=True)
    (tmp_path / ".local" / "owner.key").write_text("aia_x")
    assert said() == [root.format(clone=tmp_path), key.format(clone=tmp_path)]


def test_clone_knows_the_server_that_runs_from_it(tmp_path: Path) -> None:
    """With another --port or --data, script/ai-admin spoke to port 8080, or without a key."""
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "ai-admin").write_bytes((ROOT / "script" / "ai-admin").read_bytes())
    made = 'root=$(cd "$(dirname "$0")/.." && pwd)\nprepare_environment() { python=$root/show; }\n'
    (tmp_path / "script" / "environment.sh").write_text(made)
    (tmp_path / "show").write_text(
        '#!/bin/sh\necho "${AI_ADMIN_URL:-none} ${AI_ADMIN_KEY_FILE:-none} $AI_ADMIN_ROOT"\n'
    )
    (tmp_path / "show").chmod(0o755)
    data = tmp_path / "my data"
    data.mkdir()
    (data / "owner.key").write_text("aia_x")
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "address").write_text(f"http://127.0.0.1:9001\n{data}/owner.key\n{data}\n")

    def said(*arguments: str, **given: str) -> str:
        command = ["sh", str(tmp_path / "script" / "ai-admin"), "users", "list", *arguments]
        environment = {"PATH": os.environ["PATH"], **given}
        return subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout.strip()

    assert said() == f"http://127.0.0.1:9001 {data}/owner.key {data}"
    assert said(AI_ADMIN_URL="http://127.0.0.1:9001/") == f"http://127.0.0.1:9001/ {data}/owner.key {data}"
    assert said(AI_ADMIN_URL="http://127.0.0.1:8080") == f"http://127.0.0.1:8080 none {data}"
    assert said("--url", "http://127.0.0.1:8080") == f"none none {data}"


def test_help_of_the_server_installs_nothing_and_names_every_option(tmp_path: Path) -> None:
    """`script/server --help` in a fresh clone installed 66 packages first."""
    (tmp_path / "server").write_bytes((ROOT / "script" / "server").read_bytes())
    (tmp_path / "environment.sh").write_text("prepare_environment() { exit 9; }\n")
    parameters: list[Any] = list(get_command(local).params)
    options = {name for option in parameters if not option.hidden for name in option.opts}
    for option in ("--help", "-h"):
        command = ["sh", str(tmp_path / "server"), option]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        assert set(re.findall(r"(?<!\S)--?[a-z]+", told.partition("\n  ")[2])) == options | {"-h", "--help"}


def test_rate_is_shown_once_there_is_one() -> None:
    """A progress bar that says 0/s looks as if it were stuck."""
    assert [rate(speed, " users") for speed in (None, 0.0, 0.4, 1234.5)] == ["", "", "", "1,234 users/s"]


def test_files_that_the_documents_write_are_ignored_by_git() -> None:
    """A key that the quick start wrote into the clone could be committed."""
    patterns = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    for document in ("README.md", "docs/quickstart.md", "docs/cli.md"):
        for name in re.findall(
            r"> ([\w-]+\.(?:csv|key))$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert any(fnmatch(name, pattern) for pattern in patterns), name


# Pydantic is not among them: Typer imports it to read options.
HEAVY = ("alembic", "flask", "granian", "nacl", "psycopg", "sqlalchemy")


@pytest.mark.parametrize(
    "command",
    ["--help", "-h", "--version", "users list", "users list -h", "keys list ada", "secrets list ada", "audit tail",
     "login", "doctor --help"],
)  # fmt: skip
def test_help_and_commands_that_ask_a_server_import_nothing_of_the_service(command: str, tmp_path: Path) -> None:
    """Each call took one to four seconds of CPU, most of it for the database and the web framework."""
    (tmp_path / "owner.key").write_text("aia_key")
    program = (
        "import sys\n"
        "from ai_admin.cli import app\n"
        "try:\n    app()\n"
        f"finally:\n    print('imported', *sorted(sys.modules.keys() & set({HEAVY!r})), file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "apps"),
            "AI_ADMIN_URL": "http://127.0.0.1:9",
            "AI_ADMIN_KEY_FILE": str(tmp_path / "owner.key"),
        },
        input=b"aia_key",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode in {Exit.DONE, Exit.TROUBLE}
    assert ran.stderr.decode().endswith("imported\n")


def test_version_is_printed() -> None:
    """A report of a fault begins with the version."""
    assert CliRunner().invoke(app, ["--version"]).stdout == f"ai-admin {__version__}\n"
    assert (
        CliRunner().invoke(app, ["users", "get", "-h"]).stdout
        == CliRunner().invoke(app, ["users", "get", "--help"]).stdout
    )
