"""The operations on users: create, find, get, change, delete, purge. They take a connection, not a request."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from ai_admin.access import identities, sessions
from ai_admin.access.actors import Actor
from ai_admin.access.standing import (
    is_promotion,
    record_if_standing,
    require_grant_of_gain,
    require_standing,
    settle_keys,
)
from ai_admin.audit import events
from ai_admin.audit.events import Action
from ai_admin.database import Connection, Row
from ai_admin.errors import LastOwner, RequestInvalid, UserNotFound, VersionMismatch
from ai_admin.etags import Precondition
from ai_admin.filters import Conditions
from ai_admin.folding import sort_key, words
from ai_admin.idempotency import erase_answers
from ai_admin.listing import Listing, Order
from ai_admin.sql import queries
from ai_admin.users.schemas import AiUserCreate, AiUserUpdate, Kind, Role, Status, UserFilter
from ai_admin.vault.keyring import KeyRing

COLUMNS = """id, tag, email, name, kind, role, status, models, attributes, created_at AS "createdAt",
    updated_at AS "updatedAt", deleted_at AS "deletedAt", version"""
# Any number, the same in every process: who takes an owner away holds this lock.
_OWNERS_LOCK = 4_128_020_264_013
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EMAIL_KEY = "lower(coalesce(email, ''))"
# The index of blocks is over this form (migration 0008).
_BLOCKS = {"createdAt": "({} AT TIME ZONE 'UTC')"}
_ORDERED_BY = {
    "createdAt": ("created_at", "timestamptz"),
    "updatedAt": ("updated_at", "timestamptz"),
    "tag": ("tag", "text"),
    "email": (_EMAIL_KEY, "text"),
    "name": ("name_key", "text"),
}
LISTING = Listing(
    table="users",
    columns=COLUMNS,
    orders={
        sign + name: Order(expression, kind, descending=sign == "-", blocks=_BLOCKS.get(name, "{}"))
        for name, (expression, kind) in _ORDERED_BY.items()
        for sign in ("", "-")
    },
)
_SQL = {name: sql.replace("{columns}", COLUMNS) for name, sql in queries("users").items()}


def create(connection: Connection, by: Actor, new: AiUserCreate) -> Row:
    """Insert a user with a new UUIDv7 (RFC 9562).

    Raises `DuplicateTag`, `DuplicateEmail`, `RequestInvalid`, `Forbidden`.
    """
    by.require_role_grant(new.role)
    user = new.model_dump(mode="json")
    user["name"] = new.name or new.tag
    _require_email(user)
    row = _one(connection, "insert", {"id": uuid7(), **_stored(user)})
    audit_key = row.pop("audit_key")
    event = events.of_user(connection, by, Action.USERS_CREATE, row["id"], audit_key, events.changed({}, user))
    # After the insert, which waits for whoever is about to take the tag or the address.
    record_if_standing(connection, by, event)
    return row


def get(connection: Connection, user_id: UUID) -> Row:
    """The user, deleted or not. Raises `UserNotFound`."""
    return _one(connection, "get", {"id": user_id})


def lock(connection: Connection, by: Actor, user_id: UUID) -> Row:
    """The user, deleted or not, whom nobody but `by` changes until the transaction ends; with their `audit_key`.

    Raises `UserNotFound`, and `Unauthenticated` where `by` has been put out meanwhile.
    """
    row = _one(connection, "get_for_update", {"id": user_id})
    require_standing(connection, by)
    return row


def change(connection: Connection, by: Actor, user_id: UUID, update: AiUserUpdate, precondition: Precondition) -> Row:
    """Change the members that were sent, and restore the user where they were deleted and a status is sent.

    The row is locked first (FOR UPDATE), so that changes to one user follow one another and each sees the
    one before. A change that changes nothing leaves the version alone. Raises `UserNotFound`,
    `VersionMismatch`, `DuplicateTag`, `DuplicateEmail`, `RequestInvalid`, `Forbidden`, `LastOwner`.
    """
    before, audit_key = _locked(connection, by, user_id, precondition)
    sent = update.sent()
    if not differs(before, sent):
        return before
    if before["status"] == Status.DELETED and "status" not in sent:
        raise RequestInvalid.at(
            "body", "status", message="The user is deleted; send a status to bring them back", kind="missing"
        )
    user = {**before, **sent}
    _require_email(user)
    _require_may(connection, by, before, user)
    if before["role"] == Role.OWNER and (user["role"], user["status"]) != (Role.OWNER, Status.ACTIVE):
        _require_another_owner(connection, by, before)
    after = _one(connection, "update", {"id": user_id, **_stored(user)})
    event = events.of_user(connection, by, _action(before, after), user_id, audit_key, events.changed(before, sent))
    # The update waits like an insert.
    record_if_standing(connection, by, event, of_themselves=by.user_id == user_id)
    if before["status"] != after["status"]:
        sessions.end_of_user(connection, by, user_id)
    if any(before[member] != after[member] for member in ("role", "kind")):
        settle_keys(connection, by, before, after)
    if is_promotion(Role(before["role"]), Role(after["role"])):
        identities.unbind_from_others(connection, by, user_id, audit_key)
    return after


def delete(connection: Connection, by: Actor, user_id: UUID, precondition: Precondition) -> None:
    """Mark the user deleted.

    Raises `UserNotFound` (also the second time), `VersionMismatch`, `Forbidden`, `LastOwner`.
    """
    before, audit_key = _locked(connection, by, user_id, precondition, deleted=False)
    _require_another_owner(connection, by, before)
    connection.execute(_SQL["mark_deleted"], {"id": user_id})
    changes = events.changed(before, {"status": Status.DELETED.value})
    events.about_user(connection, by, Action.USERS_DELETE, user_id, audit_key, changes)
    sessions.end_of_user(connection, by, user_id)


def purge(connection: Connection, ring: KeyRing, by: Actor, user_id: UUID, precondition: Precondition) -> None:
    """Erase the user, deleted or not, and all that is kept about them, the key to their values in the log included.

    Raises `UserNotFound`, `VersionMismatch`, `Forbidden`, `LastOwner`.
    """
    before, _ = _locked(connection, by, user_id, precondition)
    _require_another_owner(connection, by, before)
    erase_answers(connection, ring, user_id)
    sessions.end_of_user(connection, by, user_id)
    connection.execute(_SQL["purge"], {"id": user_id})
    connection.execute(_SQL["purge_ended_keys"], {"id": user_id})
    events.about_user(connection, by, Action.USERS_PURGE, user_id, None, {})


def differs(before: Mapping[str, object], sent: Mapping[str, object]) -> bool:
    """Whether a change to these values would change anything."""
    return bool(events.changed(before, sent))


def conditions(asked: UserFilter) -> Conditions:
    """What a filter asks for, as conditions on the table `users`."""
    chosen = Conditions()
    chosen.any_of("id", asked.id, pinpoint=True)
    chosen.any_of("tag", _lower(asked.tag), pinpoint=True)
    chosen.any_of(_EMAIL_KEY, _lower(asked.email), pinpoint=True)
    if asked.name:
        chosen.any_of("name_key", [sort_key(name) for name in asked.name])
        chosen.any_of("name", asked.name)
    _facets(chosen, asked)
    chosen.prefix("tag", asked.tag_prefix and _lower_ascii(asked.tag_prefix))
    chosen.prefix(_EMAIL_KEY, asked.email_prefix and _lower_ascii(asked.email_prefix))
    chosen.prefix("name_key", asked.name_prefix and sort_key(asked.name_prefix))
    for column, operator, value in (
        ("created_at", ">=", asked.created_gte),
        ("created_at", ">", asked.created_gt),
        ("created_at", "<=", asked.created_lte),
        ("created_at", "<", asked.created_lt),
        ("updated_at", ">=", asked.updated_gte),
        ("updated_at", ">", asked.updated_gt),
        ("updated_at", "<=", asked.updated_lte),
        ("updated_at", "<", asked.updated_lt),
    ):
        chosen.compare(column, operator, value)
        # A user is created before being updated; the table checks it.
        if column == "updated_at" and operator.startswith("<"):
            chosen.imply("created_at", operator, value)
        if column == "created_at" and operator.startswith(">"):
            chosen.imply("updated_at", operator, value)
    chosen.close_ranges()
    chosen.members("attributes", (asked.attributes or {}).items())
    if asked.q and _ID.fullmatch(asked.q.strip()):
        # Pasted from a log or a link (zitadel #12290). A tag can have the form of an id too.
        chosen.add("id", "(id = {value}::text::uuid OR tag = {value}::text)", asked.q.strip().lower(), pinpoint=True)
    else:
        chosen.words("words", asked.q)
    return chosen


def _facets(chosen: Conditions, asked: UserFilter) -> None:
    live = [Status.ACTIVE, Status.SUSPENDED]
    chosen.any_of("status", _values(asked.status or live))
    if asked.status or asked.role or asked.kind:
        # All three, so that one index on all three serves every combination.
        chosen.any_of("role", _values(asked.role or list(Role)))
        chosen.any_of("kind", _values(asked.kind or list(Kind)))


def _values(members: Sequence[Kind | Role | Status]) -> list[str]:
    return [member.value for member in members]


def _lower(texts: list[str] | None) -> list[str] | None:
    return texts and [_lower_ascii(text) for text in texts]


def _lower_ascii(text: str) -> str:
    # Tags and addresses are ASCII; Unicode's rules would lower the Kelvin sign to a k.
    return text.lower() if text.isascii() else text


def _one(connection: Connection, query: str, values: dict[str, Any]) -> Row:
    row = connection.execute(_SQL[query], values).fetchone()
    if row is None:
        raise UserNotFound
    return row


def _locked(
    connection: Connection, by: Actor, user_id: UUID, precondition: Precondition, *, deleted: bool = True
) -> tuple[Row, bytes | None]:
    """The user as they are, locked for a change that `by` may make, and the key to their values in the log."""
    row = lock(connection, by, user_id)
    audit_key = row.pop("audit_key")
    if row["status"] == Status.DELETED and not deleted:
        raise UserNotFound
    by.require_reach(Role(row["role"]))
    if not precondition.holds(row["version"]):
        raise VersionMismatch
    return row, audit_key


def _require_may(connection: Connection, by: Actor, before: Row, after: Row) -> None:
    """Raise `Forbidden` where the change gives more than `by` has to give."""
    if any(before[member] != after[member] for member in ("role", "email")):
        # An address counts like the role: its holder may sign in as the user (access/identities.py).
        by.require_role_grant(Role(before["role"]))
        by.require_role_grant(Role(after["role"]))
    if any(before[member] != after[member] for member in ("role", "kind", "status")):
        require_grant_of_gain(connection, by, before, after)


def _require_another_owner(connection: Connection, by: Actor, owner: Row) -> None:
    """Raise `LastOwner` where nobody but this user is an active owner.

    Those who take an owner away follow one another: the second sees what the first has done, also to themselves.
    """
    if (owner["role"], owner["status"]) != (Role.OWNER, Status.ACTIVE):
        return
    connection.execute(_SQL["lock_owners"], {"lock": _OWNERS_LOCK})
    require_standing(connection, by)
    row = connection.execute(_SQL["another_owner"], {"id": owner["id"]}).fetchone()
    if row is None or not row["exists"]:
        raise LastOwner


def _action(before: Row, after: Row) -> Action:
    if before["status"] == after["status"]:
        return Action.USERS_UPDATE
    if before["status"] == Status.DELETED:
        return Action.USERS_RESTORE
    return Action.USERS_SUSPEND if after["status"] == Status.SUSPENDED else Action.USERS_ACTIVATE


def _require_email(user: dict[str, Any]) -> None:
    if user["kind"] == Kind.HUMAN and user["email"] is None:
        raise RequestInvalid.at("body", "email", message="A human has an email address", kind="missing")


def _stored(user: dict[str, Any]) -> dict[str, Any]:
    """The columns of a user, with those that are derived."""
    return {
        **user,
        "name_key": sort_key(user["name"]),
        "words": words(user["tag"], user["email"], user["name"]),
        "attributes": Jsonb(user["attributes"]),
    }
