"""The columns that hold sealed values, and the context of each: what is sealed and opened, rotated and counted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from ai_admin.config import DatabaseSettings
from ai_admin.database import Connection, connection_arguments, require_current_schema
from ai_admin.errors import SchemaOutdated
from ai_admin.sql import queries
from ai_admin.vault.ciphertext import Context

_SQL = queries("vault")


@dataclass(frozen=True)
class SealedColumn:
    """A column of ciphertexts, with an index on `(vault_key_id(column) COLLATE "C", primary_key)`.

    `row` makes the row of a `Context` from a primary key; `below` is a primary key below all that rows have. `bound`
    names columns whose values never change and that a sealed value is bound to; then there is another such index, of
    the rows that are not bound yet (format 1).
    """

    table: str
    column: str
    primary_key: str
    row: Callable[[Any], str]
    below: UUID | bytes
    bound: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"

    def place(self, key: UUID | bytes, bound: Sequence[object] = ()) -> Context:
        """The context of the value in the row of this primary key, with the values of the `bound` columns."""
        if len(bound) != len(self.bound):
            raise ValueError(f"{self} is bound to {', '.join(self.bound) or 'no other column'}")
        return Context(self.table, self.column, self.row(key), tuple(map(str, bound)))

    def query(self, name: str) -> Composed:
        """A query of `sql/vault.sql` on this column."""
        names = {"table": self.table, "column": self.column, "primary_key": self.primary_key}
        bound = SQL("").join(SQL(", {}").format(Identifier(column)) for column in self.bound)
        return SQL(_SQL[name]).format(bound=bound, **{part: Identifier(value) for part, value in names.items()})


CREDENTIALS = SealedColumn("user_secrets", "value", "id", str, UUID(int=0), ("user_id", "name", "provider"))
KEPT_ANSWERS = SealedColumn("idempotency_keys", "body", "key_digest", bytes.hex, b"")
SEALED_COLUMNS = (CREDENTIALS, KEPT_ANSWERS)

# Plans that look at every row, whatever the statistics say of how many a key has.
_ONLY_BY_INDEX: dict[str, Any] = {"enable_seqscan": "off", "enable_sort": "off"}
# Seconds between two looks at who still writes.
_STEP = 0.1
RowsByKey = dict[SealedColumn, dict[str, int]]


def connect(settings: DatabaseSettings) -> Connection:
    """A connection for the queries of this module. Raises `psycopg.Error`, and `SchemaOutdated`."""
    arguments = connection_arguments(settings, **_ONLY_BY_INDEX)
    connection = psycopg.connect(**arguments, autocommit=True, row_factory=dict_row)
    try:
        require_current_schema(connection)
    except SchemaOutdated:
        connection.close()
        raise
    return connection


def wait_for_writers(connection: Connection, patience: float) -> list[int]:
    """Wait until all transactions that may have written something before this moment have ended.

    Gives up after `patience` seconds and returns the process ids of the PostgreSQL backends that are left.
    """
    deadline = time.monotonic() + patience
    before = writers = _writers(connection)
    while writers and time.monotonic() < deadline:
        time.sleep(_STEP)
        # Those that have begun since are no matter.
        writers = before & _writers(connection)
    return sorted({pid for _, pid in writers})


def _writers(connection: Connection) -> set[tuple[str, int]]:
    return {(row["id"], row["pid"]) for row in connection.execute(_SQL["writers"])}


def keys_of(connection: Connection, column: SealedColumn) -> list[str]:
    """The ids of the keys that rows of this column are sealed with."""
    return [row["id"] for row in connection.execute(column.query("keys"))]


def keys_in_use(connection: Connection) -> set[str]:
    """The ids of all keys that something is sealed with; a few steps along an index, however many rows there are."""
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        return {key_id for column in SEALED_COLUMNS for key_id in keys_of(connection, column)}


def count_rows(connection: Connection) -> RowsByKey:
    """How many rows each key has sealed, by column, all at one moment. It takes about a second for a million rows."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return {
            column: {key_id: _count(connection, column, key_id) for key_id in keys_of(connection, column)}
            for column in SEALED_COLUMNS
        }


def _count(connection: Connection, column: SealedColumn, key_id: str) -> int:
    row = connection.execute(column.query("count"), {"key_id": key_id}).fetchone()
    return row["count"] if row else 0


def count_unbound(connection: Connection) -> RowsByKey:
    """How many rows of each key are not bound yet to other columns of theirs, by column."""
    return {
        column: {row["id"]: row["number"] for row in connection.execute(column.query("count_unbound"))}
        for column in SEALED_COLUMNS
        if column.bound
    }
