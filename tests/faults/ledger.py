"""Clients who write, and keep books of what was acknowledged; and the audit of the directory against those books."""

import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from tests.serving import HANGS, USERS

CLIENTS = 8
# Seconds between two tries of a request that may have failed.
_PAUSE = 0.05


@dataclass
class Entry:
    """A user as the client knows it: names that it may have, the last acknowledged one among them."""

    tag: str
    id: str | None = None
    names: set[str] = field(default_factory=set)
    # Changes that were acknowledged, and those of which nobody knows.
    changes: int = 0
    unknown: int = 0


@dataclass
class Verdict:
    """What the audit of the directory against the books has found."""

    acknowledged: int = 0
    found: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    # The most memory that a worker of the server has taken, in MiB; of those that are there at the end.
    memory: int = 0
    # The longest time without an acknowledged write, in seconds, for each fault.
    recoveries: list[float] = field(default_factory=list)


class Ledger:
    """Writers in threads, and their books.

    Half of the users are created under an Idempotency-Key and asked for until that is acknowledged; the others once.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        """Nobody writes yet."""
        self._url, self._headers = url, headers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.entries: list[Entry] = []
        self.errors: Counter[str] = Counter()
        self.successes: list[float] = []
        self.slowest = 0.0

    @contextlib.contextmanager
    def writing(self, clients: int = CLIENTS) -> Iterator[None]:
        """While so many clients write. Raises what one of them has raised: an answer that may not be."""
        faults: list[BaseException] = []

        def run(number: int) -> None:
            try:
                self._write(number)
            except BaseException as fault:  # noqa: BLE001  raised again below
                faults.append(fault)

        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(3 * HANGS)
        assert not any(thread.is_alive() for thread in threads), "a client hangs"
        if faults:
            raise faults[0]

    def longest_pause(self, since: float, patience: float = 60) -> float:
        """The longest time, in seconds, without an acknowledgement from that moment to the first one after now."""
        now = time.monotonic()
        while time.monotonic() < now + patience:
            with self._lock:
                moments = [since, *itertools.takewhile(lambda moment: moment > since, reversed(self.successes))]
            if max(moments) > now:
                moments.sort()
                return max(after - before for before, after in itertools.pairwise(moments))
            time.sleep(0.005)
        raise AssertionError(f"nothing was acknowledged in {patience} s: {self.errors}")

    def _write(self, number: int) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=HANGS, trust_env=False) as client:
            for count in itertools.count():
                if self._stop.is_set():
                    return
                entry = Entry(f"c{number}-{count}-{random.getrandbits(32):08x}")
                with self._lock:
                    self.entries.append(entry)
                self._create(client, entry, once=count % 2 == 0)
                for change in range(2):
                    if entry.id and not self._stop.is_set():
                        self._change(client, entry, f"{entry.tag} {change}")

    def _create(self, client: httpx.Client, entry: Entry, *, once: bool) -> None:
        body = {"tag": entry.tag, "kind": "service"}
        headers = {"Idempotency-Key": entry.tag} if once else {}
        answer = self._ask(client, "POST", USERS, body, headers)
        while answer is None and once:
            time.sleep(_PAUSE)
            answer = self._ask(client, "POST", USERS, body, headers)
            if answer is None and self._stop.is_set():
                return
        if answer is not None:
            entry.id = str(answer["id"])
            entry.names = {entry.tag}

    def _change(self, client: httpx.Client, entry: Entry, name: str) -> None:
        answer = self._ask(client, "PUT", f"{USERS}/{entry.id}", {"name": name}, {})
        if answer is None:
            entry.names.add(name)
            entry.unknown += 1
            time.sleep(_PAUSE)
        else:
            entry.names = {name}
            entry.changes += 1

    def _ask(
        self, client: httpx.Client, method: str, path: str, body: object, headers: dict[str, str]
    ) -> dict[str, Any] | None:
        """The answer that acknowledges; None where nobody knows, or nothing was done."""
        begun = time.monotonic()
        try:
            response = client.request(method, path, json=body, headers=headers)
        except httpx.TimeoutException:
            self._note("hung", begun)
            return None
        except httpx.TransportError as error:
            self._note(type(error).__name__, begun)
            return None
        self._note(None if response.is_success else str(response.status_code), begun)
        # In the way are a database that is away, and another try under the same key that goes on still.
        assert response.is_success or response.status_code in {409, 503}, response.text
        return response.json() if response.is_success else None

    def _note(self, error: str | None, begun: float) -> None:
        now = time.monotonic()
        with self._lock:
            self.slowest = max(self.slowest, now - begun)
            if error is None:
                self.successes.append(now)
            else:
                self.errors[error] += 1

    def audit(self, sql: psycopg.Connection[Any]) -> Verdict:
        """Compare the books with the directory and its audit log."""
        verdict = Verdict(errors=self.errors, slowest=self.slowest)
        rows = {
            row[0]: row for row in sql.execute("SELECT id::text, tag, name, version FROM users WHERE kind = 'service'")
        }
        events = Counter(
            {(target, action): number for target, action, number in sql.execute(
                "SELECT target_id::text, action, count(*) FROM audit_events GROUP BY 1, 2"
            )}
        )  # fmt: skip
        for entry in self.entries:
            if entry.id is None:
                continue
            verdict.acknowledged += 1 + entry.changes
            row = rows.get(entry.id)
            if row is None:
                verdict.lost.append(f"{entry.tag} is not there")
                continue
            _, tag, name, version = row
            done = version - 1
            if tag != entry.tag or name not in entry.names or done < entry.changes:
                verdict.lost.append(f"{entry.tag} is {tag}, {name}, version {version}; it may be {entry}")
            else:
                verdict.found += 1 + entry.changes
            if done > entry.changes + entry.unknown:
                verdict.doubled.append(f"{entry.tag} was changed {done} times")
        tags = Counter(row[1] for row in rows.values())
        verdict.doubled += [f"{tag}: {number} users" for tag, number in tags.items() if number > 1]
        for user_id, tag, _, version in rows.values():
            written = (events[user_id, "users:create"], events[user_id, "users:update"])
            # The one who was there before has no event.
            if tag != "zz-owner" and written != (1, version - 1):
                verdict.doubled.append(f"{tag}: version {version}, and events {written}")
        return verdict
