"""Tables in text as people have them: every row is given or named, whatever is wrong with those beside it."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_admin.transfer import tables
from ai_admin.transfer.formats import COLUMNS, read_csv, read_open_webui, to_cells
from ai_admin.transfer.tables import LONGEST_LINE, FileInvalid, read_rows


def rows(content: bytes) -> list[tuple[int, list[str] | str]]:
    """Rows with their lines."""
    return [(line, cells) for line, cells in read_rows(io.BytesIO(content))]


def tags(content: bytes) -> dict[int, str | None]:
    """The tags that a CSV file gives, by line; None for a row that is refused."""
    return {
        record.line: record.members["tag"] if isinstance(record.members, dict) else None
        for record in read_csv(io.BytesIO(content))
    }


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_marks(end: str, mark: bytes) -> None:
    """Files from Windows are read as all others; a quoted cell keeps its line ends, and rows have their first line."""
    content = mark + end.join(("tag,name", "ada,Ada", 'bob,"two', 'lines"', "eve,Eve", "")).encode()
    assert rows(content) == [
        (1, ["tag", "name"]),
        (2, ["ada", "Ada"]),
        (3, ["bob", f"two{end}lines"]),
        (5, ["eve", "Eve"]),
    ]
    assert rows(content.rstrip()) == rows(content)


@pytest.mark.parametrize("broken", ['b,"Bob', 'b,"Bob" the first', 'b,"Bob"x,"', '"b,Bob', 'b,"' + "x" * 140_000])
@pytest.mark.parametrize("more", ['q,"Q, quoted"\n', "q,Q\n"])
@pytest.mark.parametrize("between", [0, 3])
def test_a_quote_that_is_not_closed_loses_its_own_row_alone(broken: str, more: str, between: int) -> None:
    """Those after it are rows again, up to the next quote and behind it: none is swallowed."""
    middle = "".join(f"m{number},M\n" for number in range(between))
    found = tags(f"tag,name\na,Ada\n{broken}\n{middle}{more}z,Zoë\n".encode())
    assert found == {
        2: "a",
        3: None,
        **{4 + number: f"m{number}" for number in range(between)},
        4 + between: "q",
        5 + between: "z",
    }


def test_what_is_wrong_with_a_row_is_said() -> None:
    """In words that help whoever has the file before them, and without its values."""
    long = b"x" * (LONGEST_LINE + 9)
    latin = "José".encode("latin-1")
    content = b'tag,name\nopen,"x\n' + b"latin," + latin + b"\nlong," + long + b"\nshort\ncr,a\rb\nfine,x\n"
    told = {line: cells for line, cells in rows(content) if isinstance(cells, str)}
    assert told == {
        2: "A quoted cell that begins in this line does not end as it should",
        3: "This is not UTF-8; it looks like cp1252. Save the file as UTF-8, or give its encoding, such as cp1252",
        4: f"The row cannot be read: it is longer than {LONGEST_LINE} bytes",
        6: told[6],
    }
    assert "cannot be read" in told[6]
    assert rows(content)[-1] == (7, ["fine", "x"])


def test_a_row_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a cell that goes on for long nor many cells of several lines take the rows behind them along."""
    found = tags(b'tag,name\nopen,"x\n' + b"m,M\n" * 40_000 + b'z,"Z"\n')
    assert (found.pop(2), set(found.values()), len(found)) == (None, {"m", "z"}, 40_001)
    monkeypatch.setattr(tables, "LONGEST_LINE", 1000)
    found = tags(b'tag,name\nopen,"\n' + b'","\n' * 400 + b"z,x\n")
    assert (found[2], found[3], found[403]) == (None, None, "z")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of each line that the reader of a table is given, first or again."""
    given: list[int] = []
    give = tables._Feed.__next__

    def count(feed: tables._Feed) -> str:
        line = give(feed)
        given.append(len(line))
        return line

    monkeypatch.setattr(tables._Feed, "__next__", count)
    return given


@pytest.mark.parametrize("lines", [4_000, 40_000])
def test_a_file_of_quotes_takes_no_more_than_its_size(monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    """Each line stays inside a quote and opens another one: read again and again, a small file would take hours."""
    monkeypatch.setattr(tables, "LONGEST_LINE", 10_000)
    given = counted(monkeypatch)
    content = b"tag,name\n" + b'a","\n' * lines
    with pytest.raises(FileInvalid, match=r"From line [0-9]+ on, too many quoted cells"):
        rows(content)
    assert sum(given) < 5 * (10_000 + len(content)) + 10_000


def test_many_broken_rows_in_a_long_file_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be read again grows with the file: a long one is not given up for the faults that all files have."""
    monkeypatch.setattr(tables, "LONGEST_LINE", 1_000)
    given = counted(monkeypatch)
    content = b"tag,name\n" + (b'b,"Bob\n' + b"m,M\n" * 9) * 2_000
    found = tags(content)
    assert (len(found), list(found.values()).count(None)) == (20_000, 2_000)
    assert sum(given) - len(content) > 4 * 1_000


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_separate_as_the_header_says(delimiter: str) -> None:
    """Excel writes them where the comma is the decimal sign."""
    content = 'tag;email;name\nada;ada@example.com;"Lovelace, Ada"\n'.replace(";", delimiter).encode()
    [(_, members, *_)] = read_csv(io.BytesIO(content))
    assert members == {"tag": "ada", "email": "ada@example.com", "name": "Lovelace, Ada"}


def test_rows_of_nothing_are_none() -> None:
    """Spreadsheets leave them behind the last user."""
    assert [line for line, _ in rows(b"tag,name\n\nada,Ada\n,\n\n")] == [1, 3]
    assert rows(b"tag,name\n") == [(1, ["tag", "name"])]
    assert tags(b"tag,name") == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        ("tag,name\nada,Ada\n".encode("utf-16"), "UTF-8"),
        ("tag,name\nada,Ada\n".encode("utf-16-be"), "UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00\n", "is a workbook; save it as CSV in UTF-8"),
        (b"tag,name\rada,Ada\r", "carriage return"),
        (b'"tag,name\n', "names of the columns"),
        (b"tag,n\xe4me\n", "names of the columns"),
        (b"x" * (LONGEST_LINE + 9), "must name the columns"),
        (b"tag,colour\n", "'colour'"),
        (b"tag,name,\n", "''"),
        (b"tag,Tag\n", "twice"),
    ],
)
def test_what_is_no_table_is_refused(content: bytes, told: str) -> None:
    """With what to do about it, and never with an error of the program."""
    with pytest.raises(FileInvalid, match=told):
        tags(content)


def test_names_of_columns_in_any_case() -> None:
    """People write Tag and Email; members of two words are found too."""
    assert tags(b"Tag,EMAIL,createdAt\nada,ada@example.com,\n") == {2: "ada"}
    assert next(read_open_webui(io.BytesIO(b"NAME;email;Role\nAda;ada@example.com;user\n"))).line == 2


# No user has U+0000, and csv writes none before CPython 3.11.
ANY = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20) | st.sampled_from(
    ["=1", "'=1", "''x", "-", "+a", "@b", "c\td", '"', ",;\t", "a\r\nb", "'"]
)
# No tag or name begins or ends with a blank: the API takes those off, as the reader of a table does.
TEXT = ANY.map(str.strip).filter(bool)


@given(st.lists(st.fixed_dictionaries({"tag": TEXT, "name": TEXT}), max_size=8))
def test_cells_come_back_as_they_went(users: list[dict[str, str]]) -> None:
    """Whatever stands in a name, a spreadsheet's formula or a quote: a file that is written is read as it was."""
    empty: dict[str, Any] = dict.fromkeys(COLUMNS) | {"models": [], "attributes": {}}
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *(to_cells(empty | user) for user in users)])
    read = [record.members for record in read_csv(io.BytesIO(text.getvalue().encode()))]
    assert read == users
