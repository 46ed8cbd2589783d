"""Which Secret can follow which, while pods with both answer."""

import base64
from collections.abc import Iterator
from itertools import pairwise

import pytest

from ai_admin.deploy.secret_order import faults, notes
from tests.keyrings import entry, text_of

OLD, NEW = b"old-" * 8, b"new-" * 8
PRIMARY, RETIRED = {"state": "primary"}, {"state": "retired"}
OLD_KEY, NEW_KEY = entry("old", OLD), entry("new", NEW)
RINGS = [
    text_of(OLD_KEY | PRIMARY),
    text_of(OLD_KEY | PRIMARY, NEW_KEY),
    text_of(OLD_KEY, NEW_KEY | PRIMARY),
    text_of(OLD_KEY | RETIRED, NEW_KEY | PRIMARY),
]
FORMER, LATER = base64.b64encode(OLD).decode(), base64.b64encode(NEW).decode()
CURSORS = [FORMER, f"{FORMER} {LATER}", f"{LATER} {FORMER}", LATER]


def steps() -> Iterator[tuple[str, str, str]]:
    """Each setting with its values in the order of a rotation."""
    for key, values in (("VAULT_KEYS", RINGS), ("CURSOR_KEY", CURSORS)):
        for before, after in pairwise(values):
            yield key, before, after


@pytest.mark.parametrize(("key", "before", "after"), list(steps()))
def test_each_step_of_a_rotation_can_follow_the_one_before(key: str, before: str, after: str) -> None:
    """The documented order is not refused, nor is a way back to the step before."""
    assert faults({key: before}, {key: after}) == faults({key: after}, {key: before}) == faults({}, {key: after}) == []


@pytest.mark.parametrize(("first", "second"), [(0, 2), (0, 3), (1, 3), (2, 0), (3, 0), (3, 1)])
@pytest.mark.parametrize(("key", "values"), [("VAULT_KEYS", RINGS), ("CURSOR_KEY", CURSORS)])
def test_a_step_that_is_left_out_is_refused(key: str, values: list[str], first: int, second: int) -> None:
    """Some pods could not open what others seal: requests would fail while the pods are replaced."""
    found = faults({key: values[first]}, {key: values[second]})
    assert found
    assert all(fault.startswith(f"{key}: ") for fault in found)
    assert not any(value in fault for fault in found for value in (FORMER, LATER))


def test_another_key_under_the_same_id_is_refused() -> None:
    """What the former key has sealed would not open."""
    [fault] = faults({"VAULT_KEYS": RINGS[0]}, {"VAULT_KEYS": text_of(entry("old", NEW, "primary"))})
    assert "another key had this id" in fault


def test_a_broken_secret_can_be_replaced() -> None:
    """No pod runs with it."""
    assert faults({"VAULT_KEYS": "{", "CURSOR_KEY": ""}, {"VAULT_KEYS": RINGS[0], "CURSOR_KEY": FORMER}) == []


def test_another_password_for_the_same_role_is_noted() -> None:
    """It may be what mends an outage, and otherwise costs old pods their next connection."""
    before = {"PG_USER": "one", "PG_PASSWORD": "seen-first"}
    [note] = notes(before, before | {"PG_PASSWORD": "seen-second"})
    assert "A second role avoids that" in note
    assert "seen" not in note
    assert notes(before, {"PG_USER": "two", "PG_PASSWORD": "seen-second"}) == []
