"""How often: a bucket of tokens for each caller, in this process."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

# Callers that are remembered; the least recent one is forgotten first, and begins with a full bucket.
_MOST_REMEMBERED = 10_000


class Rates:
    """Lets each caller have `per_second` requests a second, and twice that at once after a pause."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = per_second * 2
        # Tokens left at a moment, by caller.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

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
