"""JSON values: the one comparison that tells whether a change changes anything."""

from decimal import Decimal


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
