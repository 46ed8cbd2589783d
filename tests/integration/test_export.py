"""Exports of users: what a filter finds, at one moment; and back again by an import, the same directory."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from ai_admin.access.actors import service
from ai_admin.cli import app
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.transfer.exporting import export_users
from ai_admin.transfer.formats import COLUMNS
from ai_admin.transfer.importing import Summary, import_users
from ai_admin.users import directory
from ai_admin.users.schemas import AiUserCreate, UserFilter
from tests.conftest import ROOT
from tests.serving import own_database

BY = service("export")
runner = CliRunner()
ODD: list[dict[str, Any]] = [
    {"tag": "ada", "email": "Ada@example.com", "name": 'Ada "the, first"', "models": ["gpt-5*", "@a/b"]},
    {"tag": "bot", "kind": "service", "name": "=cmd|' /C calc'!A0", "attributes": {"a": [1, 2.5, "é\n", None, {}]}},
    {"tag": "c", "email": "+c@example.com", "name": "'-quoted", "status": "suspended", "models": ["*"]},
    {"tag": "d", "email": "d@example.com", "name": "Đặng  Thị Ánh", "role": "admin"},
    {"tag": "o", "email": "o@example.com", "role": "owner", "attributes": {"": "", "x": True, "big": 9007199254740993}},
]


@pytest.fixture
def filled(settings: Settings, database: Database) -> Settings:
    """A directory with users whose values are hard to write down."""
    with database.transaction() as connection:
        for user in ODD:
            directory.create(connection, BY, AiUserCreate.model_validate(user))
    return settings


def exported(settings: Settings, form: str, **asked: Any) -> bytes:
    """The whole export."""
    return b"".join(export_users(settings, BY, UserFilter.model_validate(asked), form))


def contents(settings: Settings) -> list[dict[str, Any]]:
    """Every user, without what the service sets."""
    users = [json.loads(line) for line in exported(settings, "ndjson").splitlines()]
    kept = [{name: user[name] for name in COLUMNS if name not in {"id", "createdAt", "updatedAt"}} for user in users]
    return sorted(kept, key=lambda user: str(user["tag"]))


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_import_of_an_export_gives_the_same_directory(
    filled: Settings, postgres: EmbeddedPostgres, tmp_path: Path, form: str
) -> None:
    """In an empty directory the same users, row for row; in the one it came from, nothing to do."""
    content = exported(filled, form)
    again = import_users(filled, BY, io.BytesIO(content), form)
    assert again.summary == Summary(records=6, unchanged=6)
    with own_database(postgres, tmp_path / "other") as other:
        outcome = import_users(other, BY, io.BytesIO(content), form)
        # The tests' owner is there already, and has models.
        assert outcome.summary == Summary(records=6, created=5, unchanged=1), list(outcome.rejects(other))
        assert contents(other) == contents(filled)


def test_no_cell_is_a_formula(filled: Settings) -> None:
    """A spreadsheet that opens the file runs nothing that a user has put into a name."""
    cells = [cell for row in csv.reader(io.StringIO(exported(filled, "csv").decode())) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_filters_are_those_of_the_list(filled: Settings) -> None:
    """What the list finds is exported, and no more; deleted users only when asked for."""
    assert [json.loads(line)["tag"] for line in exported(filled, "ndjson", q="dang").splitlines()] == ["d"]
    assert [json.loads(line)["tag"] for line in exported(filled, "ndjson", status=["suspended"]).splitlines()] == ["c"]
    assert exported(filled, "ndjson", status=["deleted"]) == b""
    assert exported(filled, "csv", tag=["nobody"]).decode().strip() == ",".join(COLUMNS)


def test_an_export_is_of_one_moment_and_in_the_log(filled: Settings, sql: psycopg.Connection) -> None:
    """What changes while it is read is not in it; who has exported by which filters can be found."""
    chunks = export_users(filled, BY, UserFilter.model_validate({"email[prefix]": "ada"}), "ndjson")
    sql.execute("UPDATE users SET name = 'late' WHERE tag = 'ada'")
    assert b"late" not in b"".join(chunks)
    [(changes,)] = sql.execute("SELECT changes FROM audit_events WHERE action = 'users:export'").fetchall()
    assert changes == {"format": "ndjson", "filters": ["email_prefix"]}


def test_the_commands_go_both_ways(filled: Settings, tmp_path: Path, sql: psycopg.Connection) -> None:
    """Data alone on standard output; a report beside the file; exit codes as documented."""
    root = ["--root", str(filled.root)]
    target = tmp_path / "users.csv"
    result = runner.invoke(app, ["users", "export", "--format", "csv", "--output", str(target), *root])
    assert (result.exit_code, result.output) == (0, "")
    assert target.stat().st_mode & 0o777 == 0o600
    result = runner.invoke(app, ["users", "export", "--where", "role=admin", *root])
    assert [json.loads(line)["tag"] for line in result.stdout.splitlines()] == ["d"]
    source = tmp_path / "more.csv"
    source.write_text("tag,email,name\nada,,Ada\nnew,new@example.com,\nbad tag,x@example.com,\n")
    result = runner.invoke(app, ["users", "import", str(source), "--dry-run", "--json", *root])
    counts = {"records": 3, "created": 1, "changed": 1, "unchanged": 0, "rejected": 1}
    assert json.loads(result.stdout) == {"dryRun": True, "resumedAt": 0, **counts}
    assert sql.execute("SELECT FROM users WHERE tag = 'new'").rowcount == 0
    result = runner.invoke(app, ["users", "import", str(source), *root])
    assert result.exit_code == 1
    assert result.stdout == "3 records: 1 created, 1 changed, 0 unchanged, 1 rejected\n"
    [reject] = (tmp_path / "more.csv.rejects.ndjson").read_text().splitlines()
    assert (json.loads(reject)["line"], json.loads(reject)["errorCode"]) == (4, "VALIDATION_ERROR")


def test_import_command_with_encoding_keeps_names(filled: Settings, tmp_path: Path, sql: psycopg.Connection) -> None:
    """A spreadsheet's file needs no other tool: the reject says cp1252, and --encoding cp1252 takes the row."""
    root = ["--root", str(filled.root)]
    source = tmp_path / "excel.csv"
    source.write_bytes("tag,email,name\nzoe,zoe@example.com,Zo\u00eb\n".encode("cp1252"))
    assert runner.invoke(app, ["users", "import", str(source), *root]).exit_code == 1
    assert "looks like cp1252" in (tmp_path / "excel.csv.rejects.ndjson").read_text()
    result = runner.invoke(app, ["users", "import", str(source), "--encoding", "cp1252", *root])
    assert result.stdout == "1 record: 1 created, 0 changed, 0 unchanged, 0 rejected\n"
    assert sql.execute("SELECT name FROM users WHERE tag = 'zoe'").fetchone() == ("Zo\u00eb",)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "--where", "colour=red"], "colour"),
        (["export", "--where", "role"], "role"),
        (["import", "{file}"], "--format"),
        (["import", "{file}", "--format", "csv"], "no column"),
        (["import", "{file}", "--format", "keycloak"], "no JSON"),
    ],
)
def test_the_commands_say_what_is_wrong(filled: Settings, tmp_path: Path, arguments: list[str], told: str) -> None:
    """One line on standard error, exit code 2, and no traceback."""
    file = tmp_path / "users.txt"
    file.write_text("nonsense\n")
    given = [argument.format(file=file) for argument in arguments]
    result = runner.invoke(app, ["users", *given, "--root", str(filled.root)])
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


def test_ctrl_c_leaves_an_import_that_goes_on(settings: Settings, sql: psycopg.Connection, tmp_path: Path) -> None:
    """The batches that are done stay, the shell is told, and the same command does the rest."""
    file = tmp_path / "users.ndjson"
    file.write_text("".join(f'{{"tag": "u{number}", "kind": "service"}}\n' for number in range(30_000)))
    command = [sys.executable, "-m", "ai_admin", "users", "import", str(file), "--json", "--root", str(settings.root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "apps")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while sql.execute("SELECT count(*) FROM users").fetchone() == (1,):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told, error = process.communicate(timeout=60)
        assert process.returncode == 130, error
    assert told == b""
    assert b"goes on where this one stopped" in error
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    summary = json.loads(done.stdout)
    assert 0 < summary["resumedAt"] < 30_000
    assert (summary["created"], summary["records"]) == (30_000, 30_000)
    assert sql.execute("SELECT count(*) FROM audit_events").fetchone() == (30_000,)
