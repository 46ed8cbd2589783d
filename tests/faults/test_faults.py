"""Each fault a few times: what was acknowledged is there, once, with its event, and no request hangs."""

from pathlib import Path

import pytest

from tests.faults.scenarios import FAULTS, run
from tests.faults.world import PGBOUNCER, SmallDiskRefused
from tests.serving import HANGS

# Most memory of a worker in MiB, whatever is sent to it: some 100 at rest, 64 for bodies, and what parsing takes.
MEMORY = 256
ROUNDS = {"SIGKILL of PostgreSQL": 4, "PostgreSQL answers after ten seconds": 1}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_acknowledged_is_lost(tmp_path: Path, name: str) -> None:
    """The books of the clients agree with the directory, and the seals with its log."""
    if "PgBouncer" in name and PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    try:
        verdict = run(name, ROUNDS.get(name, 2), tmp_path)
    except SmallDiskRefused as error:
        pytest.skip(f"a small file system takes root: {error}")
    assert verdict.lost == []
    assert verdict.doubled == []
    assert verdict.found == verdict.acknowledged > 0
    assert verdict.errors["hung"] == 0
    assert verdict.slowest < HANGS
    assert verdict.memory < MEMORY
