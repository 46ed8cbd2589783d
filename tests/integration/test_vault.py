"""Ciphertexts in PostgreSQL."""

import psycopg

from ai_admin.vault.ciphertext import Context, key_id_of
from tests.keyrings import entry, ring_of


def test_rows_are_counted_by_key(sql: psycopg.Connection) -> None:
    """The database tells the key of each ciphertext.

    Without it nobody knows whether a key may be retired, short of reading every row.
    """
    sql.execute("CREATE TABLE sealed (ciphertext bytea)")
    sql.execute("CREATE INDEX ON sealed (vault_key_id(ciphertext))")
    ids = ["2026-11", "a", "a.b_c-d", "k" * 32]
    for number, key_id in enumerate(ids):
        ring = ring_of(entry(key_id, b"k" * 32, "primary"))
        for value in [b"", b"x" * 65_536][: number + 1]:
            ciphertext = ring.seal(value, Context("sealed", "ciphertext", "1"))
            assert key_id_of(ciphertext) == key_id
            sql.execute("INSERT INTO sealed VALUES (%s)", [ciphertext])
    counts = sql.execute("SELECT vault_key_id(ciphertext), count(*) FROM sealed GROUP BY 1 ORDER BY 1").fetchall()
    assert counts == [("2026-11", 1), ("a", 2), ("a.b_c-d", 2), ("k" * 32, 2)]
