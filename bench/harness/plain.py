"""The plain way to build the seed of this project, for comparison: what a tutorial would do, on the same tables.

One connection a request (psycopg2), `OFFSET`, `count(*) OVER ()`, `ILIKE '%…%'`; no authentication, no audit log.
"""

import uuid
from typing import Any

import psycopg2
from flask import Flask, Response, jsonify, request
from psycopg2.extras import RealDictCursor

from ai_admin.asgi import AsgiApplication
from ai_admin.config import load_settings

_COLUMNS = "id, tag, email, name, kind, role, status, models, attributes, created_at, updated_at"
_settings = load_settings().secret


def create() -> AsgiApplication:
    """What a worker loads."""
    app = Flask("plain")
    app.get("/users")(_list)
    app.get("/users/<user>")(_get)
    app.post("/users")(_create)
    return AsgiApplication(app, threads=16, max_body_bytes=2**20, body_timeout_s=15)


def _rows(sql: str, *values: Any) -> list[dict[str, Any]]:
    connection = psycopg2.connect(
        host=_settings.pg_host, port=_settings.pg_port, dbname=_settings.pg_database, user=_settings.pg_user
    )
    try:
        with connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(sql, values)
            return [dict(row) for row in cursor.fetchall()]
    finally:
        connection.close()


def _list() -> Response:
    size, page = int(request.args.get("size", 20)), int(request.args.get("page", 1))
    pattern = f"%{request.args.get('q', '')}%"
    rows = _rows(
        f"SELECT {_COLUMNS}, count(*) OVER () AS total FROM users "
        "WHERE status <> 'deleted' AND (tag ILIKE %s OR email ILIKE %s OR name ILIKE %s) "
        "ORDER BY created_at DESC, id DESC LIMIT %s OFFSET %s",
        *([pattern] * 3),
        size,
        (page - 1) * size,
    )
    return jsonify(data=rows, total=rows[0]["total"] if rows else 0)


def _get(user: str) -> Response:
    return jsonify(_rows(f"SELECT {_COLUMNS} FROM users WHERE id = %s", user)[0])


def _create() -> tuple[Response, int]:
    sent = request.get_json()
    row = _rows(
        "INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words) "
        f"VALUES (%s, %s, %s, lower(%s), 'service', 'member', 'active', '{{}}', '{{}}', '') RETURNING {_COLUMNS}",
        str(uuid.uuid4()),
        sent["tag"],
        sent["name"],
        sent["name"],
    )
    return jsonify(row[0]), 201
