"""Probes: `/healthz` says that the process answers, `/readyz` that it can do its work."""

from flask import Blueprint, Response
from pydantic import BaseModel

from ai_admin.database import SCHEMA_VERSION, schema_version
from ai_admin.errors import DatabaseUnavailable, SchemaOutdated
from ai_admin.http.answers import answer
from ai_admin.operations import describe
from ai_admin.services import services

health = Blueprint("health", __name__)


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """The process can do its work."""

    status: str = "ready"
    schemaVersion: str  # noqa: N815  as the answer names it


@health.get("/healthz")
@describe("Liveness", "public", answers={200: Health})
def healthz() -> Response:
    """Looks at nothing but the process itself: a database that is away is no reason to restart it."""
    return answer({"status": "ok"})


@health.get("/readyz")
@describe("Readiness", "public", answers={200: Readiness}, errors=(DatabaseUnavailable, SchemaOutdated))
def readyz() -> Response:
    """503 while the database is away, or its schema is not the one this version needs."""
    with services().database.connection() as connection:
        version = schema_version(connection)
    if version != SCHEMA_VERSION:
        raise SchemaOutdated(
            f"The database's schema is {version or 'empty'} and this version needs {SCHEMA_VERSION}; "
            "`ai-admin migrate` brings it there."
        )
    return answer({"status": "ready", "schemaVersion": version})
