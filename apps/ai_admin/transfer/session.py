"""A connection for what takes long: none of the pool's, whose timeouts are for requests."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import dict_row

from ai_admin.config import Settings, load_database_settings
from ai_admin.database import SCHEMA_VERSION, Connection, connection_arguments, domain_errors, schema_version
from ai_admin.errors import SchemaOutdated

# As long as PostgreSQL lets a batch, or the next rows of an export, take.
_OPTIONS = "-c statement_timeout=0 -c lock_timeout=10s -c idle_in_transaction_session_timeout=0 -c timezone=UTC"


@contextmanager
def session(settings: Settings) -> Iterator[Connection]:
    """A connection in autocommit mode. Raises domain errors only, `SchemaOutdated` among them."""
    arguments = connection_arguments(load_database_settings(settings.root), settings.config.connect_timeout_s)
    if settings.config.pg_pooling == "transaction":
        arguments["prepare_threshold"] = None
    else:
        arguments["options"] = _OPTIONS
    with domain_errors(), psycopg.connect(**arguments, autocommit=True, row_factory=dict_row) as connection:
        if schema_version(connection) != SCHEMA_VERSION:
            raise SchemaOutdated
        yield connection
