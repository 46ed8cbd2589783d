"""What PostgreSQL does for each kind of request of the list, on 200,000 users: plans are read, clocks are not."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest
from rich.console import Console

from ai_admin import demo, listing, totals
from ai_admin.app import create_app
from ai_admin.config import load_settings
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.sql import queries
from tests.conftest import OWNER_ID, ROLE, TEMPLATE, calling, database_secret, write_mount

# The table is filled once; with pytest-xdist (--dist loadgroup) by one worker.
pytestmark = pytest.mark.xdist_group("plans")

USERS = "/ai/admin/users"
NUMBER = 200_000
DATABASE = "test_plans"
# A walk in vain, a seek among some thousand matches, and a count of as many.
BOUND = 25_000
# The same where the filter goes together with the order, or with another filter: the walk or the count passes over
# many rows, and a first seek gives up.
UNLUCKY = 45_000
# A walk that fills the page at once, and a count as far as it goes, with what both pass over.
WALK_AND_COUNT = 16_000
# A few rows, but for the walk that looked for them first.
WALK_AND_FEW = 6_000
FEW = 250

Query = Mapping[str, str]


@dataclass
class Statement:
    """A statement on a table that a request ran, with the plan it ran by."""

    sql: str
    plan: dict[str, Any]

    def scans(self) -> Iterator[dict[str, Any]]:
        """The nodes that read the table or an index."""
        nodes = [self.plan]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            if "Relation Name" in node or "Index Name" in node:
                yield node

    def rows(self) -> int:
        """Rows and index entries that were read, those that did not match included."""
        read = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        # An index of blocks names blocks; PostgreSQL reports ten rows for each.
        scans = (node for node in self.scans() if node.get("Index Name") != "users_created_blocks")
        return int(sum(sum(node.get(name, 0) for name in read) * node["Actual Loops"] for node in scans))


@dataclass
class Recorder:
    """Stands before `psycopg.Connection.execute` and explains each SELECT on a table with the very same values."""

    execute: Callable[..., Any]
    table: str = "users"
    statements: list[Statement] = field(default_factory=list)
    count: int = 0

    def __call__(self, connection: Any, query: str, values: Any = None, **options: Any) -> Any:
        """What `execute` does, after reading the plan."""
        self.count += 1
        if self.table in query and not query.startswith("EXPLAIN"):
            explained = f"EXPLAIN (ANALYZE, BUFFERS OFF, FORMAT JSON) {query}"
            row = self.execute(connection, explained, values, prepare=False).fetchone()
            self.statements.append(Statement(query, row["QUERY PLAN"][0]["Plan"]))
        return self.execute(connection, query, values, **options)

    @property
    def rows(self) -> int:
        """Rows read by all statements."""
        return sum(statement.rows() for statement in self.statements)

    @property
    def indexes(self) -> set[str]:
        """The names of the indexes that were used."""
        return {node["Index Name"] for each in self.statements for node in each.scans() if "Index Name" in node}

    def describe(self) -> str:
        """For the message of an assertion: each statement with what it read from where."""
        return "\n".join(
            f"{each.rows()} rows: {' '.join(each.sql.split())}\n    "
            + ", ".join(
                f"{node['Node Type']} {node.get('Index Name', '')} {node['Actual Rows']}" for node in each.scans()
            )
            for each in self.statements
        )


@dataclass
class Directory:
    """The API over 200,000 users, one of whom is known."""

    api: httpx.Client
    user: dict[str, Any]

    def get(self, query: Query) -> dict[str, Any]:
        """The answer of the list; `{tag}` and such stand for what the known user has."""
        response = self.api.get(USERS, params={name: value.format(**self.user) for name, value in query.items()})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    @contextmanager
    def recorded(self, table: str = "users") -> Iterator[Recorder]:
        """Records what the requests inside run on a table."""
        with pytest.MonkeyPatch.context() as patch:
            recorder = Recorder(psycopg.Connection.execute, table)
            # A function becomes a method, which an object with __call__ does not.
            patch.setattr(psycopg.Connection, "execute", lambda *values, **options: recorder(*values, **options))  # noqa: PLW0108
            yield recorder


@pytest.fixture(scope="module")
def directory(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """A database with demo users, and the application on it."""
    with postgres.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE} OWNER {ROLE}")
    root = write_mount(tmp_path_factory.mktemp("plans"), database_secret(postgres, DATABASE), {"LOG_LEVEL": "ERROR"})
    settings = load_settings(root)
    demo.fill(settings, NUMBER, Console(quiet=True))
    app = create_app(settings)
    # What is asked about a caller every few seconds is not what is counted here.
    app.extensions["ai_admin"].principals._cache_s = 3600
    with calling(app) as api:
        user = api.get(USERS, params={"createdAt[lt]": _half_way(api), "kind": "human"}).json()["data"][0]
        yield Directory(api, user)
    with postgres.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def _half_way(api: httpx.Client) -> str:
    first, last = (
        api.get(USERS, params={"sort": sort, "size": "1", "role": "member"}).json()
        for sort in ("createdAt", "-createdAt")
    )
    years = (int(page["data"][0]["createdAt"][:4]) for page in (first, last))
    return f"{sum(years) // 2}-12-31T00:00:00Z"


SORTS = tuple(sign + name for name in ("createdAt", "updatedAt", "tag", "email", "name") for sign in ("", "-"))

# By the most rows that each may read.
REQUESTS: dict[int, list[Query]] = {
    FEW: [
        {"id": "{id}"},
        {"tag": "{tag}"},
        {"email": "{email}"},
        {"tag": "{tag}", "q": "example"},
        {"id": "{id}", "sort": "name"},
        {"tag": "nobody"},
        {"q": "!!!"},
    ],
    WALK_AND_FEW: [
        {"name": "{name}"},
        {"role": "owner"},
        {"role": "owner", "sort": "email"},
        {"role": "auditor", "kind": "service"},
        {"status": "deleted", "role": "admin"},
        {"name[prefix]": "zzz"},
        {"tag[prefix]": "{tag}"},
        {"email[prefix]": "{tag}"},
        {"attributes[employee]": "777"},
        {"attributes[team]": "nobody"},
        {"q": "zzzz"},
        {"q": "{tag}"},
        {"q": "777", "attributes[team]": "sales"},
    ],
    WALK_AND_COUNT: [
        *({"sort": sort} for sort in SORTS),
        *({"kind": kind} for kind in ("human", "service")),
        *({"role": role} for role in ("admin", "auditor", "member")),
        *({"status": status} for status in ("active", "suspended", "deleted")),
        {"status": "deleted", "sort": "name"},
        {"q": "example"},
        {"q": "example", "sort": "name"},
        {"q": "com"},
        {"q": "a"},
        {"attributes[team]": "sales"},
        {"attributes[contractor]": "true", "sort": "-updatedAt"},
        {"name[prefix]": "m", "sort": "name"},
        {"tag[prefix]": "ma", "sort": "-tag"},
        {"createdAt[gte]": "2020-01-01T00:00:00Z"},
        {"createdAt[lt]": "{createdAt}"},
        {"updatedAt[gt]": "{createdAt}", "sort": "updatedAt"},
    ],
    BOUND: [
        {"name[prefix]": "m"},
        {"name[prefix]": "nguyen"},
        {"tag[prefix]": "z", "sort": "email"},
        {"createdAt[lt]": "{createdAt}", "sort": "name"},
        {"updatedAt[lt]": "{createdAt}", "sort": "tag"},
        {"attributes[team]": "vision"},
        {"attributes[team]": "vision", "sort": "name"},
        {"attributes[team]": "vision", "attributes[contractor]": "true"},
        {"q": "hoang"},
        {"q": "2", "sort": "name"},
        {"q": "maria example"},
        {"q": "hoang", "sort": "-updatedAt"},
        {"q": "hoang", "attributes[team]": "sales"},
        {"q": "example", "status": "deleted"},
        {"q": "example", "role": "admin"},
        {"q": "example", "name[prefix]": "zoe"},
        {"page": "500"},
        {"page": "50", "size": "200", "sort": "name"},
    ],
    UNLUCKY: [
        {"email[prefix]": "jo", "sort": "-name"},
        {"createdAt[gt]": "{createdAt}", "sort": "email"},
        {"createdAt[lte]": "{createdAt}", "updatedAt[gte]": "{createdAt}"},
        {"q": "research"},
        {"q": "2"},
    ],
}
_CASES = [(bound, query) for bound, queries in REQUESTS.items() for query in queries]


def _title(value: object) -> str:
    return ",".join(f"{name}={text}" for name, text in value.items()) or "all" if isinstance(value, dict) else ""


def _assert_bounded(recorder: Recorder, bound: int) -> None:
    assert recorder.statements
    scanned = {node["Node Type"] for statement in recorder.statements for node in statement.scans()}
    assert not {kind for kind in scanned if "Seq Scan" in kind}, recorder.describe()
    assert recorder.rows <= bound, recorder.describe()


@pytest.mark.parametrize(("bound", "query"), _CASES, ids=_title)
def test_no_request_scans_the_table(directory: Directory, bound: int, query: Query) -> None:
    """Every filter and every order is served by indexes, and reads a bounded number of rows."""
    with directory.recorded() as recorder:
        directory.get(query)
    _assert_bounded(recorder, bound)


@pytest.mark.parametrize("sort", SORTS)
def test_a_cursor_costs_the_same_at_any_depth(directory: Directory, sort: str) -> None:
    """litellm #28221: pages slowed down with their number. Here the hundredth costs what the second does."""
    query = {"sort": sort, "size": "200", "count": "none"}
    for _ in range(100):
        query["cursor"] = directory.get(query)["nextCursor"]
    with directory.recorded() as recorder:
        assert len(directory.get(query)["data"]) == 200
    _assert_bounded(recorder, 1_000)


def test_a_cursor_of_a_filtered_list_starts_where_it_points(directory: Directory) -> None:
    """What the pages before have shown is not read again, with a filter either."""
    query = {"attributes[team]": "sales", "sort": "name", "count": "none", "size": "200"}
    for _ in range(50):
        query["cursor"] = directory.get(query)["nextCursor"]
    with directory.recorded() as recorder:
        assert len(directory.get(query)["data"]) == 200
    _assert_bounded(recorder, 15_000)


@pytest.mark.parametrize("query", [{}, {"q": "research"}, {"attributes[team]": "sales", "sort": "name"}], ids=_title)
def test_the_number_of_statements_does_not_grow_with_the_page(
    directory: Directory, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open-webui #13724, litellm #28221: a query for each row of the page."""
    monkeypatch.setattr(totals, "_REMEMBERED_S", 0)
    counts = []
    for size in ("1", "20", "200"):
        with directory.recorded() as recorder:
            directory.get({**query, "size": size})
        counts.append(recorder.count)
    assert len(set(counts)) == 1
    assert counts[0] <= 4


def test_matches_at_the_far_end_of_the_order_cost_no_scan_of_it(directory: Directory) -> None:
    """Filter and order can go together so that the walk meets nothing for long; then the seek finds the page."""
    newest = directory.get({"size": "200", "page": "20"})["data"][-1]["createdAt"]
    with directory.recorded() as recorder:
        directory.get({"createdAt[gte]": newest, "sort": "updatedAt"})
        directory.get({"updatedAt[gte]": newest, "sort": "createdAt"})
    _assert_bounded(recorder, 2 * UNLUCKY)


MANY: dict[str, tuple[Query, str]] = {
    "far off": ({"q": "2"}, "words @@ $$'2':*$$"),
    "spread": ({"q": "hoang"}, "words @@ $$'hoang':*$$"),
    "attribute": ({"attributes[team]": "legal"}, """attributes @> '{"team": "legal"}'"""),
}
KEYS = {"createdAt": "created_at", "updatedAt": "updated_at", "email": "lower(coalesce(email, ''))", "name": "name_key"}


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("many", MANY)
def test_pages_of_many_matches_are_the_right_ones(
    directory: Directory, postgres: EmbeddedPostgres, many: str, sort: str
) -> None:
    """A bound that a sample gives leaves nobody out, wherever in the order the matches are."""
    query, match = MANY[many]
    member = sort.lstrip("-")
    key, way = KEYS.get(member, member), "ASC" if sort == member else "DESC"
    sql = f"SELECT id::text FROM users WHERE status <> 'deleted' AND {match} ORDER BY {key} {way}, id {way} LIMIT 60"
    with postgres.connect(DATABASE) as connection:
        expected = [row[0] for row in connection.execute(sql.encode()).fetchall()]
    found: list[str] = []
    page = directory.get({**query, "sort": sort})
    for _ in range(3):
        found += [user["id"] for user in page["data"]]
        page = directory.get({**query, "sort": sort, "cursor": page["nextCursor"]})
    assert found == expected


def test_ranges_that_exclude_each_other_cost_no_scan(directory: Directory) -> None:
    """Created after a moment and last changed before it: nobody, and each half of that is half the table."""
    with directory.recorded() as recorder:
        directory.get({"createdAt[gte]": "{createdAt}", "updatedAt[lte]": "{createdAt}"})
    _assert_bounded(recorder, UNLUCKY)


def test_every_index_serves_a_request(directory: Directory, postgres: EmbeddedPostgres) -> None:
    """An index that nothing uses would cost each write something for nothing."""
    with directory.recorded() as recorder:
        for query in itertools.chain.from_iterable(REQUESTS.values()):
            directory.get(query)
    with postgres.connect(DATABASE) as connection:
        indexes = connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'users'").fetchall()
    # This one is there to refuse a duplicate.
    assert {name for (name,) in indexes} - {"users_email_key"} == {
        name for name in recorder.indexes if name.startswith("users_")
    }


def test_sign_in_scans_nothing(directory: Directory, postgres: EmbeddedPostgres) -> None:
    """With tens of thousands of people, neither a known subject nor a new one is looked for row by row."""
    values = {"issuer": "i", "subject": directory.user["id"], "email": directory.user["email"], "tag": "nobody"}
    with postgres.connect(DATABASE) as connection, connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO identities SELECT 'i', id::text, id FROM users LIMIT 50000")
        connection.execute("ANALYZE identities")
        for name in ("find", "lock_unbound", "lock_tag"):
            sql = queries("identities")[name]
            row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS OFF, FORMAT JSON) {sql}".encode(), values).fetchone()
            assert row
            statement = Statement(sql, row[0][0]["Plan"])
            assert not [node for node in statement.scans() if node["Node Type"] == "Seq Scan"], statement
            assert statement.rows() <= FEW, statement


def test_events_of_every_filter_are_found_by_an_index(directory: Directory, postgres: EmbeddedPostgres) -> None:
    """With a long log, the events of a leaked key or of one request would be looked for row by row."""
    common, rare = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"
    with postgres.connect(DATABASE) as connection:
        # One key and one command have most of the events, as an import has; the others a few each.
        connection.execute(
            """
            INSERT INTO audit_events (id, at, actor_id, key_id, action, target_id, changes, request_id)
            SELECT gen_random_uuid(), now() - n * interval '1 second',
                   CASE WHEN mod(n, 500) = 0 THEN %(rare)s ELSE %(common)s END::uuid,
                   CASE WHEN mod(n, 500) = 0 THEN %(rare)s ELSE %(common)s END::uuid,
                   CASE WHEN mod(n, 500) = 0 THEN 'users:purge' ELSE 'users:create' END, gen_random_uuid(), '{}',
                   CASE WHEN mod(n, 2) = 0 THEN 'users import' ELSE 'request-' || n END
            FROM generate_series(1, 100000) AS n
            """,
            {"common": common, "rare": rare},
        )
        connection.execute("ANALYZE audit_events")
        target = connection.execute("SELECT target_id FROM audit_events ORDER BY at LIMIT 1").fetchone()
        indexes = connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'audit_events'").fetchall()
    assert target
    used = set()
    for name, value in (
        ("key", rare), ("key", common), ("key", str(OWNER_ID)), ("requestId", "request-99999"),
        ("requestId", "users import"), ("requestId", "nobody"), ("actor", rare), ("target", str(target[0])),
        ("action", "users:purge"), ("sort", "at"),
    ):  # fmt: skip
        for sort in ("at", "-at"):
            with directory.recorded("audit_events") as recorder:
                answer = directory.api.get("/ai/admin/audit", params={"sort": sort, name: value})
            assert answer.status_code == 200, answer.text
            assert recorder.rows <= WALK_AND_COUNT, f"{name}={value}\n{recorder.describe()}"
            assert not [one for each in recorder.statements for one in each.scans() if one["Node Type"] == "Seq Scan"]
            used |= recorder.indexes
    assert {name for (name,) in indexes} == {name for name in used if name.startswith("audit_events_")}


def test_demo_users_agree_with_what_the_service_would_store(directory: Directory, postgres: EmbeddedPostgres) -> None:
    """The measurements above are worth something only if the made-up users look like real ones."""
    with postgres.connect(DATABASE) as connection:
        row = connection.execute(
            """
            SELECT count(*),
                   count(DISTINCT lower(email)) = count(email),
                   count(DISTINCT tag) = count(*),
                   bool_and(updated_at >= created_at AND (version = 1) = (updated_at = created_at)),
                   bool_and(get_byte(uuid_send(id), 6) >> 4 = 7),
                   max(abs(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0
                           - extract(epoch FROM created_at))) <= 0.001
            FROM users
            WHERE id <> %s
            """,
            [OWNER_ID],
        ).fetchone()
    assert row == (NUMBER - 1, True, True, True, True, True)
    named = directory.get({"name": "{name}"})["data"]
    assert directory.user["id"] in {user["id"] for user in named}


def test_what_only_the_older_have_is_found_without_a_scan(directory: Directory, postgres: EmbeddedPostgres) -> None:
    """So many match that the walk is right, and it walks to where they begin; the sample is asked by its own index.

    The last one here: it changes most users, which are then no longer where the time of their creation would have them.
    """
    with postgres.connect(DATABASE) as connection:
        older = "created_at < (SELECT percentile_disc(0.8) WITHIN GROUP (ORDER BY created_at) FROM users)"
        connection.execute(f"UPDATE users SET attributes = attributes || '{{\"mostly\": true}}' WHERE {older}".encode())
        connection.execute("VACUUM (ANALYZE) users")
    with directory.recorded() as recorder:
        directory.get({"attributes[mostly]": "true"})
    _assert_bounded(recorder, 60_000)
    (bound,) = (each for each in recorder.statements if "AS bound" in each.sql)
    assert bound.rows() <= 2 * NUMBER / listing.SAMPLED, recorder.describe()
    (page,) = (each for each in recorder.statements if "%(bound)s" in each.sql)
    assert page.rows() <= NUMBER / 4, recorder.describe()
