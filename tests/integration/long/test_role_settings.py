"""Settings of the database's role: whatever an operator has set there, answers are the same."""

import base64
import json
from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask
from nacl.signing import SigningKey
from psycopg.sql import SQL, Identifier, Literal
from typer.testing import CliRunner

from ai_admin.audit.sealing import seal_waiting
from ai_admin.cli import app
from ai_admin.config import Settings
from ai_admin.database import Database
from tests.conftest import ROLE, calling, write_mount
from tests.serving import USERS

SEED = b"seal" * 8
ATTRIBUTES = {"ratio": 0.1, "large": 1e16, "tiny": 5e-324, "list": [None, "NULL", True], "text": "a\\b'c"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DateStyle", "SQL, DMY"),
        ("DateStyle", "German"),
        ("DateStyle", "Postgres, MDY"),
        ("IntervalStyle", "sql_standard"),
        ("IntervalStyle", "iso_8601"),
        ("TimeZone", "Asia/Ho_Chi_Minh"),
        ("TimeZone", "America/St_Johns"),
        ("bytea_output", "escape"),
        ("client_encoding", "SQL_ASCII"),
        ("client_encoding", "LATIN1"),
        ("extra_float_digits", "-15"),
        ("array_nulls", "off"),
        ("standard_conforming_strings", "off"),
        ("transform_null_equals", "on"),
        ("gin_fuzzy_search_limit", "1"),
        ("default_transaction_isolation", "serializable"),
        ("lc_messages", "C"),
        ("lc_monetary", "C"),
        ("lc_numeric", "C"),
        ("lc_time", "C"),
        ("default_text_search_config", "pg_catalog.simple"),
        ("quote_all_identifiers", "on"),
        ("xmlbinary", "hex"),
        ("xmloption", "document"),
    ],
)
def test_service_with_a_format_set_for_the_role_answers_as_ever(
    name: str, value: str, settings: Settings, server_app: Flask, sql: psycopg.Connection, database: Database
) -> None:
    """A role whose DateStyle was German made every answer a 500, and readyz said ready (psycopg #571, #813)."""
    place = Identifier(ROLE), Identifier(settings.secret.pg_database), SQL(name)
    values = SQL(", ").join(Literal(part.strip()) for part in value.split(","))
    sql.execute(SQL("ALTER ROLE {} IN DATABASE {} SET {} TO {}").format(*place, values))
    try:
        found = visit_and_verify(settings, server_app, database)
    finally:
        # Other tests get this database.
        sql.execute(SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(*place[:2]))
    assert found["user"]["attributes"] == ATTRIBUTES
    assert found["user"]["createdAt"].endswith("Z")
    assert found["user"]["name"] == "Nguyễn Văn An"
    assert found["key"]["expiresAt"] == "2099-12-31T11:00:00Z"
    assert found["revealed"] == "sk-é"
    assert found["retried"] == found["user"]
    assert sorted(found["tags"]) == ["an", "bo", "cy", "zz-owner"]
    assert sorted(found["exported"]) == sorted(found["tags"])
    assert len(found["events"]) == len(set(found["events"])) >= 5


def visit_and_verify(settings: Settings, server_app: Flask, database: Database) -> dict[str, Any]:
    """What a visit found, after the commands that read the database themselves found nothing wrong."""
    with calling(server_app) as api:
        found = visit(api)
    list(seal_waiting(database, SigningKey(SEED)))
    root = write_mount(settings.root, {"AUDIT_SEAL_KEY": base64.b64encode(SEED).decode()}, {})
    for command in (["doctor"], ["audit", "verify"], ["vault", "status"], ["migrate"]):
        result = CliRunner().invoke(app, [*command, "--root", str(root)])
        assert result.exit_code == 0, (command, result.output)
    return found


def visit(api: httpx.Client) -> dict[str, Any]:
    """What callers see on a walk through users, keys, credentials, files and the log."""

    def good(response: httpx.Response) -> Any:
        assert response.is_success, response.text
        is_json = response.headers["Content-Type"] == "application/json"
        return response.json() if is_json else response.text

    new = {"tag": "an", "email": "an@example.com", "name": "Nguyễn Văn An", "attributes": ATTRIBUTES}
    once = {"Idempotency-Key": "first"}
    user = good(api.post(USERS, json=new, headers=once))
    key = {"name": "laptop", "expiresAt": "2099-12-31T12:00:00+01:00"}
    secret = f"{USERS}/{user['id']}/secrets/openai"
    file = "tag,email\nbo,bo@example.com\ncy,cy@example.com\n"
    csv = {"Content-Type": "text/csv"}
    found = {
        "user": good(api.get(f"{USERS}/{user['id']}")),
        "retried": good(api.post(USERS, json=new, headers=once)),
        "key": good(api.post(f"{USERS}/{user['id']}/keys", json=key)),
        "imported": good(api.post(f"{USERS}/import", content=file, headers=csv)),
    }
    good(api.put(secret, json={"provider": "openai", "value": "sk-é"}))
    found["revealed"] = good(api.post(f"{secret}/reveal", json={"reason": "test"}))["value"]
    found["tags"] = [each["tag"] for each in walked(api, USERS, "createdAt")]
    assert [each["tag"] for each in good(api.get(USERS, params={"q": "example.com", "sort": "tag"}))["data"]] == [
        "an", "bo", "cy",
    ]  # fmt: skip
    lines = good(api.get(f"{USERS}/export", params={"format": "ndjson"})).splitlines()
    found["exported"] = [json.loads(line)["tag"] for line in lines]
    found["events"] = [each["id"] for each in walked(api, "/ai/admin/audit", "-at")]
    return found


def walked(api: httpx.Client, path: str, sort: str) -> list[dict[str, Any]]:
    """Every row of a list, two a page."""
    rows: list[dict[str, Any]] = []
    query = {"sort": sort, "size": "2"}
    while True:
        answer = api.get(path, params=query).json()
        rows += answer["data"]
        if not answer["nextCursor"]:
            return rows
        query["cursor"] = answer["nextCursor"]
