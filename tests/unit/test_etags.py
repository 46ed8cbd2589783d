"""Entity tags: what If-Match and If-None-Match say (RFC 9110, 8.8.3, 13.1.1 and 13.1.2)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_admin.errors import RequestInvalid
from ai_admin.etags import entity_tag, if_match, none_match

# The same examples in each run, and no limit of time on a busy machine.
FIXED = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        (None, True),
        ("*", True),
        (" * ", True),
        ('"3"', True),
        ('"2"', False),
        ('"03"', False),
        ('""', False),
        ('W/"3"', False),
        ('"1", "3"', True),
        ('"1","3"', True),
        ('W/"3" , "3"', True),
        ('W/"3", "4"', False),
        ('"*"', False),
        ('"a,\\b", "3"', True),
        ('"\xe4"', False),
    ],
)
def test_if_match_compares_strongly(header: str | None, holds: bool) -> None:
    """A change goes ahead for the version that is named, and never for a weak tag."""
    assert if_match(header).holds(3) is holds


@pytest.mark.parametrize(
    ("header", "passes"),
    [
        (None, True),
        ("*", False),
        ('"3"', False),
        ('W/"3"', False),
        ('"2", W/"3"', False),
        ('"2"', True),
        ('W/"2"', True),
        ('""', True),
    ],
)
def test_if_none_match_compares_weakly(header: str | None, passes: bool) -> None:
    """A cache that has this version, weakly or not, is told so."""
    assert none_match(header, 3) is passes


@pytest.mark.parametrize(
    "header",
    ["", " ", "3", '"3', '3"', '"', "'3'", '"3" "4"', '"3",', ',"3"', '"3",,"4"', "W/", "W/3", 'w/"3"', 'W/ "3"',
     "**", '*, "3"', '"3", *', '"a b"', '"\x01"', '"3"; x', '"\x7f"', '"\u0100"'],
)  # fmt: skip
def test_a_malformed_condition_is_an_error(header: str) -> None:
    """What cannot be read neither holds nor fails: the caller hears of it, with the header's name."""
    for name, read in (("If-Match", if_match), ("If-None-Match", lambda text: none_match(text, 3))):
        with pytest.raises(RequestInvalid) as caught:
            read(header)
        assert caught.value.details
        assert caught.value.details[0]["loc"] == ("header", name)


@FIXED
@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_an_entity_tag_matches_itself(version: int) -> None:
    """What the service hands out it takes back, for that version alone."""
    precondition = if_match(entity_tag(version))
    assert precondition.holds(version)
    assert not precondition.holds(version + 1)
    assert not none_match(entity_tag(version), version)


def test_a_long_condition_is_read_at_once() -> None:
    """Reading takes time in proportion to the length: no header makes the pattern try every way to fail."""
    assert if_match(", ".join(f'"{number}"' for number in range(4, 500))).holds(499)
    with pytest.raises(RequestInvalid):
        if_match('"1" ' * 1000)
    with pytest.raises(RequestInvalid):
        if_match('"1"' + " " * 4000 + "x")
