"""The schema and the way to it."""

import threading
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from ai_admin import migrate
from ai_admin.config import DatabaseSettings, load_settings
from ai_admin.database import SCHEMA_VERSION
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import ROLE, database_secret, write_mount


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


def test_several_may_migrate_at_once(empty: DatabaseSettings) -> None:
    """Pods that start together wait for one another on the advisory lock; one does the work."""
    results: list[tuple[str | None, str | None]] = []
    # Alembic keeps its context in module globals, so threads would meet there: the lock is what is tested,
    # held by another session.
    with psycopg.connect(host=empty.pg_host, dbname="empty", user=ROLE, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [migrate._LOCK])
        waiting = threading.Thread(target=lambda: results.append(migrate.upgrade(empty)))
        waiting.start()
        blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = 'empty' AND wait_event = 'advisory'"
        while not other.execute(blocked).fetchone():
            assert waiting.is_alive()
        assert other.execute("SELECT to_regclass('users')").fetchone() == (None,)
        other.execute("SELECT pg_advisory_unlock(%s)", [migrate._LOCK])
        waiting.join(30)
    assert results == [(None, SCHEMA_VERSION)]


def test_needs_no_extension(empty: DatabaseSettings, postgres: EmbeddedPostgres) -> None:
    """The schema runs on a PostgreSQL without contrib."""
    migrate.upgrade(empty)
    with postgres.connect("empty") as connection:
        assert connection.execute("SELECT extname FROM pg_extension").fetchall() == [("plpgsql",)]
