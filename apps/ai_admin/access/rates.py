"""How often: a bucket of tokens for each caller, in this process."""

import math
import time
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

from ai_admin.errors import RateLimited

# Callers that are remembered; the least recent one is forgotten first, and begins with a full bucket.
_MOST_REMEMBERED = 10_000


class Rates:
    """Lets each caller have `per_second` requests a second, and `burst` at once after a pause: twice that if not given.

    In any second a caller so gets at most both together.
    """

    def __init__(self, per_second: float, burst: float | None = None) -> None:
        self._per_second = per_second
        self._burst = per_second * 2 if burst is None else burst
        # Tokens left at a moment, by caller.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def per_minute(cls, number: int) -> "Rates":
        """Rates of so many requests a minute, and twice that at once after a pause."""
        return cls(number / 60, number * 2)

    def take(self, caller: Hashable) -> bool:
        """Take a token; False where there is none."""
        now = time.monotonic()
        with self._lock:
            left, since = self._buckets.pop(caller, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._per_second)
            taken = left >= 1
            self._buckets[caller] = (left - taken, now)
            if len(self._buckets) > _MOST_REMEMBERED:
                self._buckets.popitem(last=False)
        return taken

    def require(self, caller: Hashable) -> None:
        """Take a token. Raises `RateLimited`, which says when there is one again, where there is none."""
        if not self.take(caller):
            raise RateLimited(retry_after_s=math.ceil(1 / self._per_second))
