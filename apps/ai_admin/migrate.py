"""Brings the database to the schema of this version: `ai-admin migrate`, one at a time, forward only."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg.rows import dict_row
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from ai_admin.config import DatabaseSettings
from ai_admin.database import SCHEMA_VERSION, connection_arguments, encoding_fault, schema_fault, schema_version
from ai_admin.errors import DatabaseUnavailable, SchemaOutdated

# Any number, the same for every process that migrates this product's schema.
_LOCK = 4_128_020_264_012
# A migration that cannot have its lock soon steps back rather than queue every request behind it.
_LOCK_TIMEOUT = "5s"
_TURN_S = 0.5


@contextmanager
def _connection(settings: DatabaseSettings) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(**connection_arguments(settings)),
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "ai_admin:migrations")
    config.attributes["connection"] = connection
    return config


def is_current(settings: DatabaseSettings) -> bool:
    """Whether there is nothing to do."""
    with psycopg.connect(**connection_arguments(settings), row_factory=dict_row) as connection:
        return schema_version(connection) == SCHEMA_VERSION


def upgrade(settings: DatabaseSettings) -> tuple[str | None, str | None]:
    """Run the missing revisions; returns the revision before and after (None where the database is empty).

    A second process waits on the advisory lock and then finds nothing to do. Raises
    `psycopg.OperationalError` or `sqlalchemy.exc.OperationalError` where the database is away, `SchemaOutdated` where a
    newer version has made the schema, and `DatabaseUnavailable` where the database cannot hold Unicode.
    """
    with _connection(settings) as connection:
        if fault := encoding_fault(cast(psycopg.Connection, connection.connection.driver_connection)):
            raise DatabaseUnavailable(fault)
        connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.execute(text("SET statement_timeout = 0"))
        connection.commit()
        _wait_for_turn(connection)
        try:
            before = _revision(connection)
            if before is not None and before > SCHEMA_VERSION:
                raise SchemaOutdated(schema_fault(before))
            command.upgrade(_alembic(connection), "head")
            return before, _revision(connection)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()


def _wait_for_turn(connection: Connection) -> None:
    # Asked again and again: a statement that waits has a snapshot, and CREATE INDEX CONCURRENTLY waits for that.
    while not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar_one():
        connection.commit()
        time.sleep(_TURN_S)
    connection.commit()


def _revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    return revision
