"""Groups of commands whose modules are imported when one of their commands runs.

`ai-admin users list` needs neither SQLAlchemy nor Flask, and takes a second less without them.
"""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from ai_admin.terminal import unread


class Commands(TyperGroup):
    """All commands. Each ends with exit code 141, and without a word, where the reader of its output has left."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the arguments; `--help` prints here."""
        with _reader_may_leave():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _reader_may_leave():
            return super().invoke(ctx)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise unread() from None
    except SystemExit as error:
        # Rich, which prints the help, ends a program with exit code 1 then.
        if isinstance(error.__context__, BrokenPipeError):
            raise unread() from None
        raise


@cache
def _commands(module: str) -> MutableMapping[str, Any]:
    return get_group(import_module(module).app).commands


def deferred(about: str, *modules: str) -> typer.Typer:
    """Return a group of the commands of these modules, each of which has them in its `app`.

    A command is looked for in one module after the other, so the module that imports the least comes first.
    """

    class Group(TyperGroup):
        @property
        def commands(self) -> MutableMapping[str, Any]:
            return {name: command for module in modules for name, command in _commands(module).items()}

        @commands.setter
        def commands(self, _value: MutableMapping[str, Any]) -> None:
            """Ignore the commands that Typer has found, which are none."""

        def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  Click's signature
            return next((_commands(module)[cmd_name] for module in modules if cmd_name in _commands(module)), None)

    return typer.Typer(cls=Group, help=about, no_args_is_help=True)
