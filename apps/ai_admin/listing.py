"""Pages of a large table: any filter, any order, any depth, and never a scan of the whole.

A page is found in one of two ways.

- **Walk**: go along the order's index and keep the rows that match. Best where many match, unless they all
  stand at the far end of the order.
- **Seek**: collect the rows that match through the filter's own index and sort those. Best where few match.

A list begins with a short walk. Where that was in vain, it is found out about how many rows match; then the walk
goes on, each time `GROWTH` times as far, until it would cost as much as to seek all of those. Whatever the data, the
cost stays within a small factor of the cheaper way. An estimate that was too low is put right by the seek, which
gives up at a budget of its own: the planner's statistics know nothing of two filters that go together.

A total is counted as far as `COUNTED`. An inverted index (GIN) collects all its matches before it gives the
first, so a LIMIT does not make that cheap where very many match. Such columns have a second index, on a
sample of the rows; what the sample shows decides whether there is anything to count.
"""

# ruff: noqa: S608  the SQL here is put together from constants of this package; every value is a parameter

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from ai_admin.cursors import Position
from ai_admin.database import Connection, Row
from ai_admin.filters import Condition, Conditions

# Totals are counted up to here and estimated beyond.
COUNTED = 10_000
# Rows that the first walk looks at for each row of the page, and at most; 1,000 take about a millisecond.
STRETCH_PER_ROW = 200
LONGEST_FIRST_STRETCH = 10_000
# Matches that the first seek may collect in any case.
COLLECTED = 20_000
# Each further attempt may look at so many times the rows of the one before.
GROWTH = 5
# What a match that is sought costs, in rows that are walked; an inverted index gives them in the order of the table.
MATCH_COST = 2
GATHERED_MATCH_COST = 0.75
# One row in so many is in the sample. Of 10,000 matches the sample holds 156, with a standard deviation of 12.4:
# more than 300, eleven deviations above, mean that there are more than `COUNTED`.
SAMPLED = 64
MANY_IN_SAMPLE = 300
# A condition that so many times more rows fulfil than another is better looked up in the rows than in its index.
FREQUENT = 5
# Seconds that an estimate is remembered, and of how many lists.
_REMEMBERED_S = 10
_MOST_REMEMBERED = 1_000


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
    """A table that can be listed: its name, its columns as the answer names them, and its orders by name.

    `gathered` are the columns with an inverted index, each with a second one on the rows of `sample`: a condition
    on random bits of the id (RFC 9562, 5.7), which no property of a row goes together with.
    """

    table: str
    columns: str
    orders: Mapping[str, Order]
    gathered: frozenset[str] = frozenset({"words", "attributes"})
    sample: str = "get_byte(uuid_send(id), 15) & 63 = 0"

    def gathers(self, items: Iterable[Condition]) -> bool:
        """Whether any of the conditions has an inverted index."""
        return any(item.column in self.gathered for item in items)


@dataclass(frozen=True)
class Window:
    """Which rows of the list: `size` of them after a position, or after so many rows."""

    size: int
    offset: int = 0
    after: Position | None = None


@dataclass(frozen=True)
class Page:
    """Rows in order, the position of the last one where there are more, and of the first and the last in any case."""

    rows: list[Row]
    last: Position | None
    ends: tuple[Position, Position] | None = None


@dataclass(frozen=True)
class Total:
    """How many rows match; an estimate where there are more than `COUNTED`."""

    rows: int
    is_estimate: bool


def fetch_page(connection: Connection, listing: Listing, conditions: Conditions, order: Order, window: Window) -> Page:
    """One page of the list: mostly one query, two where few rows match, a few more where rows hide from both."""
    query = _Query(listing, conditions, order, window)
    rows = _find(connection, query)
    page = rows[: window.size]
    keys = [row.pop("order_key") for row in page]
    if not page:
        return Page(page, None)
    first, last = (Position(keys[at], str(page[at]["id"])) for at in (0, -1))
    return Page(page, last if len(rows) > window.size else None, (first, last))


def count(connection: Connection, listing: Listing, conditions: Conditions) -> Total:
    """How many rows match, counted to `COUNTED` and estimated by the planner beyond."""
    items = _scarce(connection, listing, conditions)
    many = MANY_IN_SAMPLE + 1
    if listing.gathers(items) and _in_sample(connection, listing, items, conditions, many) == many:
        rows = COUNTED + 1
    else:
        rows = _count(connection, _matches(listing, "", items, COUNTED + 1), conditions)
    if rows <= COUNTED:
        return Total(rows, is_estimate=False)
    return Total(max(rows, _estimate(connection, listing, conditions)), is_estimate=True)


class Estimates:
    """Estimated totals of lists that were asked for just now: who pages through many rows has them counted once.

    Only what is an estimate anyway is remembered, for a few seconds; a total that is exact is counted each time.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, tuple[float, Total]] = OrderedDict()
        self._lock = Lock()

    def of(self, asked: bytes, find: Callable[[], Total]) -> Total:
        """What is remembered of a list, or what `find` counts; `asked` is all that the list depends on."""
        now = time.monotonic()
        until, total = self._found.get(asked, (now, None))
        if total is not None and until > now:
            return total
        total = find()
        if total.is_estimate:
            with self._lock:
                self._found.pop(asked, None)
                self._found[asked] = (now + _REMEMBERED_S, total)
                if len(self._found) > _MOST_REMEMBERED:
                    self._found.popitem(last=False)
        return total


def _in_sample(
    connection: Connection, listing: Listing, items: list[Condition], conditions: Conditions, most: int
) -> int:
    sampled = [*items, Condition("id", listing.sample)]
    return _count(connection, _matches(listing, "", sampled, most), conditions)


def _count(connection: Connection, rows: str, conditions: Conditions) -> int:
    sql = f"SELECT count(*) AS rows FROM ({rows}) AS counted"
    counted = connection.execute(sql, conditions.values, prepare=False).fetchone()
    assert counted is not None, "an aggregate always has a row"
    return int(counted["rows"])


def _matches(listing: Listing, columns: str, items: list[Condition], most: int) -> str:
    """These columns of rows that match, so many at most and no matter which; through an index."""
    if listing.gathers(items) or any(item.pinpoint for item in items):
        return _all_matches(listing, columns, items, most)
    # Along the index of a range: with a LIMIT alone the planner would hope to meet matches early in the table.
    ordered = {order.expression for order in listing.orders.values()}
    along = next((f"ORDER BY {item.column}" for item in items if item.column in ordered), "")
    return f"SELECT {columns} FROM {listing.table} {_where(items)} {along} LIMIT {most}"


def _all_matches(listing: Listing, columns: str, items: list[Condition], most: int) -> str:
    """The same where probably all are wanted: materialized, so that the planner chooses as if they were."""
    rows = f"SELECT {columns} FROM {listing.table} {_where(items)}"
    return f"WITH matches AS MATERIALIZED ({rows}) SELECT * FROM matches LIMIT {most}"


def _scarce(connection: Connection, listing: Listing, conditions: Conditions) -> list[Condition]:
    """The conditions, of which only the scarce ones on gathered columns go through their index.

    Who looks for `ada@example.com` asks for three words, and two of them stand in every row: their lists of rows
    cost more than all else. The planner's estimates are good enough to tell those.
    """
    gathered = [item for item in conditions.items if item.column in listing.gathered]
    if len(gathered) <= 1:
        return conditions.items
    tests = ", ".join(f"EXISTS (SELECT FROM {listing.table} WHERE {item.sql})" for item in gathered)
    plan = _plan(connection, f"SELECT {tests}", conditions)
    rows = dict(zip(gathered, [test["Plan Rows"] for test in plan["Plans"]], strict=True))
    frequent = {item for item in gathered if rows[item] > FREQUENT * min(rows.values())}
    # No index serves this form.
    return [replace(item, sql=f"({item.sql}) IS TRUE") if item in frequent else item for item in conditions.items]


def _estimate(connection: Connection, listing: Listing, conditions: Conditions) -> int:
    return int(_plan(connection, f"SELECT FROM {listing.table} {_where(conditions.items)}", conditions)["Plan Rows"])


def _plan(connection: Connection, sql: str, conditions: Conditions) -> dict[str, Any]:
    plan = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}", conditions.values, prepare=False).fetchone()
    assert plan is not None, "EXPLAIN always answers"
    root: dict[str, Any] = plan["QUERY PLAN"][0]["Plan"]
    return root


def _find(connection: Connection, query: "_Query") -> list[Row]:
    """The rows of the page, and one more where there are more."""
    stretch = query.first_stretch
    if not query.pinpointed:
        rows, _ = _run(connection, query.walk(stretch), query, is_walk=True)
        if len(rows) > query.window.size or query.walk_is_exact:
            return rows
    scarce = _scarce(connection, query.listing, query.conditions)
    gathers = query.listing.gathers(scarce)
    # What it costs to seek all matches, about, in rows that are walked; a seek that gave up has found more than these.
    expected = 0.0
    if not (query.pinpointed or gathers):
        expected = _estimate(connection, query.listing, query.conditions) * MATCH_COST
    proved = 0
    while True:
        stretch *= GROWTH
        if gathers and not query.pinpointed:
            expected = _cost_in_sample(connection, query, scarce, stretch)
        if query.pinpointed or max(proved, expected) <= stretch:
            budget = max(COLLECTED, query.wanted, stretch * GROWTH)
            rows, matched = _run(connection, query.seek(scarce, budget), query)
            if matched <= budget:
                return rows
            proved = matched
        else:
            rows, _ = _run(connection, query.walk(stretch), query, is_walk=True)
            if len(rows) > query.window.size:
                return rows


def _cost_in_sample(connection: Connection, query: "_Query", items: list[Condition], most: int) -> float:
    """What the sample says that a seek costs: the planner knows nothing of how many words begin with some letters.

    More than `most` is as good as any more.
    """
    match_cost = SAMPLED * GATHERED_MATCH_COST
    return _in_sample(connection, query.listing, items, query.conditions, int(most / match_cost) + 1) * match_cost


def _run(connection: Connection, sql: str, query: "_Query", *, is_walk: bool = False) -> tuple[list[Row], int]:
    """The rows, and how many were collected; 0 where there are no rows: then the page is behind the last match."""
    # A seek is planned each time, with its own values. A walk goes along its order whatever they are, and planning it
    # takes longer than walking: psycopg prepares what comes often.
    rows = connection.execute(sql, query.values, prepare=None if is_walk else False).fetchall()
    return rows, max((row.pop("matched") for row in rows), default=0)


def _where(items: list[Condition]) -> str:
    return "WHERE " + " AND ".join(item.sql for item in items) if items else ""


class _Query:
    """The SQL of one page."""

    def __init__(self, listing: Listing, conditions: Conditions, order: Order, window: Window) -> None:
        self.listing = listing
        self.conditions = conditions
        self._order = order
        self.window = window
        # What the order's own index can apply, and what must be looked up in the row.
        self._along = [item for item in conditions.items + conditions.implied if item.column == order.expression]
        self._across = [item for item in conditions.items if item.column != order.expression]
        self.values = dict(conditions.values)
        self._start = [self._after(window.after)] if window.after else []
        self.pinpointed = any(item.pinpoint for item in conditions.items)
        self.walk_is_exact = not self._across and not self.pinpointed

    def _after(self, position: Position) -> Condition:
        self.values["after_key"], self.values["after_id"] = position.key, position.id
        relation = "<" if self._order.descending else ">"
        key = f"%(after_key)s::{self._order.type}"
        return Condition(
            self._order.expression, f"({self._order.expression}, id) {relation} ({key}, %(after_id)s::uuid)"
        )

    @property
    def wanted(self) -> int:
        """Rows to the end of the page, and the one that tells of a next page."""
        return self.window.offset + self.window.size + 1

    @property
    def first_stretch(self) -> int:
        """How many rows the first walk may look at."""
        return min(self.wanted * STRETCH_PER_ROW, LONGEST_FIRST_STRETCH + self.wanted)

    def walk(self, budget: int) -> str:
        """The page among the next so many rows of the order."""
        stretch = f"""
            SELECT {self._order.expression} AS key, *
            FROM {self.listing.table} {_where(self._along + self._start)}
            ORDER BY {self._order.sql} LIMIT {budget}
        """
        return self._page(f"found AS (SELECT key, id FROM ({stretch}) AS stretch {_where(self._across)})", "0")

    def seek(self, items: list[Condition], budget: int) -> str:
        """The page among so many matches of the conditions, and one more: `matched` tells whether those were all."""
        columns = f"{self._order.expression} AS key, id"
        matches = _all_matches(self.listing, columns, items + self._start, budget + 1)
        return self._page(f"found AS MATERIALIZED ({matches})", "(SELECT count(*) FROM found)")

    def _page(self, found: str, matched: str) -> str:
        """Sort what was found; only the rows of the page are read whole. One row more tells of a next page."""
        order = replace(self._order, expression="key").sql
        limit = f"LIMIT {self.window.size + 1} OFFSET {self.window.offset}"
        return f"""
            WITH {found},
                page AS (SELECT key, id, {matched} AS matched FROM found ORDER BY {order} {limit})
            SELECT {self.listing.columns}, key::text AS order_key, matched
            FROM page JOIN {self.listing.table} USING (id)
            ORDER BY {order}
        """
