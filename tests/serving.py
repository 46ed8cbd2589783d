"""Real servers for tests: processes of their own on free loopback ports, ended by their own id."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import httpx

from ai_admin import migrate
from ai_admin.config import ROOT_VARIABLE, Settings, load_settings
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import AS_OWNER, ROLE, ROOT, add_owner, database_secret, delete_rows, migrated_database, write_mount

Result = TypeVar("Result")
USERS = "/ai/admin/users"
# Rates for a deployment at which one user does in a moment what people do in a day.
OFTEN = {"WRITES_PER_SECOND": "1000000", "OWN_WRITES_PER_MINUTE": "1000000", "SIGN_INS_PER_MINUTE": "1000000"}
# Nothing here is a promise of speed: a request that takes this long, in seconds, hangs.
HANGS = 20
_START_S = 60
# What `script/server` does last, with a byte on a pipe in place of the welcome.
_PROGRAM = """
import os, sys
from pathlib import Path
from ai_admin.server import serve
port, workers, ready = map(int, sys.argv[1:4])
serve("127.0.0.1", port, workers, Path(sys.argv[4]), lambda *_: os.write(ready, b"."))
"""


@contextmanager
def own_database(postgres: EmbeddedPostgres, folder: Path, **config: str) -> Iterator[Settings]:
    """Settings that lead to an empty migrated database, for as long as a fixture of any scope needs it."""
    with migrated_database(postgres) as name:
        yield load_settings(write_mount(folder / "mount", database_secret(postgres, name), config))


@contextmanager
def directory(folder: Path, **config: str) -> Iterator[Settings]:
    """Settings that lead to an empty directory on a PostgreSQL of its own, for a benchmark."""
    postgres = EmbeddedPostgres(folder / "pg")
    postgres.start()
    try:
        postgres.ensure_database("ai_admin", ROLE)
        settings = load_settings(write_mount(folder / "mount", database_secret(postgres, "ai_admin"), config))
        migrate.upgrade(settings.secret)
        with postgres.connect("ai_admin") as connection:
            add_owner(connection)
        yield settings
    finally:
        postgres.stop()


def empty(postgres: EmbeddedPostgres, database: str) -> None:
    """Take every row out of a migrated database, but for the owner."""
    with postgres.connect(database) as connection:
        delete_rows(connection)


@contextmanager
def serving(settings: Settings, folder: Path, workers: int = 2, port: int | None = None) -> Iterator[httpx.Client]:
    """A client of a server that runs as its own process, on a free port if none is named, with these settings."""
    port = port or free_port()
    process = launch(settings, folder, port, workers)
    try:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=AS_OWNER, timeout=HANGS, limits=limits, trust_env=False
        ) as client:
            yield client
    finally:
        end(process)


def launch(settings: Settings, folder: Path, port: int, workers: int = 2) -> "subprocess.Popen[bytes]":
    """A server that answers. Raises RuntimeError where it does not come to that."""
    ready, announce = os.pipe()
    log = folder / "server.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PROMETHEUS_"))},
        "PYTHONPATH": str(ROOT / "apps"),
        ROOT_VARIABLE: str(settings.root),
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(port), str(workers), str(announce), str(folder / "metrics")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[announce],
        )
    os.close(announce)
    try:
        # The end of the pipe can be read too: then the server has ended before it was ready.
        readable, _, _ = select.select([ready], [], [], _START_S)
        if readable and os.read(ready, 1):
            return process
    finally:
        os.close(ready)
    end(process)
    raise RuntimeError(f"The server did not start:\n{log.read_text()}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Let a server finish what it does, and end. Raises `subprocess.TimeoutExpired` where it has to be killed."""
    process.terminate()
    try:
        process.wait(HANGS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def together(number: int, act: Callable[[int], Result]) -> list[Result]:
    """What `act` returns for 0, 1, …, called from as many threads that start at the same moment."""
    start = Barrier(number)

    def run(index: int) -> Result:
        start.wait(HANGS)
        return act(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))
