"""The floor of the data: pgbench (PostgreSQL) sends the statements that a request of the API sends, and nothing else.

The statements are those of the request itself: it goes through the application once, and they are written down with
their values. In a request that creates, what has to be another each time (the tag, the identifiers) is made of a
number that pgbench draws.
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
from flask.testing import FlaskClient
from psycopg import ClientCursor

from ai_admin import embedded
from ai_admin.app import create_app
from ai_admin.config import Settings
from ai_admin.database import connection_arguments
from harness.requests import DIGITS, Request

# Quoted values, with quotes doubled inside (PostgreSQL, 4.1.2.1); psycopg begins those with a backslash with E.
_LITERAL = re.compile(r"'(?P<text>(?:[^']|'')*)'(?P<cast>::)?")
# Version 7 (RFC 9562, 5.7), with its hyphens and, as psycopg writes it, without.
_UUID = re.compile(r"\b[0-9a-f]{8}(-?)[0-9a-f]{4}\1?7[0-9a-f]{3}\1?[89ab][0-9a-f]{3}\1?[0-9a-f]{12}\b")


def statements(settings: Settings, request: Request) -> list[str]:
    """What the request sends to PostgreSQL once the caller is known, as a script for pgbench."""
    app = create_app(settings)
    number = time.time_ns() // 1000 % 10**DIGITS
    with closing(app.extensions["ai_admin"].database), _connection(settings) as quoting:
        client = app.test_client()
        # The first also looks up the caller, whom the application then remembers.
        with _written_down(quoting) as before:
            _send(client, request.numbered(number - 1))
        with _written_down(quoting) as found:
            _send(client, request.numbered(number))
    # What both requests name is there already.
    present = _identifiers(before) & _identifiers(found)
    mark = f"{number:0{DIGITS}}"
    found = [_varied(sql, mark, present) for sql in found]
    if request.method == "GET":
        return found
    # As pgbench's own scripts do.
    return ["\\set n random(1, 99999999999)", "BEGIN;", *found, "COMMIT;"]


def rate(settings: Settings, script: list[str], seconds: float, clients: int) -> float:
    """Runs of the script a second, on so many connections, with prepared statements."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as kept:
        kept.write("\n".join(script) + "\n")
        kept.flush()
        secret = settings.secret
        place = ["-h", secret.pg_host, "-p", str(secret.pg_port), "-U", secret.pg_user, secret.pg_database]
        load = ["-n", "-M", "prepared", "-j", "1", "-c", str(clients), "-T", f"{seconds:.0f}", "-f", kept.name]
        said = subprocess.run([_pgbench(), *load, *place], capture_output=True, text=True, check=False)
    found = re.search(r"tps = ([0-9.]+)", said.stdout)
    failed = re.search(r"number of failed transactions: (\d+)", said.stdout)
    if said.returncode or found is None or (failed and int(failed[1])):
        raise RuntimeError(f"pgbench said:\n{said.stdout}{said.stderr[:2000]}")
    return float(found[1])


def _pgbench() -> str:
    """That of the embedded PostgreSQL, or of the machine."""
    own = embedded.binaries() / "pgbench"
    found = str(own) if own.exists() else shutil.which("pgbench")
    if found is None:
        raise SystemExit("pgbench is missing: apt-get install postgresql-contrib")
    return found


@contextmanager
def _connection(settings: Settings) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(**connection_arguments(settings.secret), cursor_factory=ClientCursor) as connection:
        yield connection


def _send(client: FlaskClient, request: Request) -> None:
    answer = client.open(request.target, method=request.method, headers=dict(request.headers), data=request.body)
    if answer.status_code != request.status:
        raise RuntimeError(f"{request.method} {request.target}: {answer.status_code} {answer.text}")


@contextmanager
def _written_down(quoting: "psycopg.Connection[Any]") -> Iterator[list[str]]:
    """The statements that are executed meanwhile, with their values in them."""
    found: list[str] = []
    execute: Callable[..., Any] = psycopg.Cursor.execute

    def record(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(quoting)
        whole = ClientCursor(quoting).mogrify(text, params) if params else text
        found.append(" ".join(line.partition("-- ")[0] for line in whole.splitlines()).strip().rstrip(";") + ";")
        return execute(cursor, query, params, **options)

    with patch.object(psycopg.Cursor, "execute", record):
        yield found


def _identifiers(found: list[str]) -> set[str]:
    return {name[0] for sql in found for name in _UUID.finditer(sql)}


def _varied(sql: str, mark: str, present: set[str]) -> str:
    """The statement with the number that pgbench draws where the request had its own, and with new identifiers."""

    def vary(literal: "re.Match[str]") -> str:
        text = literal["text"]
        # pgbench takes a colon for the beginning of a variable, inside quotes too.
        prefix = "E" if ":" in text and "\\" not in text else ""
        plain = text.replace(":", "\\x3a") if prefix else text
        varied = plain.replace(mark, f"' || lpad(:n::text, {len(mark)}, '0') || {prefix}'")
        if _UUID.fullmatch(text) and text not in present:
            varied = f"' || md5(:n || '{text}') || '"
        if varied == plain:
            return f"{prefix}'{plain}'{literal['cast'] or ''}"
        cast = literal["cast"] or ("::text[]" if text.startswith("{") else "")
        return f"({prefix}'{varied}'){cast}"

    return _LITERAL.sub(vary, sql)
