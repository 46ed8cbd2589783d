"""What the commands have in common: where the settings are, where tables go, and how a failure is told."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ai_admin.config import ROOT_VARIABLE

# Characters a line where nobody looks: lines of a table should not break in a log.
_WIDE = 250
stderr = Console(stderr=True, highlight=False)
Root = Annotated[
    Path | None,
    typer.Option("--root", help=f"Folder that holds secrets/ and configs/; else {ROOT_VARIABLE}, else /."),
]


def stdout() -> Console:
    """Where tables are printed."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def failure(message: object, code: int = 1) -> typer.Exit:
    """Say what is wrong on standard error; what to raise."""
    stderr.print(f"[bold red]error:[/] {escape(str(message))}", soft_wrap=True)
    return typer.Exit(code)
