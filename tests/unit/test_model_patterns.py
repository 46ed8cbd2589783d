"""Patterns of models: which a caller may call."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_admin.introspection.views import fits


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_fits_is_what_the_star_says(pattern: str, model: str) -> None:
    """A pattern that lets too much through gives models away; one that lets too little through stops work."""
    expression = "[ab]*".join(map(re.escape, pattern.split("*")))
    assert fits(pattern, model) == bool(re.fullmatch(expression, model))


@pytest.mark.parametrize(
    ("pattern", "model"),
    [("a*" * 100 + "b", "a" * 255), ("*" * 200 + "b", "a" * 255), ("*a" * 127 + "*", "b" + "a" * 126)],
)
def test_no_pattern_takes_long(pattern: str, model: str) -> None:
    """Whoever may write a pattern must not stop every gateway with it: a regular expression would not end here."""
    assert not fits(pattern, model)
