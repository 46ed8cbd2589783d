"""Exports of users: all that a filter finds, as they are at one moment, in a file that an import takes back."""

import csv
import io
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from typing import Any

import orjson
import psycopg

from ai_admin.access.actors import Actor
from ai_admin.access.standing import require_standing
from ai_admin.audit import events
from ai_admin.config import Settings
from ai_admin.database import Row, domain_error
from ai_admin.filters import Conditions
from ai_admin.sql import queries
from ai_admin.transfer.formats import COLUMNS, to_cells
from ai_admin.transfer.session import session
from ai_admin.users import directory
from ai_admin.users.schemas import UserFilter

# Users that are fetched, and written, at once.
_TOGETHER = 1_000
_SQL = queries("transfer")


def export_users(settings: Settings, by: Actor, asked: UserFilter, form: str) -> Generator[bytes]:
    """The users whom a filter finds, in the order of their ids, as they are now; `form` is one of `WRITERS`.

    The event of the export is written before the first of them is read. Raises `DatabaseUnavailable`,
    `SchemaOutdated` and `Unauthenticated` at once, and `DatabaseUnavailable` in the middle where the database goes.
    """
    chunks = _chunks(settings, by, asked, WRITERS[form], form)
    # As far as the database is needed to know that there will be an answer.
    next(chunks)
    return chunks


def _chunks(
    settings: Settings, by: Actor, asked: UserFilter, write: Callable[[list[Row]], bytes], form: str
) -> Generator[bytes]:
    with ExitStack() as stack:
        connection = stack.enter_context(session(settings))
        with connection.transaction():
            require_standing(connection, by)
            # Not the values: an address that is asked for is somebody's.
            filters = sorted(asked.model_fields_set & UserFilter.model_fields.keys())
            events.exported(connection, by, {"format": form, "filters": filters})
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        stack.enter_context(connection.transaction())
        cursor = stack.enter_context(connection.cursor("export", binary=True))
        conditions = directory.conditions(asked)
        try:
            cursor.execute(_query(conditions), conditions.values)
            yield b""
            if form in _HEADERS:
                yield _HEADERS[form]
            while rows := cursor.fetchmany(_TOGETHER):
                yield write(rows)
        except psycopg.Error as error:
            raise domain_error(error) from error


def _query(conditions: Conditions) -> str:
    joined = " AND ".join(item.sql for item in conditions.items) or "TRUE"
    return _SQL["export"].format(columns=directory.COLUMNS, conditions=joined)


def _ndjson(rows: list[Row]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE) for row in rows)


def _csv(rows: list[Row]) -> bytes:
    return _table(map(to_cells, rows))


def _table(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


WRITERS: Mapping[str, Callable[[list[Row]], bytes]] = {"csv": _csv, "ndjson": _ndjson}
_HEADERS = {"csv": _table([COLUMNS])}
