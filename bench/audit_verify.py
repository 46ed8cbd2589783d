"""How fast the audit log is verified: events a second, everything in memory, one process.

Run with: PYTHONPATH=apps python bench/audit_verify.py [EVENTS] [BATCH]
"""

import gc
import sys
import time
from datetime import datetime, timezone
from uuid import UUID

from nacl.signing import SigningKey

from ai_admin.audit.seals import Seal, Value, key_id, make_seal, verify

Row = dict[str, Value]


def row(number: int) -> Row:
    """An event of the usual size, about 600 bytes in canonical form."""
    return {
        "seq": number,
        "id": UUID(int=number),
        "at": datetime.fromtimestamp(1_769_000_000 + number, timezone.utc),
        "actor": UUID(int=number % 100),
        "key": UUID(int=number % 1000),
        "action": "user:update",
        "target": UUID(int=number),
        "before": '{"name": "Ada Lovelace", "email": "***", "models": ["gpt-5*"], "status": "active"}',
        "after": '{"name": "Ada King", "email": "***", "models": ["gpt-5*", "claude-*"], "status": "active"}',
        "request": f"01890a5d-ac96-774b-bcce-{number:012x}",
        "address": "192.0.2.17",
        "reason": None,
    }


def main(events: int = 200_000, batch: int = 1_000) -> None:
    """Seal the events, verify them, and print the rates."""
    key, columns = SigningKey.generate(), tuple(row(0))
    rows = [[row(number) for number in range(first, first + batch)] for first in range(0, events, batch)]
    seals: list[Seal] = []
    # The rows stand for those that a database streams: the garbage collector need not walk them all again and again.
    gc.freeze()
    started = time.perf_counter()
    for events_of_batch in rows:
        seals.append(make_seal(seals[-1] if seals else None, events_of_batch, columns, key, datetime.now(timezone.utc)))
    sealed = time.perf_counter()
    result = verify(seals, lambda seal: rows[seal.number - 1], columns, {key_id(key.verify_key): key.verify_key})
    verified = time.perf_counter()
    if not result.ok:
        raise SystemExit("\n".join(str(finding) for finding in result.findings.values()))
    print(f"{result.events:,} events in {result.seals:,} seals")
    print(f"sealing   {result.events / (sealed - started):>10,.0f} events a second")
    print(f"verifying {result.events / (verified - sealed):>10,.0f} events a second")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
