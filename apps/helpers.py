"""Connection, settings and CORS headers, by the names that the first version gave them."""

import psycopg
from psycopg.rows import DictRow, dict_row

from ai_admin.config import config_root, load_database_settings
from ai_admin.config import read_config as get_config
from ai_admin.config import read_secret as get_secret
from ai_admin.database import connection_arguments
from ai_admin.http.cors import CORS_HEADERS

__all__ = ["CORS_HEADERS", "get_config", "get_secret", "init_db_connection"]


def init_db_connection() -> psycopg.Connection[DictRow]:
    """A new connection that the caller closes; rows are dicts. Raises `ConfigError`, `psycopg.OperationalError`."""
    settings = load_database_settings(config_root())
    return psycopg.connect(**connection_arguments(settings), row_factory=dict_row)
