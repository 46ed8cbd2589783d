"""How the list behaves as the directory grows: the same requests on a small and on a large directory.

    PYTHONPATH=apps python bench/scale.py --users 1000000 --data .local/bench

starts a PostgreSQL of its own, fills two databases with made-up users (what is there already is kept), sends
each request to both in turn, and prints the median latencies and their ratio as a Markdown table. Requests run
through the whole application, without a network: what a server adds to both would only flatter the ratio.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mount
from flask import Flask
from flask.testing import FlaskClient
from rich.console import Console

from ai_admin import demo, migrate
from ai_admin.access.bootstrap import make_owner
from ai_admin.app import create_app
from ai_admin.config import Settings
from ai_admin.embedded import EmbeddedPostgres

USERS = "/ai/admin/users"
SMALL = 1_000
# Pages with numbers end here.
DEEPEST_ROW = 10_000
SIZE = 20
_console = Console(stderr=True, highlight=False)

Query = Mapping[str, Any]


@dataclass
class Directory:
    """A directory to send requests to, and the facts about it that requests need."""

    users: int
    client: FlaskClient
    user: dict[str, Any] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)

    def get(self, query: Query, path: str = USERS) -> dict[str, Any]:
        """Send a GET and return the answer's body."""
        response = self.client.get(path, query_string=query)
        if response.status_code != 200:
            raise SystemExit(f"{path} {dict(query)}: {response.status_code} {response.text}")
        body: dict[str, Any] = response.get_json()
        return body

    def look_around(self) -> None:
        """Choose a user from the middle of the list, and walk half way into two lists."""
        for sort in ("-createdAt", "name"):
            depth, query = 0, {"sort": sort, "count": "none", "size": 200}
            while depth < self.users * 9 // 20:
                page = self.get(query)
                depth += len(page["data"])
                query["cursor"] = page["nextCursor"]
            self.cursors[sort] = page["nextCursor"]
            self.user = next(user for user in page["data"] if user["kind"] == "human")


def requests(directory: Directory) -> dict[str, Query]:
    """Every kind of request of the list, by a name for the table."""
    user = directory.user
    last_page = min(directory.users * 9 // 10, DEEPEST_ROW) // SIZE
    lists: list[Query] = [
        {},
        *({"sort": sign + name} for name in ("createdAt", "updatedAt", "tag", "email", "name") for sign in ("", "-")),
        *({"kind": kind} for kind in ("human", "service")),
        *({"role": role} for role in ("owner", "admin", "auditor", "member")),
        *({"status": status} for status in ("active", "suspended", "deleted")),
        {"status": "deleted", "sort": "name"},
        {"status": "deleted", "sort": "-updatedAt"},
        {"role": "auditor", "kind": "service"},
        {"role": "owner", "sort": "email"},
        *({"name[prefix]": prefix} for prefix in ("m", "mar", "nguyen", "zzz")),
        {"name[prefix]": "mar", "sort": "name"},
        {"tag[prefix]": "ma", "sort": "-tag"},
        {"tag[prefix]": "z", "sort": "email"},
        {"email[prefix]": "john.", "sort": "name"},
        *({f"attributes[{name}]": value} for name, value in _ATTRIBUTES),
        {"attributes[team]": "vision", "sort": "name"},
        {"attributes[team]": "vision", "attributes[contractor]": "true"},
        *({"q": words} for words in _SEARCHES),
        {"q": "research", "sort": "name"},
        {"q": "hoang", "sort": "-updatedAt"},
        {"q": "example", "status": "deleted"},
        {"q": "example", "role": "admin"},
        {"q": "hoang", "attributes[team]": "sales"},
        {"q": "example", "attributes[team]": "vision"},
        {"q": "example", "name[prefix]": "zoe"},
    ]
    times = {f"{days} days ago": _ago(days) for days in (7, 90, 700)}
    found: dict[str, Query] = {_title(query): query for query in lists}
    for name, instant in times.items():
        found[f"createdAt[gte]={name}"] = {"createdAt[gte]": instant}
        found[f"updatedAt[lt]={name}"] = {"updatedAt[lt]": instant}
        found[f"createdAt[lt]={name}, sort=name"] = {"createdAt[lt]": instant, "sort": "name"}
        found[f"updatedAt[gte]={name}, sort=createdAt"] = {"updatedAt[gte]": instant, "sort": "createdAt"}
        found[f"createdAt[lt]={name}, q=hoang"] = {"createdAt[lt]": instant, "q": "hoang"}
    for member in ("id", "tag", "email", "name"):
        found[f"{member}=…"] = {member: user[member]}
    found["q=… (a whole tag)"] = {"q": user["tag"]}
    found["q=… (a whole email)"] = {"q": user["email"]}
    found["q=… (a whole name)"] = {"q": user["name"]}
    found["last page with a number"] = {"page": last_page}
    found["last page with a number, sort=name"] = {"page": last_page, "sort": "name"}
    found["page 25, attributes[site]=Lyon"] = {"page": min(25, max(1, last_page // 20)), "attributes[site]": "Lyon"}
    for sort, cursor in directory.cursors.items():
        found[f"cursor half way, sort={sort}"] = {"sort": sort, "cursor": cursor}
        found[f"cursor half way, sort={sort}, count=none"] = {"sort": sort, "cursor": cursor, "count": "none"}
    for title in ("(all)", "q=example", "q=research", "q=a", "attributes[team]=sales", "status=deleted"):
        found[f"{title}, count=none"] = {**found[title], "count": "none"}
    return found


_ATTRIBUTES = (
    ("employee", "77"),
    ("team", "vision"),
    ("team", "legal"),
    ("team", "sales"),
    ("contractor", "true"),
    ("site", "Lyon"),
    ("environment", "staging"),
    ("team", "nobody"),
)
# From what nobody has to what everybody has.
_SEARCHES = (
    "zzzz", "77", "agent", "hoang", "maria", "bot", "research", "net", "org", "com", "example",
    "a", "m", "1", "e", "maria example", "hoang com", "a b", "m com", "research com", "hoang maria",
)  # fmt: skip


def _title(query: Query) -> str:
    return ", ".join(f"{name}={value}" for name, value in query.items()) or "(all)"


def _ago(days: int) -> str:
    return time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - days * 86_400))


@contextmanager
def _directories(folder: Path, sizes: tuple[int, ...]) -> Iterator[list[Directory]]:
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    apps: list[Flask] = []
    clients = []
    try:
        for users in sizes:
            limits = {"LOG_LEVEL": "ERROR", "STATEMENT_TIMEOUT_MS": "60000"}
            settings = mount.settings(folder / f"mount_{users}", postgres, f"users_{users}", limits)
            postgres.ensure_database(settings.secret.pg_database, settings.secret.pg_user)
            migrate.upgrade(settings.secret)
            demo.fill(settings, users, _console)
            apps.append(create_app(settings))
            clients.append(_owner(settings, apps[-1]))
        yield [Directory(users, client) for users, client in zip(sizes, clients, strict=True)]
    finally:
        for app in apps:
            app.extensions["ai_admin"].database.close()
        postgres.stop()


def _owner(settings: Settings, app: Flask) -> FlaskClient:
    """A client that presents the key of an owner of its own."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {make_owner(settings, f'bench-{time.time_ns()}')}"
    return client


def _measure(directories: list[Directory], rounds: int) -> dict[str, list[float]]:
    """Median seconds of each request on each directory; the requests take turns, so that noise meets all alike."""
    asked = [requests(directory) for directory in directories]
    paths = [f"{USERS}/{directory.user['id']}" for directory in directories]
    samples: dict[str, list[list[float]]] = {"get one": [[] for _ in directories]}
    samples |= {title: [[] for _ in directories] for title in asked[0]}
    for round_number in range(rounds + 1):
        for title, taken in samples.items():
            for number, directory in enumerate(directories):
                query = asked[number].get(title, {})
                path = USERS if title in asked[number] else paths[number]
                started = time.perf_counter()
                directory.get(query, path)
                # The first round only warms up.
                if round_number:
                    taken[number].append(time.perf_counter() - started)
    return {title: [statistics.median(times) for times in taken] for title, taken in samples.items()}


def _table(medians: Mapping[str, list[float]], sizes: tuple[int, ...]) -> str:
    small, large = sizes
    lines = [f"| request | ms at {small:,} users | ms at {large:,} users | ratio |", "|---|---:|---:|---:|"]
    for title, (first, second) in medians.items():
        lines.append(f"| `{title}` | {first * 1000:.1f} | {second * 1000:.1f} | {second / first:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Fill, measure, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--users", type=int, default=1_000_000, help="users of the large directory")
    arguments.add_argument("--rounds", type=int, default=15, help="times that each request is measured")
    arguments.add_argument("--data", type=Path, help="folder to keep the databases in; a temporary one if not given")
    given = arguments.parse_args()
    sizes = (SMALL, given.users)
    with tempfile.TemporaryDirectory(prefix="ai-admin-bench-") as scratch:
        folder = given.data or Path(scratch)
        with _directories(folder, sizes) as directories:
            for directory in directories:
                directory.look_around()
            print(_table(_measure(directories, given.rounds), sizes))


if __name__ == "__main__":
    main()
