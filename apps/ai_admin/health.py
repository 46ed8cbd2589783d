"""Probes: `/healthz` says that the process answers, `/readyz` that it can do its work."""

from typing import Literal

from flask import Blueprint, Response
from pydantic import BaseModel

from ai_admin.database import SCHEMA_VERSION, encoding_fault, require_current_schema
from ai_admin.errors import DatabaseUnavailable, SchemaOutdated
from ai_admin.http.answers import answer
from ai_admin.metrics import show_read_only
from ai_admin.operations import describe
from ai_admin.services import services
from ai_admin.sql import queries

_SQL = queries("service")
health = Blueprint("health", __name__)


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """The process can do its work: all of it, or reads alone where the database is read-only."""

    status: Literal["ready", "read-only"] = "ready"
    schemaVersion: str  # noqa: N815  as the answer names it


@health.get("/healthz")
@describe("Liveness", "public", answers={200: Health})
def healthz() -> Response:
    """Looks at nothing but the process itself: a database that is away is no reason to restart it."""
    return answer({"status": "ok"})


@health.get("/readyz")
@describe("Readiness", "public", answers={200: Readiness}, errors=(DatabaseUnavailable, SchemaOutdated))
def readyz() -> Response:
    """503 while the database is unavailable, or its schema or encoding does not fit this version.

    A read-only database, as a standby is after a failover, answers 200 with the status `read-only`: reads go on, so
    the process keeps its traffic. Every change is answered with 503 `DATABASE_READ_ONLY` meanwhile.
    """
    with services().database.connection() as connection:
        if fault := encoding_fault(connection):
            raise DatabaseUnavailable(fault)
        require_current_schema(connection)
        row = connection.execute(_SQL["is_read_only"]).fetchone()
    is_read_only = row is not None and bool(row["is_read_only"])
    show_read_only(is_read_only)
    return answer({"status": "read-only" if is_read_only else "ready", "schemaVersion": SCHEMA_VERSION})
