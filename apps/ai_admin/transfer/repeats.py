"""The users that a file has named so far, by which a second row for the same user is found.

They are kept in a temporary database of SQLite, which goes to the disk once it is large: memory stays flat.
"""

import sqlite3
from collections.abc import Mapping, Sequence

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

    def add(self, line: int, keys: Mapping[str, str]) -> None:
        """Remember a user by these keys, each of a member. Raises `RequestInvalid` where an earlier record has one.

        Upper and lower case make no difference, as in the directory.
        """
        lowered = {key.lower(): member for key, member in keys.items()}
        for key, member in lowered.items():
            before = self._line(key)
            if before is not None:
                message = f"{self._unit} {before} and {line} have the same {member}: keep one of them"
                raise RequestInvalid.at("body", member, message=message, kind="repeated")
        self._database.executemany("INSERT INTO named VALUES (?, ?)", [(key, line) for key in lowered])

    def take(self, line: int, tags: Sequence[str]) -> int:
        """Remember the first of the tags that no record has, and return which it is; the last one if all are taken."""
        chosen = next((number for number, tag in enumerate(tags) if self._line(tag) is None), len(tags) - 1)
        self._database.execute("INSERT OR IGNORE INTO named VALUES (?, ?)", [tags[chosen], line])
        return chosen

    def _line(self, key: str) -> int | None:
        row = self._database.execute("SELECT line FROM named WHERE key = ?", [key]).fetchone()
        return row and int(row[0])
