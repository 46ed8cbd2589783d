"""The group of all commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

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
