"""The audit log's list as its readers walk it: events of many keys and of strangers, many of them at one time."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

import httpx
import psycopg
import pytest
from typer.testing import CliRunner
from uuid_utils.compat import uuid7

from ai_admin.audit import log
from ai_admin.cli import app
from ai_admin.client.api import KEY_FILE_VARIABLE, URL_VARIABLE
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.filters import Conditions
from ai_admin.listing import Listing, Order, Window, fetch_page
from ai_admin.users import directory
from tests.conftest import OWNER_KEY
from tests.integration.test_console import Browser, browser, owner

__all__ = ["browser", "owner"]
from tests.serving import serving

AUDIT = "/ai/admin/audit"
NUMBER = 151
KEYS = [uuid7() for _ in range(5)]
CALLERS = [uuid7() for _ in range(3)]


@pytest.fixture
def events(sql: psycopg.Connection) -> list[str]:
    """Fill the log; return the ids of its events, oldest first."""
    return write(sql, NUMBER)


def write(sql: psycopg.Connection, number: int, day: int = 1) -> list[str]:
    """Write events of five keys, three callers and strangers at eleven times of a day; return their ids in order."""
    chance = random.Random(number)
    rows = []
    for _ in range(number):
        is_stranger = chance.random() < 0.3
        at = f"2026-01-{day:02}T00:00:{chance.randrange(11):02}Z"
        actor, key = (None, None) if is_stranger else (chance.choice(CALLERS), chance.choice(KEYS))
        rows.append((uuid7(), at, actor, key))
    # The order in which rows come, that of their ids and that of their times differ.
    chance.shuffle(rows)
    for event_id, at, actor, key in rows:
        mark = json.dumps({"reason": f"event {event_id}"})
        sql.execute(
            """
            INSERT INTO audit_events (id, at, actor_id, key_id, action, changes, request_id)
            VALUES (%s, %s, %s, %s, 'access:refuse', %s, 'request')
            """,
            [event_id, at, actor, key, mark],
        )
    return [str(event_id) for event_id, _ in sorted(((row[0], row[1]) for row in rows), key=lambda row: row[::-1])]


def walked(api: httpx.Client, sort: str, size: int, actors: Sequence[UUID] = ()) -> Iterator[list[str]]:
    """The ids on each page of the list, which `nextCursor` leads through."""
    query = [("sort", sort), ("size", str(size)), ("action", "access:refuse")]
    query += [("actor", str(actor)) for actor in actors]
    cursor: list[tuple[str, str]] | None = []
    while cursor is not None:
        answer = api.get(f"{AUDIT}?{urlencode([*query, *cursor])}").json()
        yield [event["id"] for event in answer["data"]]
        cursor = [("cursor", answer["nextCursor"])] if answer["nextCursor"] else None


@pytest.mark.parametrize("size", [1, 2, 7, 20, 50, NUMBER - 1, NUMBER, 200])
def test_event_list_of_many_keys_is_in_order_and_whole(api: httpx.Client, events: list[str], size: int) -> None:
    """A reader of the log would miss events and see others twice, as soon as two keys have written."""
    assert [event for page in walked(api, "at", size) for event in page] == events
    assert [event for page in walked(api, "-at", size) for event in page] == events[::-1]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_event_list_of_some_callers_is_in_order_and_whole(api: httpx.Client, events: list[str], number: int) -> None:
    """A filter by several actors merges their events by time; each stands once."""
    chosen = CALLERS[:number]
    found = [event for page in walked(api, "at", 4, chosen) for event in page]
    shown = {event["id"]: event["actor"] for event in api.get(AUDIT, params={"size": 200}).json()["data"]}
    assert found == [event for event in events if shown[event] in set(map(str, chosen))]


def test_event_list_read_while_events_come_shows_each_once(
    api: httpx.Client, events: list[str], sql: psycopg.Connection
) -> None:
    """New events must neither push old ones onto a second page nor hide them; oldest first, the new ones follow."""
    newest_first = walked(api, "-at", 10)
    oldest_first = walked(api, "at", 10)
    downwards, upwards = next(newest_first), next(oldest_first)
    new: list[str] = []
    for day in range(2, 5):
        new += write(sql, 30, day)
        downwards += next(newest_first)
        upwards += next(oldest_first)
    downwards += [event for page in newest_first for event in page]
    upwards += [event for page in oldest_first for event in page]
    assert downwards == events[::-1]
    assert upwards == [*events, *new]


@pytest.mark.parametrize("sort", ["at", "-at"])
def test_console_log_turned_both_ways_shows_each_event_once(owner: Browser, events: list[str], sort: str) -> None:
    """An administrator pages to the end of the log and back: the same events, each once, in order."""
    address: str | None = f"/audit?sort={sort}&size=20&action=access%3Arefuse"
    pages, addresses = [], []
    while address:
        text = owner.get(address).text
        addresses.append(address)
        pages.append(re.findall(r"event ([0-9a-f-]{36})", text))
        address = _leads_to(text, "next")
    wanted = events if sort == "at" else events[::-1]
    assert [event for page in pages for event in page] == wanted
    text = owner.get(addresses[-1]).text
    back = [pages[-1]]
    while address := _leads_to(text, "prev"):
        text = owner.get(address).text
        back.append(re.findall(r"event ([0-9a-f-]{36})", text))
    assert [event for page in back[::-1] for event in page] == wanted


def _leads_to(text: str, way: str) -> str | None:
    link = re.search(rf'rel="{way}" href="[^"?]*/audit(\?[^"]+)"', text)
    return f"/audit{link[1].replace('&amp;', '&')}" if link else None


def test_audit_tail_of_many_keys_prints_the_newest_in_order(
    settings: Settings, events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line shows the last events, the oldest of them first, whatever keys wrote them."""
    (tmp_path / "owner.key").write_text(OWNER_KEY)
    with serving(settings, tmp_path, workers=1) as client:
        monkeypatch.setenv(URL_VARIABLE, str(client.base_url))
        monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "owner.key"))
        printed = CliRunner().invoke(app, ["audit", "tail", "-n", "37", "--json"]).stdout
    assert [json.loads(line)["id"] for line in printed.splitlines()] == events[-37:]


def test_listing_whose_columns_have_any_name_keeps_its_order(database: Database, sql: psycopg.Connection) -> None:
    """A table or an alias that is called as the planner calls its own things must not change what the list shows."""
    names = ("key", "matched", "order_key", "bound", "stretch", "found", "matches", "page", "gathered")
    for table in ("page", "found", "matches", "stretch"):
        ids = [uuid7() for _ in range(40)]
        columns = ", ".join(f"{name} integer NOT NULL DEFAULT (random() * 1000)::integer" for name in names)
        sql.execute(f"CREATE TABLE {table} (id uuid PRIMARY KEY, rank integer NOT NULL, {columns})")
        sql.execute(f"GRANT SELECT ON {table} TO PUBLIC")
        for rank, row_id in enumerate(ids):
            sql.execute(f"INSERT INTO {table} (id, rank) VALUES (%s, %s)", [row_id, rank // 3])
        for descending in (False, True):
            order = Order("rank", "integer", descending=descending)
            for shown in (", ".join(names), ", ".join(f"-rank AS {name}" for name in names)):
                listing = Listing(table, f"id, {shown}", {"rank": order}, gathered=frozenset())
                found = _all_rows(database, listing, order)
                assert found == (ids[::-1] if descending else ids)


def _all_rows(database: Database, listing: Listing, order: Order) -> list[UUID]:
    """Walk a list to its end, once along the order and once by a condition that is sought."""
    ways = []
    for column in ("key", "rank"):
        conditions = Conditions()
        conditions.compare(column, ">=", -1)
        found: list[UUID] = []
        window = Window(7)
        with database.connection() as connection:
            while True:
                page = fetch_page(connection, listing, conditions, order, window)
                found += [row["id"] for row in page.rows]
                if page.last is None:
                    break
                window = Window(7, after=page.last)
        ways.append(found)
    assert ways[0] == ways[1]
    return ways[0]


def test_listings_give_no_column_a_name_of_the_planner() -> None:
    """The planner's names begin with a sign that no column may have."""
    for listing in (log.LISTING, directory.LISTING):
        assert "#" not in listing.columns
