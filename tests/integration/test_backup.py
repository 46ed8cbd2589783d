"""Backup and restore as docs/operations.md tells it: the dump and the ring apart, and what each is worth alone."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from ai_admin.cli import app
from ai_admin.config import Settings, load_settings
from ai_admin.embedded import SUPERUSER, EmbeddedPostgres
from ai_admin.vault.ciphertext import Context, VaultError
from ai_admin.vault.mounted import load_key_ring
from ai_admin.vault.registry import CREDENTIALS
from tests.conftest import OWNER_ID, ROOT, assert_problem, database_secret, write_mount
from tests.keyrings import entry, logged, text_of
from tests.mounts import mounted
from tests.serving import USERS, own_database

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
[SECTION] = re.findall(r"^## Backup and restore\n(.*?)(?=^## )", OPERATIONS, re.MULTILINE | re.DOTALL)
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL))
USER, KEY = {"tag": "ada", "name": "Ada", "kind": "service"}, {"Idempotency-Key": "once"}
OTHER_RING = text_of(entry("other", b"else" * 8, "primary"))


@dataclass(frozen=True)
class Kept:
    """A restored database, and what the answers were before the backup."""

    database: str
    users: httpx.Response
    audit: httpx.Response
    answer: httpx.Response
    credentials: dict[UUID, bytes]


@pytest.fixture
def settings(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Settings]:
    """A directory of this test alone, whatever the mount."""
    with own_database(postgres, tmp_path) as settings:
        yield settings


def place(key: UUID) -> Context:
    """Where a credential of the backup stands."""
    return CREDENTIALS.place(key, (OWNER_ID, str(key), "provider"))


@pytest.fixture
def kept(
    settings: Settings, postgres: EmbeddedPostgres, sql: psycopg.Connection, tmp_path: Path, pytestconfig: pytest.Config
) -> Iterator[Kept]:
    """A user, a kept answer, credentials of a size that PostgreSQL stores apart, dumped and restored."""
    ring = load_key_ring(settings.root)
    credentials = {UUID(int=number): os.urandom(20_000) for number in range(1, 4)}
    for key, value in credentials.items():
        sql.execute(
            "INSERT INTO user_secrets (id, user_id, name, version, provider, value, last_four) "
            "VALUES (%s, %s, %s, 1, 'provider', %s, 'four')",
            [key, OWNER_ID, str(key), ring.seal(value, place(key))],
        )
    with mounted(settings, pytestconfig) as api:
        answer = api.post(USERS, json=USER, headers=KEY)
        assert answer.status_code == 201
        users, audit = api.get(USERS), api.get("/ai/admin/audit")
    database = f"{settings.secret.pg_database}_restored"
    # The superuser's names and the wheel's programs; the rest is what stands in the document.
    commands = COMMANDS.replace("ai_admin_restored", database)
    commands = re.sub(r"^(pg_dump .*) ai_admin$", rf"\1 {settings.secret.pg_database}", commands, flags=re.MULTILINE)
    subprocess.run(
        ["sh", "-euc", commands],
        cwd=tmp_path,
        env={
            "PATH": f"{postgres._binaries}:{os.environ['PATH']}",
            "PGHOST": settings.secret.pg_host,
            "PGUSER": SUPERUSER,
        },
        check=True,
        timeout=120,
    )
    yield Kept(database, users, audit, answer, credentials)
    with postgres.connect("postgres") as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def restored(kept: Kept, postgres: EmbeddedPostgres, folder: Path, ring: str | None = None) -> Settings:
    """Settings that lead to the restored database, with the ring of before or another."""
    secret = database_secret(postgres, kept.database)
    return load_settings(write_mount(folder, secret | ({"VAULT_KEYS": ring} if ring else {}), {}))


def sealed(settings: Settings) -> list[tuple[UUID, bytes]]:
    """The credentials as they stand in the database."""
    secret = settings.secret
    with psycopg.connect(host=secret.pg_host, dbname=secret.pg_database, user=secret.pg_user) as sql:
        return sql.execute("SELECT id, value FROM user_secrets").fetchall()


def test_with_its_ring_everything_is_back(
    kept: Kept, postgres: EmbeddedPostgres, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """A backup that lacks a table, a key or a kept answer is found out on the day that it is needed."""
    settings = restored(kept, postgres, tmp_path / "new")
    ring = load_key_ring(settings.root)
    assert {key: ring.open(value, place(key)) for key, value in sealed(settings)} == kept.credentials
    with mounted(settings, pytestconfig) as api:
        assert api.get(USERS).content == kept.users.content
        assert api.get("/ai/admin/audit").content == kept.audit.content
        again = api.post(USERS, json=USER, headers=KEY)
        assert (again.status_code, again.content) == (201, kept.answer.content)
        assert api.post(USERS, json={"tag": "new", "kind": "service"}).status_code == 201
    status = CliRunner().invoke(app, ["vault", "status", "--root", str(settings.root)])
    assert status.exit_code == 0, status.output


def test_with_another_ring_what_is_sealed_is_lost_and_no_more(
    kept: Kept, postgres: EmbeddedPostgres, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Without the ring credentials and kept answers are gone, clearly told; users, keys and the log are there."""
    settings = restored(kept, postgres, tmp_path / "new", OTHER_RING)
    ring = load_key_ring(settings.root)
    rows = sealed(settings)
    assert len(rows) == 3
    for key, value in rows:
        with logged() as log, pytest.raises(VaultError, match=r"^The sealed value cannot be opened\.$"):
            ring.open(value, place(key))
        assert "the key is missing in the ring" in log.getvalue()
    with mounted(settings, pytestconfig) as api:
        assert api.get(USERS).content == kept.users.content
        assert api.get("/ai/admin/audit").content == kept.audit.content
        assert_problem(api.post(USERS, json=USER, headers=KEY), 500, "SEALED_VALUE_UNREADABLE")
        fresh = api.post(USERS, json={"tag": "new", "kind": "service"}, headers={"Idempotency-Key": "new"})
        assert fresh.status_code == 201
    status = CliRunner().invoke(app, ["vault", "status", "--root", str(settings.root)])
    assert status.exit_code == 1
    assert "4 rows need the key test, which is missing" in " ".join(status.output.split())
