"""Ciphertexts in PostgreSQL."""

import re

import psycopg

from ai_admin.vault.ciphertext import Context, key_id_of
from tests.conftest import ROOT
from tests.keyrings import entry, ring_of

SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_rows_are_counted_by_key_as_documented(sql: psycopg.Connection) -> None:
    """The database tells the key of each ciphertext by the expression of the document, in a column of its own.

    Without it nobody knows whether a key may be retired, short of reading every row.
    """
    (expression,) = re.findall(r"```sql\n(.*?)\n```", SECURITY, re.DOTALL)
    sql.execute(
        f'CREATE TABLE sealed (ciphertext bytea, key_id text COLLATE "C" GENERATED ALWAYS AS ({expression}) STORED)'
    )
    sql.execute("CREATE INDEX ON sealed (key_id)")
    ids = ["2026-11", "a", "a.b_c-d", "k" * 32]
    for number, key_id in enumerate(ids):
        ring = ring_of(entry(key_id, b"k" * 32, "primary"))
        for value in [b"", b"x" * 65_536][: number + 1]:
            ciphertext = ring.seal(value, Context("sealed", "ciphertext", "1"))
            assert key_id_of(ciphertext) == key_id
            sql.execute("INSERT INTO sealed VALUES (%s)", [ciphertext])
    counts = sql.execute("SELECT key_id, count(*) FROM sealed GROUP BY key_id ORDER BY key_id").fetchall()
    assert counts == [("2026-11", 1), ("a", 2), ("a.b_c-d", 2), ("k" * 32, 2)]
