"""Directories of many sizes on one PostgreSQL, filled by COPY and kept between runs."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import mount
import psycopg
from psycopg.sql import SQL, Identifier
from rich.console import Console

from ai_admin import demo, migrate
from ai_admin.access.bootstrap import make_owner
from ai_admin.app import create_app
from ai_admin.config import Settings
from ai_admin.cursors import Position
from ai_admin.database import connection_arguments
from ai_admin.embedded import EmbeddedPostgres

# From here on it is quicker to build the indexes after the rows.
_MANY = 200_000
# Everything is measured with authentication, and nothing should be refused for coming too often.
LIMITS = {
    "LOG_LEVEL": "ERROR",
    "RATE_PER_SECOND": "1000000",
    "REVEALS_PER_SECOND": "10000",
    "WRITES_PER_SECOND": "1000000",
    "STATEMENT_TIMEOUT_MS": "60000",
}
# Each of the two by its beginning, along the index of tags.
_FORGET = r"DELETE FROM users WHERE tag ~ '^bench-\d{12}$' OR tag ~ '^plain-\d{12}$'"
ORDERS = {"-createdAt": "created_at", "name": "name_key"}
# Indexes that no constraint owns and that are not unique: what a fill can do without.
_PLAIN_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index
WHERE indrelid = 'users'::regclass AND NOT indisunique AND indisvalid
"""


@dataclass(frozen=True)
class Directory:
    """A filled directory: how many users, how to reach it, and the key of an owner."""

    users: int
    settings: Settings
    key: str = field(repr=False)

    def some(self, number: int) -> list[str]:
        """Ids of so many active users, from all over the directory."""
        sql = (
            "SELECT id::text FROM users WHERE status = 'active' AND md5(id::text) > 'f' ORDER BY md5(id::text) LIMIT %s"
        )
        with psycopg.connect(**connection_arguments(self.settings.secret)) as connection:
            return [row[0] for row in connection.execute(sql, [number])]

    def forget_created(self) -> None:
        """Take out what workloads have created: thousands of new users, all alike, are another directory."""
        with psycopg.connect(**connection_arguments(self.settings.secret), autocommit=True) as connection:
            if connection.execute(_FORGET).rowcount:
                connection.execute("VACUUM users")

    def cursor_at(self, depth: int, size: int, sort: str = "-createdAt") -> str:
        """The cursor that paging would have come to after so many rows, without the way there."""
        app, query = create_app(self.settings), {"size": size, "sort": sort}
        with closing(app.extensions["ai_admin"].database), ExitStack() as stack:
            if depth > size:
                # A page after a row far inside; its answer has the cursor of the next.
                query |= {"cursor": "of that row"}
                row = self._row(depth - size - 1, sort)
                stack.enter_context(patch("ai_admin.http.paging.unseal", return_value=row))
            key = {"Authorization": f"Bearer {self.key}"}
            answer = app.test_client().get("/ai/admin/users", query_string=query, headers=key)
        if answer.status_code != 200:
            raise RuntimeError(answer.text)
        return str(answer.get_json()["nextCursor"])

    def _row(self, number: int, sort: str) -> Position:
        column = ORDERS[sort]
        order = f"{column} DESC, id DESC" if sort.startswith("-") else f"{column}, id"
        rows = f"SELECT {column}::text, id::text FROM users WHERE status <> 'deleted'"
        with psycopg.connect(**connection_arguments(self.settings.secret)) as connection:
            row = connection.execute(f"{rows} ORDER BY {order} OFFSET %s LIMIT 1", [number]).fetchone()
        assert row is not None, "the directory has as many"
        return Position(*row)


@contextmanager
def filled(folder: Path, sizes: Sequence[int], console: Console) -> Iterator[list[Directory]]:
    """A PostgreSQL of its own with a directory for each size; what is in `folder` already is kept."""
    postgres = EmbeddedPostgres(folder)
    postgres.start(console.print)
    try:
        yield [_directory(postgres, folder, users, console) for users in sizes]
    finally:
        postgres.stop()


def _directory(postgres: EmbeddedPostgres, folder: Path, users: int, console: Console) -> Directory:
    settings = mount.settings(folder / f"mount_{users}", postgres, f"users_{users}", LIMITS)
    postgres.ensure_database(settings.secret.pg_database, settings.secret.pg_user)
    migrate.upgrade(settings.secret)
    with psycopg.connect(**connection_arguments(settings.secret), autocommit=True) as connection:
        present = connection.execute("SELECT count(*) FROM users").fetchone()
        missing = users - (present[0] if present else 0)
        if missing > 0:
            console.print(f"[bold]==>[/] Filling a directory of {users:,} users")
            with _without_indexes(connection, console) if missing >= _MANY else nullcontext():
                demo.fill(settings, users, console)
            # Statistics of what the indexes are over, and the visibility map.
            connection.execute("VACUUM (ANALYZE)")
    directory = Directory(users, settings, make_owner(settings, f"bench-{time.time_ns()}") or "")
    # A soak, and a run that was killed, leave theirs: who asks for one of those asks in vain once they are forgotten.
    directory.forget_created()
    return directory


@contextmanager
def _without_indexes(connection: psycopg.Connection, console: Console) -> Iterator[None]:
    """Drop the plain indexes meanwhile. A run that is killed here has to begin with an empty folder."""
    indexes = connection.execute(_PLAIN_INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(SQL("DROP INDEX {}").format(Identifier(name)))
    yield
    connection.execute("SET maintenance_work_mem = '1GB'")
    for number, (name, definition) in enumerate(indexes, 1):
        console.print(f"[bold]==>[/] Building index {number} of {len(indexes)}: {name}")
        connection.execute(definition)
