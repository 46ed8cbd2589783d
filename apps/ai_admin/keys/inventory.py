"""The keys of all users: pages of them by expiry, use, scope and user, and the end of one whose text has leaked."""

from typing import Any

from ai_admin.access.actors import Actor
from ai_admin.access.scopes import ROLE_SCOPES, Scope
from ai_admin.access.standing import require_standing
from ai_admin.access.tokens import digest
from ai_admin.audit import events
from ai_admin.audit.events import Action
from ai_admin.database import Connection
from ai_admin.errors import KeyNotFound
from ai_admin.filters import Condition, Conditions
from ai_admin.keys import store
from ai_admin.keys.schemas import KeyFilter
from ai_admin.listing import Listing, Order, Page, Window, fetch_page
from ai_admin.sql import queries
from ai_admin.users.schemas import Role, Status

# The forms of the indexes: a key without expiry ends after all others, one without use was used before all others.
_EXPIRY = "coalesce(expires_at, 'infinity'::timestamptz)"
_LAST_USE = "coalesce(last_used_at, '-infinity'::timestamptz)"
_ORDERED_BY = {"createdAt": "created_at", "expiresAt": _EXPIRY, "lastUsedAt": _LAST_USE}
LISTING = Listing(
    table="api_keys",
    columns=f'{store.COLUMNS}, user_id AS "userId"',
    orders={
        sign + name: Order(expression, "timestamptz", descending=sign == "-")
        for name, expression in _ORDERED_BY.items()
        for sign in ("", "-")
    },
    gathered=frozenset(),
)
# The users of some roles by their index, which begins with the status. The table around it has no column `role`.
_USERS_OF_ROLES = "SELECT id FROM users WHERE status = ANY({statuses}) AND role = ANY({roles})"
_SQL = queries("keys")


def read(connection: Connection, by: Actor, asked: KeyFilter, order: Order, window: Window) -> Page:
    """Return a page of keys. Only owners see the keys of owners; `userTag` is for callers who may read users."""
    page = fetch_page(connection, LISTING, _conditions(by, asked), order, window)
    if Scope.USERS_READ in by.scopes:
        ids = list({row["userId"] for row in page.rows})
        tags = {row["id"]: row["tag"] for row in connection.execute(_SQL["tags"], {"ids": ids})}
        for row in page.rows:
            row["userTag"] = tags.get(row["userId"])
    return page


def end_leaked(connection: Connection, by: Actor, key: str) -> dict[str, Any]:
    """Revoke the key with this text, whoever its user is: a caller who knows the text could use the key as well.

    The text that a rotation replaced counts while it works. Where it no longer does, the key is left alone, because
    its present text has not leaked. Raises `KeyNotFound`.
    """
    values = {"digest": digest(key)}
    found = connection.execute(_SQL["find_by_text"], values).fetchone()
    if found is None:
        raise KeyNotFound("No key has this text; check that it is complete.")
    connection.execute(_SQL["lock"], {"id": found["keyId"]})
    # Read again: it may have been rotated or revoked meanwhile.
    found = connection.execute(_SQL["find_by_text"], values).fetchone()
    if found is None:
        raise KeyNotFound("No key has this text; check that it is complete.")
    require_standing(connection, by)
    is_live = found.pop("isLive")
    if is_live:
        store.end(connection, by, found["userId"], found["keyId"])
        found = connection.execute(_SQL["find_by_text"], values).fetchone()
        assert found is not None, "an ended key is kept"
        found.pop("isLive")
    changes = {"key": str(found["keyId"]), "revoked": is_live}
    events.about_key(connection, by, Action.KEYS_REPORT_LEAK, found["userId"], changes)
    return {**found, "revoked": is_live}


def _conditions(by: Actor, asked: KeyFilter) -> Conditions:
    """What a filter asks for, as conditions on the table `api_keys`, and what the caller may see."""
    chosen = Conditions()
    chosen.any_of("user_id", asked.user, pinpoint=True)
    if by.role != Role.OWNER:
        owners = _users_of(chosen, [Role.OWNER])
        chosen.items.append(Condition("user_id", f"user_id <> ALL(ARRAY({owners}))"))
    if asked.scope:
        _scope(chosen, asked.scope)
    for column, operator, value in (
        ("created_at", ">=", asked.created_gte),
        ("created_at", ">", asked.created_gt),
        ("created_at", "<=", asked.created_lte),
        ("created_at", "<", asked.created_lt),
        (_EXPIRY, ">=", asked.expires_gte),
        (_EXPIRY, ">", asked.expires_gt),
        (_EXPIRY, "<=", asked.expires_lte),
        (_EXPIRY, "<", asked.expires_lt),
        (_LAST_USE, ">=", asked.used_gte),
        (_LAST_USE, ">", asked.used_gt),
        (_LAST_USE, "<=", asked.used_lte),
        (_LAST_USE, "<", asked.used_lt),
    ):
        chosen.compare(column, operator, value)
    if asked.never_expires:
        relation = "=" if asked.never_expires == "true" else "<"
        chosen.items.append(Condition(_EXPIRY, f"{_EXPIRY} {relation} 'infinity'"))
    if asked.never_used:
        relation = "=" if asked.never_used == "true" else ">"
        chosen.items.append(Condition(_LAST_USE, f"{_LAST_USE} {relation} '-infinity'"))
    if asked.state:
        chosen.items.append(Condition(_EXPIRY, f"{_EXPIRY} {'>' if asked.state == 'active' else '<='} now()"))
    return chosen


def _scope(chosen: Conditions, scopes: list[Scope]) -> None:
    """The key may be used for one of these: it names it, or is limited to nothing and its user's role gives it."""
    named = chosen.bind([scope.value for scope in scopes])
    givers = _users_of(chosen, [role for role, given in ROLE_SCOPES.items() if not given.isdisjoint(scopes)])
    all_of_role = f"scopes IS NULL AND user_id = ANY(ARRAY({givers}))"
    chosen.items.append(Condition("scopes", f"(scopes && %({named})s::text[] OR ({all_of_role}))"))


def _users_of(chosen: Conditions, roles: list[Role]) -> str:
    statuses = chosen.bind([status.value for status in Status])
    named = chosen.bind([role.value for role in roles])
    return _USERS_OF_ROLES.format(statuses=f"%({statuses})s", roles=f"%({named})s")
