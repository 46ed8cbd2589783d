"""The operations on API keys. They take a connection and who acts, not a request."""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from ai_admin.access import sessions
from ai_admin.access.actors import Actor
from ai_admin.access.scopes import GATEWAY_SCOPES, ROLE_SCOPES, Scope
from ai_admin.access.standing import require_standing, scopes_in
from ai_admin.access.tokens import digest, make_key
from ai_admin.audit import events
from ai_admin.audit.events import Action
from ai_admin.database import Connection, Row
from ai_admin.errors import Forbidden, KeyEnded, KeyNotFound, RequestInvalid, TooManyKeys, UserNotFound
from ai_admin.keys.schemas import MOST_KEYS, ApiKeyCreate, ApiKeyRotate, ApiKeyUpdate
from ai_admin.sql import queries
from ai_admin.users import directory
from ai_admin.users.schemas import Kind, Role, Status

COLUMNS = """id, name, last_four AS "lastFour", scopes, models, created_at AS "createdAt",
    created_by AS "createdBy", expires_at AS "expiresAt", last_used_at AS "lastUsedAt",
    rotated_at AS "rotatedAt", previous_expires_at AS "previousExpiresAt" """
_SQL = {name: sql.replace("{columns}", COLUMNS) for name, sql in queries("keys").items()}
_SETTABLE = ("name", "scopes", "models", "expiresAt")


def list_of(connection: Connection, by: Actor, user_id: UUID) -> list[Row]:
    """Return the keys of a user who is not deleted, oldest first. Raises `UserNotFound`, `Forbidden`."""
    keys = connection.execute(_SQL["list"], {"user_id": user_id}).fetchall()
    # Read the user after the keys: the keys of a user who became an owner meanwhile are not shown.
    user = directory.get(connection, user_id)
    if user["status"] == Status.DELETED:
        raise UserNotFound
    if by.user_id != user_id:
        by.require_reach(Role(user["role"]))
    return keys


def create(connection: Connection, by: Actor, user_id: UUID, new: ApiKeyCreate) -> tuple[Row, str]:
    """Make a key for a user; returns it as it is listed, and the key itself, which nothing keeps.

    Raises `UserNotFound`, `Forbidden`, `TooManyKeys`, `RequestInvalid`.
    """
    user = _reachable(connection, by, user_id)
    present = connection.execute(_SQL["list"], {"user_id": user_id}).fetchall()
    if len(present) >= MOST_KEYS:
        raise TooManyKeys
    wanted = new.model_dump(mode="json", by_alias=True)
    _require_grant(connection, by, user, wanted, new.expires_at)
    key = make_key()
    row = _insert(connection, by, user_id, new, key)
    events.about_key(connection, by, Action.KEYS_CREATE, user_id, {"key": str(row["id"]), **wanted})
    return row, key


def rotate(connection: Connection, by: Actor, user_id: UUID, key_id: UUID, wanted: ApiKeyRotate) -> tuple[Row, str]:
    """Give a key a new value and keep its id; returns the key as it is listed, and the value, which nothing keeps.

    The value before works until the overlap ends. The one before that, if it still works, ends now. Raises
    `UserNotFound`, `KeyNotFound`, `Forbidden`, `RequestInvalid`.
    """
    user = _reachable(connection, by, user_id)
    before = _locked(connection, user_id, key_id)
    _require_no_weaker(connection, by, user, before)
    expires_at = wanted.expires_at if "expires_at" in wanted.model_fields_set else before["expiresAt"]
    if "expires_at" not in wanted.model_fields_set and _is_past(expires_at):
        raise RequestInvalid.at("body", "expiresAt", message="The key has expired: send a new `expiresAt`")
    _require_future(expires_at)
    _require_power(connection, by, user, before, expires_at)
    key = make_key()
    _end_previous(connection, user_id, key_id, "rotated")
    row = connection.execute(
        _SQL["rotate"],
        {
            "id": key_id,
            "digest": digest(key),
            "last_four": key[-4:],
            "expires_at": expires_at,
            "overlap": timedelta(seconds=wanted.overlap_seconds),
        },
    ).fetchone()
    assert row is not None, "the row is locked"
    changes = {"key": str(key_id), "overlapSeconds": wanted.overlap_seconds, **_changed(before, row)}
    events.about_key(connection, by, Action.KEYS_ROTATE, user_id, changes)
    sessions.end_of_former_values(connection, by, key_id)
    return row, key


def change(connection: Connection, by: Actor, user_id: UUID, key_id: UUID, update: ApiKeyUpdate) -> Row:
    """Change the members of a key that were sent.

    Raises `UserNotFound`, `KeyNotFound`, `Forbidden`, `RequestInvalid`.
    """
    user = _reachable(connection, by, user_id)
    before = _locked(connection, user_id, key_id)
    _require_no_weaker(connection, by, user, before)
    sent = update.model_dump(mode="json", by_alias=True, include=update.model_fields_set)
    after = {**before, **sent}
    if "expiresAt" in sent:
        after["expiresAt"] = update.expires_at
    if all(before[member] == after[member] for member in _SETTABLE):
        return before
    _require_grant(connection, by, user, after, after["expiresAt"])
    row = connection.execute(
        _SQL["update"],
        {
            "id": key_id,
            "name": after["name"],
            "scopes": after["scopes"],
            "models": after["models"],
            "expires_at": after["expiresAt"],
        },
    ).fetchone()
    assert row is not None, "the row is locked"
    events.about_key(connection, by, Action.KEYS_UPDATE, user_id, {"key": str(key_id), **_changed(before, row)})
    return row


def revoke(connection: Connection, by: Actor, user_id: UUID, key_id: UUID) -> None:
    """End a key for good. Raises `UserNotFound`, `KeyNotFound`, `Forbidden`."""
    if by.role == Role.OWNER and by.user_id != user_id:
        # Owners may revoke every key, whatever the user's role: a leaked key waits for no change of its user.
        user = directory.get(connection, user_id)
    else:
        user = directory.lock(connection, by, user_id)
    by.require_reach(Role(user["role"]))
    key = _locked(connection, user_id, key_id)
    require_standing(connection, by)
    _require_no_weaker(connection, by, user, key)
    end(connection, by, user_id, key_id)
    events.about_key(connection, by, Action.KEYS_REVOKE, user_id, {"key": str(key_id), "name": key["name"]})


def require_working(connection: Connection, key: str) -> None:
    """Raise `KeyEnded` where this key has been revoked, rotated or deleted with its user, or has expired."""
    row = connection.execute(_SQL["works"], {"digest": digest(key)}).fetchone()
    if row is None or not row["works"]:
        raise KeyEnded


def end(connection: Connection, by: Actor, user_id: UUID, key_id: UUID) -> None:
    """End a key for good, whose row is locked, and its sessions.

    Its digests stay for a while, to tell the holder of the key.
    """
    sessions.end_of_key(connection, by, key_id)
    _end_previous(connection, user_id, key_id, "revoked")
    connection.execute(_SQL["revoke"], {"id": key_id})


def _end_previous(connection: Connection, user_id: UUID, key_id: UUID, reason: str) -> None:
    """End the value before the last rotation, and forget the oldest of what the user's ended keys have left."""
    connection.execute(_SQL["end_previous"], {"id": key_id, "reason": reason})
    connection.execute(_SQL["forget_ended"], {"user_id": user_id, "most": MOST_KEYS})


def _reachable(connection: Connection, by: Actor, user_id: UUID) -> Row:
    """The user, locked and not deleted, whose keys `by` may change."""
    user = directory.lock(connection, by, user_id)
    if user["status"] == Status.DELETED:
        raise UserNotFound
    by.require_reach(Role(user["role"]))
    return user


def _locked(connection: Connection, user_id: UUID, key_id: UUID) -> Row:
    row = connection.execute(_SQL["get_for_update"], {"user_id": user_id, "id": key_id}).fetchone()
    if row is None:
        raise KeyNotFound
    return row


def _require_grant(
    connection: Connection, by: Actor, user: Row, wanted: Mapping[str, Any], expires_at: datetime | None
) -> None:
    """Raise where the key would do more than its user, or than who makes it, may do."""
    allowed = ROLE_SCOPES[Role(user["role"])] | (GATEWAY_SCOPES if user["kind"] == Kind.SERVICE else frozenset())
    beyond = sorted(scope.value for scope in set(map(Scope, wanted["scopes"] or ())) - allowed)
    if beyond:
        raise RequestInvalid.at("body", "scopes", message=f"The user's role does not give {', '.join(beyond)}")
    _require_future(expires_at)
    _require_power(connection, by, user, wanted, expires_at)


def _require_future(expires_at: datetime | None) -> None:
    if _is_past(expires_at):
        raise RequestInvalid.at("body", "expiresAt", message="Must lie in the future")


def _is_past(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at <= datetime.now(timezone.utc)


def _require_power(
    connection: Connection, by: Actor, user: Row, key: Mapping[str, Any], expires_at: datetime | None
) -> None:
    """Raise `Forbidden` where `by`, who gets to know the key, could do more with it than without."""
    scopes = _scopes(user, key)
    by.require_grant_to(user["id"], scopes)
    # A user of a gateway gets keys that outlast the one which made them; nobody gets another way to administer.
    if scopes or by.user_id == user["id"]:
        _require_no_escape(connection, by, key["models"], expires_at)


def _scopes(user: Row, key: Mapping[str, Any]) -> frozenset[Scope]:
    return scopes_in(key["scopes"], Role(user["role"]), Kind(user["kind"]))


def _require_no_weaker(connection: Connection, by: Actor, user: Row, key: Row) -> None:
    """Raise `Forbidden` where a user's key would change or end one that can do more, or lasts longer.

    A limited key that was stolen must not lock its user out, and neither must a value from before a rotation.
    """
    if by.user_id == user["id"]:
        if by.key_id != key["id"]:
            by.require_grant(_scopes(user, key))
            _require_models(by, key["models"])
        if _outlives(connection, by, key["expiresAt"]):
            raise Forbidden("This key expires: it cannot change or end a key that lasts longer.")


def _require_models(by: Actor, models: list[str] | None) -> None:
    if by.key_models is not None and (models is None or set(models) - set(by.key_models)):
        raise Forbidden("The key is limited to models, and this would go beyond them.")


def _require_no_escape(
    connection: Connection, by: Actor, models: list[str] | None, expires_at: datetime | None
) -> None:
    """Raise `Forbidden` where a caller with a limited key would get one with wider limits."""
    _require_models(by, models)
    if _outlives(connection, by, expires_at):
        raise Forbidden("A key makes none that outlives it.")


def _outlives(connection: Connection, by: Actor, expires_at: datetime | None) -> bool:
    """Return whether a key that ends then, or never, lasts longer than the key that the caller presented."""
    if by.key_id is None:
        return False
    # Read now: the caller's key may have been rotated since the caller was let in, and its value ends soon.
    row = connection.execute(_SQL["own_end"], {"key_id": by.key_id, "key_digest": by.key_digest}).fetchone()
    end = by.key_expires_at if row is None else row["ends_at"]
    return end is not None and (expires_at is None or expires_at > end)


def _changed(before: Row, after: Row) -> dict[str, dict[str, object]]:
    """The members that differ, as an event has them."""
    return events.changed(_shown(before), _shown(after))


def _shown(key: Row) -> dict[str, object]:
    """What a change can set, as JSON."""
    end = key["expiresAt"]
    return {**{member: key[member] for member in _SETTABLE}, "expiresAt": end and end.isoformat()}


def _insert(connection: Connection, by: Actor, user_id: UUID, new: ApiKeyCreate, key: str) -> Row:
    row = connection.execute(
        _SQL["insert"],
        {
            "id": uuid7(),
            "user_id": user_id,
            "digest": digest(key),
            "name": new.name,
            "last_four": key[-4:],
            "scopes": None if new.scopes is None else [scope.value for scope in new.scopes],
            "models": new.models,
            "created_by": by.user_id,
            "expires_at": new.expires_at,
        },
    ).fetchone()
    assert row is not None, "INSERT … RETURNING has a row"
    return row
