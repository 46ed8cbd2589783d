"""Pages of a large table: any filter, any order, any depth, and never a scan of the whole.

A page is found in one of two ways.

- **Walk**: go along the order's index and keep the rows that match. Best where many match, and a disaster
  where few do, so a walk looks at `STRETCH` rows at most.
- **Seek**: collect the rows that match through the filter's own index and sort those. Best where few match.

A list walks first and seeks where the walk did not fill the page: the rows tell which way is the cheap one,
not the planner's statistics, which know nothing of a prefix or of two filters that exclude each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ai_admin.cursors import Position
from ai_admin.database import Connection, Row
from ai_admin.filters import Condition, Conditions
from ai_admin.sql import queries

# Rows that a walk looks at before the list turns to a seek; about a millisecond's worth.
STRETCH = 2000
# Totals are counted up to here and estimated beyond.
COUNTED = 10_000

_SQL = queries("service")


@dataclass(frozen=True)
class Order:
    """An order of a list: the expression that an index begins with, its type, and whether it descends."""

    expression: str
    type: str
    descending: bool

    @property
    def sql(self) -> str:
        """For ORDER BY; the id makes it total, so that no row stands on two pages (litellm #15762)."""
        direction = "DESC" if self.descending else "ASC"
        return f"{self.expression} {direction}, id {direction}"


@dataclass(frozen=True)
class Listing:
    """A table that can be listed: its name, its columns as the answer names them, and its orders by name."""

    table: str
    columns: str
    orders: Mapping[str, Order]


@dataclass(frozen=True)
class Window:
    """Which rows of the list: `size` of them after a position, or after so many rows."""

    size: int
    offset: int = 0
    after: Position | None = None


@dataclass(frozen=True)
class Page:
    """Rows in order, and the position of the last one where there are more."""

    rows: list[Row]
    last: Position | None


@dataclass(frozen=True)
class Total:
    """How many rows match; an estimate where there are more than `COUNTED`."""

    rows: int
    is_estimate: bool


def fetch_page(
    connection: Connection, listing: Listing, conditions: Conditions, order: Order, window: Window
) -> Page:
    """One page of the list, in at most two queries."""
    query = _Query(listing, conditions, order, window)
    rows = [] if query.pinpointed else _run(connection, query.walk(), query)
    if len(rows) <= window.size and not query.walk_is_exact:
        rows = _run(connection, query.seek(), query)
    last = None
    if len(rows) > window.size:
        last = Position(rows[window.size - 1]["order_key"], str(rows[window.size - 1]["id"]))
    page = rows[: window.size]
    for row in page:
        del row["order_key"]
    return Page(page, last)


def count(connection: Connection, listing: Listing, conditions: Conditions) -> Total:
    """How many rows match, counted to `COUNTED` and estimated by the planner beyond."""
    where = _where(conditions.items)
    counted = connection.execute(
        f"SELECT count(*) AS rows FROM (SELECT FROM {listing.table} {where} LIMIT {COUNTED + 1}) AS counted",  # noqa: S608  constants of this package
        conditions.values,
        prepare=False,
    ).fetchone()
    assert counted is not None  # noqa: S101  an aggregate always has a row
    if counted["rows"] <= COUNTED:
        return Total(counted["rows"], is_estimate=False)
    return Total(max(COUNTED + 1, _estimate(connection, listing, conditions)), is_estimate=True)


def _estimate(connection: Connection, listing: Listing, conditions: Conditions) -> int:
    plan = connection.execute(
        f"EXPLAIN (FORMAT JSON) SELECT FROM {listing.table} {_where(conditions.items)}",  # noqa: S608  constants
        conditions.values,
        prepare=False,
    ).fetchone()
    assert plan is not None  # noqa: S101  EXPLAIN always answers
    return int(plan["QUERY PLAN"][0]["Plan"]["Plan Rows"])


def _run(connection: Connection, sql: str, query: "_Query") -> list[Row]:
    # Not prepared: each execution is planned with its own values.
    return connection.execute(sql, query.values, prepare=False).fetchall()


def _where(items: list[Condition]) -> str:
    return "WHERE " + " AND ".join(item.sql for item in items) if items else ""


class _Query:
    """The SQL of one page."""

    def __init__(self, listing: Listing, conditions: Conditions, order: Order, window: Window) -> None:
        self._listing = listing
        self._order = order
        self._window = window
        # What the order's own index can apply, and what must be looked up in the row.
        self._along = [item for item in conditions.items if item.column == order.expression]
        self._across = [item for item in conditions.items if item.column != order.expression]
        self.values = dict(conditions.values)
        if window.after:
            self._along.append(self._after(window.after))
        self.pinpointed = any(item.pinpoint for item in conditions.items)
        self.walk_is_exact = not self._across and not self.pinpointed
        self._select = f"{listing.columns}, {order.expression}::text AS order_key"

    def _after(self, position: Position) -> Condition:
        self.values["after_key"], self.values["after_id"] = position.key, position.id
        relation = "<" if self._order.descending else ">"
        key = f"%(after_key)s::{self._order.type}"
        return Condition(
            self._order.expression, f"({self._order.expression}, id) {relation} ({key}, %(after_id)s::uuid)"
        )

    @property
    def _limit(self) -> str:
        # One more than the page, to know whether there is a next one.
        return f"LIMIT {self._window.size + 1} OFFSET {self._window.offset}"

    def walk(self) -> str:
        table, along, order = self._listing.table, _where(self._along), self._order.sql
        if self.walk_is_exact:
            return f"SELECT {self._select} FROM {table} {along} ORDER BY {order} {self._limit}"  # noqa: S608  constants
        stretch = f"SELECT * FROM {table} {along} ORDER BY {order} LIMIT {STRETCH + self._window.offset}"  # noqa: S608  constants
        across = _where(self._across)
        return f"SELECT {self._select} FROM ({stretch}) AS stretch {across} ORDER BY {order} {self._limit}"  # noqa: S608  constants

    def seek(self) -> str:
        # OFFSET 0 keeps the planner from taking the LIMIT as a reason to walk after all.
        matches = f"SELECT * FROM {self._listing.table} {_where(self._along + self._across)} OFFSET 0"  # noqa: S608  constants
        return f"SELECT {self._select} FROM ({matches}) AS matches ORDER BY {self._order.sql} {self._limit}"  # noqa: S608  constants
