"""What is asked of a directory: each kind of request that callers send, in the mix that they send it."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from harness.directories import Directory
from harness.requests import NUMBER, Request, get, send

USERS = "/ai/admin/users"
SIZE = 20
# Users that requests for one go to, as a gateway's callers and an administrator's day repeat themselves.
IN_USE = 1_000


@dataclass(frozen=True)
class Workload:
    """Requests that are sent in turn, over and over.

    `statements` is the one whose SQL pgbench sends for comparison, and `plain` the same request to the plain way.
    """

    name: str
    requests: Sequence[Request]
    statements: Request | None = None
    plain: Sequence[Request] = ()

    @property
    def creates(self) -> bool:
        """Whether it leaves new users."""
        return any(request.status == HTTPStatus.CREATED for request in self.requests)


def floor() -> Workload:
    """The empty view of a bare Flask (`harness.bare`)."""
    return Workload("empty handler", [Request("GET", "/empty", {}, status=204)])


def workloads(directory: Directory) -> list[Workload]:
    """All of them, for a directory."""
    key = directory.key
    ids = directory.some(IN_USE)
    cursor = directory.cursor_at(directory.users // 2, SIZE)
    page = f"{USERS}?size={SIZE}"
    one = [get(f"{USERS}/{name}", key) for name in ids]
    create = _create(key)
    updates = [send("PUT", f"{USERS}/{name}", key, {"name": f"Bench {NUMBER}"}) for name in ids]
    words = {"common": "example", "rare": "77", "two": "maria example"}
    introspect = Request(
        "POST",
        "/ai/introspect",
        {"Authorization": f"Bearer {key}", "Content-Type": "application/x-www-form-urlencoded"},
        f"token={key}&model=gpt-5-mini",
    )
    searches = [get(f"{page}&q={text.replace(' ', '+')}", key) for text in words.values()]
    return [
        Workload("list, first page", [get(page, key)], get(page, key), [get(f"/users?size={SIZE}")]),
        Workload("list, half way through", [get(f"{page}&cursor={cursor}", key)]),
        Workload("list, sorted by name", [get(f"{page}&sort=name", key)]),
        Workload("list, status=suspended", [get(f"{page}&status=suspended", key)]),
        Workload("list, attributes[team]=vision", [get(f"{page}&attributes[team]=vision", key)]),
        Workload("list, name[prefix]=mar", [get(f"{page}&name[prefix]=mar", key)]),
        Workload("word search, common", searches[:1], plain=[get("/users?q=example")]),
        Workload("word search, rare", searches[1:2], plain=[get("/users?q=77")]),
        Workload("get one", one, one[0], [get(f"/users/{name}") for name in ids]),
        Workload("create", [create], create, [_plain_create()]),
        Workload("update, each its own row", updates),
        Workload("update, all one row", updates[:1]),
        Workload("introspect", [introspect]),
        Workload("mix, 80 % reads", _mix(get(page, key), one, searches, create, updates)),
    ]


def _mix(page: Request, one: list[Request], searches: list[Request], create: Request, updates: list[Request]) -> Any:
    """Of ten requests: five for one user, one page, two searches, one creation, one change; changes are audited."""
    mixed = []
    for turn in range(len(one) // 5):
        mixed += [*one[turn * 5 : turn * 5 + 5], page, searches[turn % 3], searches[1], create, updates[turn]]
    return mixed


def _create(key: str) -> Request:
    body = {"tag": f"bench-{NUMBER}", "kind": "service", "name": f"Bench {NUMBER}", "models": ["gpt-5*"]}
    return send("POST", USERS, key, body, 201)


def _plain_create() -> Request:
    return Request(
        "POST",
        "/users",
        {"Content-Type": "application/json"},
        f'{{"tag": "plain-{NUMBER}", "name": "Bench {NUMBER}"}}',
        201,
    )
