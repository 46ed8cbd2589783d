"""An import of a million users with bad rows among them, killed on the way, against a bare COPY of the same rows.

    PYTHONPATH=apps:. python bench/transfer.py --users 1000000

starts a PostgreSQL of its own with its usual settings, makes a file (NDJSON) of which 1 % is bad, and

1. copies the good rows into `users` by nothing but COPY: all columns computed beforehand, one transaction, the table's
   own indexes; then empties the table;
2. imports the file in a process of its own that is killed (SIGKILL) so many times on the way, and says whether users,
   rejects and events are exactly what the file says; then empties the table;
3. imports it once more without a kill, in a process of its own: its rate, its largest resident size after a tenth and
   at the end; seals the log and verifies it.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import psycopg
from nacl.signing import SigningKey
from tests.conftest import delete_rows
from tests.serving import directory
from uuid_utils.compat import uuid7

from ai_admin.access.actors import service
from ai_admin.audit.sealing import seal_waiting, verify_log
from ai_admin.audit.seals import key_id
from ai_admin.config import Settings, load_settings
from ai_admin.database import Database, connection_arguments
from ai_admin.demo import SEED, _users
from ai_admin.folding import sort_key, words
from ai_admin.transfer.importing import Progress, import_users

BAD = 100
COLUMNS = (
    "id", "tag", "email", "name", "name_key", "kind", "role", "status", "models", "attributes", "words", "audit_key",
)  # fmt: skip
# What is wrong with a bad row, in turn.
FAULTS: tuple[dict[str, Any], ...] = (
    {"tag": "not a tag"},
    {"email": "no-address"},
    {"name": ""},
    {"role": "king"},
    {"unknown": 1},
)


def _rows(number: int) -> Iterator[dict[str, Any]]:
    """Made-up users as the API takes them; every hundredth is bad."""
    for index, row in enumerate(_users(SEED, 0, number, 0)):
        _, tag, email, name, _, kind, role, status, models, attributes, *_ = row
        user = {
            "tag": tag,
            "email": email,
            "name": name,
            "kind": kind,
            "role": "member" if role == "owner" else role,
            "status": "active" if status == "deleted" else status,
            "models": models,
            "attributes": orjson.loads(attributes),
        }
        yield user | FAULTS[index // BAD % len(FAULTS)] if index % BAD == 7 else user


def _write(path: Path, number: int) -> None:
    with path.open("wb") as file:
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in _rows(number))


def _good(number: int) -> Iterator[dict[str, Any]]:
    return (row for index, row in enumerate(_rows(number)) if index % BAD != 7)


def _copy(settings: Settings, number: int, folder: Path) -> float:
    """Seconds of a bare COPY of the good rows, from a file in COPY's own text form."""
    prepared = folder / "rows.copy"
    with psycopg.connect(**connection_arguments(settings.secret), autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE plain (LIKE users INCLUDING DEFAULTS)")
        names = ", ".join(COLUMNS)
        good = _good(number)
        while batch := list(islice(good, 20_000)):
            with connection.cursor().copy(f"COPY plain ({names}) FROM STDIN") as copy:
                for user in batch:
                    copy.write_row(_row(user))
        with prepared.open("wb") as file, connection.cursor().copy(f"COPY plain ({names}) TO STDOUT") as copy:
            file.writelines(copy)
        connection.execute("DROP TABLE plain")
        began = time.perf_counter()
        with prepared.open("rb") as file, connection.cursor().copy(f"COPY users ({names}) FROM STDIN") as copy:
            while block := file.read(1 << 17):
                copy.write(block)
        return time.perf_counter() - began


def _row(user: dict[str, Any]) -> tuple[Any, ...]:
    found = words(user["tag"], user["email"], user["name"])
    return (
        uuid7(),
        user["tag"],
        user["email"],
        user["name"],
        sort_key(user["name"]),
        user["kind"],
        user["role"],
        user["status"],
        list(user["models"]),
        orjson.dumps(user["attributes"]).decode(),
        " ".join(f"'{word}'" for word in found),
        os.urandom(32),
    )


def _import(root: Path, path: Path, told: Any) -> None:
    """The process that imports; tells its progress in records, with its largest resident size in MiB."""

    def tell(progress: Progress) -> None:
        told.send((progress.summary.records, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, None))

    with path.open("rb") as file:
        outcome = import_users(load_settings(root), service("bench"), file, "ndjson", progress=tell)
    told.send((outcome.summary.records, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, outcome))


def _run(settings: Settings, path: Path, until: int | None = None) -> tuple[float, list[tuple[int, int]], Any]:
    """Import in a process of its own, which is killed at so many records: seconds, records with sizes, the outcome."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_import, args=(settings.root, path, sending))
    began = time.perf_counter()
    process.start()
    sending.close()
    seen: list[tuple[int, int]] = []
    outcome = None
    try:
        while outcome is None:
            records, size, outcome = receiving.recv()
            seen.append((records, size))
            if until is not None and records >= until and process.pid:
                os.kill(process.pid, signal.SIGKILL)
                break
    except EOFError:
        pass
    process.join()
    return time.perf_counter() - began, seen, outcome


def _digests(settings: Settings) -> dict[str, Any]:
    """What the directory holds of the imported, whatever ids and times are."""
    with psycopg.connect(**connection_arguments(settings.secret)) as connection:
        users = connection.execute(
            """
            SELECT count(*), md5(string_agg(md5(concat_ws('|', tag, email, name, name_key, kind, role, status, models,
                attributes, words, version)), '' ORDER BY tag))
            FROM users WHERE tag <> 'zz-owner'
            """
        ).fetchone()
        events = connection.execute(
            """
            SELECT count(*), count(DISTINCT target_id), bool_and(users.id IS NOT NULL)
            FROM audit_events LEFT JOIN users ON users.id = target_id
            WHERE action = 'users:create'
            """
        ).fetchone()
        rejects = connection.execute(
            "SELECT count(*), md5(string_agg(line::text, ',' ORDER BY line)) FROM import_rejects"
        )
        return {"users": users, "events": events, "rejects": rejects.fetchone()}


def main() -> None:
    """Measure, print, and exit 1 where the import has lost or doubled anything, or grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=3)
    arguments = parser.parse_args()
    number = arguments.users
    with tempfile.TemporaryDirectory() as scratch, directory(Path(scratch)) as settings:
        path = Path(scratch) / "users.ndjson"
        _write(path, number)
        bad = [index + 1 for index in range(number) if index % BAD == 7]
        print(f"{number:,} rows, {len(bad):,} of them bad, {path.stat().st_size / 2**20:,.0f} MiB")
        bare = _copy(settings, number, Path(scratch))
        rate = (number - len(bad)) / bare
        print(f"bare COPY into users: {bare:.1f} s, {rate:,.0f} users/s")
        _empty(settings)

        chance = random.Random(number)
        for kill in range(arguments.kills):
            until = int(number * (kill + chance.random()) / arguments.kills)
            _, seen, _ = _run(settings, path, until)
            print(f"killed at {seen[-1][0]:,} records")
        _, _, outcome = _run(settings, path)
        print(f"resumed at {outcome.resumed_at:,}: {outcome.summary}")
        killed = _digests(settings)
        _empty(settings)

        seconds, seen, outcome = _run(settings, path)
        whole = _digests(settings)
        early = next(size for records, size in seen if records >= number / 10)
        own = outcome.summary.created / seconds
        print(f"import: {seconds:.1f} s, {own:,.0f} users/s, {own / rate:.2f} of the bare COPY")
        print(f"largest resident size: {early} MiB after a tenth, {seen[-1][1]} MiB at the end")
        lines = [reject.line for reject in outcome.rejects(settings)]
        checks = {
            "report exact": lines == bad,
            "nothing lost": whole["users"][0] == number - len(bad) == outcome.summary.created,
            "an event a user": whole["events"] == (number - len(bad), number - len(bad), True),
            "killed and resumed to the same": whole == killed,
            "memory flat": seen[-1][1] - early < 30,
        }
        key = SigningKey(bytes(32))
        database = Database(settings)
        for _ in seal_waiting(database, key):
            pass
        database.close()
        verification, waiting = verify_log(settings.secret, {key_id(key.verify_key): key.verify_key})
        checks["seals verify"] = verification.ok and not waiting.events
        print(json.dumps(checks, indent=2))
        sys.exit(not all(checks.values()))


def _empty(settings: Settings) -> None:
    """Take all rows out, as the superuser may, and leave the tables as new."""
    arguments = connection_arguments(settings.secret) | {"user": "postgres"}
    with psycopg.connect(**arguments, autocommit=True) as connection:
        delete_rows(connection)
        connection.execute("VACUUM FULL")
        connection.execute("CHECKPOINT")


if __name__ == "__main__":
    main()
