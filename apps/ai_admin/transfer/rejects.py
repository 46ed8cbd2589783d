"""Records that an import does not take: each with its line, and the problem that a request for it alone would get."""

from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple
from weakref import finalize

import orjson

from ai_admin.errors import ApiError, Detail

# Octets of them that stay in memory.
_IN_MEMORY = 1 << 20


class Reject(NamedTuple):
    """A record that was not taken: its line, and the members of the problem that the API would answer."""

    line: int
    problem: dict[str, Any]


def reject(line: int, error: ApiError) -> Reject:
    """What is told of an error of this record, without any value of it."""
    problem: dict[str, Any] = {"errorCode": error.code.value, "detail": " ".join(error.detail.split())}
    if error.details:
        problem["details"] = [_plain(detail) for detail in error.details]
    return Reject(line, problem)


def _plain(detail: Detail) -> dict[str, Any]:
    """The fault as jsonb takes it: the name of an unknown member may have U+0000 in it, or half a letter."""
    return {**detail, "loc": [_printable(part) for part in detail["loc"]]}


def _printable(part: str | int) -> str | int:
    return part.encode("utf-8", "replace").decode().replace("\0", "?") if isinstance(part, str) else part


class KeptRejects:
    """Those of a dry run, which nothing keeps in the database: in a temporary file once they are many."""

    def __init__(self) -> None:
        """None yet."""
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  it lives as long as this does
        finalize(self, self._file.close)

    def add(self, rejects: Iterable[Reject]) -> None:
        """Keep some more."""
        self._file.writelines(orjson.dumps([*each], option=orjson.OPT_APPEND_NEWLINE) for each in rejects)

    def __iter__(self) -> Iterator[Reject]:
        """All, in the order in which they came."""
        self._file.seek(0)
        yield from (Reject(*orjson.loads(line)) for line in self._file)
