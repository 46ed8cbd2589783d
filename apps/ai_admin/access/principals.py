"""Who calls: the user behind a bearer credential (RFC 6750), and what that credential lets them do."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from threading import Lock
from uuid import UUID

from psycopg import errors as database_errors

from ai_admin.access.actors import Actor
from ai_admin.access.scopes import Scope, scopes_of
from ai_admin.access.tokens import digest, is_jwt, is_key
from ai_admin.config import ConfigSettings
from ai_admin.database import Connection, Database, Row
from ai_admin.errors import KeyNotWorking, Unauthenticated
from ai_admin.sql import queries
from ai_admin.users.schemas import Kind, Role, Status

_SQL = queries("keys")
_MOST_CACHED = 10_000
# From a JWT, the nonce of an ID token, and who asks, to the row of its user.
SignIn = Callable[[str, str | None, Callable[[], Actor]], Row]


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
    key_digest: bytes | None = field(repr=False)
    key_models: tuple[str, ...] | None
    # When the key ends; a key as it was before its last rotation ends earlier.
    key_expires_at: datetime | None
    # When the credential ends: the key as it was presented, or the token.
    expires_at: datetime | None
    identity: tuple[str, str] | None
    audit_key: bytes | None


@dataclass
class _Found:
    """What was found of a credential, until when it is remembered, and the principal once one was made of it."""

    until: float
    row: Row
    principal: Principal | None = None


class Principals:
    """Finds principals by their credentials, and remembers those found for some seconds.

    What is remembered is never prolonged: a key that was revoked, and a user who was suspended, are out after
    that time in every process (litellm #25553, #35535). Unknown credentials are not remembered. Of a credential
    its digest alone is kept.
    """

    def __init__(self, database: Database, config: ConfigSettings) -> None:
        self._database = database
        self._config = config
        self._cache_s: float = config.credential_cache_s
        self._sign_in: SignIn | None = None
        self._found: dict[bytes, _Found] = {}
        self._lock = Lock()

    def authenticate(self, authorization: str | None, who: Callable[[], Actor]) -> Principal:
        """The principal of an Authorization header; otherwise as `of_token`."""
        if authorization is None:
            raise Unauthenticated("no credential")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("no bearer token")
        return self.of_token(token.strip(" "), who)

    def of_token(self, token: str, who: Callable[[], Actor]) -> Principal:
        """The principal of an API key, or of a JWT where an identity provider is configured.

        `who` says who asks, for the log, should a JWT bring a change with it. Raises `Unauthenticated`,
        `IdentityProviderUnavailable`, `DatabaseUnavailable`.
        """
        found = self._lookup(token, who)
        if found.principal is None or _is_over(found.row):
            found.principal = principal_of_row(found.row)
        return found.principal

    def of_id_token(self, token: str, nonce: str, who: Callable[[], Actor]) -> Principal:
        """The principal of an ID token that the console's sign-in with this nonce has got. It is not remembered.

        Raises as `of_token` does.
        """
        return principal_of_row(self._of_jwt(token, nonce, who))

    def _lookup(self, token: str, who: Callable[[], Actor]) -> _Found:
        """What is remembered of a credential, or what is found of it now."""
        now = time.monotonic()
        token_digest = digest(token)
        cached = self._found.get(token_digest)
        if cached is not None and cached.until > now:
            return cached
        found = _Found(now + self._cache_s, self._find(token, who))
        with self._lock:
            self._found.pop(token_digest, None)
            if len(self._found) >= _MOST_CACHED:
                # The oldest: a dict keeps the order of insertion.
                del self._found[next(iter(self._found))]
            self._found[token_digest] = found
        return found

    def _find(self, token: str, who: Callable[[], Actor]) -> Row:
        if is_key(token):
            return self._of_key(token)
        if self._config.oidc_issuer and is_jwt(token):
            return self._of_jwt(token, None, who)
        raise Unauthenticated("no key")

    def _of_key(self, key: str) -> Row:
        with self._database.connection() as connection:
            row = connection.execute(_SQL["authenticate"], {"digest": digest(key)}).fetchone()
            if row is None:
                raise Unauthenticated("unknown key")
            if row["is_use_news"] and not row["is_over"]:
                _note_use(connection, row["key_id"])
        return row

    def _of_jwt(self, token: str, nonce: str | None, who: Callable[[], Actor]) -> Row:
        with self._lock:
            self._sign_in = self._sign_in or _sign_in(self._database, self._config)
        return self._sign_in(token, nonce, who)


def _sign_in(database: Database, config: ConfigSettings) -> SignIn:
    """Joserfc and what it brings take a good part of a cold start; where none but keys come, it is never paid."""
    from ai_admin.access import sign_in  # noqa: PLC0415

    return sign_in.SignIn(database, config).find


def _note_use(connection: Connection, key_id: UUID) -> None:
    """Note that a key is in use. A standby, which cannot, is no reason to refuse the request."""
    try:
        connection.execute(_SQL["note_use"], {"id": key_id})
    except (database_errors.ReadOnlySqlTransaction, database_errors.LockNotAvailable):
        return


def _is_over(row: Row) -> bool:
    return row["expires_at"] is not None and row["expires_at"] <= datetime.now(timezone.utc)


def principal_of_row(row: Row) -> Principal:
    """The principal of a user's row with their credential's. Raises `Unauthenticated` where either is over."""
    if row["status"] != Status.ACTIVE:
        raise Unauthenticated(f"user {row['status']}", row["user_id"])
    if row.get("is_over") or _is_over(row):
        if row.get("ended_by"):
            raise KeyNotWorking(row["ended_by"], row["expires_at"], row["user_id"])
        raise Unauthenticated("expired key" if row["key_id"] else "expired token", row["user_id"])
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
        key_digest=row.get("key_digest"),
        key_models=None if row["key_models"] is None else tuple(row["key_models"]),
        key_expires_at=row.get("key_expires_at"),
        expires_at=row["expires_at"],
        identity=row.get("identity"),
        audit_key=row["audit_key"],
    )
