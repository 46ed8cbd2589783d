"""The operations on credentials. They take a connection, the ring and who acts, not a request."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from ai_admin.access.actors import Actor
from ai_admin.access.standing import require_standing
from ai_admin.audit import events
from ai_admin.audit.events import HIDDEN, Action
from ai_admin.credentials.content import last_four
from ai_admin.credentials.schemas import MOST_SECRETS, MOST_VERSIONS, SecretPut
from ai_admin.database import Connection, Row
from ai_admin.errors import SecretNotFound, TooManySecrets, UserNotFound, UserSuspended, VersionMismatch
from ai_admin.sql import queries
from ai_admin.users import directory
from ai_admin.users.schemas import Role, Status
from ai_admin.vault.ciphertext import VaultError
from ai_admin.vault.keyring import KeyRing
from ai_admin.vault.registry import CREDENTIALS
from ai_admin.vault.secret_value import SecretValue

_COLUMNS = """name, provider, last_four AS "lastFour", version, (
        SELECT min(kept.created_at)
        FROM user_secrets AS kept
        WHERE kept.user_id = secret.user_id
          AND kept.name = secret.name
          AND (kept.ended_at IS NULL OR kept.ended_at > now() - %(history)s)
    ) AS "createdAt", created_at AS "rotatedAt", created_by AS "rotatedBy", used_at AS "usedAt\""""
_SQL = {name: sql.replace("{columns}", _COLUMNS) for name, sql in queries("secrets").items()}


def list_of(connection: Connection, by: Actor, user_id: UUID, history: timedelta) -> list[Row]:
    """Return the credentials in force of a user who is not deleted, by name. Raises `UserNotFound`, `Forbidden`."""
    rows = connection.execute(_SQL["list"], {"user_id": user_id, "history": history}).fetchall()
    # Read the user after the rows: those of a user who became an owner meanwhile are not shown.
    _require_reach(by, directory.get(connection, user_id))
    return rows


def versions(connection: Connection, by: Actor, user_id: UUID, name: str, history: timedelta) -> list[Row]:
    """The versions of a credential, removed or not, newest first, that ended less than `history` ago.

    Raises `UserNotFound`, `Forbidden`, `SecretNotFound`.
    """
    values = {"user_id": user_id, "name": name, "history": history}
    rows = connection.execute(_SQL["versions"], values).fetchall()
    # After the rows, as in `list_of`.
    _require_reach(by, directory.get(connection, user_id))
    if not rows:
        raise SecretNotFound
    return rows


def require_version(connection: Connection, by: Actor, user_id: UUID, name: str, version: int | None) -> None:
    """Raise `VersionMismatch` unless this version, or none, is in force; that stays so until the transaction ends.

    Raises `UserNotFound`, `Forbidden`.
    """
    _require_reach(by, directory.lock(connection, by, user_id))
    present = _in_force(connection, user_id, name)
    if version != (None if present is None else present["version"]):
        raise VersionMismatch


def put(
    connection: Connection, ring: KeyRing, by: Actor, user_id: UUID, name: str, new: SecretPut, history: timedelta
) -> tuple[Row, bool]:
    """Set a credential; returns it as it is listed, and whether the user had none of this name.

    Where it is as it was, nothing is done. Raises `UserNotFound`, `Forbidden`, `TooManySecrets`.
    """
    _require_reach(by, directory.lock(connection, by, user_id))
    before = _in_force(connection, user_id, name)
    content = new.content()
    if not _same(ring, user_id, name, before, new.provider, content):
        version = _add(connection, ring, by, user_id, name, new.provider, content, history)
        changes = {"secret": name, "provider": new.provider, "version": version, "value": HIDDEN}
        events.about_secret(connection, by, Action.SECRETS_SET, user_id, changes)
    return _listed(connection, user_id, name, history), before is None


def restore(
    connection: Connection, ring: KeyRing, by: Actor, user_id: UUID, name: str, version: int, history: timedelta
) -> Row:
    """Make a new version of an earlier one that ended less than `history` ago, also where the credential was removed.

    Where it is as it was, nothing is done. Raises `UserNotFound`, `Forbidden`, `SecretNotFound`, `TooManySecrets`,
    `VaultError`.
    """
    _require_reach(by, directory.lock(connection, by, user_id))
    values = {"user_id": user_id, "name": name, "version": version, "history": history}
    earlier = connection.execute(_SQL["version"], values).fetchone()
    if earlier is None:
        raise SecretNotFound
    content = _opened(ring, user_id, name, earlier)
    if not _same(ring, user_id, name, _in_force(connection, user_id, name), earlier["provider"], content):
        made = _add(connection, ring, by, user_id, name, earlier["provider"], content, history)
        changes = {"secret": name, "provider": earlier["provider"], "from": version, "version": made, "value": HIDDEN}
        events.about_secret(connection, by, Action.SECRETS_RESTORE, user_id, changes)
    return _listed(connection, user_id, name, history)


def remove(connection: Connection, by: Actor, user_id: UUID, name: str) -> None:
    """End a credential; it can be restored for a time. Raises `UserNotFound`, `Forbidden`, `SecretNotFound`."""
    _require_reach(by, directory.lock(connection, by, user_id))
    ended = connection.execute(_SQL["end"], {"user_id": user_id, "name": name}).fetchone()
    if ended is None:
        raise SecretNotFound
    changes = {"secret": name, **ended, "value": HIDDEN}
    events.about_secret(connection, by, Action.SECRETS_REMOVE, user_id, changes)


def reveal(
    connection: Connection, ring: KeyRing, by: Actor, user_id: UUID, name: str, reason: str
) -> tuple[Row, SecretValue]:
    """The credential in force of an active user, and its content; the event says who asked and why.

    Who may reveal may do so for every user: an owner has granted it. Raises `UserNotFound`, `UserSuspended`,
    `SecretNotFound`, `VaultError`.
    """
    row = connection.execute(_SQL["of_user"], {"user_id": user_id, "name": name}).fetchone()
    if row is None or row["status"] == Status.DELETED:
        raise UserNotFound
    if row["status"] == Status.SUSPENDED:
        raise UserSuspended
    if row["id"] is None:
        raise SecretNotFound
    content = _opened(ring, user_id, name, row)
    connection.execute(_SQL["note_use"], {"id": row["id"]})
    require_standing(connection, by)
    shown = {"provider": row["provider"], "version": row["version"]}
    changes = {"secret": name, **shown, "value": HIDDEN, "reason": reason}
    events.about_secret(connection, by, Action.SECRETS_REVEAL, user_id, changes)
    return {"name": name, **shown}, content


def _require_reach(by: Actor, user: Row) -> None:
    """Raise where the user is deleted, or an owner and out of reach of `by`."""
    if user["status"] == Status.DELETED:
        raise UserNotFound
    by.require_reach(Role(user["role"]))


def _in_force(connection: Connection, user_id: UUID, name: str) -> Row | None:
    return connection.execute(_SQL["in_force"], {"user_id": user_id, "name": name}).fetchone()


def _same(ring: KeyRing, user_id: UUID, name: str, before: Row | None, provider: str, content: SecretValue) -> bool:
    """Whether the credential is so already. One that does not open is not: it can be replaced."""
    if before is None or before["provider"] != provider:
        return False
    try:
        return _opened(ring, user_id, name, before) == content
    except VaultError:
        return False


def _add(
    connection: Connection,
    ring: KeyRing,
    by: Actor,
    user_id: UUID,
    name: str,
    provider: str,
    content: SecretValue,
    history: timedelta,
) -> int:
    """Put a new version in force; returns its number. The user is locked, so versions follow one another."""
    place = {"user_id": user_id, "name": name}
    if connection.execute(_SQL["end"], place).fetchone() is None:
        _require_room(connection, user_id)
    secret_id = uuid7()
    row = connection.execute(
        _SQL["insert"],
        {
            **place,
            "id": secret_id,
            "provider": provider,
            "value": ring.seal(content.get_secret_value(), CREDENTIALS.place(secret_id, (user_id, name, provider))),
            "last_four": last_four(content),
            "created_by": by.user_id,
        },
    ).fetchone()
    assert row is not None, "INSERT … RETURNING has a row"
    connection.execute(_SQL["forget_beyond"], {**place, "version": row["version"], "most": MOST_VERSIONS})
    connection.execute(_SQL["forget_over_age"], {"history": history})
    return int(row["version"])


def _require_room(connection: Connection, user_id: UUID) -> None:
    row = connection.execute(_SQL["count"], {"user_id": user_id}).fetchone()
    assert row is not None, "count has a row"
    if row["number"] >= MOST_SECRETS:
        raise TooManySecrets


def _listed(connection: Connection, user_id: UUID, name: str, history: timedelta) -> Row:
    values: dict[str, Any] = {"user_id": user_id, "name": name, "history": history}
    row = connection.execute(_SQL["get"], values).fetchone()
    assert row is not None, "the user is locked, and the credential in force"
    return row


def _opened(ring: KeyRing, user_id: UUID, name: str, row: Row) -> SecretValue:
    """The content; a row that was moved to another user, name or provider does not open."""
    return SecretValue(ring.open(row["value"], CREDENTIALS.place(row["id"], (user_id, name, row["provider"]))))
