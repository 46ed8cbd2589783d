"""What the commands have in common: where the settings are, where tables go, and how a failure is told."""

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ai_admin import ROOT_VARIABLE

# From here on a status tells of trouble of the service, and not of the request.
_OURS = 500
# Characters a line where nobody looks: lines of a table should not break in a log.
_WIDE = 250
# What moves the cursor, and what turns the direction of the text after it (Unicode Standard Annexes 44 and 9).
_MOVING = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
stderr = Console(stderr=True, highlight=False)
Root = Annotated[
    Path | None,
    typer.Option("--root", help=f"Folder that holds secrets/ and configs/; else {ROOT_VARIABLE}, else /."),
]


class Exit(IntEnum):
    """What a command's exit code means; as `diff` has it."""

    DONE = 0
    # The log is not as it was sealed, rows of a file were not taken, the server said no.
    REFUSED = 1
    # No answer: settings, files, database, server or arguments are not as they must be.
    TROUBLE = 2
    # Ctrl-C, as a shell says it.
    INTERRUPTED = 130
    # Whoever read standard output has left (SIGPIPE).
    UNREAD = 141


class Problem(Protocol):
    """An error of the API's operations, as far as the command line reads it; the module of errors imports slowly."""

    detail: str

    @property
    def status(self) -> int:
        """The status of HTTP that a server would answer with."""


class _Output(Console):
    """Standard output, whose reader may leave."""

    def on_broken_pipe(self) -> None:
        """End as other commands do then."""
        raise unread()


def stdout() -> Console:
    """Where tables are printed."""
    return _Output(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def unread() -> typer.Exit:
    """What to raise, without a word, where whoever read standard output has left; what is still to be written goes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return typer.Exit(Exit.UNREAD)


def refusal(error: Problem) -> typer.Exit:
    """What to raise for an error of the API's operations, as a server's answer with it comes to."""
    return failure(" ".join(error.detail.split()), Exit.REFUSED if error.status < _OURS else Exit.TROUBLE)


def failure(message: object, code: Exit) -> typer.Exit:
    """Say what is wrong on standard error; what to raise."""
    stderr.print(f"[bold red]error:[/] {escape(str(message))}", soft_wrap=True)
    return typer.Exit(code)


def printable(value: object) -> str:
    """A value for a person's eyes; what would move the cursor or turn the text's direction is shown as its escape."""
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(char.encode("unicode_escape").decode("ascii") if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in _MOVING or unicodedata.bidirectional(char) in _TURNING


def rate(speed: float | None, unit: str = "") -> str:
    """Return a rate as a progress bar shows it; nothing until there is one, and never 0."""
    return f"{speed:,.0f}{unit}/s" if speed and speed >= 1 else ""


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as a table for people; a column is named after the member that it shows."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(row.get(column)), overflow="fold") for column in columns))
    stdout().print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """One record, a member a line."""
    table = Table.grid("", "", padding=(0, 2))
    for name, value in record.items():
        table.add_row(Text(name, style="bold"), Text(printable(value), overflow="fold"))
    stdout().print(table)


def show(record: Mapping[str, Any] | None, as_json: bool) -> None:
    """Print the record that a server answered with; nothing where the key may not read it."""
    if record is not None:
        (print_json if as_json else print_record)(record)


def print_json(value: object) -> None:
    """A value for programs, on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
