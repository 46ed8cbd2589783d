"""The measurements, each a function from directories to figures; nothing here prints or judges speed."""

import asyncio
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psycopg
from rich.console import Console

from ai_admin.app import create_app
from ai_admin.database import connection_arguments
from harness import scale, yardsticks
from harness.directories import Directory
from harness.generators import CONNECTIONS, Latencies, Rate, arrivals, closed_loop
from harness.processes import Server, Tree, other, postgres_tree, product
from harness.requests import Request, get
from harness.workloads import SIZE, USERS, Workload, floor, workloads

_PERCENTILES = (50, 95, 99)
# The share of the rate of a closed loop at which latencies are looked at: a server that is busy, and not overrun.
_LOAD = 0.5
# What one process can send without being what is measured.
_MOST_ARRIVALS = 1_000
_HANGS = 30
_PLAIN = "harness.plain:create"
# Waits five seconds for each; those that are ending at that moment are asked once more.
_END_PLAIN = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
_END_TRIES = 20
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


@dataclass
class Figures:
    """Of one workload: answers a second, milliseconds, MiB, and seconds of CPU; medians over the rounds."""

    name: str
    a_second: float = 0
    of_floor: float = 0
    pgbench: float | None = None
    plain: float | None = None
    server_cpu_ms: float = 0
    database_cpu_ms: float = 0
    server_mib: float = 0
    arrivals_a_second: float = 0
    percentiles_ms: dict[int, float] = field(default_factory=dict)
    errors: int = 0

    @property
    def of_pgbench(self) -> float | None:
        """The share of the data floor's rate."""
        return self.a_second / self.pgbench if self.pgbench else None

    @property
    def of_plain(self) -> float | None:
        """How many times the plain way's rate."""
        return self.a_second / self.plain if self.plain else None


@dataclass
class _Samples:
    """What the rounds found for one workload."""

    rates: list[float] = field(default_factory=list)
    of_floor: list[float] = field(default_factory=list)
    pgbench: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)
    database_cpu: list[float] = field(default_factory=list)
    errors: int = 0


def rates(directory: Directory, folder: Path, rounds: int, seconds: float, console: Console) -> list[Figures]:
    """Each workload on a server with one worker, beside its yardsticks, in turns; then its latencies."""
    database = postgres_tree(folder)
    asked = workloads(directory)
    scripts = {
        work.name: yardsticks.statements(directory.settings, work.statements) for work in asked if work.statements
    }
    samples = {work.name: _Samples() for work in [floor(), *asked]}
    with ExitStack() as servers:
        ours = servers.enter_context(product(directory.settings))
        bare = servers.enter_context(other("harness.bare:create", directory.settings))
        for round_ in range(1, rounds + 1):
            for work in asked:
                console.print(f"[bold]==>[/] Round {round_} of {rounds}: {work.name}")
                # The floor beside each, so that a noisy minute meets both.
                zero, _, _ = _rate(bare, floor(), max(1, seconds / 2), database)
                samples[floor().name].rates.append(zero.a_second)
                found, server_cpu, database_cpu = _rate(ours, work, seconds, database)
                kept = samples[work.name]
                kept.rates.append(found.a_second)
                kept.of_floor.append(found.a_second / zero.a_second)
                kept.server_cpu.append(server_cpu)
                kept.database_cpu.append(database_cpu)
                kept.errors += found.errors
                if work.name in scripts:
                    kept.pgbench.append(yardsticks.rate(directory.settings, scripts[work.name], seconds, CONNECTIONS))
                if work.plain:
                    compared = _plain_loop(directory, work.plain, seconds)
                    kept.plain.append(compared.a_second)
                    kept.errors += compared.errors
                if work.creates:
                    directory.forget_created()
        figures = [_figures(name, found) for name, found in samples.items()]
        figures[0].of_floor = 1
        for work, each in zip([floor(), *asked], figures, strict=True):
            console.print(f"[bold]==>[/] Latencies: {work.name}")
            server = bare if work.name == floor().name else ours
            each.arrivals_a_second = min(each.a_second * _LOAD, _MOST_ARRIVALS)
            latencies = arrivals(server.port, work.requests, each.arrivals_a_second, seconds * 2)
            if latencies.errors:
                console.print(f"[red]wrong:[/] {dict(latencies.errors)}")
            each.percentiles_ms = _milliseconds(latencies)
            each.errors += latencies.errors.total()
            each.server_mib = server.tree.memory()
            if work.creates:
                directory.forget_created()
    return figures


def _rate(server: Server, work: Workload, seconds: float, database: Tree) -> tuple[Rate, float, float]:
    """The rate, and the milliseconds of CPU of server and database for each answer."""
    before = server.tree.cpu(), database.cpu()
    found = closed_loop(server.port, work.requests, seconds)
    answers = max(1.0, found.a_second * seconds)
    return (
        found,
        (server.tree.cpu() - before[0]) / answers * 1000,
        (database.cpu() - before[1]) / answers * 1000,
    )


def _plain_loop(directory: Directory, requests: Sequence[Request], seconds: float, workers: int = 1) -> Rate:
    """The plain way's rate. Server and queries are ended: it goes on with what the generator has given up long ago."""
    with other(_PLAIN, directory.settings, workers) as server:
        found = closed_loop(server.port, requests, seconds)
    with _admin(directory) as connection:
        for _ in range(_END_TRIES):
            if not connection.execute(_END_PLAIN, [_PLAIN]).fetchall():
                return found
    raise RuntimeError("the plain way's queries do not end")


def _figures(name: str, found: _Samples) -> Figures:
    def median(values: Sequence[float]) -> float:
        return statistics.median(values) if values else 0

    return Figures(
        name,
        a_second=median(found.rates),
        of_floor=median(found.of_floor),
        pgbench=median(found.pgbench) or None,
        plain=median(found.plain) or None,
        server_cpu_ms=median(found.server_cpu),
        database_cpu_ms=median(found.database_cpu),
        errors=found.errors,
    )


def _milliseconds(latencies: Latencies) -> dict[int, float]:
    return {percent: latencies.percentile(percent) * 1000 for percent in _PERCENTILES}


@dataclass(frozen=True)
class Scaled:
    """One request of the list: its p95 in milliseconds in each directory, the smallest first."""

    name: str
    p95_ms: list[float]

    @property
    def ratio(self) -> float:
        """The largest directory against the smallest."""
        return self.p95_ms[-1] / self.p95_ms[0]


def scaled(directories: Sequence[Directory], rounds: int, console: Console) -> list[Scaled]:
    """Every request of the list on each directory in turn, through the whole application, without a network."""
    with ExitStack() as stack:
        asked = []
        for directory in directories:
            app = create_app(directory.settings)
            stack.callback(app.extensions["ai_admin"].database.close)
            client = app.test_client()
            client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {directory.key}"
            asked.append(scale.Directory(directory.users, client))
            asked[-1].user = _one_from_the_middle(asked[-1], directory)
            for sort in ("-createdAt", "name"):
                asked[-1].cursors[sort] = directory.cursor_at(directory.users // 2, SIZE, sort)
        samples = scale.measure(asked, rounds, lambda done: console.print(f"[bold]==>[/] Scale: {done} of {rounds}"))
    return [Scaled(name, [_p95(times) * 1000 for times in taken]) for name, taken in samples.items()]


def _one_from_the_middle(asked: scale.Directory, directory: Directory) -> dict[str, Any]:
    return next(
        user for user in (asked.get({}, f"{USERS}/{name}") for name in directory.some(50)) if user["kind"] == "human"
    )


def _p95(times: list[float]) -> float:
    return Latencies(sorted(times)).percentile(95)


@dataclass(frozen=True)
class Deep:
    """The rates of a page far inside a directory, ours by cursor and the plain way's by OFFSET; and of the first."""

    page: int
    size: int
    users: int
    ours: float
    plain: float
    first_ours: float
    first_plain: float
    errors: int


def deep(directory: Directory, page: int, size: int, seconds: float) -> Deep:
    """A page so deep, for both, with two workers each."""
    cursor = directory.cursor_at((page - 1) * size, size)
    target, plain_target = f"{USERS}?size={size}", f"/users?size={size}"
    pages = ((f"{target}&cursor={cursor}", f"{plain_target}&page={page}"), (target, plain_target))
    found = []
    with product(directory.settings, workers=2) as ours:
        for path, plain_path in pages:
            found.append(closed_loop(ours.port, [get(path, directory.key)], seconds))
            found.append(_plain_loop(directory, [get(plain_path)], seconds, workers=2))
    a, b, c, d = (rate.a_second for rate in found)
    return Deep(page, size, directory.users, a, b, c, d, sum(rate.errors for rate in found))


@dataclass(frozen=True)
class Crowd:
    """Many connections: how many requests got their answer, and latencies in milliseconds."""

    connections: int
    right: int
    wrong: int
    percentiles_ms: dict[int, float]
    mib_before: float
    mib_after: float


def at_once(directory: Directory, connections: int, workers: int) -> Crowd:
    """So many connections opened at one moment, each with one request for the first page."""
    _allow_open_files()
    request = get(f"{USERS}?size={SIZE}", directory.key)
    with product(directory.settings, workers) as server:
        closed_loop(server.port, [request], 1)
        before = server.tree.memory()
        latencies = asyncio.run(_all_at_once(server.port, request, connections))
        wrong = latencies.errors.total()
        return Crowd(connections, connections - wrong, wrong, _milliseconds(latencies), before, server.tree.memory())


async def _all_at_once(port: int, request: Request, connections: int) -> Latencies:
    found = Latencies()
    begin = time.perf_counter()

    async def one() -> None:
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
                session.get(f"http://127.0.0.1:{port}{request.target}", headers=request.headers) as answer,
            ):
                await answer.read()
            if answer.status != request.status:
                found.errors[str(answer.status)] += 1
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            found.errors[type(error).__name__] += 1
        found.seconds.append(time.perf_counter() - begin)

    await asyncio.gather(*(one() for _ in range(connections)))
    found.seconds.sort()
    return found


def idle(directory: Directory, connections: int, seconds: float) -> Crowd:
    """So many connections that have asked once and wait, while others ask for one user after the other."""
    _allow_open_files()
    one = [get(f"{USERS}/{name}", directory.key) for name in directory.some(100)]
    with product(directory.settings) as server:
        closed_loop(server.port, one, 1)
        before = server.tree.memory()
        return asyncio.run(_among_idle(server, one, connections, seconds, before))


async def _among_idle(server: Server, one: list[Request], connections: int, seconds: float, before: float) -> Crowd:
    opened = []
    wrong = 0
    for number in range(connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(one[number % len(one)].raw.encode())
        opened.append((reader, writer))
        wrong += not (await reader.readline()).startswith(b"HTTP/1.1 200")
    latencies = await asyncio.to_thread(arrivals, server.port, one, 100, seconds)
    after = server.tree.memory()
    # Those that waited are still served.
    for number, (reader, writer) in enumerate(opened):
        writer.write(one[number % len(one)].raw.encode())
        wrong += not await _answers(reader)
        writer.close()
    wrong += latencies.errors.total()
    return Crowd(
        connections, connections * 2 + len(latencies.seconds) - wrong, wrong, _milliseconds(latencies), before, after
    )


async def _answers(reader: asyncio.StreamReader) -> bool:
    """Whether, after the rest of the first answer, there is a second."""
    try:
        return bool(await asyncio.wait_for(reader.readuntil(b"HTTP/1.1 200"), _HANGS))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, asyncio.TimeoutError):
        return False


@dataclass
class Soak:
    """A mix of requests for a long time: its latencies in milliseconds, and a sample of each `every` seconds."""

    seconds: float
    a_second: float
    requests: int
    errors: int
    percentiles_ms: dict[int, float]
    every: float
    server_mib: list[float] = field(default_factory=list)
    database_mib: list[float] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)


def soak(directory: Directory, folder: Path, a_second: float, seconds: float, console: Console) -> Soak:
    """The mix at a steady rate, on a server with two workers; memory and connections watched."""
    mix = workloads(directory)[-1]
    database = postgres_tree(folder)
    with product(directory.settings, workers=2) as server, _admin(directory) as connection:
        closed_loop(server.port, mix.requests, min(10, seconds))
        found = Soak(seconds, a_second, 0, 0, {}, every=max(1.0, seconds / 120))

        async def watch() -> Latencies:
            load = asyncio.create_task(asyncio.to_thread(arrivals, server.port, mix.requests, a_second, seconds))
            while not load.done():
                found.server_mib.append(server.tree.memory())
                found.database_mib.append(database.memory())
                row = connection.execute(_CONNECTIONS, [directory.settings.secret.pg_database]).fetchone()
                found.connections.append(row[0] if row else 0)
                console.print(f"[bold]==>[/] Soak: {len(found.server_mib) * found.every:,.0f} of {seconds:,.0f} s")
                await asyncio.wait([load], timeout=found.every)
            return await load

        latencies = asyncio.run(watch())
    found.requests, found.errors = len(latencies.seconds), latencies.errors.total()
    found.percentiles_ms = _milliseconds(latencies)
    return found


@contextmanager
def _admin(directory: Directory) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**connection_arguments(directory.settings.secret), autocommit=True) as connection:
        yield connection


def _allow_open_files() -> None:
    """As many as the machine lets this process, and those it starts, have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def wrong_answers(directory: Directory) -> list[str]:
    """What differs between our answers and the plain way's: the same users, in the same order, at any depth."""
    found = []
    headers = {"Authorization": f"Bearer {directory.key}"}
    with product(directory.settings) as ours, other(_PLAIN, directory.settings) as plain:
        a = httpx.Client(base_url=f"http://127.0.0.1:{ours.port}", headers=headers, trust_env=False)
        b = httpx.Client(base_url=f"http://127.0.0.1:{plain.port}", trust_env=False)
        with a, b:
            for page in (1, 2, directory.users // SIZE // 2):
                cursor = directory.cursor_at((page - 1) * SIZE, SIZE) if page > 1 else None
                query = f"?size={SIZE}" + (f"&cursor={cursor}" if cursor else "")
                mine = [user["id"] for user in a.get(USERS + query).json()["data"]]
                theirs = [user["id"] for user in b.get("/users", params={"size": SIZE, "page": page}).json()["data"]]
                if mine != theirs:
                    found.append(f"page {page} has other users than the plain way's")
            name = directory.some(1)[0]
            if a.get(f"{USERS}/{name}").json()["tag"] != b.get(f"/users/{name}").json()["tag"]:
                found.append("one user is another one than the plain way's")
    return found
