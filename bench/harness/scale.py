"""Every kind of request of the list, to be sent to directories of several sizes in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient

USERS = "/ai/admin/users"
# Pages with numbers end here.
DEEPEST_ROW = 10_000
SIZE = 20

Query = Mapping[str, Any]


@dataclass
class Directory:
    """A directory to send requests to, with a user and cursors from its middle."""

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


def measure(
    directories: Sequence[Directory], rounds: int, progress: Callable[[int], None]
) -> dict[str, list[list[float]]]:
    """Seconds that each request took in each directory; they take turns, so that noise meets all alike."""
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
        progress(round_number)
    return samples
