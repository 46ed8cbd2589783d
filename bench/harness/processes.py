"""Servers under test, each a process tree of its own, and what they and PostgreSQL use."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from ai_admin.config import ROOT_VARIABLE, Settings

_BENCH = Path(__file__).parent.parent
_START_S = 60
# The server of the product (`ai_admin.server`) with another application in it.
_OTHER = """
import sys
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels
Granian(sys.argv[1], address="127.0.0.1", port=int(sys.argv[2]), interface=Interfaces.ASGINL, websockets=False,
        workers=int(sys.argv[3]), factory=True, workers_kill_timeout=1, log_level=LogLevels.error).serve()
"""


@dataclass(frozen=True)
class Tree:
    """A process and its descendants."""

    pid: int

    def members(self) -> list[psutil.Process]:
        """Those that live now."""
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu(self) -> float:
        """Seconds of CPU so far, those of descendants that have ended included."""
        total = 0.0
        for process in self.members():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
            # Each has waited for its own children, so only the root's count of the ended is ours to add.
            if process.pid == self.pid:
                total += times.children_user + times.children_system
        return total

    def memory(self) -> float:
        """MiB, each shared page divided among those that share it (PSS, proc(5))."""
        total = 0
        for process in self.members():
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return total / 2**20


@dataclass(frozen=True)
class Server:
    """A server that answers on a port of the loopback."""

    port: int
    tree: Tree


def postgres_tree(folder: Path) -> Tree:
    """The PostgreSQL whose cluster is in this folder (its postmaster.pid, first line)."""
    return Tree(int(Path(folder, "postgres", "postmaster.pid").read_text().split()[0]))


@contextmanager
def product(settings: Settings, workers: int = 1) -> Iterator[Server]:
    """`ai-admin serve`, as operators start it."""
    port = _free_port()
    with _running(["-m", "ai_admin", "serve", "--port", str(port), "--workers", str(workers)], settings, port) as tree:
        yield Server(port, tree)


@contextmanager
def other(factory: str, settings: Settings, workers: int = 1) -> Iterator[Server]:
    """Another application, named as `module:factory`, under the same server; so are its database connections.

    It is ended after a second, whatever it does.
    """
    port = _free_port()
    with _running(["-c", _OTHER, factory, str(port), str(workers)], settings, port, PGAPPNAME=factory) as tree:
        yield Server(port, tree)


@contextmanager
def _running(arguments: list[str], settings: Settings, port: int, **variables: str) -> Iterator[Tree]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{_BENCH}{os.pathsep}{_BENCH.parent / 'apps'}",
        ROOT_VARIABLE: str(settings.root),
        **variables,
    }
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            yield Tree(process.pid)
        except RuntimeError as error:
            log.seek(0)
            raise RuntimeError(f"{error}\n{log.read()[-4000:]}") from error
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + _START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError("a server did not start")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
