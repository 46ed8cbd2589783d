"""The faults, one function each: it breaks something `rounds` times under load, and gives the time of each recovery.

That is the longest time without an acknowledged write: from the beginning of what needs no end, as a kill, or else
from the end of the fault.
"""

import contextlib
import random
import signal
import socket
import time
from collections.abc import Callable
from os import kill

from tests.conftest import AS_OWNER
from tests.faults.world import World, pooler
from tests.serving import HANGS, USERS

# Seconds of undisturbed writing between two faults.
_CALM = 0.5

Scenario = Callable[[World, int], list[float]]
SCENARIOS: dict[str, Scenario] = {}


def _scenario(name: str) -> Callable[[Scenario], Scenario]:
    def register(scenario: Scenario) -> Scenario:
        SCENARIOS[name] = scenario
        return scenario

    return register


def _calm() -> None:
    """A pause of no fixed length, so that faults meet requests at every moment of theirs."""
    time.sleep(_CALM * (0.5 + random.random()))


@_scenario("SIGKILL of a worker")
def worker_killed(world: World, rounds: int) -> list[float]:
    """The server starts another one; where one dies again within six seconds, the server takes itself for broken."""
    recoveries = []
    for _ in range(rounds):
        time.sleep(6)
        killed = time.monotonic()
        kill(random.choice(world.workers()), signal.SIGKILL)
        recoveries.append(world.recover(killed))
        _until(lambda: len(world.workers()) == 2)
    return recoveries


@_scenario("SIGKILL of the server")
def server_killed(world: World, rounds: int) -> list[float]:
    """As when the node goes: it is started anew."""
    recoveries = []
    for _ in range(rounds):
        _calm()
        killed = time.monotonic()
        world.kill_server()
        world.start_server()
        recoveries.append(world.recover(killed))
    return recoveries


@_scenario("SIGKILL of PostgreSQL")
def postgres_killed(world: World, rounds: int) -> list[float]:
    """All of its processes at one moment, in the middle of commits; it recovers from its log."""
    recoveries = []
    for _ in range(rounds):
        _calm()
        killed = time.monotonic()
        world.kill_postgres()
        world.postgres.start()
        recoveries.append(world.recover(killed))
    return recoveries


@_scenario("connections ended by pg_terminate_backend")
def backends_terminated(world: World, rounds: int) -> list[float]:
    """As an administrator does, or a failover."""
    recoveries = []
    for _ in range(rounds):
        _calm()
        ended = time.monotonic()
        with world.sql() as sql:
            sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        recoveries.append(world.recover(ended))
    return recoveries


@_scenario("connections cut by the network, for two seconds")
def network_cut(world: World, rounds: int) -> list[float]:
    """Neither the connections that are there nor new ones get through."""
    recoveries = []
    for _ in range(rounds):
        _calm()
        world.wire.cut()
        time.sleep(2)
        world.wire.mend()
        recoveries.append(world.recover(time.monotonic()))
    return recoveries


@_scenario("PostgreSQL answers after ten seconds")
def postgres_slow(world: World, rounds: int) -> list[float]:
    """Every answer of it, for as long as two of them take."""
    recoveries = []
    for _ in range(rounds):
        _calm()
        world.wire.delay = 10.0
        time.sleep(20)
        world.wire.delay = 0.0
        recoveries.append(world.recover(time.monotonic()))
    return recoveries


@_scenario("all connections of the pool taken")
def pool_exhausted(world: World, rounds: int) -> list[float]:
    """Every change waits for a lock that somebody else has, for longer than a change waits."""
    recoveries = []
    for _ in range(rounds):
        _calm()
        with world.sql() as sql, sql.transaction():
            sql.execute("LOCK TABLE users IN SHARE MODE")
            time.sleep(5)
        recoveries.append(world.recover(time.monotonic()))
    return recoveries


@_scenario("two hundred clients that send a byte a second")
def slow_clients(world: World, rounds: int) -> list[float]:
    """Of a body that is never whole, for five seconds each time; they come with a credential and the right head."""
    head = (
        f"POST {USERS} HTTP/1.1\r\nHost: x\r\nAuthorization: {AS_OWNER['Authorization']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    ).encode()
    recoveries = []
    for _ in range(rounds):
        _calm()
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            address = ("127.0.0.1", world.port)
            clients = [stack.enter_context(socket.create_connection(address, HANGS)) for _ in range(200)]
            for piece in (head, *[b" "] * 5):
                for client in clients:
                    client.sendall(piece)
                time.sleep(1)
            recoveries.append(world.recover(began))
    return recoveries


@_scenario("SIGKILL of PgBouncer in transaction mode")
def pooler_killed(world: World, rounds: int) -> list[float]:
    """Between service and PostgreSQL, with fewer connections than the service has; it is started anew."""
    recoveries = []
    with world.sql() as sql:
        sql.execute("ALTER ROLE ai_admin SET statement_timeout = '5s'")
        sql.execute("ALTER ROLE ai_admin SET timezone = 'UTC'")
    folder, restart = world.beside.enter_context(pooler(world.wire.folder))
    world.restart_behind(folder)
    for _ in range(rounds):
        _calm()
        killed = time.monotonic()
        restart()
        recoveries.append(world.recover(killed))
    return recoveries


@_scenario("a full disk")
def disk_full(world: World, rounds: int) -> list[float]:
    """Until a write has failed; then there is room again, and PostgreSQL is started where it has given up."""
    recoveries = []
    for _ in range(rounds):
        _calm()
        failed = world.ledger.errors.total()
        ballast = world.postgres.log.parent / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65_536))
        _until(lambda before=failed: world.ledger.errors.total() > before)  # type: ignore[misc]
        time.sleep(1)
        ballast.unlink()
        freed = time.monotonic()
        if world.postgres._process is not None and world.postgres._process.poll() is not None:
            world.postgres.start()
        recoveries.append(world.recover(freed))
    return recoveries


@_scenario("a streaming replica promoted")
def replica_promoted(world: World, rounds: int) -> list[float]:
    """A synchronous one, when the primary has been killed with SIGKILL."""
    recoveries = []
    for number in range(rounds):
        primary, replica = world.postgres, world.replica(f"replica-{number}")
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
        recoveries.append(world.recover(killed))
    return recoveries


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)
