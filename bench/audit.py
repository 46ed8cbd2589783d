"""What the audit log costs: writes with their events, and with a sealer beside them; sealing, and verification.

    PYTHONPATH=apps python bench/audit.py --events 200000

starts a PostgreSQL of its own with its usual settings, and measures on it

1. users created a second by four threads through the whole application, in rounds that take turns: without events,
   with them, and with a sealer as well, in a process of its own as beside a server's workers;
2. events sealed a second, and verified a second, in a log of so many events.
"""

import argparse
import base64
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing.synchronize import Event
from pathlib import Path
from unittest import mock

import mount
from flask import Flask
from nacl.signing import SigningKey

from ai_admin import migrate
from ai_admin.access.bootstrap import make_owner
from ai_admin.app import create_app
from ai_admin.audit import events
from ai_admin.audit.sealer import sealing
from ai_admin.audit.sealing import seal_waiting, verify_log
from ai_admin.audit.seals import key_id
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.embedded import EmbeddedPostgres

NAME = "bench"
KEY = SigningKey(bytes(32))
WRITERS = 4
BARE, AUDITED, SEALED = WAYS = ("without events", "with events", "with events and sealer")
_tags = itertools.count()
# Events like those that the creation of users has written, until there are enough of them.
FILL = """
WITH more AS (
    INSERT INTO audit_events (id, at, actor_id, key_id, action, target_id, changes, personal, request_id, source)
    SELECT uuidv7(), at, actor_id, key_id, action, target_id, changes, personal, request_id, source
    FROM audit_events, generate_series(1, %(times)s)
    LIMIT %(number)s
    RETURNING id
)
INSERT INTO audit_unsealed SELECT id FROM more
"""


def _seal_when_asked(settings: Settings, wanted: Event, running: Event) -> None:
    """The sealer's process: seals while `wanted` is set."""
    while wanted.wait():
        with sealing(settings):
            running.set()
            while wanted.is_set():
                time.sleep(0.01)
        running.clear()


@contextmanager
def _sealer(settings: Settings) -> Iterator[Callable[[bool], None]]:
    """What switches a sealer on and off."""
    context = multiprocessing.get_context("spawn")
    wanted, running = context.Event(), context.Event()
    process = context.Process(target=_seal_when_asked, args=(settings, wanted, running), daemon=True)
    process.start()

    def switch(on: bool) -> None:
        (wanted.set if on else wanted.clear)()
        while running.is_set() != on:
            time.sleep(0.01)

    yield switch
    process.terminate()
    process.join()


def _create(app: Flask, key: str, until: float) -> int:
    """Create users until that time; how many."""
    client = app.test_client()
    made = 0
    while time.perf_counter() < until:
        tag = f"u{next(_tags)}"
        answer = client.post(
            "/ai/admin/users",
            json={"tag": tag, "email": f"{tag}@example.com", "name": "Ada Lovelace", "models": ["gpt-5*"]},
            headers={"Authorization": f"Bearer {key}"},
        )
        if answer.status_code != 201:
            raise SystemExit(answer.text)
        made += 1
    return made


def _write_rates(app: Flask, settings: Settings, key: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Users created a second, of each round, in each of `WAYS`."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    database = Database(settings)
    with _sealer(settings) as switch, ThreadPoolExecutor(WRITERS) as pool:
        # The first round warms up. Then the ways change places, so that none always comes first.
        for number in range(rounds + 1):
            for way in WAYS if number % 2 else reversed(WAYS):
                switch(way == SEALED)
                with mock.patch.object(events, "about_user") if way == BARE else nullcontext():
                    started = time.perf_counter()
                    made = sum(pool.map(_create, *zip(*[(app, key, started + seconds)] * WRITERS, strict=True)))
                if number:
                    rates[way].append(made / (time.perf_counter() - started))
                switch(False)
                # What a round has left is no burden of the next one's.
                for _ in seal_waiting(database, KEY):
                    pass
    database.close()
    return rates


def _fill(postgres: EmbeddedPostgres, events: int) -> None:
    with postgres.connect(NAME) as connection:
        [[there]] = connection.execute("SELECT count(*) FROM audit_events")
        number = max(events - there, 0)
        connection.execute(FILL, {"number": number, "times": number // there + 1})
        connection.execute("VACUUM ANALYZE")


def _seal(settings: Settings) -> float:
    """Events sealed a second."""
    database = Database(settings)
    started = time.perf_counter()
    events = sum(len(seal.ids) for seal in seal_waiting(database, KEY))
    taken = time.perf_counter() - started
    database.close()
    return events / taken


def _verify(settings: Settings) -> float:
    """Events verified a second."""
    started = time.perf_counter()
    result, waiting = verify_log(settings.secret, {key_id(KEY.verify_key): KEY.verify_key})
    taken = time.perf_counter() - started
    if not result.ok or waiting.events:
        raise SystemExit("\n".join(map(str, result.findings.values())) or f"{waiting.events} wait")
    print(f"verified  {result.events / taken:>8,.0f} events a second ({result.events:,} in {result.seals:,} seals)")
    return result.events / taken


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=200_000, help="events of the log that is verified")
    arguments.add_argument("--rounds", type=int, default=6, help="rounds in each way")
    arguments.add_argument("--seconds", type=float, default=8, help="length of a round")
    given = arguments.parse_args()
    print(f"load averages at the start: {', '.join(f'{load:.2f}' for load in os.getloadavg())}")
    with tempfile.TemporaryDirectory(prefix="ai-admin-bench-") as scratch:
        postgres = EmbeddedPostgres(Path(scratch))
        postgres.start()
        try:
            limits = {"LOG_LEVEL": "ERROR", "RATE_PER_SECOND": "1000000", "WRITES_PER_SECOND": "1000000"}
            seed = base64.b64encode(bytes(KEY)).decode()
            settings = mount.settings(Path(scratch) / "mount", postgres, NAME, limits, AUDIT_SEAL_KEY=seed)
            postgres.ensure_database(NAME, settings.secret.pg_user)
            migrate.upgrade(settings.secret)
            app = create_app(settings)
            rates = _write_rates(app, settings, make_owner(settings, "bench") or "", given.rounds, given.seconds)
            app.extensions["ai_admin"].database.close()
            for way, found in rates.items():
                each = " ".join(f"{rate:.0f}" for rate in found)
                ratios = [one / other for one, other in zip(found, rates[BARE], strict=True)]
                print(
                    f"{way:22} {statistics.median(found):>6.0f} users a second ({each}), "
                    f"{statistics.median(ratios):.2f} of {BARE}, median over the rounds"
                )
            _fill(postgres, given.events)
            print(f"sealed    {_seal(settings):>8,.0f} events a second")
            print(f"verified  {statistics.median(_verify(settings) for _ in range(3)):>8,.0f} events a second, median")
        finally:
            postgres.stop()
    print(f"load averages at the end: {', '.join(f'{load:.2f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
