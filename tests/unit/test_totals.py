"""Totals that are remembered: estimates for a few seconds, and nothing that is exact."""

import pytest

from ai_admin import totals
from ai_admin.totals import Estimates, Total


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless it is moved."""
    now = [100.0]
    monkeypatch.setattr("ai_admin.totals.time.monotonic", lambda: now[0])
    return now


def test_an_exact_total_is_counted_each_time() -> None:
    """Who has just created a user sees the total grow."""
    totals = iter([Total(1, is_estimate=False), Total(2, is_estimate=False)])
    estimates = Estimates()
    assert [estimates.of(b"list", lambda: next(totals)).rows for _ in range(2)] == [1, 2]


def test_an_estimate_is_counted_once_in_a_while(clock: list[float]) -> None:
    """Turning pages of a long list costs one count; later it is counted again."""
    totals = iter([Total(20_000, is_estimate=True), Total(30_000, is_estimate=True)])
    estimates = Estimates()
    assert [estimates.of(b"list", lambda: next(totals)).rows for _ in range(2)] == [20_000, 20_000]
    clock[0] += 60
    assert estimates.of(b"list", lambda: next(totals)).rows == 30_000


def test_another_list_has_another_total() -> None:
    """Filters and callers are told apart."""
    estimates = Estimates()
    assert estimates.of(b"one", lambda: Total(20_000, is_estimate=True)).rows == 20_000
    assert estimates.of(b"other", lambda: Total(30_000, is_estimate=True)).rows == 30_000


def test_no_flood_of_lists_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(totals, "_MOST_REMEMBERED", 3)
    estimates = Estimates()
    for number in range(10):
        estimates.of(bytes([number]), lambda: Total(20_000, is_estimate=True))
    assert list(estimates._found) == [b"\x07", b"\x08", b"\x09"]
