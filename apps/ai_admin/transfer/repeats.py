"""The users that a file has named so far, by which a second row for the same user is found.

They are kept in a temporary database of SQLite, which goes to the disk once it is large: memory stays flat.
"""

import sqlite3
from typing import Any

from ai_admin.errors import RequestInvalid

# KiB that stay in memory.
_CACHE = 16_384


class NamedUsers:
    """Tags and email addresses of the valid records of a file, each with its line."""

    def __init__(self, unit: str) -> None:
        """None yet. `unit` is what the file counts: lines or users."""
        self._unit = unit
        # A thread of its own reads the file, and another one may close this.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE named (key TEXT PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def close(self) -> None:
        """Forget them."""
        self._database.close()

    def add(self, line: int, user: dict[str, Any], members: tuple[str, ...]) -> None:
        """Remember a user by these members, `tag` or `email`. Raises `RequestInvalid` where an earlier record has one.

        Upper and lower case make no difference, as in the directory.
        """
        # An address has an @, and a tag has none.
        keys = {user[member].lower(): member for member in members if user[member] is not None}
        for key, member in keys.items():
            before = self._database.execute("SELECT line FROM named WHERE key = ?", [key]).fetchone()
            if before is not None:
                message = f"{self._unit} {before[0]} and {line} have the same {member}: keep one of them"
                raise RequestInvalid.at("body", member, message=message, kind="repeated")
        self._database.executemany("INSERT INTO named VALUES (?, ?)", [(key, line) for key in keys])
