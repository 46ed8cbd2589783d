"""Totals of lists: exact, or estimates that are remembered for a while."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

# Seconds that an estimate is remembered, and of how many lists.
_REMEMBERED_S = 10
_MOST_REMEMBERED = 1_000


@dataclass(frozen=True)
class Total:
    """How many rows match; an estimate where there are more than `COUNTED`."""

    rows: int
    is_estimate: bool


class Estimates:
    """Estimated totals of lists that were asked for just now: who pages through many rows has them counted once.

    Only what is an estimate anyway is remembered, for a few seconds; a total that is exact is counted each time.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, tuple[float, Total]] = OrderedDict()
        self._lock = Lock()

    def of(self, asked: bytes, find: Callable[[], Total]) -> Total:
        """What is remembered of a list, or what `find` counts; `asked` is all that the list depends on."""
        now = time.monotonic()
        until, total = self._found.get(asked, (now, None))
        if total is not None and until > now:
            return total
        total = find()
        if total.is_estimate:
            with self._lock:
                self._found.pop(asked, None)
                self._found[asked] = (now + _REMEMBERED_S, total)
                if len(self._found) > _MOST_REMEMBERED:
                    self._found.popitem(last=False)
        return total
