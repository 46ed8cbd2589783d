"""Lists of users in JSON, as other systems answer them: read as streams, and looked at for pages that are missing.

A file may hold several documents, one behind the other: that is how a list comes that is answered page by page.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

import ijson

from ai_admin.transfer.tables import BYTE_ORDER_MARK, FileInvalid

# The parser names the place of each value from the top: what that costs grows with the square of the depth.
DEEPEST_DOCUMENT = 5_000


def read_documents(file: IO[bytes], place: str) -> Iterator[Any]:
    """What stands in the list at this place of each document, or in the document where that is a list itself.

    Raises `FileInvalid` where JSON ends, and where there is nothing.
    """
    _skip_mark(file)
    _require_shallow(file)
    found = 0
    try:
        # Numbers as floats: jsonb and the API keep no more of them either.
        items = ijson.items(file, _place(file, place), use_float=True, multiple_values=True)
        for item in items:
            found += 1
            yield item
    except ijson.JSONError as error:
        told = str(error).partition("\n")[0]
        raise FileInvalid(f"The document is no JSON after {found} users: {told}") from None
    if not found:
        raise FileInvalid(f"The document has no users at {place}")


def _require_shallow(file: IO[bytes]) -> None:
    """Raise `FileInvalid` where values stand in more values than any user has, before they are put together."""
    start, depth = file.tell(), 0
    # What is no JSON the reading itself tells of, and how far it came.
    with suppress(ijson.JSONError):
        for event, _ in ijson.basic_parse(file, use_float=True, multiple_values=True):
            depth += _STEPS.get(event, 0)
            if depth > DEEPEST_DOCUMENT:
                raise FileInvalid(f"The document is nested deeper than {DEEPEST_DOCUMENT}")
    file.seek(start)


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
    return list(ijson.items(file, member, use_float=True, multiple_values=True))


def _skip_mark(file: IO[bytes]) -> None:
    start = file.tell()
    if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        file.seek(start)


def _place(file: IO[bytes], place: str) -> str:
    start = file.tell()
    begins_list = file.read(1024).lstrip().startswith(b"[")
    file.seek(start)
    return "item" if begins_list else f"{place}.item"
