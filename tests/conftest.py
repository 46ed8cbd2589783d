"""What every test may ask for: a migrated database of its own, and settings that lead to it."""

import base64
import itertools
import os
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg.sql import SQL, Identifier

from ai_admin import migrate
from ai_admin.access.tokens import digest, make_key
from ai_admin.config import CONFIG_NAME, SECRET_NAME, Settings, load_settings
from ai_admin.database import Database
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.http.security_headers import SECURITY_HEADERS
from tests.fission.double import Router
from tests.keyrings import entry, text_of

ROLE = "ai_admin"
TEMPLATE = "template_ai_admin"
BASE_URL = "http://ai-admin.test"
ROOT = Path(__file__).parent.parent
OWNER_ID = UUID("00000000-0000-7000-8000-000000000001")
OWNER_KEY = make_key()
AS_OWNER = {"Authorization": f"Bearer {OWNER_KEY}"}
_counter = itertools.count()
# Files that take long, whatever the number of their tests: the last one to end must not run alone.
_LONG = {
    "test_backup", "test_commands_in_docs", "test_generated_requests", "test_local", "test_package", "test_plans",
    "test_rotation", "test_server", "test_together",
}  # fmt: skip
# Databases that tests have done with, the earliest first.
_given_back: defaultdict[EmbeddedPostgres, deque[str]] = defaultdict(deque)
_CATALOGS = (
    "pg_attribute", "pg_class", "pg_constraint", "pg_depend", "pg_index", "pg_namespace", "pg_policy", "pg_proc",
    "pg_rewrite", "pg_trigger", "pg_type",
)  # fmt: skip
# The transactions that wrote each catalog; a clone has those of its template. Then the statistics, the settings, and
# whether the database has grown by 4 MB.
_STRUCTURE = "\nUNION ALL ".join(
    [f"SELECT '{catalog}', count(*), sum(xmin::text::bigint) FROM {catalog}" for catalog in _CATALOGS]
    + [
        """
        SELECT 'statistics', count(*), sum(reltuples)::bigint
        FROM pg_class LEFT JOIN pg_statistic ON starelid = pg_class.oid
        WHERE relnamespace = 'public'::regnamespace
        """,
        "SELECT 'settings', count(*), 0 FROM pg_db_role_setting",
        "SELECT 'growth', (pg_database_size(current_database()) - 8500000) / 4000000, 0",
    ]
)


def write_mount(root: Path, secret: dict[str, str], config: dict[str, str]) -> Path:
    """Lay out a Secret and a ConfigMap under `root` as a pod has them."""
    for kind, name, values in (("secrets", SECRET_NAME, secret), ("configs", CONFIG_NAME, config)):
        folder = root / kind / "default" / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / key).write_text(value)
    return root


def database_secret(postgres: EmbeddedPostgres, database: str) -> dict[str, str]:
    """The Secret that leads to a database of this server."""
    return {
        "PG_HOST": str(postgres.socket_folder),
        "PG_DATABASE": database,
        "PG_USER": ROLE,
        "CURSOR_KEY": base64.b64encode(b"curs" * 8).decode(),
        "VAULT_KEYS": text_of(entry("test", b"test" * 8, "primary")),
    }


def pytest_addoption(parser: pytest.Parser) -> None:
    """The same tests for each way to run the application."""
    parser.addoption(
        "--mount",
        choices=["application", "function", "server", "environment"],
        default="application",
        help="run the API tests against the application (default), as Fission functions behind a router, against "
        "the local server, or as functions in Fission's own environment behind a router",
    )
    parser.addoption("--fission-environment", type=Path, help="server.py of Fission's Python environment")
    parser.addoption("--fission-python", type=Path, help="a Python with the packages of Fission's image")
    parser.addoption("--fission-package", type=Path, help="the folder that apps/build.sh has made with that Python")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long files; skip, and so count, what a mount cannot show (the markers are in pyproject.toml)."""
    items.sort(key=lambda item: item.path.stem not in _LONG)
    mount = config.getoption("--mount")
    for item in items:
        if mount in {"server", "environment"} and item.get_closest_marker("in_process"):
            item.add_marker(pytest.mark.skip(reason="looks into the application's own process"))
        if mount in {"function", "environment"} and item.get_closest_marker("routing"):
            item.add_marker(pytest.mark.skip(reason="does not reach a function"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the session, with a migrated template database."""
    # What a crash would lose, no test needs; those on crashes start a server of their own.
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg"), fsync="off", shared_buffers="256MB")
    server.start()
    try:
        server.ensure_database(TEMPLATE, ROLE)
        root = write_mount(tmp_path_factory.mktemp("template"), database_secret(server, TEMPLATE), {})
        migrate.upgrade(load_settings(root).secret)
        with server.connect(TEMPLATE) as connection:
            add_owner(connection)
        yield server
    finally:
        server.stop()


def add_owner(connection: psycopg.Connection) -> None:
    """The owner whose key all tests use unless they say otherwise."""
    connection.execute(
        """
        INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words)
        VALUES (%s, 'zz-owner', 'zz-owner', 'zz-owner', 'service', 'owner', 'active', '{*}', '{}', '')
        """,
        [OWNER_ID],
    )
    connection.execute(
        """
        INSERT INTO api_keys (id, user_id, digest, name, last_four, last_used_at)
        VALUES (%s, %s, %s, 'tests', %s, '9999-01-01')
        """,
        [OWNER_ID, OWNER_ID, digest(OWNER_KEY), OWNER_KEY[-4:]],
    )


def delete_rows(connection: psycopg.Connection) -> None:
    """Take every row out of a migrated database, but for the owner."""
    rows = connection.execute(
        "SELECT relname FROM pg_stat_user_tables WHERE relname <> 'alembic_version' AND schemaname = 'public'"
    )
    tables = [Identifier(name) for (name,) in rows]
    with connection.transaction():
        # The audit log refuses it to everybody; only a superuser can switch the trigger off.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(SQL("LOCK {}").format(SQL(", ").join(tables)))
        connection.execute(SQL("; ").join(SQL("DELETE FROM {}").format(table) for table in tables))
        add_owner(connection)


@contextmanager
def migrated_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of an empty migrated database of one's own: one that was given back, or else a clone of the template.

    A clone is eight megabytes; to delete the rows of a test takes a tenth of that time. The database given back last
    rests, for its sessions may still be ending.
    """
    name = f"test_{os.getpid()}_{next(_counter)}"
    with postgres.connect("postgres") as connection:
        if len(_given_back[postgres]) < 2 or not _renew(postgres, connection, _given_back[postgres].popleft(), name):
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE} OWNER {ROLE}')
    yield name
    _given_back[postgres].append(name)


def _renew(postgres: EmbeddedPostgres, server: psycopg.Connection, old: str, new: str) -> bool:
    """Make a used database an empty one, under a new name that nothing left over from its last test connects to.

    False, and the database is gone, where the test has changed more than rows in it or has let it grow.
    """
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [old])
    server.execute(f'ALTER DATABASE "{old}" RENAME TO "{new}"')
    with postgres.connect(new) as connection:
        as_cloned = _structure(connection) == _structure_of_template(postgres)
        if as_cloned:
            delete_rows(connection)
    if not as_cloned:
        server.execute(f'DROP DATABASE "{new}" WITH (FORCE)')
    return as_cloned


@cache
def _structure_of_template(postgres: EmbeddedPostgres) -> list[tuple[object, ...]]:
    with postgres.connect(TEMPLATE) as connection:
        return _structure(connection)


def _structure(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    """What differs from the template's once a test has changed the schema, its version, a setting or a statistic."""
    rows = connection.execute(_STRUCTURE).fetchall()
    if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
        return rows
    return rows + connection.execute("SELECT * FROM alembic_version").fetchall()


@pytest.fixture
def settings(postgres: EmbeddedPostgres, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings that lead to an empty migrated database of this test alone.

    `@pytest.mark.config(KEY="value")` sets values of the ConfigMap.
    """
    marker = request.node.get_closest_marker("config")
    with migrated_database(postgres) as name:
        root = write_mount(tmp_path / "mount", database_secret(postgres, name), marker.kwargs if marker else {})
        yield load_settings(root)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The test's database through the product's own pool."""
    database = Database(settings)
    yield database
    database.close()


@pytest.fixture
def sql(settings: Settings, postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """A superuser's connection to the test's database, beside the product."""
    with postgres.connect(settings.secret.pg_database) as connection:
        yield connection


def _client(transport: httpx.BaseTransport) -> httpx.Client:
    return httpx.Client(transport=transport, base_url=BASE_URL, headers=AS_OWNER)


def flask_client(app: Flask) -> FlaskClient:
    """Flask's own client, which can send what no HTTP client would."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = AS_OWNER["Authorization"]
    return client


@contextmanager
def calling(app: Flask, router: Router | Flask | None = None) -> Iterator[httpx.Client]:
    """An HTTP client of an application, or of what stands before it; closes the application's pool at the end."""
    transport = httpx.WSGITransport(app=router or app)
    with closing(app.extensions["ai_admin"].database), _client(transport) as client:
        yield client


def other_deployment(settings: Settings) -> Settings:
    """The same database under another sealing key."""
    secret = settings.secret.model_copy(
        update={"cursor_key": type(settings.secret.cursor_key)(base64.b64encode(b"else" * 8).decode())}
    )
    return replace(settings, secret=secret)


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    """The answer is a problem (RFC 9457) of this status and code, and shows nothing of the inside."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["errorCode"] == code
    assert body["requestId"] == response.headers["X-Fission-Request-ID"]
    assert set(body) <= {"type", "title", "status", "detail", "errorCode", "requestId", "details"}
    assert not re.search(r"Traceback|psycopg|SELECT|INSERT|UPDATE|\.py\b", response.text)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert_shielded(response)


def assert_shielded(response: httpx.Response) -> None:
    """No browser or cache makes anything else of the answer, or keeps it."""
    for name, value in SECURITY_HEADERS.items():
        assert response.headers.get_list(name) == [value]
