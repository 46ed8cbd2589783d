"""Reading the audit log: pages of events, with what was sealed under a person's key where that key still exists."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from ai_admin.audit import events
from ai_admin.audit.schemas import EventFilter
from ai_admin.database import Connection, Row
from ai_admin.filters import Conditions
from ai_admin.listing import Listing, Order, Page, Window, fetch_page
from ai_admin.sql import queries

_SQL = queries("audit")
LISTING = Listing(
    table="audit_events",
    columns="id, at, action, actor_id AS actor, key_id AS key, target_id AS target, changes, personal, "
    'request_id AS "requestId", source',
    orders={"at": Order("at", "timestamptz", descending=False), "-at": Order("at", "timestamptz", descending=True)},
    gathered=frozenset(),
)


def read(connection: Connection, asked: EventFilter, order: Order, window: Window) -> Page:
    """A page of events as callers see them."""
    page = fetch_page(connection, LISTING, _conditions(asked), order, window)
    return Page(list(_shown(connection, page.rows)), page.last, page.ends)


def _conditions(asked: EventFilter) -> Conditions:
    chosen = Conditions()
    chosen.any_of("actor_id", asked.actor)
    chosen.any_of("target_id", asked.target)
    chosen.any_of("key_id", asked.key)
    chosen.any_of("request_id", asked.request_id)
    chosen.any_of("action", asked.action and [action.value for action in asked.action])
    for operator, value in ((">=", asked.at_gte), (">", asked.at_gt), ("<=", asked.at_lte), ("<", asked.at_lt)):
        chosen.compare("at", operator, value)
    chosen.close_ranges()
    return chosen


def _shown(connection: Connection, rows: list[Row]) -> Iterable[Row]:
    people = {row[member] for row in rows for member in ("actor", "target")} - {None}
    keys = {row["id"]: row["audit_key"] for row in connection.execute(_SQL["audit_keys"], {"ids": list(people)})}
    seals = _seals(connection, [row["id"] for row in rows])
    for row in rows:
        personal = row.pop("personal")
        if personal is not None:
            row["changes"] = {**_members(row, personal, keys), **row["changes"]}
        row["source"] = _source(row, keys)
        row["seal"] = seals.get(row["id"])
        yield row


def _members(row: Row, personal: bytes, keys: dict[UUID, bytes]) -> dict[str, Any]:
    if row["target"] not in keys:
        return {"erased": True}
    opened = events.opened(row["id"], keys[row["target"]], personal)
    if opened is None:
        # `ai-admin audit verify` finds that the key was lost or exchanged.
        return {"unreadable": True}
    members: dict[str, Any] = opened
    return members


def _source(row: Row, keys: dict[UUID, bytes]) -> str | None:
    if row["source"] is None:
        return None
    if row["actor"] is None:
        return str(row["source"], "utf-8")
    source: str | None = events.opened(row["id"], keys.get(row["actor"]), row["source"])
    return source


def _seals(connection: Connection, ids: list[UUID]) -> dict[UUID, int]:
    """The number of the seal of each event that has one."""
    with connection.transaction():
        connection.execute(_SQL["by_index"])
        return {row["event_id"]: row["number"] for row in connection.execute(_SQL["sealed"], {"ids": ids})}
