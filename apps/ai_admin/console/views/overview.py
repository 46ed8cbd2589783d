"""The overview: how many users of each kind, role and status, how many came each day, and what happened last."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from flask import Response, g

from ai_admin.access.scopes import Scope
from ai_admin.audit import log
from ai_admin.audit.schemas import EventFilter
from ai_admin.console.views.pages import console, holds, page
from ai_admin.console.views.user import names
from ai_admin.database import Connection, Row
from ai_admin.errors import DatabaseUnavailable
from ai_admin.http.answers import canonical
from ai_admin.listing import Window, count
from ai_admin.operations import describe
from ai_admin.services import services
from ai_admin.sql import queries
from ai_admin.totals import Total
from ai_admin.users import directory
from ai_admin.users.schemas import Kind, Role, Status, UserFilter
from ai_admin.vault.registry import keys_in_use

_SQL = queries("console")
_DAYS = 14
_LAST = 8
_SOON = timedelta(days=30)
_MOST_KEYS = 8


@dataclass(frozen=True)
class Share:
    """A value of a member, and how many users have it."""

    value: str
    total: Total
    percent: float


@dataclass(frozen=True)
class Bar:
    """A day of the chart: how many users came, and the bar's place in a hundred units of height."""

    day: str
    total: Total
    height: float


@dataclass(frozen=True)
class Vault:
    """The key that seals, those that values are still to be rotated from, and those that are needed and do not open."""

    primary: str
    older: list[str]
    missing: list[str]


@console.get("/overview")
@describe("Overview", Scope.USERS_READ, answers={200: None}, errors=(DatabaseUnavailable,), page=True)
def show_overview() -> Response:
    """Counted as totals of the list are: exactly to 10,000, and estimated beyond."""
    with services().database.connection() as connection:
        total = _count(connection)
        members = {
            "status": _shares(connection, "status", Status),
            "role": _shares(connection, "role", Role),
            "kind": _shares(connection, "kind", Kind),
        }
        bars = _bars(connection)
        events = _last_events(connection) if holds(Scope.AUDIT_READ) else None
        keys = _expiring_keys(connection) if holds(Scope.KEYS_READ) else None
        vault = _vault(connection) if holds(Scope.SECRETS_READ) else None
        shown = {event[member] for event in events or () for member in ("actor", "target")}
        people = names(connection, shown | {key["user_id"] for key in keys or ()})
        facts = connection.execute(_SQL["overview"]).fetchone() if holds(Scope.AUDIT_READ) else None
    return page(
        "overview",
        total=total,
        members=members,
        bars=bars,
        events=events,
        keys=keys,
        vault=vault,
        people=people,
        facts=facts,
        days=_DAYS,
        soon=_SOON.days,
    )


def _count(connection: Connection, **asked: Any) -> Total:
    conditions = directory.conditions(UserFilter.model_validate(asked))
    return services().estimates.of(
        b"overview" + canonical(asked), lambda: count(connection, directory.LISTING, conditions)
    )


def _shares(connection: Connection, member: str, values: Iterable[Any]) -> list[Share]:
    totals = [(value.value, _count(connection, **{member: [value.value]})) for value in values]
    all_rows = sum(total.rows for _, total in totals) or 1
    return [Share(value, total, 100 * total.rows / all_rows) for value, total in totals]


def _bars(connection: Connection) -> list[Bar]:
    """The last two weeks, in days of UTC."""
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today - timedelta(days=back) for back in range(_DAYS - 1, -1, -1)]
    totals = []
    for day in days:
        spans = {"createdAt[gte]": day.isoformat(), "createdAt[lt]": (day + timedelta(days=1)).isoformat()}
        totals.append(_count(connection, **spans))
    highest = max(total.rows for total in totals) or 1
    return [
        Bar(day.date().isoformat(), total, 100 * total.rows / highest) for day, total in zip(days, totals, strict=True)
    ]


def _expiring_keys(connection: Connection) -> list[Row]:
    """Return the keys that end soonest, and one more where there are more. Only owners see the keys of owners."""
    roles = [role.value for role in Role if role != Role.OWNER or g.principal.role == Role.OWNER]
    values = {"within": _SOON, "most": _MOST_KEYS + 1, "roles": roles}
    return connection.execute(_SQL["expiring_keys"], values).fetchall()


def _vault(connection: Connection) -> Vault:
    ring = services().key_ring.current()
    used = keys_in_use(connection)
    closed = {name for name in used if (key := ring.find(name)) is None or key.state == "retired"}
    return Vault(ring.primary.id, sorted(used - closed - {ring.primary.id}), sorted(closed))


def _last_events(connection: Connection) -> list[dict[str, Any]]:
    return log.read(connection, EventFilter(), log.LISTING.orders["-at"], Window(_LAST)).rows
