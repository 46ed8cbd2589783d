"""Rejects of a dry run: all of them, in order, however many there are."""

import resource

from ai_admin.transfer.rejects import KeptRejects, Reject


def test_many_rejects_are_kept_on_a_disk() -> None:
    """A file of a hundred thousand faults costs a dry run no memory, and each is told."""
    kept = KeptRejects()
    problem = {"errorCode": "VALIDATION_ERROR", "details": [{"loc": ["body", "tag"], "msg": "x" * 500}]}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in range(0, 100_000, 1_000):
        kept.add(Reject(line, problem) for line in range(start, start + 1_000))
    assert sum(reject == Reject(line, problem) for line, reject in enumerate(kept)) == 100_000
    # In KiB: all of them would take some 70 MiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    # Whoever asks again gets them again.
    assert next(iter(kept)) == Reject(0, problem)
