"""The faults, one function each, and how one is run: under load, several times, and against the clients' books."""

import contextlib
import random
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from os import kill
from pathlib import Path
from typing import Any

import httpx

from ai_admin.config import ConfigSettings
from tests.conftest import AS_OWNER
from tests.faults.crowd import send_most
from tests.faults.ledger import Verdict
from tests.faults.world import World, small_disk, until, world
from tests.serving import HANGS, USERS

# Seconds of undisturbed writing between two faults.
_CALM = 0.5
# Seconds that a flood of requests takes.
_FLOOD_S = 5
_CONSOLE = "/ai/admin/console"
_KEYS = "/ai/me/keys"
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_FULL_DISK = "a full disk"

# Breaks something, and gives the moment from which recovery counts: the beginning of what needs no end, as a kill, or
# else the end of the fault.
Fault = Callable[[World], float]
FAULTS: dict[str, Fault] = {}
# What a fault needs before the first time.
_PREPARED: dict[str, Callable[[World], None]] = {}


def run(name: str, rounds: int, folder: Path) -> Verdict:
    """One fault, so many times, in a world of its own. Raises `SmallDiskRefused`."""
    with contextlib.ExitStack() as stack:
        if name == _FULL_DISK:
            stack.enter_context(small_disk(folder / "pg"))
        here = stack.enter_context(world(folder))
        with here.ledger.writing():
            if name in _PREPARED:
                _PREPARED[name](here)
            recoveries = []
            for _ in range(rounds):
                _calm()
                recoveries.append(here.recover(FAULTS[name](here)))
        return here.verdict(recoveries)


def _fault(name: str, prepare: Callable[[World], None] | None = None) -> Callable[[Fault], Fault]:
    def register(fault: Fault) -> Fault:
        FAULTS[name] = fault
        if prepare:
            _PREPARED[name] = prepare
        return fault

    return register


def _calm() -> None:
    """A pause of no fixed length, so that faults meet requests at every moment of theirs."""
    time.sleep(_CALM * (0.5 + random.random()))


@_fault("SIGKILL of a worker")
def worker_killed(world: World) -> float:
    """The server starts another one; where one dies again within six seconds, the server takes itself for broken."""
    time.sleep(6)
    before = world.workers()
    killed = time.monotonic()
    kill(random.choice(before), signal.SIGKILL)
    until(lambda: len(world.workers()) == len(before) and world.workers() != before, "another worker")
    return killed


@_fault("SIGKILL of the server")
def server_killed(world: World) -> float:
    """As when the node goes: it is started anew."""
    killed = time.monotonic()
    world.kill_server()
    world.start_server()
    return killed


@_fault("SIGKILL of PostgreSQL")
def postgres_killed(world: World) -> float:
    """All of its processes at one moment, in the middle of commits; it recovers from its log."""
    killed = time.monotonic()
    world.kill_postgres()
    world.postgres.start()
    return killed


@_fault("connections ended by pg_terminate_backend")
def backends_terminated(world: World) -> float:
    """As an administrator does, or a failover."""
    ended = time.monotonic()
    with world.sql() as sql:
        sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    return ended


@_fault("connections cut by the network, for two seconds")
def network_cut(world: World) -> float:
    """Neither the connections that are there nor new ones get through."""
    world.wire.cut()
    time.sleep(2)
    world.wire.mend()
    return time.monotonic()


@_fault("PostgreSQL answers after ten seconds")
def postgres_slow(world: World) -> float:
    """Every answer of it, for as long as two of them take."""
    world.wire.delay = 10.0
    time.sleep(20)
    world.wire.delay = 0.0
    return time.monotonic()


@_fault("all connections of the pool taken")
def pool_exhausted(world: World) -> float:
    """Every change waits for a lock that somebody else has, for longer than a change waits."""
    with world.sql() as sql, sql.transaction():
        sql.execute("LOCK TABLE users IN SHARE MODE")
        time.sleep(5)
    return time.monotonic()


@_fault("two hundred clients that send a byte a second")
def slow_clients(world: World) -> float:
    """Of a body that is never whole, for five seconds each time; they come with a credential and the right head."""
    head = (
        f"POST {USERS} HTTP/1.1\r\nHost: x\r\nAuthorization: {AS_OWNER['Authorization']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    ).encode()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", world.port)
        clients = [stack.enter_context(socket.create_connection(address, HANGS)) for _ in range(200)]
        for piece in (head, *[b" "] * 5):
            for client in clients:
                client.sendall(piece)
            time.sleep(1)
    return began


def _flood(
    world: World, clients: list[dict[str, str]], send: Callable[[httpx.Client], int], pause: float
) -> Counter[int]:
    """Send again and again from a client for each of these headers; how many answers of each status there were.

    A pause between two requests makes the flood the same, whether the server answers it at once or not.
    """
    ends = time.monotonic() + _FLOOD_S

    def flood(headers: dict[str, str]) -> Counter[int]:
        statuses: Counter[int] = Counter()
        with _client(world, headers) as client:
            while time.monotonic() < ends:
                # A large body that is refused unread may find its connection closed.
                with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                    statuses[send(client)] += 1
                time.sleep(pause)
        return statuses

    with ThreadPoolExecutor(len(clients)) as pool:
        return sum(pool.map(flood, clients), Counter())


def _client(world: World, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{world.port}", headers=headers, timeout=HANGS, trust_env=False)


def _member(world: World) -> tuple[str, dict[str, str]]:
    """The id and the credential of a new member."""
    with _client(world, AS_OWNER) as api:
        tag = f"m-{random.getrandbits(32):08x}"
        user_id = str(api.post(USERS, json={"tag": tag, "kind": "service"}).raise_for_status().json()["id"])
        key = api.post(f"{USERS}/{user_id}/keys", json={"name": "k"}).raise_for_status().json()["key"]
    return user_id, {"Authorization": f"Bearer {key}"}


@_fault("a stranger's forms of 149,000 fields, twenty a second")
def large_forms(world: World) -> float:
    """Two clients send them with the cookie that the form goes with, and two without: none of them is taken."""
    began = time.monotonic()
    with _client(world, {}) as client:
        cookies = client.get(f"{_CONSOLE}/sign-in").cookies
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    form = b"&".join(b"a%d=1" % (number % 100) for number in range(149_000))
    statuses = _flood(
        world,
        [cookie, cookie, {}, {}],
        lambda client: client.post(f"{_CONSOLE}/sign-in", content=form, headers=_FORM).status_code,
        pause=0.2,
    )
    assert set(statuses) <= {400, 413}, statuses
    return began


@_fault("a member's bodies of 104,000 unknown members, forty a second")
def unknown_members(world: World) -> float:
    """On eight connections, for a key that is never made."""
    _, member = _member(world)
    began = time.monotonic()
    body = b"{" + b",".join(b'"%d":1' % number for number in range(104_000)) + b"}"
    statuses = _flood(
        world,
        [member | {"Content-Type": "application/json"}] * 8,
        lambda client: client.post(_KEYS, content=body).status_code,
        pause=0.2,
    )
    assert set(statuses) <= {400, 413, 429}, statuses
    return began


@_fault("a member who renames a key and signs in, as often as eight connections can")
def member_in_a_loop(world: World) -> float:
    """Each change that is acknowledged has its event, and the user has no more sessions than they may have."""
    user_id, member = _member(world)
    began = time.monotonic()
    with _client(world, member) as client:
        (key,) = client.get(_KEYS).json()["data"]

    def rename_or_sign_in(client: httpx.Client) -> int:
        if random.random() < 0.5:
            name = f"n{random.getrandbits(32):08x}"
            return client.put(f"{_KEYS}/{key['id']}", json={"name": name}).status_code
        token = _TOKEN.search(client.get(f"{_CONSOLE}/sign-in").text)
        assert token
        form = {"csrf_token": token[1], "key": member["Authorization"].partition(" ")[2]}
        return client.post(f"{_CONSOLE}/sign-in", data=form).status_code

    statuses = _flood(world, [member] * 8, rename_or_sign_in, pause=0)
    assert set(statuses) <= {200, 303, 429}, statuses
    with world.sql() as sql:
        left = sql.execute(
            """
            SELECT (SELECT count(*) FROM audit_events WHERE action = 'keys:update' AND target_id = %(id)s),
                   (SELECT count(*) FROM console_sessions WHERE user_id = %(id)s)
            """,
            {"id": user_id},
        ).fetchone()
    assert left is not None
    assert left[0] == statuses[200]
    assert left[1] <= min(statuses[303], ConfigSettings().sessions_per_user)
    return began


def _crowd(world: World, *crowd: Any) -> Counter[str]:
    """What many connections are answered that each send most of a body; they are a process of their own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as beside:
        return beside.submit(send_most, world.port, *crowd).result(3 * HANGS)


@_fault("1,500 strangers who send most of 1 MiB")
def strangers_with_bodies(world: World) -> float:
    """They are refused by the head of their request; nothing of the body is kept."""
    began = time.monotonic()
    assert _crowd(world, 1_500, USERS, 1 << 20) == {"401": 1_500}
    return began


@_fault("2,500 connections that send most of 1 MiB to an unknown path")
def bodies_for_nothing(world: World) -> float:
    """They are refused by the head of their request; nothing of the body is kept."""
    began = time.monotonic()
    assert _crowd(world, 2_500, "/no/such/path", 1 << 20) == {"404": 2_500}
    return began


@_fault("1,000 connections of four callers who send most of 256 KiB", prepare=World.make_callers)
def callers_with_bodies(world: World) -> float:
    """Each caller fills its share and all of them fill the budget; the others are told to wait."""
    began = time.monotonic()
    answers = _crowd(world, 1_000, USERS, 1 << 18, world.keys)
    # Two workers hold 48 MiB of such bodies each.
    assert answers["none"] == 384, answers
    assert answers["429"] + answers["503"] == 616, answers
    return began


@_fault("SIGKILL of PgBouncer in transaction mode", prepare=World.put_pooler_between)
def pooler_killed(world: World) -> float:
    """Between service and PostgreSQL, with fewer connections than the service has; it is started anew."""
    killed = time.monotonic()
    world.restart_pooler()
    return killed


@_fault(_FULL_DISK)
def disk_full(world: World) -> float:
    """Until a write has failed; then there is room again, and PostgreSQL is started where it has given up."""
    failed = world.ledger.errors.total()
    ballast = world.postgres.log.parent / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65_536))
    until(lambda: world.ledger.errors.total() > failed, "a write that fails")
    time.sleep(1)
    ballast.unlink()
    freed = time.monotonic()
    if world.postgres._process is not None and world.postgres._process.poll() is not None:
        world.postgres.start()
    return freed


@_fault("a streaming replica promoted")
def replica_promoted(world: World) -> float:
    """A synchronous one, when the primary has been killed with SIGKILL."""
    primary, replica = world.postgres, world.replica()
    _calm()
    killed = time.monotonic()
    world.kill_postgres()
    primary.stop()
    world.wire.cut()
    world.wire.target = world.postgres = replica
    with replica.connect("postgres") as sql:
        sql.execute("SELECT pg_promote()")
        # It waits for no replica of its own.
        sql.execute("ALTER SYSTEM RESET synchronous_standby_names")
        sql.execute("SELECT pg_reload_conf()")
    world.wire.mend()
    return killed
