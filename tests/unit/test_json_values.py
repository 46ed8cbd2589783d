"""Equality of JSON values: what is a change, and what is none."""

from typing import Any

import pytest

from ai_admin.audit.events import changed
from ai_admin.json_values import same

EQUAL: list[tuple[Any, Any]] = [
    (1, 1.0),
    (0, -0.0),
    (1e16, 10_000_000_000_000_000),
    (1.2345678901234568e18, 1_234_567_890_123_456_800),
    ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}),
    ([], []),
    (None, None),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (0, False),
    (1, True),
    (1.0, True),
    ("", None),
    (0, None),
    (0, ""),
    ("1", 1),
    ([], {}),
    ([1, 2], [2, 1]),
    ({"a": None}, {}),
    (2**53 + 1, 2.0**53),
]


@pytest.mark.parametrize("nest", [lambda value: value, lambda value: [value], lambda value: {"x": [{"y": value}]}])
@pytest.mark.parametrize(
    ("one", "other", "equal"), [*((*pair, True) for pair in EQUAL), *((*pair, False) for pair in DIFFERENT)]
)
def test_same_as_json_values_nested_or_not(nest: Any, one: Any, other: Any, equal: bool) -> None:
    """A change from `true` to `1` would be lost, or the same PUT would make a version each time."""
    assert same(nest(one), nest(other)) is equal
    assert same(nest(other), nest(one)) is equal
    assert bool(changed({"attributes": nest(one)}, {"attributes": nest(other)})) is not equal
