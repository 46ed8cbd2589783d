"""Every fault at length, as a Markdown table.

PYTHONPATH=apps:. python bench/faults.py [PART OF A NAME]
"""

import statistics
import sys
import tempfile
from pathlib import Path

from tests.faults.ledger import Verdict
from tests.faults.scenarios import FAULTS, run

ROUNDS = {"SIGKILL of PostgreSQL": 100, "PostgreSQL answers after ten seconds": 3, "a streaming replica promoted": 5}
_HEAD = (
    "| fault | times | acknowledged | found | lost | doubled | failed, to be tried again | hung | "
    "recovery: median, longest | slowest request |\n|---|---:|---:|---:|---:|---:|---|---:|---:|---:|"
)


def row(name: str, verdict: Verdict) -> str:
    """The line of the table."""
    errors = dict(verdict.errors)
    hung = errors.pop("hung", 0)
    cells = [
        name,
        len(verdict.recoveries),
        f"{verdict.acknowledged:,}",
        f"{verdict.found:,}",
        len(verdict.lost),
        len(verdict.doubled),
        ", ".join(f"{kind}: {number:,}" for kind, number in sorted(errors.items())) or "none",
        hung,
        f"{statistics.median(verdict.recoveries):.2f} s, {max(verdict.recoveries):.2f} s",
        f"{verdict.slowest:.1f} s",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """Run the faults whose name has what was asked for; 1 where something was lost, doubled or hung."""
    asked = " ".join(sys.argv[1:])
    print(_HEAD, flush=True)
    bad, memory = 0, {}
    for name in FAULTS:
        if asked in name:
            with tempfile.TemporaryDirectory(prefix="ai-admin-faults-") as folder:
                verdict = run(name, ROUNDS.get(name, 10), Path(folder))
            print(row(name, verdict), flush=True)
            memory[name] = verdict.memory
            bad += len(verdict.lost) + len(verdict.doubled) + verdict.errors["hung"]
            for finding in (verdict.lost + verdict.doubled)[:10]:
                print(finding, file=sys.stderr)
    print("\n| fault | most memory of a worker |\n|---|---:|")
    for name, most in memory.items():
        print(f"| {name} | {most} MiB |")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
