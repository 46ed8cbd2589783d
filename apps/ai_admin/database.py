"""PostgreSQL: the pool, its timeouts, and the one place where a driver's error becomes a domain error."""

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg import errors
from psycopg.abc import Buffer, DumperKey
from psycopg.adapt import Loader, PyFormat
from psycopg.rows import DictRow, dict_row
from psycopg.types.array import BaseListDumper, ListDumper
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from ai_admin.config import ConfigSettings, DatabaseSettings, Settings, load_database_settings
from ai_admin.errors import (
    ApiError,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DuplicateEmail,
    DuplicateTag,
    RequestInvalid,
    SchemaOutdated,
)
from ai_admin.sql import queries

Connection = psycopg.Connection[DictRow]
Row = dict[str, Any]
Result = TypeVar("Result")

# The revision that this version's code needs: the newest file in `migrations/versions`, a test compares.
SCHEMA_VERSION = "0020"
# What a transaction raises, whatever is done in it.
CHANGE_ERRORS: tuple[type[ApiError], ...] = (DatabaseUnavailable, DatabaseReadOnly, SchemaOutdated)
# Where the network swallows packets, a connection is given up after this many milliseconds.
_TCP_USER_TIMEOUT_MS = 10_000
# After this many seconds of failing to connect the pool rests until the next request asks for a
# connection; a short time keeps its back-off, and so the recovery after an outage, short.
_RECONNECT_S = 2.0
# How often work is done whose transaction PostgreSQL ends.
_MOST_TRIES = 5
# What the settings of a role or a database (ALTER ROLE ... SET) could change in the form or the meaning of what is
# sent and read. Every connection sets them for itself (psycopg #571, #813, authentik #25445).
_FORMATS: Mapping[str, object] = {
    "array_nulls": "on",
    "bytea_output": "hex",
    "datestyle": "ISO",
    "default_transaction_isolation": "read committed",
    "extra_float_digits": 1,
    "gin_fuzzy_search_limit": 0,
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "timezone": "UTC",
    "transform_null_equals": "off",
}
# Seconds between two looks at connections that are in use for too long.
_LOOK_S = 0.5

_log = logging.getLogger(__name__)
_SQL = queries("service")

# What a violated constraint means to the caller, by the constraint's name.
_CONSTRAINTS: Mapping[str, Callable[[], ApiError]] = {
    "users_tag_key": DuplicateTag,
    "users_email_key": DuplicateEmail,
    "users_email_of_human": lambda: RequestInvalid.at(
        "body", "email", message="A human has an email address", kind="missing"
    ),
}

# Away, too slow (`QueryCanceled`, `LockNotAvailable` are `OperationalError`), or all connections taken.
_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)

set_json_dumps(orjson.dumps)
# For what comes in the binary format: an export.
set_json_loads(orjson.loads)


class TransactionLost(DatabaseUnavailable):
    """PostgreSQL has ended the transaction for a deadlock or a conflict with another one. Nothing of it was kept."""


def repeat_lost(work: Callable[[], Result]) -> Result:
    """Return what the work gives, which is done again where PostgreSQL ends its transaction.

    Raises `DatabaseUnavailable` where that happens at every try.
    """
    for tried in range(1, _MOST_TRIES + 1):
        try:
            return work()
        except TransactionLost as error:
            _log.info("transaction lost", exc_info=error, extra={"fields": {"tried": tried}})
            lost = error
    raise DatabaseUnavailable from lost


class _JsonLoader(Loader):
    """JSON as it arrives. psycopg's own would copy it before."""

    def load(self, data: Buffer) -> Any:
        return orjson.loads(data)


psycopg.adapters.register_loader("json", _JsonLoader)
psycopg.adapters.register_loader("jsonb", _JsonLoader)


class _TextsDumper(ListDumper):
    """Lists of text as PostgreSQL reads arrays (8.15.2). psycopg's own finds out anew what is in each list."""

    def get_key(self, obj: list[Any], wanted: PyFormat) -> DumperKey:
        return self.cls if _are_texts(obj) else super().get_key(obj, wanted)

    def upgrade(self, obj: list[Any], wanted: PyFormat) -> BaseListDumper:
        return self if _are_texts(obj) else super().upgrade(obj, wanted)

    def dump(self, obj: list[Any]) -> Any:
        if self.sub_dumper is not None or not _are_texts(obj):
            return super().dump(obj)
        quoted = '","'.join([text.replace("\\", "\\\\").replace('"', '\\"') for text in obj])
        if "\x00" in quoted:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return f'{{"{quoted}"}}'.encode()


def _are_texts(values: list[Any]) -> bool:
    return set(map(type, values)) == {str}


psycopg.adapters.register_dumper(list, _TextsDumper)


def connection_arguments(
    settings: DatabaseSettings, connect_timeout_s: int = 3, *, pooling: str = "session", **options: object
) -> dict[str, Any]:
    """Return keyword arguments for `psycopg.connect`; `options` are settings of PostgreSQL for the connection.

    PgBouncer in transaction mode takes no options, and `set_formats` does there what it can. The next transaction may
    be on a connection where nothing of this one's was prepared.
    """
    if pooling == "transaction":
        mode: dict[str, Any] = {"prepare_threshold": None}
    else:
        mode = {"options": " ".join(map(_option, {**_FORMATS, **options}.items()))}
    return {
        "host": settings.pg_host,
        "port": settings.pg_port,
        "dbname": settings.pg_database,
        "user": settings.pg_user,
        "password": settings.pg_password.get_secret_value() or None,
        "sslmode": settings.pg_sslmode,
        "connect_timeout": connect_timeout_s,
        "tcp_user_timeout": _TCP_USER_TIMEOUT_MS,
        "application_name": "ai-admin",
        "client_encoding": "UTF8",
        **mode,
    }


def _option(setting: tuple[str, object]) -> str:
    """Return a setting as the startup packet has it, blanks escaped (PostgreSQL, libpq, 32.1.2)."""
    name, value = setting
    return f"-c {name}=" + str(value).replace(" ", "\\ ")


def set_formats(connection: psycopg.Connection[Any]) -> None:
    """Set what `connection_arguments` sets where options are taken; for a connection in autocommit mode."""
    for name, value in _FORMATS.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, str(value)])


class Database:
    """A pool of connections that opens itself at first use, so that importing the application costs nothing."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet."""
        self._root: Path = settings.root
        self._config: ConfigSettings = settings.config
        self._schema_current = False
        # As long as PostgreSQL itself lets a transaction be idle.
        self._watch = _Watch(self._config.statement_timeout_ms * 2 / 1000)
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            connection_class=psycopg.Connection[DictRow],
            kwargs=self._arguments,
            min_size=0,
            max_size=self._config.pool_size,
            timeout=self._config.pool_timeout_ms / 1000,
            reconnect_timeout=_RECONNECT_S,
            configure=set_formats if self._config.pg_pooling == "transaction" else None,
            check=_refuse_closed,
            open=False,
            name="ai-admin",
        )

    def _arguments(self) -> dict[str, Any]:
        """Read the files anew: a password that Kubernetes has swapped serves the next connection."""
        config = self._config
        arguments = connection_arguments(
            load_database_settings(self._root),
            config.connect_timeout_s,
            pooling=config.pg_pooling,
            statement_timeout=config.statement_timeout_ms,
            lock_timeout=config.lock_timeout_ms,
            idle_in_transaction_session_timeout=config.statement_timeout_ms * 2,
        )
        return {**arguments, "autocommit": True, "row_factory": dict_row}

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in autocommit mode, for reading. Raises domain errors only."""
        try:
            self._pool.open()
            # Not as a context of the pool's: that would commit, where nothing is ever open. What is, it rolls back.
            connection = self._pool.getconn()
            try:
                with self._watch.over(connection):
                    yield connection
            finally:
                self._pool.putconn(connection)
        except (psycopg.Error, *_UNAVAILABLE) as error:
            raise domain_error(error) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction, for changing: committed at the end, rolled back by any exception.

        Raises `SchemaOutdated` where the database is on another revision, and otherwise domain errors only.
        """
        with self.connection() as connection:
            self._require_current_schema(connection)
            with connection.transaction():
                yield connection

    def _require_current_schema(self, connection: Connection) -> None:
        # Forward-only migrations: once current, the schema stays so for this process.
        if not self._schema_current:
            require_current_schema(connection)
            self._schema_current = True

    def stats(self) -> Mapping[str, int]:
        """The pool's counters, by psycopg_pool's names."""
        return self._pool.get_stats()

    def close(self) -> None:
        """Close the pool; a later use raises `DatabaseUnavailable`."""
        self._pool.close()


class _Watch:
    """Cuts connections that are in use for too long.

    PostgreSQL's timeouts are of no help where it is itself too slow to tell of them, or has stopped: then a request
    would wait for an answer without an end.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        # Until when, in seconds of the monotonic clock.
        self._in_use: dict[Connection, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Connection) -> Iterator[None]:
        """Watch over a connection; what is waiting for an answer on it when it is cut raises `OperationalError`."""
        with self._lock:
            self._in_use[connection] = time.monotonic() + self._patience_s
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, daemon=True, name="watch-connections")
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._in_use[connection]

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            now = time.monotonic()
            # Under the lock, so that nobody gives one back, and somebody else takes it, just before it is cut.
            with self._lock:
                if not self._in_use:
                    # The next user starts another thread, so that none outlives its pool.
                    self._thread = None
                    return
                for connection, until in self._in_use.items():
                    if until < now:
                        _cut(connection)


def _cut(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
        _log.warning("PostgreSQL does not answer: a connection is given up")


def _refuse_closed(connection: Connection) -> None:
    """Refuse a pooled connection that the server has closed meanwhile, without asking the server.

    A server that goes away leaves its farewell, or the end of the stream, ready to be read.
    """
    readable = select.poll()
    readable.register(connection.fileno(), select.POLLIN)
    # The farewell is read first, and only the next look finds the end behind it.
    while readable.poll(0):
        connection.pgconn.consume_input()
        if connection.closed:
            raise psycopg.OperationalError("the server has closed the connection")


def schema_version(connection: Connection) -> str | None:
    """The revision that the database is on; None where no migration has ever run."""
    try:
        row = connection.execute(_SQL["schema_version"]).fetchone()
    except errors.UndefinedTable:
        return None
    return None if row is None else str(row["version_num"])


def schema_fault(version: str | None) -> str | None:
    """Return why this code cannot work on a schema of this version, and what to do; None where it can."""
    if version == SCHEMA_VERSION:
        return None
    if version is not None and version > SCHEMA_VERSION:
        return (
            f"The database has schema {version}, made by a newer version. This version knows up to {SCHEMA_VERSION}: "
            "install the newer one, or restore the backup from before."
        )
    present = version or "empty"
    return f"The database has schema {present} and this version needs {SCHEMA_VERSION}: run ai-admin migrate."


def encoding_fault(connection: psycopg.Connection[Any]) -> str | None:
    """Return why a database cannot hold every name, and what to do; None where it can."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding in {"UTF8", None}:
        return None
    return (
        f"The database's encoding is {encoding}, which cannot hold every name: make a database with ENCODING 'UTF8' "
        "and TEMPLATE template0, and name it in PG_DATABASE."
    )


def fault_of_database(settings: Settings) -> str | None:
    """Return what is wrong with the database that the settings name, and what to do; None where nothing is seen."""
    arguments = connection_arguments(settings.secret, settings.config.connect_timeout_s)
    try:
        with psycopg.connect(**arguments, autocommit=True, row_factory=dict_row) as connection:
            return encoding_fault(connection) or schema_fault(schema_version(connection))
    except psycopg.Error as error:
        return f"The database cannot be used: {' '.join(str(error.diag.message_primary or error).split())}"


def require_current_schema(connection: Connection) -> None:
    """Raise `SchemaOutdated` where the database has another schema than this version needs."""
    if fault := schema_fault(schema_version(connection)):
        raise SchemaOutdated(fault)


@contextmanager
def domain_errors() -> Iterator[None]:
    """Raise domain errors in place of the driver's."""
    try:
        yield
    except psycopg.Error as error:
        raise domain_error(error) from error


def domain_error(error: Exception) -> Exception:
    """The domain error that a driver's or the pool's error means; the error itself where it is a fault of ours.

    Its text never reaches a caller: it may hold SQL and values.
    """
    if isinstance(error, errors.IntegrityError):
        meaning = _CONSTRAINTS.get(error.diag.constraint_name or "")
        return meaning() if meaning else error
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        return SchemaOutdated()
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return DatabaseReadOnly()
    if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
        return TransactionLost()
    if isinstance(error, _UNAVAILABLE):
        return DatabaseUnavailable()
    return error
