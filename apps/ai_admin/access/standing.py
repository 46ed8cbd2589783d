"""What callers and keys may do at this moment: read in the transaction of a change, and not remembered.

The guard may go by what it read some seconds ago, before a body that takes its time. A change may not, or whoever
is put out would use that time to come back.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ai_admin.access.actors import Actor
from ai_admin.access.scopes import GATEWAY_SCOPES, ROLE_SCOPES, Scope, scopes_of
from ai_admin.audit import events
from ai_admin.audit.events import Action, Event
from ai_admin.database import Connection, Row
from ai_admin.errors import Unauthenticated
from ai_admin.sql import queries
from ai_admin.users.schemas import Kind, Role, Status

_SQL = queries("keys")
_SQL_WITH_EVENT = queries("audit")["insert_and_read_standing"].replace("{standing}", _SQL["standing"])


def require_standing(connection: Connection, by: Actor) -> None:
    """Raise `Unauthenticated` where `by` may no longer do all that they came with.

    To be called after the lock that a change waits for, so that it sees what the one before it has done.
    """
    if by.user_id is not None:
        _require(by, connection.execute(_SQL["standing"], _caller(by)).fetchone())


def record_if_standing(connection: Connection, by: Actor, event: Event, *, of_themselves: bool = False) -> None:
    """Write the event of a change that waits for nothing more; raises what `require_standing` raises.

    One statement for both costs less than two and sees no less: it begins after what the change has waited for. A
    change that callers make to themselves may have taken something from them; what it rests on must be there still.
    """
    if by.user_id is None:
        events.write(connection, event)
        return
    row = connection.execute(_SQL_WITH_EVENT, {**event, **_caller(by)}).fetchone()
    (_require_credential if of_themselves else _require)(by, row)


def _caller(by: Actor) -> dict[str, object]:
    issuer, subject = by.identity or (None, None)
    key = {"key_id": by.key_id, "key_digest": by.key_digest}
    return {"actor_id": by.user_id, **key, "issuer": issuer, "subject": subject}


def _require_credential(by: Actor, row: Row | None) -> Row:
    """Raise where the key as it was presented, or the binding, is gone: that may not have waited for the user's row."""
    if row is None:
        raise Unauthenticated("user no longer active")
    if by.key_id != row["key_id"] or row["is_over"]:
        raise Unauthenticated("key ended meanwhile")
    if by.identity is not None and not row["is_bound"]:
        raise Unauthenticated("subject unbound meanwhile")
    return row


def _require(by: Actor, found: Row | None) -> None:
    row = _require_credential(by, found)
    if row["status"] != Status.ACTIVE:
        raise Unauthenticated("user no longer active")
    role = Role(row["role"])
    is_less = by.scopes - scopes_in(row["scopes"], role, Kind(row["kind"])) or (by.role == Role.OWNER != role)
    if is_less or _is_tighter(by, row["key_models"], row["expires_at"]):
        raise Unauthenticated("credential changed meanwhile")


def _is_tighter(by: Actor, models: Sequence[str] | None, expires_at: datetime | None) -> bool:
    """Whether a key is limited more than `by` came with."""
    is_fewer = models is not None and (by.key_models is None or not set(by.key_models) <= set(models))
    is_sooner = expires_at is not None and (by.key_expires_at is None or expires_at < by.key_expires_at)
    return is_fewer or is_sooner


def scopes_in(granted: Sequence[str] | None, role: Role, kind: Kind) -> frozenset[Scope]:
    """What a key lets its user do, from the scopes that its row names."""
    return scopes_of(role, None if granted is None else frozenset(map(Scope, granted)), kind)


def require_grant_of_gain(
    connection: Connection, by: Actor, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Raise `Forbidden` where a change of status, role or kind gives a user, or a key of theirs, what `by` lacks."""
    keys = [row["scopes"] for row in connection.execute(_SQL["scopes"], {"user_id": before["id"]})]
    settled = [scopes_after(scopes, before, after) for scopes in keys]
    by.require_grant_to(before["id"], _powers(after, settled) - _powers(before, keys))


def _powers(user: Mapping[str, Any], keys: Sequence[Sequence[str] | None]) -> frozenset[Scope]:
    """All that a user may do by whatever key, or by signing in."""
    if user["status"] != Status.ACTIVE:
        return frozenset()
    role, kind = Role(user["role"]), Kind(user["kind"])
    return ROLE_SCOPES[role].union(*(scopes_in(granted, role, kind) for granted in keys))


def scopes_after(
    named: Sequence[str] | None, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Sequence[str] | None:
    """Return the scopes that a key names after a change of its user's role or kind; None is all that the role gives.

    - A promotion gives a key nothing: others may hold the key, or have made it for this day. It keeps what it did
      before. A new owner's key keeps nothing, because an owner's key reaches owners.
    - A gateway scope stays if the key had it before and if the new role gives it. A service keeps it also where the
      new role takes nothing away. After a demotion an owner grants it again.
    """
    former, role = Role(before["role"]), Role(after["role"])
    given, did = ROLE_SCOPES[role], scopes_in(named, former, Kind(before["kind"]))
    if is_promotion(former, role):
        kept = frozenset() if role == Role.OWNER else did
    elif named is None:
        return None
    else:
        kept = frozenset(map(Scope, named))
    is_gateway = after["kind"] == Kind.SERVICE and ROLE_SCOPES[former] <= given
    kept -= GATEWAY_SCOPES - (did & (given | GATEWAY_SCOPES if is_gateway else given))
    return sorted(scope.value for scope in kept)


def is_promotion(former: Role, role: Role) -> bool:
    """Return whether a change of role gives a scope, whatever it takes away."""
    return not ROLE_SCOPES[role] <= ROLE_SCOPES[former]


def settle_keys(connection: Connection, by: Actor, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Write the scopes of a user's keys as `scopes_after` has them, with an event for each key that changes."""
    for row in connection.execute(_SQL["scopes_of_keys"], {"user_id": before["id"]}).fetchall():
        named = row["scopes"]
        scopes = scopes_after(named, before, after)
        if scopes != (named and sorted(named)):
            connection.execute(_SQL["set_scopes"], {"id": row["id"], "scopes": scopes})
            change = {"key": str(row["id"]), "scopes": {"before": named, "after": scopes}}
            events.about_key(connection, by, Action.KEYS_UPDATE, before["id"], change)
