"""Admission: a request is judged by its head before its body takes memory, and bodies share one budget.

A server collects a small body at once, within a part of the budget that is for such bodies alone. For any other body
the application runs first without it. It may answer by the head alone: no such path, no valid credential, too large. If
it reads the body, `BodyAwaited` ends that run: the caller is admitted, the server collects the body within the budget,
and the application runs again. `require` counts such a request once.

Nothing here depends on a protocol between server and application. Functions receive bodies whole and admit nothing.
"""

import io
from collections import Counter
from collections.abc import Hashable
from types import TracebackType
from typing import Any, cast

from flask import request
from typing_extensions import Self

from ai_admin.access.rates import Rates
from ai_admin.errors import Overloaded, RateLimited

# Largest body that is collected before anything is known of its caller, in bytes.
SMALL_BYTES = 16_384
# Part of the budget that small bodies have, and part that one admitted caller can have.
_QUARTER = 4
_CALLER = "ai_admin.caller"
_LIMIT = "ai_admin.body_limit"
_TAKEN = "ai_admin.taken"


class BodyAwaited(BaseException):
    """The application has read from a body that has not been received.

    Not an `Exception`: no handler of the application may answer it.
    """


class Awaited(io.RawIOBase):
    """The body of a request that is judged by its head: reading it raises `BodyAwaited`."""

    def read(self, _size: int = -1, /) -> bytes:
        """Raise `BodyAwaited`."""
        raise BodyAwaited


class Budget:
    """The bytes that bodies may take at once. For one thread, such as that of an event loop."""

    def __init__(self, total: int, a_caller: int) -> None:
        """`total` bytes for all callers, `a_caller` for each of them."""
        self._total = total
        self._a_caller = a_caller
        # Bytes that are held now: in all, and by caller.
        self.held = 0
        self._by_caller: Counter[Hashable] = Counter()

    def take(self, caller: Hashable, size: int) -> None:
        """Hold bytes for a caller; None is everybody who is not known.

        Raises `RateLimited` where the caller would hold too much, `Overloaded` where all callers would.
        """
        if self._by_caller[caller] + size > self._a_caller:
            if caller is not None:
                raise RateLimited("Too many bodies of this caller at once; wait, and send it again.")
            raise Overloaded
        if self.held + size > self._total:
            raise Overloaded
        self.held += size
        self._by_caller[caller] += size

    def give_back(self, caller: Hashable, size: int) -> None:
        """Hold bytes no longer."""
        self.held -= size
        self._by_caller[caller] -= size
        if not self._by_caller[caller]:
            del self._by_caller[caller]


class Held:
    """The bytes that are held for one body; a context that gives them back."""

    def __init__(self, budget: Budget, caller: Hashable) -> None:
        """Nothing is held yet."""
        self._budget, self._caller, self._size = budget, caller, 0

    def cover(self, size: int) -> None:
        """Hold at least so many bytes. Raises what `Budget.take` raises."""
        if size > self._size:
            self._budget.take(self._caller, size - self._size)
            self._size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._budget.give_back(self._caller, self._size)


class Bodies:
    """The bodies that a process holds: small ones in a quarter of the budget, admitted ones in the rest."""

    def __init__(self, budget_bytes: int) -> None:
        """One admitted caller can hold a quarter of `budget_bytes`."""
        quarter = budget_bytes // _QUARTER
        self._small = Budget(quarter, quarter)
        self._admitted = Budget(budget_bytes - quarter, quarter)

    def hold_small(self, size: int | None, expects: str) -> Held | None:
        """Hold a body whose head declares this size; None where the head has to be judged first.

        That is so for a large body, one of unknown size, one for which the caller waits to be asked (`Expect`), and
        any body while the callers of small ones hold all that these may take.
        """
        if size is None or size > SMALL_BYTES or expects:
            return None
        held = Held(self._small, None)
        try:
            held.cover(size)
        except Overloaded:
            return None
        return held

    def hold_admitted(self, caller: Hashable) -> Held:
        """Hold the body of a request that was judged by its head; no bytes yet."""
        return Held(self._admitted, caller)


def admit(caller: Hashable) -> None:
    """Note who makes the current request, for the budget of bodies."""
    request.environ[_CALLER] = caller


def limit_body(limit: int) -> None:
    """Note the largest body that the current request may have, in bytes."""
    request.environ[_LIMIT] = limit


def admitted(environ: dict[str, Any]) -> Hashable:
    """Who makes a request that was judged by its head; None where nobody is known."""
    return cast(Hashable, environ.get(_CALLER))


def limit_of(environ: dict[str, Any]) -> int | None:
    """The largest body that a request may have, as far as it has been judged, in bytes."""
    return cast("int | None", environ.get(_LIMIT))


def require(rates: Rates, caller: Hashable) -> None:
    """Take a token of `rates` for the current request, once in both of its runs. Raises `RateLimited`."""
    taken: set[Rates] = request.environ.setdefault(_TAKEN, set())
    if rates not in taken:
        rates.require(caller)
        taken.add(rates)
