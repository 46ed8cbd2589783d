"""`ai-admin vault`: which key has sealed what, everything sealed anew, and changes to a ring in a file."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import psycopg
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ai_admin.config import ConfigError, config_root, load_database_settings
from ai_admin.database import Connection
from ai_admin.errors import ApiError
from ai_admin.terminal import Exit, Root, failure, print_json, refusal, stderr, stdout
from ai_admin.vault.keyring import KeyRing
from ai_admin.vault.mounted import MountedKeyRing, load_key_ring
from ai_admin.vault.registry import SEALED_COLUMNS, RowsByKey, connect, count_rows, count_unbound, wait_for_writers
from ai_admin.vault.ring_file import promoted, read_ring, retired, with_new_key, write_ring
from ai_admin.vault.rotation import BATCH, Rotation

app = typer.Typer()
# Rows that are named; the others are only counted.
_NAMED = 100
_MISSING = "missing"
# States in which a key does not open.
_CLOSED = {_MISSING, "retired"}
# Seconds that retiring waits for open transactions.
_PATIENCE = 60.0

RingFile = Annotated[Path, typer.Option("--file", help="File with the ring's JSON; it is replaced, with mode 0600.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="Id of the key, such as 2026-12.")]


@contextmanager
def _told() -> Iterator[None]:
    """Errors of settings, files and database in one line and exit code 2."""
    try:
        yield
    except psycopg.Error as error:
        # Not the detail, which quotes values of rows.
        raise failure(error.diag.message_primary or error, Exit.TROUBLE) from None
    except ApiError as error:
        raise refusal(error) from None
    except (ConfigError, ValueError, OSError) as error:
        raise failure(error, Exit.TROUBLE) from None


def _connected(root: Path | None) -> closing[Connection]:
    return closing(connect(load_database_settings(root or config_root())))


@app.command()
def status(
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the keys of the ring with the rows that each has sealed; exit 1 where rows need a key that does not open.

    Example: ai-admin vault status
    """
    with _told(), _connected(root) as connection:
        ring, rows, unbound = load_key_ring(root), count_rows(connection), count_unbound(connection)
    states = _states(ring, rows)
    if as_json:
        totals = {str(column): sum(counts.values()) for column, counts in unbound.items()}
        print_json({"keys": [_described(*each, rows) for each in states.items()], "unbound": totals})
    else:
        _print(states, rows)
        _print_unbound(unbound)
    closed = _closed(states, rows)
    if closed:
        told = (f"{_number(needed)} need the key {key_id}, which is {states[key_id]}" for key_id, needed in closed)
        advice = "put it back into the ring as active, and run ai-admin vault rotate"
        raise failure(f"{'; '.join(told)}: {advice}", Exit.REFUSED)


def _states(ring: KeyRing, rows: RowsByKey) -> dict[str, str]:
    """The state of each key of the ring, in its order, then of each that rows name and the ring lacks."""
    used = sorted({key_id for counts in rows.values() for key_id in counts})
    states: dict[str, str] = {key.id: key.state for key in ring.keys}
    return states | {key_id: _MISSING for key_id in used if key_id not in states}


def _closed(states: dict[str, str], rows: RowsByKey) -> list[tuple[str, int]]:
    """The keys that rows need and that do not open, with the number of those rows."""
    return [(key_id, needed) for key_id in states if states[key_id] in _CLOSED and (needed := _needed(rows, key_id))]


def _needed(rows: RowsByKey, key_id: str) -> int:
    return sum(counts.get(key_id, 0) for counts in rows.values())


def _described(key_id: str, state: str, rows: RowsByKey) -> dict[str, object]:
    return {
        "id": key_id,
        "state": state,
        "rows": {str(column): counts.get(key_id, 0) for column, counts in rows.items()},
    }


def _print(states: dict[str, str], rows: RowsByKey) -> None:
    table = Table("key", "state", box=None, pad_edge=False)
    for column in SEALED_COLUMNS:
        table.add_column(str(column), justify="right")
    for key_id, state in states.items():
        style = "bold red" if state == _MISSING else ""
        table.add_row(escape(key_id), state, *(f"{rows[at].get(key_id, 0):,}" for at in SEALED_COLUMNS), style=style)
    stdout().print(table)


def _print_unbound(unbound: RowsByKey) -> None:
    for column, counts in unbound.items():
        if counts:
            told = f"{_number(sum(counts.values()))} of {column} not bound yet to {', '.join(column.bound)}"
            typer.echo(f"{told}; ai-admin vault rotate binds them")


@app.command()
def rotate(
    root: Root = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what there is to do, and change nothing.")] = False,
    rate: Annotated[int | None, typer.Option(min=1, help="Most rows a second; without it as fast as it goes.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows in one transaction.")] = BATCH,
) -> None:
    """Seal every row anew under the primary key, while the service runs. May be stopped and run again at any time.

    Rows of an earlier version that are not bound yet to user, name and provider are sealed anew whatever their key.

    Exit code 1 where it was stopped, or rows cannot be opened: those are named and left as they are.

    Example: ai-admin vault rotate --rate 5000
    """
    with _told(), _connected(root) as connection:
        ring = MountedKeyRing(root)
        primary = ring.current().primary.id
        left = _left(connection, primary)
        if dry_run:
            stderr.print(f"{_number(left)} to seal anew under {primary}; nothing is changed")
            return
        with _stopping() as stop:
            rotation = Rotation(connection, ring.current, batch=batch, rate=rate, pause=stop.wait)
            _run(rotation, left, stop)
        primary = ring.current().primary.id
        left = _left(connection, primary)
    stderr.print(f"{_number(rotation.resealed)} sealed anew under {primary}")
    for (column, key), why in list(rotation.unopened.items())[:_NAMED]:
        stderr.print(escape(f"{column} {column.primary_key}={column.row(key)} is left: {why}"), soft_wrap=True)
    if stop.is_set():
        raise failure(f"stopped, {_number(left)} left; run it again to go on", Exit.REFUSED)
    if rotation.unopened:
        raise failure(f"{_number(len(rotation.unopened))} cannot be opened, and stay as they are", Exit.REFUSED)
    if left:
        told = f"{_number(left)} locked by others, or sealed meanwhile under another key; run it again"
        raise failure(told, Exit.REFUSED)


def _left(connection: Connection, primary: str) -> int:
    """Rows that are under another key, or under this one and not bound yet."""
    rows = count_rows(connection).values()
    others = sum(number for counts in rows for key_id, number in counts.items() if key_id != primary)
    return others + sum(counts.get(primary, 0) for counts in count_unbound(connection).values())


def _number(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} rows/s")


def _run(rotation: Rotation, rows: int, stop: threading.Event) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=rows)
        for _ in rotation.run():
            # Rows that are sealed meanwhile under another key come on top.
            progress.update(task, completed=rotation.resealed, total=max(rows, rotation.resealed))
            if stop.is_set():
                return


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM; the second of a kind does what it always does."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, handle)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@app.command()
def add_key(key_id: KeyId, file: RingFile) -> None:
    """Add a new random key to the ring in a file, as active. The key is shown nowhere.

    Example: ai-admin vault add-key 2026-12 --file ring.json
    """
    _change(file, lambda ring: with_new_key(ring, key_id))
    stderr.print(f"{key_id} is added as active; deploy the ring everywhere, and then promote the key")


@app.command()
def promote(key_id: KeyId, file: RingFile, root: Root = None) -> None:
    """Make an active key primary in the ring in a file, and the primary one active.

    Refused where the mounted ring does not open with the key: processes with that ring could not read what it seals.

    Example: ai-admin vault promote 2026-12 --file ring.json
    """
    with _told():
        ring = promoted(read_ring(file), key_id)
        _require_deployed(key_id, root)
        write_ring(file, ring)
    stderr.print(f"{key_id} is primary; deploy the ring everywhere, and then run ai-admin vault rotate")


@app.command()
def retire(key_id: KeyId, file: RingFile, root: Root = None) -> None:
    """Make a key retired in the ring in a file. Refused while any row needs it, or the mounted ring seals with it.

    Waits for the transactions that are open, which may have sealed with it; refused where one lasts a minute.

    Example: ai-admin vault retire 2026-11 --file ring.json
    """
    with _told(), _connected(root) as connection:
        ring, mounted = retired(read_ring(file), key_id), load_key_ring(root)
        ring.require_same_keys(mounted)
        if mounted.primary.id == key_id:
            told = f"{key_id} is primary in the mounted ring; deploy the one that has another primary key first"
            raise failure(told, Exit.REFUSED)
        writers = wait_for_writers(connection, _PATIENCE)
        if writers:
            pids = ", ".join(map(str, writers))
            told = f"transactions are open that may have sealed with {key_id} (PostgreSQL's processes {pids})"
            raise failure(told, Exit.REFUSED)
        rows = count_rows(connection)
        needed = _needed(rows, key_id)
        if needed:
            raise failure(f"{_number(needed)} need the key {key_id}; run ai-admin vault rotate first", Exit.REFUSED)
        states = _states(ring, rows)
        for other_id, needed in _closed(states, rows):
            # The file is not the ring that is deployed.
            told = f"{_number(needed)} need the key {other_id}, {states[other_id]} in the file"
            raise failure(f"{told}; take the deployed ring", Exit.REFUSED)
        write_ring(file, ring)
    stderr.print(f"{key_id} is retired, and no row needs it; deploy the ring")


def _require_deployed(key_id: str, root: Path | None) -> None:
    """End the command where the mounted ring does not open with this key; without one, say that nobody knows."""
    try:
        key = load_key_ring(root).find(key_id)
    except ConfigError:
        if root is not None:
            raise
        stderr.print(f"note: no ring is mounted here, so whether each process knows {key_id} was not checked")
        return
    if key is None or key.state == "retired":
        told = f"the mounted ring does not open with {key_id}; deploy the one that has it as active everywhere first"
        raise failure(told, Exit.REFUSED)


def _change(file: Path, change: Callable[[KeyRing], KeyRing]) -> None:
    with _told():
        write_ring(file, change(read_ring(file)))
