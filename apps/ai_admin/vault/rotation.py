"""Rotation: every registered column sealed anew under the primary key, while the service runs.

Rows are found by the index on their key, so what is done is found no more: a rotation that was killed goes on where
it was when it is started again. Rows of the primary key are sealed anew too where they are not bound yet to all that
they should be (format 1). Each batch is one short transaction. A pass goes over all columns; passes follow one another
until one finds nothing, for rows may be sealed meanwhile by processes whose ring is an older one.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from psycopg.rows import tuple_row

from ai_admin.database import Connection
from ai_admin.vault.ciphertext import Context, VaultError, decrypt, encrypt, key_id_of
from ai_admin.vault.keyring import Key, KeyRing
from ai_admin.vault.registry import SEALED_COLUMNS, SealedColumn, keys_of

BATCH = 500
# Seconds between two passes, and passes without progress after which what others keep locked is left.
_REST = 1.0
_FRUITLESS_PASSES = 10
# Primary key, ciphertext and the values that it is bound to; and primary key with both ciphertexts.
Row = tuple[Any, ...]
Change = tuple[UUID | bytes, bytes, bytes]


class Rotation:
    """One run. `resealed`, `missed` and `unopened` tell what has been done so far."""

    def __init__(
        self,
        connection: Connection,
        ring: Callable[[], KeyRing],
        *,
        batch: int = BATCH,
        rate: int | None = None,
        pause: Callable[[float], Any] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connection` is one of `registry.connect`; `ring` gives the ring in force, and is asked before each batch.

        At most `batch` rows are locked at once, and `rate` rows a second are done; `pause` takes seconds.
        """
        self._connection, self._ring = connection, ring
        self._rows, self._rate = min(batch, rate or batch), rate
        self._pause, self._clock = pause, clock
        self.resealed = 0
        # Times that a row was locked, or had changed or gone, when it was to be written; looked at in the next pass.
        self.missed = 0
        # Why each row that cannot be opened cannot.
        self.unopened: dict[tuple[SealedColumn, UUID | bytes], str] = {}

    def run(self) -> Iterator[int]:
        """Rotate, and give after each batch the number of rows that it sealed. Raises `psycopg.Error`.

        The end leaves the rows that cannot be opened and those that others keep locked; `missed` grew in vain then.
        """
        fruitless = 0
        while fruitless < _FRUITLESS_PASSES:
            resealed, missed = self.resealed, self.missed
            for column in SEALED_COLUMNS:
                for key_id in keys_of(self._connection, column):
                    yield from self._walk(column, key_id, "batch")
                if column.bound:
                    yield from self._walk(column, self._ring().primary.id, "unbound_batch")
            if (resealed, missed) == (self.resealed, self.missed):
                return
            fruitless = fruitless + 1 if resealed == self.resealed else 0
            self._pause(_REST)

    def _walk(self, column: SealedColumn, key_id: str, query: str) -> Iterator[int]:
        """One pass over the rows of one key that the query finds: those of the primary key have one of their own.

        While a batch is opened and sealed here, PostgreSQL has its turn.
        """
        with ThreadPoolExecutor(1) as other:
            rows = self._read(column, key_id, column.below, query)
            ready: list[Change] = []
            while rows and ((ring := self._ring()).primary.id == key_id) == (query == "unbound_batch"):
                begun = self._clock()
                turn = other.submit(self._write_and_read, column, ready, key_id, rows[-1][0], query)
                ready = self._seal_anew(ring, column, key_id, rows)
                resealed, rows = turn.result()
                if self._rate:
                    self._pause(max(0.0, begun + len(ready) / self._rate - self._clock()))
                yield resealed
            yield self._write(column, ready)

    def _write_and_read(
        self, column: SealedColumn, ready: list[Change], key_id: str, after: UUID | bytes, query: str
    ) -> tuple[int, list[Row]]:
        return self._write(column, ready), self._read(column, key_id, after, query)

    def _read(self, column: SealedColumn, key_id: str, after: UUID | bytes, query: str) -> list[Row]:
        cursor = self._connection.cursor(binary=True, row_factory=tuple_row)
        values = {"key_id": key_id, "after": after, "rows": self._rows}
        return cursor.execute(column.query(query), values).fetchall()

    def _seal_anew(self, ring: KeyRing, column: SealedColumn, key_id: str, rows: list[Row]) -> list[Change]:
        old, new = ring.find(key_id), ring.primary
        ready = []
        for key, sealed, *bound in rows:
            place = column.place(key, bound)
            value = _opened(sealed, place, old)
            if value is None:
                self.unopened[column, key] = _why(key_id, old)
            else:
                ready.append((key, sealed, encrypt(value, place, new.id, new.key)))
        return ready

    def _write(self, column: SealedColumn, ready: list[Change]) -> int:
        if not ready:
            return 0
        keys, sealed, resealed = map(list, zip(*ready, strict=True))
        values = {"keys": keys, "sealed": sealed, "resealed": resealed}
        written = self._connection.execute(column.query("reseal"), values).rowcount
        self.resealed += written
        self.missed += len(ready) - written
        return written


def _opened(sealed: bytes, place: Context, key: Key | None) -> bytes | None:
    """The value, as `KeyRing.open` gives it, without its line in the log."""
    try:
        if key is None or key.state == "retired" or key_id_of(sealed) != key.id:
            return None
    except VaultError:
        return None
    return decrypt(sealed, place, key.id, key.key)


def _why(key_id: str, key: Key | None) -> str:
    if key is None:
        return f"its key {key_id} is missing in the ring"
    if key.state == "retired":
        return f"its key {key_id} is retired"
    return "it is damaged, or of another place, or another key had this id"
