"""The schema and the way to it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from typer.testing import CliRunner

from ai_admin import migrate
from ai_admin.cli import app
from ai_admin.config import ROOT_VARIABLE, DatabaseSettings, load_settings
from ai_admin.database import SCHEMA_VERSION
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.server import create_server_app
from tests.conftest import ROLE, ROOT, calling, database_secret, write_mount


@pytest.fixture
def empty(postgres: EmbeddedPostgres, tmp_path: Path) -> DatabaseSettings:
    """Settings that lead to a database without any schema."""
    with postgres.connect("postgres") as connection:
        connection.execute("DROP DATABASE IF EXISTS empty WITH (FORCE)")
    postgres.ensure_database("empty", ROLE)
    return load_settings(write_mount(tmp_path / "empty", database_secret(postgres, "empty"), {})).secret


def test_the_code_needs_the_newest_revision() -> None:
    """A revision without a new SCHEMA_VERSION would leave every service "outdated" or unaware."""
    config = Config()
    config.set_main_option("script_location", "ai_admin:migrations")
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [SCHEMA_VERSION]


def test_revisions_follow_one_another_by_their_numbers() -> None:
    """An older version tells a newer schema from an older one by its number, and knows nothing else of it."""
    config = Config()
    config.set_main_option("script_location", "ai_admin:migrations")
    chain = [revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()]
    assert chain == sorted(chain, reverse=True)


def test_no_revision_goes_back() -> None:
    """Forward only: a downgrade that nobody runs in production is code that nobody has tested."""
    config = Config()
    config.set_main_option("script_location", "ai_admin:migrations")
    for revision in ScriptDirectory.from_config(config).walk_revisions():
        assert not hasattr(revision.module, "downgrade"), revision.revision


def test_migrating_twice_does_nothing_the_second_time(empty: DatabaseSettings) -> None:
    """The command can stand in every deployment."""
    assert not migrate.is_current(empty)
    assert migrate.upgrade(empty) == (None, SCHEMA_VERSION)
    assert migrate.upgrade(empty) == (SCHEMA_VERSION, SCHEMA_VERSION)
    assert migrate.is_current(empty)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_that_cannot_hold_unicode_is_refused(
    postgres: EmbeddedPostgres, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names would be lost or changed later, in the middle of the work (authentik #25445): one sentence says it now."""
    name = encoding.lower()
    with postgres.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0 OWNER {ROLE}")
    root = write_mount(tmp_path / name, database_secret(postgres, name), {})
    sentence = f"The database's encoding is {encoding}, which cannot hold every name"
    for command, code in (("migrate", 2), ("doctor", 1)):
        result = CliRunner().invoke(app, [command, "--root", str(root)])
        assert result.exit_code == code
        assert sentence in " ".join(result.output.split()), result.output
    (tmp_path / "metrics").mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    with calling(create_server_app(load_settings(root))) as api:
        answer = api.get("/readyz")
        assert (answer.status_code, answer.json()["errorCode"]) == (503, "DATABASE_UNAVAILABLE")
        assert sentence in answer.json()["detail"]


def test_several_may_migrate_at_once(empty: DatabaseSettings, tmp_path: Path) -> None:
    """Pods that start together wait for one another; one does the work, and none stands in the way of its indexes.

    Nor does it give up where somebody has had a snapshot for longer than it would wait for a lock, as pg_dump has.
    """
    command = [sys.executable, "-m", "ai_admin", "migrate"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "apps"), ROOT_VARIABLE: str(tmp_path / "empty")}
    with (
        psycopg.connect(host=empty.pg_host, dbname="empty", user=ROLE) as reader,
        psycopg.connect(host=empty.pg_host, dbname="empty", user=ROLE, autocommit=True) as watch,
    ):
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT")
        started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
        # One builds, and has waited for the reader longer than a lock may take; the other has asked for its turn since.
        until(watch, "SELECT count(*) FILTER (WHERE wait_event = 'virtualxid' AND now() - query_start > '5.5 s') = 1")
        until(watch, "SELECT count(*) FILTER (WHERE query LIKE '%%pg_try_advisory_lock%%' OR query = 'COMMIT') >= 1")
        reader.rollback()
        ended = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert migrate.is_current(empty)


def until(watch: psycopg.Connection, condition: str) -> None:
    """Wait for what the other sessions of a database come to; fails after a minute."""
    sessions = "FROM pg_stat_activity WHERE datname = 'empty' AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 60
    while watch.execute(f"{condition} {sessions}".encode()).fetchone() != (True,):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_needs_no_extension(empty: DatabaseSettings, postgres: EmbeddedPostgres) -> None:
    """The schema runs on a PostgreSQL without contrib."""
    migrate.upgrade(empty)
    with postgres.connect("empty") as connection:
        assert connection.execute("SELECT extname FROM pg_extension").fetchall() == [("plpgsql",)]
