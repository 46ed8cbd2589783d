"""JSON values: read from texts that others write, and compared to tell whether a change changes anything."""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
# A colon that a string may have as an escape; nothing else of a JSON text is one.
_ESCAPED_COLONS = (b"\\u003a", b"\\u003A")
# A name or number on the way to a value, behind the step before it: the values of a text share the steps above them.
_Step = tuple["_Step", str | int] | None


class RepeatedMember(ValueError):
    """An object of a JSON text has a member twice. Two readers could each take another one."""

    def __init__(self, *place: str | int) -> None:
        """`place` is the way to the member from the top: names of members, and places in arrays from 0."""
        self.place = place
        # As Python writes it: a name may have control characters, and end anywhere.
        super().__init__(f"The member {str(place[-1])[:200]!r} occurs twice")


def loads(text: bytes | str) -> Any:
    """Return the value of a JSON text, integers of any size exact.

    Raises `RepeatedMember`, and `ValueError` without any value of the text where it is not JSON.
    """
    try:
        value = _ANY.validate_json(text)
    except ValidationError as error:
        raise ValueError(error.errors(include_url=False, include_input=False)[0]["msg"]) from None
    require_distinct(text)
    return value


def require_distinct(text: bytes | str) -> None:
    """Raise `RepeatedMember` where an object of this JSON text has a member twice, at any depth."""
    raw = text.encode() if isinstance(text, str) else text
    # Each member has a colon, and a parser keeps one of those that have the same name: a text that is written again has
    # as many colons as before only if none was dropped. This takes less than half the
    # time of looking at each member.
    if not any(colon in raw for colon in _ESCAPED_COLONS):
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
            if orjson.dumps(orjson.loads(raw)).count(b":") == raw.count(b":"):
                return
    try:
        value = json.loads(
            raw.decode(), object_pairs_hook=_Members, parse_int=len, parse_float=len, parse_constant=len, strict=False
        )
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    place = _repeated(value)
    if place:
        raise RepeatedMember(*place)


class _Members(list[tuple[str, Any]]):
    """The members of an object, all of them."""


def _repeated(value: Any) -> tuple[str | int, ...] | None:
    """The place of a member that stands in its object before; no recursion, as JSON nests deeper than Python calls."""
    waiting: list[tuple[_Step, Any]] = [(None, value)]
    while waiting:
        place, value = waiting.pop()
        names: set[str] = set()
        if isinstance(value, _Members):
            for name, member in value:
                if name in names:
                    return _way((place, name))
                names.add(name)
                waiting.append(((place, name), member))
        elif isinstance(value, list):
            waiting += [((place, number), item) for number, item in enumerate(value)]
    return None


def _way(step: "_Step") -> tuple[str | int, ...]:
    """The names and numbers of a step and all those before it, from the top."""
    way: list[str | int] = []
    while step is not None:
        step, name = step
        way.insert(0, name)
    return tuple(way)


def same(one: object, other: object) -> bool:
    """Whether two values are equal as JSON, nested ones too.

    Python holds `True` for 1 and `False` for 0, and a float for the binary fraction that it is. JSON knows booleans
    and numbers apart, and a number is the decimal that is written: `1.0` is 1, and 1.2345678901234568e18 is the
    integer 1234567890123456800 that PostgreSQL makes of it.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float) and type(one) is not type(other):
        return Decimal(repr(one)) == Decimal(repr(other))
    return one == other
