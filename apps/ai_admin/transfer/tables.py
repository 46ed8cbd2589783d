"""Comma-separated values (RFC 4180) as a stream of rows, in which a broken row loses none of those after it.

A quote that is never closed would take all rows up to the next quote with it. The lines of such a row are read once
more, from its second one on: that one row is given as broken, and all others as they are. A file in which this goes on
and on is given up, so that whoever made it takes no more time than its size costs.
"""

import csv
from collections import deque
from collections.abc import Iterator
from typing import IO, NamedTuple

# Longer lines, and rows, are no users; the largest a user can be is some ten times 16 KiB of escapes.
LONGEST_LINE = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = ",;\t"
# How often a file, and a row of the longest, is read again at most. The lines of an unclosed quote end at the next one:
# of a file that people made, none is read again twice.
_MOST_AGAIN = 4


class FileInvalid(Exception):
    """The file is not of this format: nothing of it can be read, or nothing more."""


def not_utf_8(text: bytes) -> str:
    """What bytes that are not UTF-8 look like, and what to do."""
    if text.startswith(b"PK\x03\x04"):
        return "This is a workbook; save it as CSV in UTF-8"
    if b"\0" in text or text.startswith(UTF_16_MARKS):
        looks = "utf-16"
    else:
        try:
            text.decode("cp1252")
            looks = "cp1252"
        except UnicodeDecodeError:
            return "This is not UTF-8. Save the file as UTF-8, or give its encoding, such as utf-16"
    return f"This is not UTF-8; it looks like {looks}. Save the file as UTF-8, or give its encoding, such as {looks}"


class Row(NamedTuple):
    """The cells of a row, or what is wrong with it; and its first line, from 1."""

    line: int
    cells: list[str] | str


def read_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines, without a byte order mark; None for one that is too long, whose rest is passed over."""
    line = file.readline(LONGEST_LINE + 1).removeprefix(BYTE_ORDER_MARK)
    while line:
        if len(line) <= LONGEST_LINE:
            yield line
        else:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            yield None
        line = file.readline(LONGEST_LINE + 1)


def read_rows(file: IO[bytes]) -> Iterator[Row]:
    """The rows, the header first; rows of empty cells are none.

    Where the header has no comma, semicolons or tabs separate the cells, as spreadsheets of some languages write them.
    Raises `FileInvalid` where there is no header, and where line after line opens a quote that none closes.
    """
    lines = read_lines(file)
    first = next(lines, b"")
    feed = _Feed(first, lines)
    table = csv.reader(feed, delimiter=_delimiter(first), strict=True)
    while True:
        try:
            cells: list[str] | str = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            cells = feed.give_again(error)
        row = feed.taken(cells)
        if any(row.cells):
            yield row


def _delimiter(header: bytes | None) -> str:
    if header is None:
        raise FileInvalid(f"The first line is longer than {LONGEST_LINE} bytes; it must name the columns")
    if b"\0" in header or header.startswith(UTF_16_MARKS):
        raise FileInvalid(not_utf_8(header))
    if b"\r" in header.rstrip(b"\r\n"):
        raise FileInvalid("The lines end with a carriage return alone; save the file with other line ends")
    return next((each for each in _DELIMITERS if each.encode() in header), ",")


class _Feed:
    """Lines for the reader of a table, which keeps those of the row at hand."""

    def __init__(self, first: bytes | None, lines: Iterator[bytes | None]) -> None:
        self._lines = lines
        self._again: deque[bytes | None] = deque([first] if first else ())
        self._taken: list[bytes | None] = []
        self._octets = 0
        self._read = 0
        self._given_again = 0
        self._is_text = True
        self._line = 1

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._unread()
        self._taken.append(line)
        if line is None or self._octets > LONGEST_LINE:
            raise csv.Error(f"it is longer than {LONGEST_LINE} bytes")
        self._octets += len(line)
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._is_text = False
            return line.decode("utf-8", "replace")

    def _unread(self) -> bytes | None:
        line = next(self._lines)
        self._read += len(line or b"")
        return line

    def taken(self, cells: list[str] | str) -> Row:
        """The row that these cells are; the next line begins another one."""
        is_row = self._is_text or isinstance(cells, str)
        row = Row(self._line, cells if is_row else not_utf_8(b"".join(line or b"" for line in self._taken)))
        self._line += len(self._taken)
        self._taken.clear()
        self._octets, self._is_text = 0, True
        return row

    def give_again(self, error: csv.Error) -> str:
        """Give all lines of the row at hand but its first one again; returns what is wrong with it.

        Raises `FileInvalid` where too much has been given again for what the file has had so far.
        """
        self._given_again += self._octets
        if self._given_again > _MOST_AGAIN * (LONGEST_LINE + self._read):
            raise FileInvalid(f"From line {self._line} on, too many quoted cells do not end as they should")
        is_several = len(self._taken) > 1
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
        if is_several or "unexpected end" in str(error):
            return "A quoted cell that begins in this line does not end as it should"
        return f"The row cannot be read: {error}"
