"""Events: who did what to whom, with the values before and after, written in the transaction of the change.

Text that people write (names, addresses, attributes, models, names of keys and credentials, reasons), subjects and the
caller's address are sealed under a key of the person concerned, which stands in their row of `users` and nowhere else.
Purge destroys the key with the row: the event stays, and so does every seal over it, and nothing in it tells any more
who it was. Ids, closed lists (roles, scopes, statuses), numbers and times stay readable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from ai_admin.access.actors import Actor
from ai_admin.audit import personal
from ai_admin.audit.actions import Action as Action
from ai_admin.database import Connection
from ai_admin.json_values import same
from ai_admin.sql import queries

# Members whose values people write: of a user, a key, a credential, and a reveal.
PERSONAL = frozenset({"tag", "email", "name", "attributes", "models", "identity", "secret", "provider", "reason"})
# What stands in an event for the value of a credential.
HIDDEN = "***"
# The columns of an event as COPY takes them.
PreparedEvent = tuple[str | None, ...]
# The columns of an event, in the order of `copy`.
Event = Mapping[str, object]
_SQL = queries("audit")


def about_user(
    connection: Connection,
    by: Actor,
    action: Action,
    user_id: UUID,
    audit_key: bytes | None,
    changes: Mapping[str, object],
) -> None:
    """Write the event of a change to a user: `changes` has `before` and `after` of each changed member."""
    write(connection, of_user(connection, by, action, user_id, audit_key, changes))


def of_user(
    connection: Connection,
    by: Actor,
    action: Action,
    user_id: UUID,
    audit_key: bytes | None,
    changes: Mapping[str, object],
) -> Event:
    """The event that `about_user` writes. The person's `audit_key` is looked up where it is not given."""
    event_id = uuid7()
    plain, personal = _divided(changes)
    sealed = None
    if personal:
        sealed = _seal(event_id, audit_key or _audit_key_of(connection, user_id), personal)
    return _row(by, action, event_id, user_id, plain, sealed, _source(connection, by, event_id))


def write(connection: Connection, event: Event) -> None:
    """Write one event."""
    connection.execute(_SQL["insert"], event)


def prepared(
    by: Actor, action: Action, user_id: UUID, audit_key: bytes, changes: Mapping[str, object]
) -> PreparedEvent:
    """What `about_user` would write, made without the database; `by` has their `audit_key`, or is no user."""
    event_id = uuid7()
    plain, personal = _divided(changes)
    source = by.source.encode() or None if by.user_id is None else _seal(event_id, by.audit_key, by.source)
    row = _row(by, action, event_id, user_id, plain, _seal(event_id, audit_key, personal), source)
    return tuple(None if value is None else _as_copied(value) for value in row.values())


def write_prepared(connection: Connection, made: Sequence[PreparedEvent]) -> None:
    """Write many events at once, in the transaction of the changes that they are about."""
    with connection.cursor() as cursor:
        with cursor.copy(_SQL["copy"]) as copy:
            for event in made:
                copy.write_row(event)
        with cursor.copy(_SQL["copy_unsealed"]) as copy:
            for event_id, *_ in made:
                copy.write_row((event_id,))


def with_audit_key(connection: Connection, by: Actor) -> Actor:
    """The actor as `prepared` needs them."""
    if by.user_id is None or by.audit_key is not None:
        return by
    return replace(by, audit_key=_audit_key_of(connection, by.user_id))


def _as_copied(value: object) -> str:
    """In the text form of COPY, whatever the type: text is what psycopg writes fastest."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return orjson.dumps(value.obj).decode() if isinstance(value, Jsonb) else str(value)


def about_key(connection: Connection, by: Actor, action: Action, user_id: UUID, changes: Mapping[str, object]) -> None:
    """Write the event of a change to a key of a user."""
    write(connection, of_user(connection, by, action, user_id, None, changes))


def about_secret(
    connection: Connection, by: Actor, action: Action, user_id: UUID, changes: Mapping[str, object]
) -> None:
    """Write the event of a change to a credential of a user, or of its reveal with the reason."""
    write(connection, of_user(connection, by, action, user_id, None, changes))


def exported(connection: Connection, by: Actor, what: Mapping[str, object]) -> None:
    """Write the event of an export of users."""
    _write(connection, by, Action.USERS_EXPORT, what)


def refused(connection: Connection, by: Actor, what: Mapping[str, object], user_id: UUID | None = None) -> None:
    """Write the event of a request that was refused; `user_id` is whom it was about, if anybody."""
    _write(connection, by, Action.ACCESS_REFUSE, what, user_id)


def opened(event_id: UUID, audit_key: bytes | None, sealed: bytes | None) -> Any:
    """What was sealed under a person's key; None where there was nothing, and where the person was purged."""
    if sealed is None or audit_key is None:
        return None
    value = personal.unseal(sealed, event_id, audit_key)
    return None if value is None else orjson.loads(value)


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The members that differ as JSON, with both values."""
    return {
        member: {"before": before.get(member), "after": value}
        for member, value in after.items()
        if not same(before.get(member), value)
    }


def _write(
    connection: Connection, by: Actor, action: Action, changes: Mapping[str, object], target_id: UUID | None = None
) -> None:
    """Write an event whose changes hold nothing that a person wrote."""
    event_id = uuid7()
    write(connection, _row(by, action, event_id, target_id, changes, None, _source(connection, by, event_id)))


def _row(
    by: Actor,
    action: Action,
    event_id: UUID,
    target_id: UUID | None,
    changes: Mapping[str, object],
    personal: bytes | None,
    source: bytes | None,
) -> Event:
    return {
        "id": event_id,
        "actor_id": by.user_id,
        "key_id": by.key_id,
        "action": action.value,
        "target_id": target_id,
        "changes": Jsonb(changes),
        "personal": personal,
        "request_id": by.request_id,
        "source": source,
    }


def _divided(changes: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """What is not personal, and what is."""
    personal = {member: change for member, change in changes.items() if member in PERSONAL}
    return {member: change for member, change in changes.items() if member not in PERSONAL}, personal


def _source(connection: Connection, by: Actor, event_id: UUID) -> bytes | None:
    if by.user_id is None:
        return by.source.encode() or None
    return _seal(event_id, by.audit_key or _audit_key_of(connection, by.user_id), by.source)


def _seal(event_id: UUID, key: bytes | None, value: object) -> bytes | None:
    """The value under the person's key; None where the person has been purged meanwhile."""
    return None if key is None else personal.seal(orjson.dumps(value), event_id, key)


def _audit_key_of(connection: Connection, user_id: UUID) -> bytes | None:
    """The key of a user, who is given one if they have none; None where they have been purged."""
    key = _find_audit_key(connection, user_id)
    if key is None:
        # Where another request gives one at the same moment, its key is found after the wait.
        connection.execute(_SQL["make_audit_key"], {"id": user_id})
        key = _find_audit_key(connection, user_id)
    return key


def _find_audit_key(connection: Connection, user_id: UUID) -> bytes | None:
    row = connection.execute(_SQL["audit_keys"], {"ids": [user_id]}).fetchone()
    return None if row is None else row["audit_key"]
