"""Pages of a large table: any filter, any order, any depth, and never a scan of the whole.

A page is found in one of two ways.

- **Walk**: go along the order's index and keep the rows that match. Best where many match, unless they all
  stand at the far end of the order.
- **Seek**: collect the rows that match through the filter's own index and sort those. Best where few match.

A list begins with a short walk. Where that was in vain, it is found out about how many rows match.

- Of conditions on columns with an inverted index (GIN) the planner's statistics know next to nothing, so such columns
  have a second and a third index, on samples of the rows. Samples tell how many match. They also tell where the page
  ends at the latest: the rows of a sample that match are matches, so the twenty-first of them is a bound for a page of
  twenty. Then it is known what either way costs, and the cheaper one is taken.
- Of all others the planner knows enough to begin with. The walk goes on, each time `GROWTH` times as far, until it
  would cost as much as to seek all that match. An estimate that was too low is put right by the seek, which gives up
  at a budget of its own: statistics know nothing of two filters that go together.

A total is counted as far as `COUNTED`. An inverted index collects all its matches before it gives the first, so a
LIMIT does not make that cheap where very many match: what the samples show decides whether there is anything to count.
"""

# ruff: noqa: S608  the SQL here is put together from constants of this package; every value is a parameter

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ai_admin.cursors import Position
from ai_admin.database import Connection, Row
from ai_admin.filters import Condition, Conditions
from ai_admin.totals import Total

# Totals are counted up to here and estimated beyond.
COUNTED = 10_000
# Rows that the first walk looks at for each row of the page, and at most; 1,000 take about a millisecond.
STRETCH_PER_ROW = 200
LONGEST_FIRST_STRETCH = 10_000
# Matches that the first seek may collect in any case.
COLLECTED = 20_000
# From so many matches on it is worth a look at the sample to find out how far the page reaches.
MANY_TO_SORT = 5_000
# Each further attempt may look at so many times the rows of the one before.
GROWTH = 5
# What a match that is sought costs, in rows that are walked; an inverted index gives them in the order of the table,
# and most are put aside at a look where it is known how far the page reaches.
MATCH_COST = 2
BOUNDED_MATCH_COST = 0.4
# One row in so many is in the dense sample, and one in so many of those in the sparse one.
SAMPLED = 64
# With so many in the sparse sample it is precise enough, and what it stands for (127,000) far above all limits here.
ENOUGH_IN_SPARSE = 31
# Of 10,000 matches the dense sample holds 156, with a standard deviation of 12.4: more than 300, eleven deviations
# above, mean that there are more than `COUNTED`.
MANY = 300 * SAMPLED
# A condition that so many times more rows fulfil than another is better looked up in the rows than in its index.
FREQUENT = 5
# The planner's own names begin with `#`, which no column or alias of a listing has. With a plain name such as `key`,
# ORDER BY would take a listing's column of that name instead, and the list would be in the wrong order.
_MATCHED, _ORDER_KEY = "#matched", "#order_key"


@dataclass(frozen=True)
class Order:
    """An order of a list: the expression that an index begins with, its type, and whether it descends.

    `blocks` is put around the expression where an index has its range in each block of the table. No other condition
    has that form, since such an index names whole blocks: a good bound, and a bad one where most blocks are within.
    """

    expression: str
    type: str
    descending: bool
    blocks: str = "{}"

    @property
    def sql(self) -> str:
        """For ORDER BY; the id makes it total, so that no row stands on two pages (litellm #15762)."""
        return self.by(self.expression, "id")

    def by(self, key: str, row_id: str) -> str:
        """Return the same order for ORDER BY, of rows whose key and id have these names."""
        direction = "DESC" if self.descending else "ASC"
        return f"{key} {direction}, {row_id} {direction}"


@dataclass(frozen=True)
class Listing:
    """A table that can be listed: its name, its columns as the answer names them, and its orders by name.

    `gathered` are the columns with an inverted index, each with further ones on the rows of the samples `dense` and
    `sparse`: conditions on random bits of the id (RFC 9562, 5.7), which no property of a row goes together with.
    """

    table: str
    columns: str
    orders: Mapping[str, Order]
    gathered: frozenset[str] = frozenset({"words", "attributes"})
    dense: str = "get_byte(uuid_send(id), 15) & 63 = 0"
    sparse: str = "get_byte(uuid_send(id), 15) & 63 = 0 AND get_byte(uuid_send(id), 14) & 63 = 0"

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


def fetch_page(connection: Connection, listing: Listing, conditions: Conditions, order: Order, window: Window) -> Page:
    """One page of the list: mostly one query, a few more where few rows match or all stand far off."""
    query = _Query(listing, conditions, order, window)
    rows = _find(connection, query)
    page = rows[: window.size]
    keys = [row.pop(_ORDER_KEY) for row in page]
    if not page:
        return Page(page, None)
    first, last = (Position(keys[at], str(page[at]["id"])) for at in (0, -1))
    return Page(page, last if len(rows) > window.size else None, (first, last))


def count(connection: Connection, listing: Listing, conditions: Conditions) -> Total:
    """How many rows match, counted to `COUNTED`, and estimated beyond: by the samples, or else by the planner."""
    items = _scarce(connection, listing, conditions)
    gathers = listing.gathers(items)
    sampled = _in_samples(connection, listing, items, conditions) if gathers else 0
    rows = COUNTED + 1
    if sampled <= MANY:
        matches = _matches(listing, items, COUNTED + 1)
        rows = _number(connection, f"SELECT count(*) AS rows FROM ({matches}) AS counted", conditions)
    if rows <= COUNTED:
        return Total(rows, is_estimate=False)
    return Total(max(rows, sampled if gathers else _estimate(connection, listing, conditions)), is_estimate=True)


def _in_samples(connection: Connection, listing: Listing, items: list[Condition], conditions: Conditions) -> int:
    """About how many rows match: by the sparse sample where that has enough of them, and else by the dense one."""
    if conditions.sampled is not None:
        return conditions.sampled
    sparse, dense = (
        f"SELECT count(*) FROM {listing.table} {_where([*items, Condition('id', sample)])}"
        for sample in (listing.sparse, listing.dense)
    )
    rows = f"""
        SELECT CASE WHEN sparse.count < {ENOUGH_IN_SPARSE} THEN ({dense}) * {SAMPLED}
            ELSE sparse.count * {SAMPLED**2} END AS rows
        FROM ({sparse}) AS sparse
    """
    conditions.sampled = _number(connection, rows, conditions)
    return conditions.sampled


def _number(connection: Connection, sql: str, conditions: Conditions) -> int:
    counted = connection.execute(sql, conditions.values, prepare=False).fetchone()
    assert counted is not None, "an aggregate always has a row"
    return int(counted["rows"])


def _matches(listing: Listing, items: list[Condition], most: int) -> str:
    """Rows that match, so many at most and no matter which; through an index."""
    rows = f"SELECT FROM {listing.table} {_where(items)}"
    if listing.gathers(items) or any(item.pinpoint for item in items):
        # Probably all are wanted: materialized, so that the planner chooses as if they were.
        return f'WITH "#matches" AS MATERIALIZED ({rows}) SELECT FROM "#matches" LIMIT {most}'
    # Along the index of a range: with a LIMIT alone the planner would hope to meet matches early in the table.
    ordered = {order.expression for order in listing.orders.values()}
    along = next((f"ORDER BY {item.column}" for item in items if item.column in ordered), "")
    return f"{rows} {along} LIMIT {most}"


def _scarce(connection: Connection, listing: Listing, conditions: Conditions) -> list[Condition]:
    """The conditions, of which only the scarce ones on gathered columns go through their index.

    Who looks for `ada@example.com` asks for three words, and two of them stand in every row: their lists of rows
    cost more than all else. The planner's estimates are good enough to tell those.
    """
    if conditions.scarce is None:
        conditions.scarce = _without_frequent(connection, listing, conditions)
    return conditions.scarce


def _without_frequent(connection: Connection, listing: Listing, conditions: Conditions) -> list[Condition]:
    gathered = [item for item in conditions.items if item.column in listing.gathered]
    if len(gathered) <= 1:
        return conditions.items
    tests = ", ".join(f"EXISTS (SELECT FROM {listing.table} WHERE {item.sql})" for item in gathered)
    plan = _plan(connection, f"SELECT {tests}", conditions)
    rows = dict(zip(gathered, [test["Plan Rows"] for test in plan["Plans"]], strict=True))
    frequent = {item for item in gathered if rows[item] > FREQUENT * min(rows.values())}
    return [_unindexed(item) if item in frequent else item for item in conditions.items]


def _unindexed(item: Condition) -> Condition:
    """The condition in a form that no index serves, so that it is looked up in the rows."""
    return replace(item, sql=f"({item.sql}) IS TRUE")


def _estimate(connection: Connection, listing: Listing, conditions: Conditions) -> int:
    return int(_plan(connection, f"SELECT FROM {listing.table} {_where(conditions.items)}", conditions)["Plan Rows"])


def _plan(connection: Connection, sql: str, asked: "Conditions | _Query") -> dict[str, Any]:
    plan = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}", asked.values, prepare=False).fetchone()
    assert plan is not None, "EXPLAIN always answers"
    root: dict[str, Any] = plan["QUERY PLAN"][0]["Plan"]
    return root


def _find(connection: Connection, query: "_Query") -> list[Row]:
    """The rows of the page, and one more where there are more."""
    if not query.pinpointed:
        rows, _ = _run(connection, query.walk(query.first_stretch), query, is_walk=True)
        if len(rows) > query.window.size or query.walk_is_exact:
            return rows
    scarce = _scarce(connection, query.listing, query.conditions)
    if query.listing.gathers(scarce) and not query.pinpointed:
        return _find_by_sample(connection, query, scarce)
    return _find_by_estimate(connection, query, scarce)


def _find_by_sample(connection: Connection, query: "_Query", items: list[Condition]) -> list[Row]:
    """The same where an inverted index is to be asked, by the cheaper of both ways."""
    matches = _in_samples(connection, query.listing, items, query.conditions)
    if matches > MANY_TO_SORT:
        is_bounded = _has_bound(connection, query, items)
        is_walk = _stretch(connection, query) < matches * BOUNDED_MATCH_COST
        sql = query.walk_to_bound() if is_walk else query.seek(items, None)
        rows, _ = _run(connection, sql, query, is_walk=is_walk)
        # What was a match when the bound was found can be gone by now; then there is no telling what lies behind it.
        if len(rows) > query.window.size or not is_bounded:
            return rows
        query.has_bound = False
    return _run(connection, query.seek(items, None), query)[0]


def _has_bound(connection: Connection, query: "_Query", items: list[Condition]) -> bool:
    """Look where the page ends at the latest. That cannot be told where too few of the sample match."""
    row = connection.execute(query.last_in_sample(items), query.values, prepare=False).fetchone()
    if row:
        query.bound_at(row["bound"])
    return query.has_bound


def _stretch(connection: Connection, query: "_Query") -> int:
    """About how many rows the order has from where the page begins to where it ends at the latest."""
    sql = f"SELECT FROM {query.listing.table} {_where(query.stretch)}"
    return int(_plan(connection, sql, query)["Plan Rows"])


def _find_by_estimate(connection: Connection, query: "_Query", items: list[Condition]) -> list[Row]:
    """The same where the planner can tell about how many rows match, and is corrected where it is wrong."""
    stretch = query.first_stretch
    # What it costs to seek all matches, about, in rows that are walked; a seek that gave up has found more than these.
    expected = 0
    if not query.pinpointed:
        expected = _estimate(connection, query.listing, query.conditions) * MATCH_COST
    proved = 0
    while True:
        stretch *= GROWTH
        if query.pinpointed or max(proved, expected) <= stretch:
            budget = max(COLLECTED, query.wanted, stretch * GROWTH)
            rows, matched = _run(connection, query.seek(items, budget), query)
            if matched <= budget:
                return rows
            proved = matched
        else:
            rows, _ = _run(connection, query.walk(stretch), query, is_walk=True)
            if len(rows) > query.window.size:
                return rows


def _run(connection: Connection, sql: str, query: "_Query", *, is_walk: bool = False) -> tuple[list[Row], int]:
    """The rows, and how many were collected; 0 where there are no rows: then the page is behind the last match."""
    # A seek is planned each time, with its own values. A walk goes along its order whatever they are, and planning it
    # takes longer than walking: psycopg prepares what comes often.
    rows = connection.execute(sql, query.values, prepare=None if is_walk else False).fetchall()
    return rows, max((row.pop(_MATCHED) for row in rows), default=0)


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
        self.has_bound = False

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

    def bound_at(self, key: str) -> None:
        """No row of the page stands behind this key."""
        self.values["bound"] = key
        self.has_bound = True

    def _bound(self, blocks: str = "{}") -> list[Condition]:
        relation = ">=" if self._order.descending else "<="
        key = blocks.format(f"%(bound)s::{self._order.type}")
        sql = f"{blocks.format(self._order.expression)} {relation} {key}"
        return [Condition(self._order.expression, sql)] if self.has_bound else []

    @property
    def stretch(self) -> list[Condition]:
        """What the order's own index can tell of where the page can be."""
        return [*self._along, *self._start, *self._bound()]

    def walk(self, budget: int) -> str:
        """The page among the next so many rows of the order."""
        stretch = f"""
            SELECT {self._order.expression} AS "#key", *
            FROM {self.listing.table} {_where(self.stretch)}
            ORDER BY {self._order.sql} LIMIT {budget}
        """
        rows = f'SELECT "#key", id FROM ({stretch}) AS "#stretch" {_where(self._across)}'
        return self._page(f'"#found" AS ({rows})', "0")

    def walk_to_bound(self) -> str:
        """The page along the order as far as the bound: the planner knows that only the page is wanted."""
        across = map(_unindexed, self._across)
        return self._page(f'"#found" AS ({self._keys([*self.stretch, *across])})', "0")

    def seek(self, items: list[Condition], budget: int | None) -> str:
        """The page among all matches of the conditions as far as the bound.

        With a budget among so many of them and one more: `matched` tells whether those were all. They are
        materialized, so that the planner chooses as if all were wanted.
        """
        matches = self._matches([*items, *self._start, *self._bound(self._order.blocks)])
        if budget is None:
            return self._page(f'{matches}, "#found" AS (SELECT * FROM "#matches")', "0")
        found = f'"#found" AS NOT MATERIALIZED (SELECT * FROM "#matches" LIMIT {budget + 1})'
        return self._page(f"{matches}, {found}", '(SELECT count(*) FROM "#found")')

    def last_in_sample(self, items: list[Condition]) -> str:
        """The key of the match in the sample that stands where the page and one more row would end."""
        # Materialized, or the planner would walk along the order for so few, past all that stands before them.
        matches = self._matches([*items, *self._start, Condition("id", self.listing.dense)])
        order = self._order.by('"#matches"."#key"', '"#matches".id')
        return f"""
            WITH {matches}
            SELECT "#key"::text AS bound FROM "#matches" ORDER BY {order} LIMIT 1 OFFSET {self.wanted - 1}
        """

    def _matches(self, conditions: list[Condition]) -> str:
        """The rows that fulfil the conditions, by key and id, as if all were wanted."""
        return f'"#matches" AS MATERIALIZED ({self._keys(conditions)})'

    def _keys(self, conditions: list[Condition]) -> str:
        return f'SELECT {self._order.expression} AS "#key", id FROM {self.listing.table} {_where(conditions)}'

    def _page(self, found: str, matched: str) -> str:
        """Sort what was found; only the rows of the page are read whole. One row more tells of a next page."""
        order = self._order.by('"#found"."#key"', '"#found".id')
        limit = f"LIMIT {self.window.size + 1} OFFSET {self.window.offset}"
        return f"""
            WITH {found},
                "#page" AS (SELECT "#key", id, {matched} AS "#matched" FROM "#found" ORDER BY {order} {limit})
            SELECT {self.listing.columns}, "#key"::text AS "#order_key", "#matched"
            FROM "#page" JOIN {self.listing.table} USING (id)
            ORDER BY {self._order.by('"#page"."#key"', '"#page".id')}
        """
