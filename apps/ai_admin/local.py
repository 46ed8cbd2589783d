"""`script/server`: everything in one command on one machine, the database included.

The steps: lock the data folder, fill the folder that stands for a pod's mounts from the profile, start the
embedded PostgreSQL unless the profile names a database, migrate, make demo users, serve. Backwards at the end.
"""

import base64
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated

import psycopg
import typer
from rich.console import Console

from ai_admin.config import (
    CONFIG_NAME,
    ROOT_VARIABLE,
    SECRET_NAME,
    ConfigError,
    DatabaseSettings,
    Settings,
    load_settings,
)
from ai_admin.deploy.profiles import LOCAL, Profile, read_profile
from ai_admin.embedded import EmbeddedError, EmbeddedPostgres
from ai_admin.errors import ApiError
from ai_admin.server import serve
from ai_admin.vault.keyring import new_key_entry

_NAMESPACE = "local"
_console = Console(stderr=True, highlight=False)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class StartError(Exception):
    """The local server cannot start; the message says why and what to do."""


@app.command()
def run(
    root: Annotated[Path, typer.Option(hidden=True)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Server processes.")] = 1,
    data: Annotated[
        Path | None, typer.Option(help="Folder for database and settings; .local/data in the clone if not given.")
    ] = None,
    demo_users: Annotated[
        int, typer.Option("--demo", min=0, metavar="N", help="Fill the directory up to N made-up users.")
    ] = 0,
) -> None:
    """Serve AI Admin on this machine, with its own PostgreSQL unless .fission/local-deployment.json names one."""
    # A signal unwinds what has been started so far, at whatever step it comes.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit(0))
    try:
        with ExitStack() as stack:
            kept = root / ".local"
            owner_key = (data or kept) / "owner.key"
            _start(stack, root, data or kept / "data", owner_key, host, port, workers, demo_users)
    except KeyboardInterrupt:
        _say("Stopped")
        raise typer.Exit(130) from None
    except psycopg.OperationalError as error:
        _console.print(f"[bold red]error:[/] the database of {LOCAL} cannot be used: {error}", soft_wrap=True)
        raise typer.Exit(1) from None
    except (ConfigError, EmbeddedError, StartError, ApiError) as error:
        _console.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from None


def _start(
    stack: ExitStack, root: Path, data: Path, owner_key: Path, host: str, port: int, workers: int, demo_users: int
) -> None:
    stack.enter_context(_only_one(data))
    listener = stack.enter_context(_free_address(host, port))
    profile = read_profile(root / LOCAL)
    postgres = None if profile.secret.get("PG_HOST") else stack.enter_context(_postgres(data))
    settings = _mount(profile, data / "mount", postgres)
    if postgres:
        postgres.ensure_database(settings.secret.pg_database, settings.secret.pg_user)
    _migrate(settings.secret)
    _make_owner(settings, owner_key)
    if demo_users:
        _fill(settings, demo_users)
    port = listener.getsockname()[1]
    listener.close()
    known = root / ".local" / "address"
    stack.callback(known.unlink, missing_ok=True)

    def ready(address: str) -> None:
        reachable = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        # script/ai-admin reads these three lines.
        known.parent.mkdir(exist_ok=True)
        known.write_text(f"{reachable}\n{owner_key.absolute()}\n{settings.root.absolute()}\n", encoding="utf-8")
        _welcome(owner_key, address)

    serve(host, port, workers, data / "metrics", ready)


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the data folder's lock; the kernel gives it back however this process ends."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = (data / "lock").open("a+")
    except OSError as error:
        raise StartError(f"{data} cannot be used for data: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise StartError(
                f"{data} is in use by process {lock.read().strip() or '?'}. "
                "Stop that one, or give this one a folder of its own with --data (and a --port)."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _free_address(host: str, port: int) -> socket.socket:
    """Take the address before anything slow starts, to say at once where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(f"{host} port {port}: {error.strerror}. Choose another with --port or --host.") from None
    return listener


@contextmanager
def _postgres(data: Path) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(data)
    _say("Starting PostgreSQL")
    try:
        postgres.start(_say)
        yield postgres
    finally:
        _say("Stopping PostgreSQL")
        # A second Ctrl-C must not leave the database running.
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)
        postgres.stop()


def _mount(profile: Profile, mount: Path, postgres: EmbeddedPostgres | None) -> Settings:
    """Fill the folder that stands for a pod's mounted Secret and ConfigMap, and read the settings from it."""
    secret = {
        "CURSOR_KEY": _kept(mount.parent / "cursor.key", _random_key),
        "AUDIT_SEAL_KEY": _kept(mount.parent / "audit-seal.key", _random_key),
        "VAULT_KEYS": _kept(mount.parent / "vault.keys", _key_ring),
        **profile.secret,
    }
    if postgres:
        secret["PG_HOST"] = str(postgres.socket_folder)
        secret["PG_PORT"] = "5432"
    shutil.rmtree(mount, ignore_errors=True)
    for kind, name, values in (("secrets", SECRET_NAME, secret), ("configs", CONFIG_NAME, profile.config_map())):
        folder = mount / kind / _NAMESPACE / name
        folder.mkdir(parents=True, mode=0o700)
        for key, value in values.items():
            _write_private(folder / key, value)
    os.environ[ROOT_VARIABLE] = str(mount)
    return load_settings(mount)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The secret in this file, which is made at the first start."""
    if not path.exists():
        _write_private(path, make())
    return path.read_text()


def _random_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _key_ring() -> str:
    return json.dumps({"keys": [new_key_entry("first") | {"state": "primary"}]}, indent=2) + "\n"


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _migrate(settings: DatabaseSettings) -> None:
    from ai_admin import migrate  # noqa: PLC0415  Alembic and SQLAlchemy take a third of a second to import

    if migrate.is_current(settings):
        return
    before, after = migrate.upgrade(settings)
    _say(f"Migrated the database from {before or 'nothing'} to {after}")


def _make_owner(settings: Settings, path: Path) -> None:
    """Give an empty directory its first owner, whose key is in this file and nowhere else."""
    from ai_admin.access.bootstrap import make_owner  # noqa: PLC0415  not before there is a schema

    key = make_owner(settings, "owner", only_first=True)
    if key:
        _write_private(path, key + "\n")
        _say(f"Made the first owner; the key is in {_short(path)}")


def _short(path: Path) -> Path:
    """The path as it is typed here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _fill(settings: Settings, users: int) -> None:
    from ai_admin import demo  # noqa: PLC0415  Faker is slow to import too

    demo.fill(settings, users, _console)


def _welcome(owner_key: Path, address: str) -> None:
    _console.print(
        f"""
[bold green]AI Admin is ready[/] at [bold]{address}[/]
  console        {address}/ai/admin/console
  command line   script/ai-admin users list
  owner's key    {_short(owner_key)}
  documentation  {address}/ai/admin/docs
  first request  curl -s {address}/ai/admin/users -H "Authorization: Bearer $(cat {_short(owner_key)})" \\
                   -H 'Content-Type: application/json' \\
                   -d '{{"tag": "ada", "email": "ada@example.com", "name": "Ada Lovelace"}}'
Ctrl-C stops it.
""",
        soft_wrap=True,
    )


def _say(text: str) -> None:
    _console.print(f"[bold]==>[/] {text}", soft_wrap=True)


if __name__ == "__main__":
    app(prog_name="script/server")
