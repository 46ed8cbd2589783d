"""Each fault a few times: what was acknowledged is there, once, with its event, and no request hangs."""

import contextlib
from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS
from tests.faults.world import PGBOUNCER, small_disk, world
from tests.serving import HANGS

ROUNDS = {"SIGKILL of PostgreSQL": 4, "PostgreSQL answers after ten seconds": 1}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_acknowledged_is_lost(tmp_path: Path, name: str) -> None:
    """The books of the clients agree with the directory, and the seals with its log."""
    if "PgBouncer" in name and PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    with contextlib.ExitStack() as stack:
        if name == "a full disk":
            try:
                stack.enter_context(small_disk(tmp_path / "pg"))
            except (PermissionError, FileNotFoundError) as error:
                pytest.skip(f"a small file system takes root: {error}")
        here = stack.enter_context(world(tmp_path))
        with here.ledger.writing():
            recoveries = SCENARIOS[name](here, ROUNDS.get(name, 2))
        verdict = here.verdict(recoveries)
    assert verdict.lost == []
    assert verdict.doubled == []
    assert verdict.found == verdict.acknowledged > 0
    assert verdict.errors["hung"] == 0
    assert verdict.slowest < HANGS
