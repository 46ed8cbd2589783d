"""Rotation of a million credentials: its speed beside the machine's own, and while clients write at full speed.

    PYTHONPATH=apps:. python bench/vault_rotation.py --values 1000000

Everything is sealed anew twice. First with nobody else there: the rate is compared with what PyNaCl's `decrypt` and
`encrypt` of the same values take in one process, in the same run. Then while clients create users under an
`Idempotency-Key` and others replace credentials, and `vault rotate` is killed with SIGKILL on the way and started
again: the clients' requests a second are compared with those before and after. At the end every value must open, and
be what was written last, under a ring without the old keys.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
from nacl.secret import Aead
from rich.console import Console
from tests.conftest import OWNER_ID, ROOT
from tests.keyrings import entry, ring_of, text_of
from tests.serving import USERS, directory, serving

from ai_admin.config import SECRET_NAME, Settings
from ai_admin.vault.ciphertext import Context, VaultError
from ai_admin.vault.keyring import KeyRing
from ai_admin.vault.registry import SEALED_COLUMNS

SECRETS, ANSWERS, *_ = SEALED_COLUMNS
KEYS = [entry(key_id, key_id.encode() * 6 + b"..", "active") for key_id in ("first", "other", "third")]
SIZE = 100
SAMPLE = 20_000
CLIENTS = 4
# Seconds that the clients are alone, before the rotation and after it.
ALONE = 10.0
_console = Console(stderr=True, highlight=False)


def entries(primary: int, *others: int) -> list[dict[str, str]]:
    """A ring of some of the keys."""
    return [KEYS[primary] | {"state": "primary"}, *(KEYS[other] for other in others)]


def value_of(number: int) -> bytes:
    """The first value of a credential: its own, of about a hundred bytes."""
    return b"%d " % number + b"v" * (SIZE - 10)


@dataclass
class Counted:
    """What the clients have done, and what must be there at the end."""

    requests: int = 0
    replacements: int = 0
    failed: int = 0
    replaced: dict[int, bytes] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def create_users(self, api: httpx.Client, client: int) -> None:
        """One client of the API: users, each under an Idempotency-Key of its own."""
        number = 0
        while not self.over.is_set():
            number += 1
            tag = f"user-{client}-{number}"
            try:
                response = api.post(USERS, json={"tag": tag, "kind": "service"}, headers={"Idempotency-Key": tag})
            except httpx.HTTPError:
                self.failed += 1
                continue
            self.requests += 1
            self.failed += response.status_code != 201
            self.answers[tag] = blake2b(response.content).digest()

    def replace_credentials(self, settings: Settings, ring: KeyRing, values: int, kept: set[int]) -> None:
        """One writer of credentials, by SQL."""
        with connected(settings) as sql:
            while not self.over.is_set():
                number = random.randint(1, values)
                if number in kept:
                    continue
                value = b"replaced %d %d " % (number, self.replacements) + b"r" * (SIZE - 30)
                sealed = ring.seal(value, place(UUID(int=number)))
                try:
                    sql.execute("UPDATE user_secrets SET value = %s WHERE id = %s", [sealed, UUID(int=number)])
                except psycopg.Error:
                    self.failed += 1
                    continue
                self.replacements += 1
                self.replaced[number] = value

    def done(self) -> tuple[float, int, int]:
        """Seconds on a clock, requests to the API and credentials replaced, so far."""
        return time.perf_counter(), self.requests, self.replacements


Done = tuple[float, int, int]


def rates(begun: Done, ended: Done) -> tuple[float, float]:
    """Requests and replacements a second."""
    seconds = ended[0] - begun[0]
    return (ended[1] - begun[1]) / seconds, (ended[2] - begun[2]) / seconds


def connected(settings: Settings) -> psycopg.Connection:
    """A connection as the service's role."""
    secret = settings.secret
    return psycopg.connect(host=secret.pg_host, dbname=secret.pg_database, user=secret.pg_user, autocommit=True)


def put_ring(settings: Settings, ring: list[dict[str, str]]) -> None:
    """Change the mounted ring at once."""
    scratch = settings.root / "ring"
    scratch.write_text(text_of(*ring))
    scratch.replace(settings.root / "secrets" / "default" / SECRET_NAME / "VAULT_KEYS")


def place(key: UUID) -> Context:
    """Where a credential that `fill` makes stands."""
    return SECRETS.place(key, (OWNER_ID, f"name-{key.int}", "provider"))


def fill(settings: Settings, ring: KeyRing, values: int) -> None:
    """Credentials by COPY."""
    columns = "id, user_id, name, version, provider, value, last_four"
    with connected(settings) as sql:
        with sql.cursor().copy(f"COPY user_secrets ({columns}) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["uuid", "uuid", "text", "int4", "text", "bytea", "text"])
            for number in range(1, values + 1):
                key = UUID(int=number)
                sealed = ring.seal(value_of(number), place(key))
                copy.write_row((key, OWNER_ID, f"name-{number}", 1, "provider", sealed, "four"))
        sql.execute("VACUUM ANALYZE user_secrets")


def own_speed() -> float:
    """Values a second that PyNaCl decrypts and encrypts in this process; the associated data is there already."""
    old, new = Aead(b"1" * 32), Aead(b"2" * 32)
    header = b"\x02\x01\x05first"
    aads = [header + place(UUID(int=number)).encoded() for number in range(SAMPLE)]
    sealed = [old.encrypt(value_of(number), aad) for number, aad in enumerate(aads)]
    begun = time.perf_counter()
    for ciphertext, aad in zip(sealed, aads, strict=True):
        new.encrypt(old.decrypt(ciphertext, aad), aad)
    return SAMPLE / (time.perf_counter() - begun)


def vault(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    """`ai-admin vault` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "ai_admin", "vault", *arguments, "--root", str(settings.root)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "apps")},
    )


def rotate(settings: Settings, options: list[str], marks: list[int], primary: str) -> float:
    """Seconds of a rotation that is killed, and started again, when it has reached each of the marks."""
    begun = time.perf_counter()
    with connected(settings) as sql:
        for mark in marks:
            running = vault(settings, "rotate", *options)
            reached = "SELECT vault_key_id(value) = %s FROM user_secrets WHERE id = %s"
            while sql.execute(reached, [primary, UUID(int=mark)]).fetchone() != (True,):
                if running.poll() is not None:
                    raise SystemExit("the rotation ended before it could be killed")
                time.sleep(0.005)
            time.sleep(random.random() / 100)
            running.send_signal(signal.SIGKILL)
            running.wait()
    if vault(settings, "rotate", *options).wait():
        raise SystemExit("the rotation failed")
    return time.perf_counter() - begun


def lost(settings: Settings, ring: KeyRing, values: int, counted: Counted) -> int:
    """Values that are gone, do not open, or are not what was written last."""
    right = 0
    with connected(settings) as sql, sql.transaction():
        for column in (SECRETS, ANSWERS):
            with sql.cursor(f"all_{column.table}", binary=True) as cursor:
                cursor.itersize = 5_000
                cursor.execute(f"SELECT {column.primary_key}, {column.column} FROM {column.table}")
                for key, sealed in cursor:
                    with contextlib.suppress(VaultError):
                        value = ring.open(sealed, place(key) if column is SECRETS else column.place(key))
                        if column is SECRETS:
                            right += value == counted.replaced.get(key.int, value_of(key.int))
                        else:
                            right += blake2b(value).digest() == counted.answers[json.loads(value)["tag"]]
    return values + len(counted.answers) - right


def main() -> None:
    """Fill, rotate twice, verify, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=1_000_000, help="credentials of a hundred bytes")
    parser.add_argument("--kills", type=int, default=10, help="times that the rotation is killed")
    parser.add_argument("--rate", type=int, help="`--rate` of the rotation beside clients")
    given = parser.parse_args()
    values: int = given.values
    with (
        tempfile.TemporaryDirectory(prefix="ai-admin-") as name,
        directory(Path(name), LOG_LEVEL="ERROR", RATE_PER_SECOND="1000000", WRITES_PER_SECOND="1000000") as settings,
    ):
        _console.print(f"filling in {values:,} values")
        fill(settings, ring_of(*entries(0)), values)
        machine = own_speed()
        put_ring(settings, entries(1, 0))
        alone = values / rotate(settings, [], [], "other")
        machine = (machine + own_speed()) / 2
        counted = Counted()
        ring = entries(2, 0, 1)
        # No writer touches these values, so they show how far the rotation is.
        marks = [values * number // (given.kills + 1) for number in range(1, given.kills + 1)]
        put_ring(settings, ring)
        with serving(settings, Path(name)) as api, ThreadPoolExecutor(CLIENTS + 1) as pool:
            running = [pool.submit(counted.create_users, api, client) for client in range(CLIENTS)]
            running.append(pool.submit(counted.replace_credentials, settings, ring_of(*ring), values, set(marks)))
            time.sleep(2)
            times = [counted.done()]
            time.sleep(ALONE)
            times.append(counted.done())
            took = rotate(settings, ["--rate", str(given.rate)] if given.rate else [], marks, "third")
            times.append(counted.done())
            time.sleep(ALONE)
            times.append(counted.done())
            counted.over.set()
            for each in running:
                each.result()
        file = Path(name) / "ring.json"
        file.write_text(text_of(*ring))
        retired = not any(vault(settings, "retire", key, "--file", str(file)).wait() for key in ("first", "other"))
        missing = lost(settings, ring_of(*entries(2)), values, counted)
    before, during, after = (rates(*pair) for pair in itertools.pairwise(times))
    beside = values / took
    print(f"""
| values | {values:,} |
|---|---:|
| decrypt and encrypt, one process | {machine:,.0f} a second |
| rotation alone, from start to end of the process | {alone:,.0f} a second, {alone / machine:.2f} of that |
| rotation beside clients, killed {len(marks)} times | {beside:,.0f} a second, {beside / machine:.2f} of that |
| users created a second: before, during, after | {before[0]:,.0f}, {during[0]:,.0f}, {after[0]:,.0f} |
| credentials replaced a second: before, during, after | {before[1]:,.0f}, {during[1]:,.0f}, {after[1]:,.0f} |
| users created and credentials replaced, in all | {len(counted.answers):,}, {counted.replacements:,} |
| failed requests | {counted.failed} |
| lost or changed values | {missing} |
| old keys retired | {"yes" if retired else "no"} |
""")
    if counted.failed or missing or not retired:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
