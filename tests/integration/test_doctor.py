"""`ai-admin doctor`: it finds what is broken, says what to do, and is content with what is well."""

import base64
import json

import httpx
import psycopg
import pytest
from nacl.signing import SigningKey
from typer.testing import CliRunner

from ai_admin.audit.sealing import seal_waiting
from ai_admin.cli import app
from ai_admin.config import Settings
from ai_admin.database import SCHEMA_VERSION, Database
from tests.conftest import write_mount
from tests.identity_provider import Provider
from tests.identity_provider import serving as provider_at_work
from tests.keyrings import entry, text_of
from tests.serving import USERS, free_port

SEED = b"seal" * 8


def states(settings: Settings, *bad: str, secret: dict[str, str] | None = None, **config: str) -> dict[str, str]:
    """Each check's finding, after settings were changed; those named, and no others, are bad."""
    root = write_mount(settings.root, secret or {}, config)
    result = CliRunner().invoke(app, ["doctor", "--json", "--root", str(root)])
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {each["check"] for each in found if each["state"] == "bad"} == set(bad), result.output
    assert all(each["advice"] for each in found if each["state"] != "good")
    assert result.exit_code == (1 if bad else 0)
    return {each["check"]: each["found"] for each in found}


def test_a_deployment_that_is_well(settings: Settings, api: httpx.Client, database: Database) -> None:
    """Every check is made and none is bad; as a table too."""
    user = api.post(USERS, json={"tag": "bot", "kind": "service"}).json()
    api.put(f"{USERS}/{user['id']}/secrets/x", json={"provider": "x", "value": "sk-1"})
    list(seal_waiting(database, SigningKey(SEED)))
    with provider_at_work(Provider()) as provider:
        found = states(
            settings,
            secret={"AUDIT_SEAL_KEY": base64.b64encode(SEED).decode()},
            OIDC_ISSUER="https://id.example.com",
            OIDC_AUDIENCE="ai-admin",
            OIDC_JWKS_URL=provider.url,
        )
    assert set(found) >= {"settings", "database", "schema", "clock", "key ring", "seals", "identity provider"}
    assert "2 events verified" in found["seals"]
    shown = CliRunner().invoke(app, ["doctor", "--root", str(settings.root)])
    assert "what to do" in shown.stdout


def test_doctor_names_unknown_settings(settings: Settings) -> None:
    """A deployment with a mistyped key runs with a default that nobody chose."""
    assert "Did you mean RATE_PER_SECOND?" in states(settings, "settings", RATE_PER_SECONDS="5")["settings"]


def test_what_is_broken_is_named(
    settings: Settings, api: httpx.Client, sql: psycopg.Connection, database: Database
) -> None:
    """A key that is missing, a log that was changed, events that nobody seals, a provider that is away."""
    assert "none" in states(settings)["identity provider"]
    user = api.post(USERS, json={"tag": "bot", "kind": "service"}).json()
    api.put(f"{USERS}/{user['id']}/secrets/x", json={"provider": "x", "value": "sk-1"})
    sealing = {"AUDIT_SEAL_KEY": base64.b64encode(SEED).decode()}
    sql.execute("SET session_replication_role = replica")
    sql.execute("UPDATE audit_events SET at = at - interval '1 hour'")
    assert "2 events wait" in states(settings, "seals", secret=sealing)["seals"]
    list(seal_waiting(database, SigningKey(SEED)))
    states(settings)
    sql.execute("UPDATE audit_events SET source = '192.0.2.1' WHERE action = 'users:create'")
    states(settings, "seals")
    other = {"VAULT_KEYS": text_of(entry("other", b"next" * 8, "primary"))}
    assert "test" in states(settings, "seals", "key ring", secret=other)["key ring"]
    oidc = {"OIDC_ISSUER": "https://id.example.com", "OIDC_AUDIENCE": "ai-admin"}
    oidc["OIDC_JWKS_URL"] = f"http://127.0.0.1:{free_port()}/"
    away = states(settings, "seals", "key ring", "identity provider", secret=None, **oidc)
    assert "refused" in away["identity provider"]


@pytest.mark.parametrize(
    ("secret", "bad", "told"),
    [
        ({"PG_PORT": "none"}, "settings", "PG_PORT"),
        ({"PG_DATABASE": "nowhere"}, "database", "nowhere"),
        ({"PG_HOST": "/nowhere"}, "database", "/nowhere"),
    ],
)
def test_what_stands_in_the_way_of_the_rest(settings: Settings, secret: dict[str, str], bad: str, told: str) -> None:
    """The first thing that is wrong is told, and what depends on it is not asked."""
    found = states(settings, bad, secret=secret)
    assert told in found[bad]
    assert "seals" not in found


def test_doctor_on_a_newer_schema_says_what_to_install(settings: Settings, sql: psycopg.Connection) -> None:
    """After a rollback, doctor sent people to migrate, which ended in a traceback (pgadmin4 #1353)."""
    sql.execute("UPDATE alembic_version SET version_num = '9999'")
    sentence = f"The database has schema 9999, made by a newer version. This version knows up to {SCHEMA_VERSION}"
    assert states(settings, "schema")["schema"] == sentence
    migrated = CliRunner().invoke(app, ["migrate", "--root", str(settings.root)])
    assert (migrated.exit_code, migrated.stdout) == (2, "")
    assert migrated.stderr == f"error: {sentence}: install the newer one, or restore the backup from before.\n"


def test_doctor_on_a_read_only_database_says_so(settings: Settings, sql: psycopg.Connection) -> None:
    """A standby in place of the primary must not look well to whoever asks why changes fail."""
    sql.execute(f'ALTER DATABASE "{settings.secret.pg_database}" SET default_transaction_read_only = on')
    try:
        assert "takes no changes" in states(settings)["read-only"]
    finally:
        sql.execute(f'ALTER DATABASE "{settings.secret.pg_database}" RESET default_transaction_read_only')


def test_a_schema_that_is_behind(settings: Settings, sql: psycopg.Connection) -> None:
    """The command that brings it on is named."""
    sql.execute("UPDATE alembic_version SET version_num = '0001'")
    assert states(settings, "schema")["schema"].startswith("The database has schema 0001 and")


def test_doctor_notes_a_rotation_that_is_under_way(settings: Settings) -> None:
    """Somebody who forgets the last step of a rotation leaves a key in force that was to go."""
    first, second = entry("first", bytes(range(32)), "primary"), entry("second", bytes(range(1, 33)))
    keys = [base64.b64encode(bytes(range(start, start + 32))).decode() for start in (50, 90)]
    found = states(settings, secret={"VAULT_KEYS": text_of(first, second), "CURSOR_KEY": " ".join(keys)})
    assert found["key ring"] == "primary first; second active, and no row needs it"
    assert found["cursor key"] == "2 keys: the first seals, and all open"
    done = {"VAULT_KEYS": text_of(first, second | {"state": "retired"}), "CURSOR_KEY": keys[0]}
    after = states(settings, secret=done)
    assert (after["key ring"], "cursor key" in after) == ("primary first", False)
