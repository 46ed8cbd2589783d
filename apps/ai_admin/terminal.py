"""What the commands have in common: where the settings are, and how a failure is told."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ai_admin.config import ROOT_VARIABLE

stderr = Console(stderr=True, highlight=False)
Root = Annotated[
    Path | None,
    typer.Option("--root", help=f"Folder that holds secrets/ and configs/; else {ROOT_VARIABLE}, else /."),
]


def failure(message: object, code: int = 1) -> typer.Exit:
    """Say what is wrong on standard error; what to raise."""
    stderr.print(f"[bold red]error:[/] {message}", soft_wrap=True)
    return typer.Exit(code)
