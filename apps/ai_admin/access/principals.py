"""Who calls: the user behind a bearer credential (RFC 6750), and what that credential lets them do."""

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import Lock
from uuid import UUID

from psycopg import errors as database_errors

from ai_admin.access.scopes import Scope, scopes_of
from ai_admin.access.tokens import digest, is_key
from ai_admin.database import Connection, Database, Row
from ai_admin.errors import Unauthenticated
from ai_admin.sql import queries
from ai_admin.users.schemas import Kind, Role, Status

_SQL = queries("keys")
_MOST_CACHED = 10_000


@dataclass(frozen=True)
class Principal:
    """A user of the directory, as one of their credentials presents them."""

    user_id: UUID
    tag: str
    kind: Kind
    role: Role
    models: tuple[str, ...]
    scopes: frozenset[Scope]
    key_id: UUID | None
    key_models: tuple[str, ...] | None
    expires_at: datetime | None
    audit_key: bytes | None


class Principals:
    """Finds principals by their credentials, and remembers those found for `cache_s` seconds.

    What is remembered is never prolonged: a key that was revoked, and a user who was suspended, are out after
    that time in every process (litellm #25553, #35535). Unknown credentials are not remembered.
    """

    def __init__(self, database: Database, cache_s: float) -> None:
        self._database = database
        self._cache_s = cache_s
        self._found: dict[bytes, tuple[float, Row]] = {}
        self._lock = Lock()

    def authenticate(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header. Raises `Unauthenticated` and `DatabaseUnavailable`."""
        if authorization is None:
            raise Unauthenticated("no credential")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("no bearer token")
        return self.of_token(token.strip(" "))

    def of_token(self, token: str) -> Principal:
        """The principal of a bearer token. Raises `Unauthenticated` and `DatabaseUnavailable`."""
        if not is_key(token):
            raise Unauthenticated("no key")
        row = self._row(digest(token))
        if row is None:
            raise Unauthenticated("unknown key")
        if row["status"] != Status.ACTIVE:
            raise Unauthenticated(f"user {row['status']}")
        if row["expires_at"] is not None and row["expires_at"] <= datetime.now(timezone.utc):
            raise Unauthenticated("expired key")
        return _principal(row)

    def _row(self, key_digest: bytes) -> Row | None:
        now = time.monotonic()
        cached = self._found.get(key_digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        with self._database.connection() as connection:
            row = connection.execute(_SQL["authenticate"], {"digest": key_digest}).fetchone()
            if row is not None and row["is_use_news"]:
                _note_use(connection, row["key_id"])
        with self._lock:
            self._found.pop(key_digest, None)
            if row is not None:
                if len(self._found) >= _MOST_CACHED:
                    # The oldest: a dict keeps the order of insertion.
                    del self._found[next(iter(self._found))]
                self._found[key_digest] = (now + self._cache_s, row)
        return row


def _note_use(connection: Connection, key_id: UUID) -> None:
    """Note that a key is in use. A standby, which cannot, is no reason to refuse the request."""
    try:
        connection.execute(_SQL["note_use"], {"id": key_id})
    except (database_errors.ReadOnlySqlTransaction, database_errors.LockNotAvailable):
        return


def _principal(row: Row) -> Principal:
    role, kind = Role(row["role"]), Kind(row["kind"])
    granted = None if row["scopes"] is None else frozenset(map(Scope, row["scopes"]))
    return Principal(
        user_id=row["user_id"],
        tag=row["tag"],
        kind=kind,
        role=role,
        models=tuple(row["models"]),
        scopes=scopes_of(role, granted, kind),
        key_id=row["key_id"],
        key_models=None if row["key_models"] is None else tuple(row["key_models"]),
        expires_at=row["expires_at"],
        audit_key=row["audit_key"],
    )
