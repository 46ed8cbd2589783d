"""A connection for what takes long: none of the pool's, whose timeouts are for requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ai_admin.config import Settings, load_database_settings
from ai_admin.database import Connection, connection_arguments, domain_errors, require_current_schema, set_formats

# As long as PostgreSQL lets a batch, or the next rows of an export, take.
_OPTIONS: dict[str, Any] = {"statement_timeout": 0, "lock_timeout": "10s", "idle_in_transaction_session_timeout": 0}


@contextmanager
def session(settings: Settings) -> Iterator[Connection]:
    """A connection in autocommit mode. Raises domain errors only, `SchemaOutdated` among them."""
    pooling = settings.config.pg_pooling
    arguments = connection_arguments(
        load_database_settings(settings.root), settings.config.connect_timeout_s, pooling=pooling, **_OPTIONS
    )
    with domain_errors(), psycopg.connect(**arguments, autocommit=True, row_factory=dict_row) as connection:
        if pooling == "transaction":
            set_formats(connection)
        require_current_schema(connection)
        yield connection
