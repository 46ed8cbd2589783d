"""Lists of users in JSON, as other systems answer them: read as streams, and looked at for pages that are missing.

A file may hold several documents, one behind the other: that is how a list comes that is answered page by page.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

import ijson

from ai_admin.json_values import RepeatedMember
from ai_admin.transfer.tables import BYTE_ORDER_MARK, UTF_16_MARKS, FileInvalid, not_utf_8

# The parser names the place of each value from the top: what that costs grows with the square of the depth.
DEEPEST_DOCUMENT = 5_000


# Members of a document itself: a realm of Keycloak has some 150.
_MOST_MEMBERS = 10_000
# A number of JSON that 64 bits may not hold, and what stands in its place: no text of a user has U+0000 in it.
_LONG_NUMBER = re.compile(rb"[0-9.]{19}|[0-9.][eE][+]?[0-9]{3}")
_OUT_OF_RANGE = "\0number out of range"
_PLACE_OF_NUMBER = json.dumps(_OUT_OF_RANGE).encode()
_OUTSIDE_STRING = re.compile(rb"[^\"0-9-]*")
_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_NUMBER = re.compile(rb"[-+.eE0-9]*")
_LONGEST_NUMBER = 4096
_PART = 1 << 16


class _Members(dict[str, Any]):
    """An object of a document; `repeated` is a member that occurs twice in it."""

    repeated: str | None = None

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            self.repeated = name
        super().__setitem__(name, value)


def read_documents(file: IO[bytes], place: str) -> Iterator[Any]:
    """What stands in the list at this place of each document, or in the document where that is a list itself.

    Raises `FileInvalid` where JSON ends, and where there is nothing.
    """
    start = file.tell()
    begins = file.read(64)
    file.seek(start)
    if begins.startswith(UTF_16_MARKS) or b"\0" in begins:
        raise FileInvalid(not_utf_8(begins))
    _skip_mark(file)
    _require_shallow(file)
    found = 0
    try:
        for item in _items(file, _place(file, place), _Members):
            found += 1
            yield item
    except (ijson.JSONError, UnicodeDecodeError) as error:
        # The lines behind the first one repeat what stands in the file.
        told = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        told = told.partition("\n")[0]
        if isinstance(error, UnicodeDecodeError) or "UTF8" in told:
            told = f"The document is not UTF-8 after {found} users. Save it as UTF-8, or give its encoding"
            raise FileInvalid(f"{told}, such as cp1252") from None
        raise FileInvalid(f"The document is no JSON after {found} users: {told}") from None
    if not found:
        raise FileInvalid(f"The document has no users at {place}")


def require_readable(item: Any) -> None:
    """Raise `ValueError` where an object in an item has a member twice, or a number is out of range."""
    waiting = [item]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Members):
            if value.repeated is not None:
                raise RepeatedMember(value.repeated)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif value == _OUT_OF_RANGE:
            raise ValueError("A number must fit in 64 bits; write a larger one as a string")


def _require_shallow(file: IO[bytes]) -> None:
    """Raise `FileInvalid` where values stand in more values than any user has, before they are put together.

    And where a member of a document itself occurs twice: it could be the list of the users.
    """
    start, depth = file.tell(), 0
    names: set[str] = set()
    # What is no JSON the reading itself tells of, and how far it came.
    with suppress(ijson.JSONError, UnicodeDecodeError):
        for event, value in ijson.basic_parse(_Readable.of(file), use_float=True, multiple_values=True):
            depth += _STEPS.get(event, 0)
            if depth > DEEPEST_DOCUMENT:
                raise FileInvalid(f"The document is nested deeper than {DEEPEST_DOCUMENT}")
            if event == "map_key" and depth == 1:
                if value in names:
                    raise FileInvalid(f"The member {value[:50]!r} of the document occurs twice")
                names.add(value)
                if len(names) > _MOST_MEMBERS:
                    raise FileInvalid(f"The document has more than {_MOST_MEMBERS} members")
            elif depth == 0:
                names.clear()
    file.seek(start)


def _items(file: IO[bytes], place: str, kind: type[dict[str, Any]] = dict) -> Iterator[Any]:
    """The values at this place. Numbers are floats: jsonb and the API keep no more of them either."""
    return iter(ijson.items(_Readable.of(file), place, use_float=True, multiple_values=True, map_type=kind))


class _Readable:
    """A file of JSON for the parser, which gives a whole file up for a number out of its range.

    Such a number is a text of its own here, which costs its record alone.
    """

    @classmethod
    def of(cls, file: IO[bytes]) -> "IO[bytes] | _Readable":
        """The file itself where no number of it is that long."""
        start = file.tell()
        last, is_long = b"", False
        while not is_long and (block := file.read(_PART)):
            last = last[-20:] + block
            is_long = _LONG_NUMBER.search(last) is not None
        file.seek(start)
        return cls(file) if is_long else file

    def __init__(self, file: IO[bytes]) -> None:
        self._parts = _with_short_numbers(file)

    def read(self, size: int) -> bytes:
        """The next part, of any size; nothing at the end."""
        return next(self._parts, b"") if size else b""


def _with_short_numbers(file: IO[bytes]) -> Iterator[bytes]:
    in_string, in_long_number, rest = False, False, b""
    while block := file.read(_PART):
        text = rest + block
        given = bytearray()
        at = _end(_NUMBER, text, 0) if in_long_number else 0
        in_long_number = in_long_number and at == len(text)
        while at < len(text):
            if in_string:
                end = _end(_REST_OF_STRING, text, at)
                given += text[at:end]
                # The end of the part, or a backslash there, may be in the middle of a string.
                if end == len(text) or text[end:] == b"\\":
                    at = end
                    break
                in_string, at = False, end + 1
                given += b'"'
                continue
            end = _end(_OUTSIDE_STRING, text, at)
            given += text[at:end]
            at = end
            if text[at : at + 1] == b'"':
                in_string, at = True, at + 1
                given += b'"'
            elif at < len(text):
                end = _end(_NUMBER, text, at)
                in_long_number = end - at > _LONGEST_NUMBER
                if end == len(text) and not in_long_number:
                    break
                given += _PLACE_OF_NUMBER if in_long_number else _short(text[at:end])
                in_long_number = in_long_number and end == len(text)
                at = end
        rest = text[at:]
        if given:
            yield bytes(given)
    if rest:
        yield rest if in_string else _short(rest)


def _end(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    found = pattern.match(text, start)
    assert found is not None, "each pattern matches nothing too"
    return found.end()


def _short(number: bytes) -> bytes:
    """The number, or the text in its place where the parser would not take it."""
    if not _LONG_NUMBER.search(number):
        return number
    try:
        value = float(number) if {*b".eE"} & {*number} else int(number[:30])
    except ValueError:
        return number
    # The parser takes no -2^63 either.
    is_out = math.isinf(value) if isinstance(value, float) else abs(value) >= 2**63
    return _PLACE_OF_NUMBER if is_out else number


_STEPS = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


def require_total(file: IO[bytes], found: int) -> None:
    """Raise `FileInvalid` where the documents say that there are more users than they have (`total`)."""
    total = max((number for number in _values(file, "total") if isinstance(number, int | float)), default=0)
    if found < total:
        raise FileInvalid(f"The file has {found} of {total:.0f} users; {_PAGES}")


def require_last_page(file: IO[bytes], found: int) -> None:
    """Raise `FileInvalid` where each of the documents says that there are more (`has_more`)."""
    pages = _values(file, "has_more")
    if pages and all(pages):
        raise FileInvalid(f"The list goes on after its {found} users (has_more); {_PAGES}")


Complete = Callable[[IO[bytes], int], None]
_PAGES = "get all pages, and put them into one file, one behind the other"


def _values(file: IO[bytes], member: str) -> list[Any]:
    """The member's values in all documents."""
    file.seek(0)
    _skip_mark(file)
    return list(_items(file, member))


def _skip_mark(file: IO[bytes]) -> None:
    start = file.tell()
    if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        file.seek(start)


# Members of a user in the lists that are read here, by which one is told from an object with a list of users.
_OF_USER = frozenset({"username", "user_id", "email", "user_email"})


def _place(file: IO[bytes], place: str) -> str:
    """Where the users stand: at this place of a document, in a list of such objects, or in a list of their own.

    Raises `FileInvalid` where a list has both users and objects with a list of users, or an object has two lists.
    """
    start = file.tell()
    begins_list = file.read(1024).lstrip().startswith(b"[")
    file.seek(start)
    if not begins_list:
        return f"{place}.item"
    has_users = has_lists = in_item = False
    # What is no JSON the reading itself tells of, and how far it came.
    with suppress(ijson.JSONError, UnicodeDecodeError):
        for prefix, event, value in ijson.parse(_Readable.of(file), use_float=True, multiple_values=True):
            if prefix == "item" and event == "start_map":
                in_item = False
            elif prefix == "item" and event == "map_key":
                has_users = has_users or value in _OF_USER
            elif prefix == f"item.{place}" and event == "start_array":
                if in_item:
                    raise FileInvalid(f"The member {place!r} of an object in the list occurs twice")
                in_item = has_lists = True
    file.seek(start)
    if has_users and has_lists:
        raise FileInvalid(f"The list has users, and objects with lists of {place}; put them into two files")
    return f"item.{place}.item" if has_lists else "item"
