"""What is broken on purpose: a server and a PostgreSQL as processes of their own, and a wire between them."""

import base64
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen

import httpx
import psycopg
from nacl.signing import SigningKey

from ai_admin import migrate
from ai_admin.audit.sealing import verify_log
from ai_admin.audit.seals import key_id
from ai_admin.config import Settings, load_settings
from ai_admin.embedded import SUPERUSER, EmbeddedPostgres, _as_ordinary_user, binaries
from tests.conftest import AS_OWNER, ROLE, add_owner, database_secret, write_mount
from tests.faults.ledger import Ledger, Verdict
from tests.serving import HANGS, USERS, end, free_port, launch

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
_SOCKET = ".s.PGSQL.5432"
# The server seals with it while things break.
_SEALS = SigningKey(bytes(range(32)))


class SmallDiskRefused(Exception):
    """No small file system can be made here."""


class Wire:
    """A socket that leads to PostgreSQL's, and that can be cut, or made slow."""

    def __init__(self, folder: Path, target: EmbeddedPostgres) -> None:
        """`folder` holds the socket; what connects to it gets to the target that is there at that moment."""
        folder.mkdir(parents=True)
        self.folder, self.target = folder, target
        # Seconds that each piece takes from PostgreSQL to the client.
        self.delay = 0.0
        self._is_cut = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _SOCKET))
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and let no new one through until it is mended."""
        self._is_cut = True
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def close(self) -> None:
        """For good."""
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server, self._registered(client, server), contextlib.suppress(OSError):
            if self._is_cut:
                return
            server.connect(str(self.target.socket_folder / _SOCKET))
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for end in readable:
                    piece = end.recv(65_536)
                    if not piece or self._is_cut:
                        return
                    if end is server and self.delay:
                        time.sleep(self.delay)
                    (server if end is client else client).sendall(piece)

    @contextlib.contextmanager
    def _registered(self, *ends: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.update(ends)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(ends)


@dataclass
class World:
    """A directory that serves, and all that can be broken in it."""

    folder: Path
    settings: Settings
    postgres: EmbeddedPostgres
    wire: Wire
    port: int
    server: "Popen[bytes]"
    ledger: Ledger
    replicas: list[EmbeddedPostgres] = field(default_factory=list)
    # Of callers beside those who write.
    keys: list[str] = field(default_factory=list)
    # What ends after the server.
    beside: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    # Where there is a pooler: kills it, and starts it anew.
    restart_pooler: Callable[[], None] = field(init=False)

    def workers(self) -> list[int]:
        """The processes that answer requests."""
        return [pid for pid in _children(self.server.pid) if b"spawn_main" in _command_line(pid)]

    def most_memory(self) -> int:
        """The most memory that one of the workers has taken so far, in MiB."""
        files = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers()]
        return max(int(file.partition("VmHWM:")[2].split()[0]) // 1024 for file in files)

    def make_callers(self) -> None:
        """Make four callers who may create users, each with a key."""
        url = f"http://127.0.0.1:{self.port}"
        with httpx.Client(base_url=url, headers=AS_OWNER, timeout=HANGS, trust_env=False) as api:
            for number in range(4):
                user = api.post(USERS, json={"tag": f"caller-{number}", "kind": "service", "role": "admin"}).json()
                made = api.post(f"{USERS}/{user['id']}/keys", json={"name": "caller"}).json()
                self.keys.append(made["key"])

    def kill_server(self) -> None:
        """SIGKILL to the server's first process; its workers see that it is gone."""
        self.server.kill()
        self.server.wait()

    def start_server(self) -> None:
        """Start it anew, on the same port."""
        deadline = time.monotonic() + HANGS
        while True:
            try:
                self.server = launch(self.settings, self.folder, self.port)
            except RuntimeError:
                # Workers of the one before may still have the port.
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def kill_postgres(self) -> None:
        """SIGKILL to PostgreSQL's every process at one moment."""
        process = self.postgres._process
        assert process is not None
        everyone = [process.pid, *_children(process.pid)]
        for pid in everyone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        # What they shared goes with the last of them.
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everyone), "the end of PostgreSQL")

    def replica(self) -> EmbeddedPostgres:
        """A streaming replica of PostgreSQL, which commits wait for from now on."""
        folder = self.folder / f"replica-{len(self.replicas)}"
        replica = EmbeddedPostgres(folder)
        source = f"--host={self.postgres.socket_folder}"
        target = f"--pgdata={folder / 'postgres'}"
        options = [source, target, f"--username={SUPERUSER}", "--checkpoint=fast", "--write-recovery-conf"]
        subprocess.run([binaries() / "pg_basebackup", *options], check=True, capture_output=True)
        # It may have copied the mark that the socket of the other one is in use.
        (folder / "postgres" / f"{_SOCKET}.lock").unlink(missing_ok=True)
        replica.start()
        self.replicas.append(replica)
        with self.postgres.connect("postgres") as sql:
            sql.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            sql.execute("SELECT pg_reload_conf()")
            state = "SELECT sync_state FROM pg_stat_replication"
            until(lambda: sql.execute(state).fetchall() == [("sync",)], "a replica that follows")
        return replica

    def put_pooler_between(self) -> None:
        """Start the server anew with PgBouncer between it and the wire."""
        with self.sql() as sql:
            sql.execute("ALTER ROLE ai_admin SET statement_timeout = '5s'")
            sql.execute("ALTER ROLE ai_admin SET timezone = 'UTC'")
        folder, self.restart_pooler = self.beside.enter_context(pooler(self.wire.folder))
        end(self.server)
        write_mount(self.folder / "mount", {"PG_HOST": str(folder)}, {"PG_POOLING": "transaction"})
        self.start_server()

    def sql(self) -> psycopg.Connection:
        """A superuser's connection, past the wire."""
        return self.wire.target.connect(self.settings.secret.pg_database)

    def recover(self, since: float) -> float:
        """Wait for a write to be acknowledged; the longest time without one since that moment, in seconds."""
        return self.ledger.longest_pause(since)

    def verdict(self, recoveries: list[float]) -> Verdict:
        """The books against the directory, and the seals of its audit log."""
        direct = replace(
            self.settings,
            secret=self.settings.secret.model_copy(update={"pg_host": str(self.wire.target.socket_folder)}),
        )
        keys = {key_id(_SEALS.verify_key): _SEALS.verify_key}
        until(lambda: verify_log(direct.secret, keys)[1].events == 0, "a seal for every event")
        verification, _ = verify_log(direct.secret, keys)
        with self.sql() as sql:
            verdict = self.ledger.audit(sql)
        verdict.recoveries = recoveries
        verdict.memory = self.most_memory()
        assert verification.ok, verification.findings
        return verdict


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"it does not come about: {what}"
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    """The children of all threads of a process that are there at this moment."""
    return [int(child) for each in Path(f"/proc/{pid}/task").glob("*/children") for child in each.read_text().split()]


def _command_line(pid: int) -> bytes:
    """Nothing where the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@contextlib.contextmanager
def pooler(target: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """PgBouncer in transaction mode before the socket in `target`.

    Gives the folder of its own socket, and what kills it and starts it anew.
    """
    with tempfile.TemporaryDirectory(prefix="bouncer-", dir="/tmp") as name:
        folder = Path(name)
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={target} user={ROLE}\n[pgbouncer]\npool_mode = transaction\nlisten_port = 5432\n"
            f"unix_socket_dir = {folder}\nauth_type = any\nmax_client_conn = 200\ndefault_pool_size = 6\n"
        )
        assert PGBOUNCER, "PgBouncer is not installed"
        command = [*_as_ordinary_user(), PGBOUNCER, str(settings)]

        def start() -> "Popen[bytes]":
            with (folder / "log").open("ab") as log:
                process = Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            until(lambda: (folder / _SOCKET).exists() or process.poll() is not None, "PgBouncer")
            assert process.poll() is None, (folder / "log").read_text()
            return process

        processes = [start()]

        def restart() -> None:
            processes[-1].kill()
            processes[-1].wait()
            (folder / _SOCKET).unlink(missing_ok=True)
            processes.append(start())

        try:
            yield folder, restart
        finally:
            processes[-1].kill()
            processes[-1].wait()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own at `folder`, with little room. Raises `SmallDiskRefused`."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise SmallDiskRefused(str(error)) from error
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def world(folder: Path, *, workers: int = 2, **settings: str) -> Iterator[World]:
    """A new directory that serves; `settings` are PostgreSQL's."""
    # Small enough for a small disk.
    postgres = EmbeddedPostgres(folder / "pg", **{"max_wal_size": "64MB", "min_wal_size": "32MB", **settings})
    postgres.start()
    try:
        postgres.ensure_database("ai_admin", ROLE)
        secret = database_secret(postgres, "ai_admin")
        secret["AUDIT_SEAL_KEY"] = base64.b64encode(bytes(_SEALS)).decode()
        mounted = load_settings(
            write_mount(folder / "mount", secret, {"LOG_LEVEL": "WARNING", "WRITES_PER_SECOND": "1000000"})
        )
        migrate.upgrade(mounted.secret)
        with postgres.connect("ai_admin") as sql:
            add_owner(sql)
        # A socket's path is short.
        wire = Wire(Path(f"/tmp/ai-admin-wire-{os.getpid()}-{time.monotonic_ns()}"), postgres)
        try:
            mounted = load_settings(write_mount(folder / "mount", {**secret, "PG_HOST": str(wire.folder)}, {}))
            port = free_port()
            server = launch(mounted, folder, port, workers)
            ledger = Ledger(f"http://127.0.0.1:{port}", AS_OWNER)
            here = World(folder, mounted, postgres, wire, port, server, ledger)
            try:
                yield here
            finally:
                end(here.server)
                here.beside.close()
                for replica in here.replicas:
                    replica.stop()
        finally:
            wire.close()
            shutil.rmtree(wire.folder, ignore_errors=True)
    finally:
        postgres.stop()
