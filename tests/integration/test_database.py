"""The driver as it is set up here: what goes in comes out."""

import psycopg
import pytest

from ai_admin import database  # noqa: F401  sets the driver up


@pytest.mark.parametrize(
    "texts",
    [["a", "b"], [], [""], ["NULL", " x ", "{}", ","], ['"', "\\", 'a"b\\c'], ["é\n\t\u2028", "'"]],
    ids=repr,
)
def test_lists_of_text_arrive_as_they_are(sql: psycopg.Connection, texts: list[str]) -> None:
    """Words and patterns of models are anybody's text; a quote that ends an element early makes others of them."""
    assert sql.execute("SELECT %s::text[]", [texts]).fetchone() == (texts,)


def test_lists_of_other_things_are_psycopgs(sql: psycopg.Connection) -> None:
    """Lists of numbers, of lists, and with NULL keep their types."""
    lists = [[1, 2], [["a"], ["b"]], ["a", None]]
    assert sql.execute("SELECT %s::int[], %s::text[], %s::text[]", lists).fetchone() == tuple(lists)


def test_no_text_is_cut_at_a_nul(sql: psycopg.Connection) -> None:
    """libpq would take U+0000 for the end of the list, and more than the text would be lost."""
    with pytest.raises(psycopg.DataError):
        sql.execute("SELECT %s::text[]", [["a\x00b"]])
