"""Sealing the audit log in the database, verifying it, and proving what stands in it.

An event and its row of the queue, `audit_unsealed`, are committed together, so what the queue shows is committed, and
what a transaction that ends late has written is there for the next seal: no order of ids or times can leave a gap.
Sealers exclude each other by an advisory lock that nobody else takes, so no writer ever waits for them.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import chain
from typing import NamedTuple
from uuid import UUID

import psycopg
from nacl.signing import SigningKey, VerifyKey
from psycopg.rows import dict_row

from ai_admin.audit import personal
from ai_admin.audit.merkle import HASH_SIZE
from ai_admin.audit.seals import (
    Event,
    EventNotSealed,
    Fault,
    Head,
    Proof,
    Seal,
    Verification,
    make_seal,
    proof,
    verify,
)
from ai_admin.config import DatabaseSettings, SecretSettings
from ai_admin.database import Connection, Database, Row, connection_arguments
from ai_admin.sql import queries

# The columns of an event that a seal covers: all of them, a test compares. The id comes first.
COLUMNS = (
    "id", "at", "actor_id", "key_id", "action", "target_id", "changes", "personal", "request_id", "source",
)  # fmt: skip
# Most events of one seal. A seal takes some ten milliseconds, and its row of the table 48 bytes an event.
BATCH = 1000
# Events that a verification has in memory, about.
_READ_AT_ONCE = 10_000
# Any number, the same in every process.
_LOCK = 4_128_020_264_015
# A time as a seal states it. What only a hand can have put there (infinity, years before 1) is to be read as well.
_INSTANT = """CASE
    WHEN isfinite({0}) AND {0} >= '0001-01-01 00:00Z'
    THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ELSE {0}::text
END AS {0}"""
_AS_READ = {
    "at": _INSTANT.format("at"),
    "changes": "changes::text",
    "events": "ARRAY(SELECT id FROM unnest(events) AS id WHERE id IS NOT NULL) AS events",
    "sealed_at": _INSTANT.format("sealed_at"),
}
_EVENT = ", ".join(_AS_READ.get(name, name) for name in COLUMNS)
_SEAL = ", ".join(
    _AS_READ.get(name, name)
    for name in ("number", "previous", "root", "events", "leaves", "sealed_at", "key_id", "signature")
)
# From the keys where the role may read them: a view could be replaced by one that hides an exchange.
_PEOPLE = """(
    SELECT id, substring(sha256('ai-admin audit key 1'::bytea || audit_key) FROM 1 FOR 16) AS fingerprint FROM users
)"""
# A sealed value's fingerprint; NULL where it has none (ai_admin.audit.personal).
_FINGERPRINT = "CASE WHEN substring({0} FROM 1 FOR 8) = %(mark)s THEN substring({0} FROM 9 FOR 16) END"
_SQL = {
    name: sql.replace("{event}", _EVENT)
    .replace("{seal}", _SEAL)
    .replace("{fingerprint of personal}", _FINGERPRINT.format("personal"))
    .replace("{fingerprint of source}", _FINGERPRINT.format("source"))
    for name, sql in queries("sealing").items()
}
_log = logging.getLogger(__name__)


class AlreadySealing(Exception):
    """Another process is sealing."""


class Waiting(NamedTuple):
    """How many events wait for their seal, and since when the oldest does."""

    events: int
    since: datetime | None


def signing_key(secret: SecretSettings) -> SigningKey | None:
    """The key that signs seals; None where none is set."""
    seed = secret.audit_seal_key_bytes()
    return SigningKey(seed) if seed else None


def seal_next(database: Database, key: SigningKey, most: int = BATCH) -> Seal | None:
    """Seal at most so many of the events that wait, in a transaction of its own; None where none waits.

    Personal values are sealed as they are stored, under the person's key: a purge leaves the seal valid.
    Raises `AlreadySealing`, `DatabaseUnavailable`, `SchemaOutdated`.
    """
    with database.transaction() as connection:
        row = connection.execute(_SQL["try_lock"], {"lock": _LOCK}).fetchone()
        if row is None or not row["locked"]:
            raise AlreadySealing
        events = connection.execute(_SQL["take"], {"most": most}, binary=True).fetchall()
        if not events:
            return None
        last = connection.execute(_SQL["last"]).fetchone()
        seal = make_seal(_seal(last) if last else None, events, COLUMNS, key, datetime.now(timezone.utc))
        connection.execute(_SQL["insert"], _row(seal))
    # A log that is collected elsewhere keeps the checkpoint where nobody who has the database alone can change it.
    fields = {"seal": seal.number, "events": len(seal.ids), "checkpoint": checkpoint(seal.head)}
    _log.info("sealed", extra={"fields": fields})
    return seal


def seal_waiting(database: Database, key: SigningKey) -> Iterator[Seal]:
    """Seal until nothing waits; gives each seal once it is committed. Raises what `seal_next` raises."""
    while seal := seal_next(database, key):
        yield seal


def checkpoint(head: Head) -> str:
    """A head as people keep it: NUMBER:HASH."""
    return f"{head.number}:{head.hash.hex()}"


def parse_checkpoint(text: str) -> Head:
    """The head that `checkpoint` has written. Raises `ValueError`."""
    number, _, digest = text.partition(":")
    head = Head(int(number), bytes.fromhex(digest))
    if head.number < 0 or len(head.hash) != HASH_SIZE:
        raise ValueError("a checkpoint is a number, a colon and 64 hex digits")
    return head


def verify_log(
    settings: DatabaseSettings,
    public_keys: Mapping[str, VerifyKey],
    expected_head: Head | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Verification, Waiting]:
    """Verify all seals and all events as they are at one moment; `public_keys` are by `key_id`.

    `progress` is called with the seals that are done and their number. Raises `psycopg.Error`.
    """
    with _snapshot(settings) as connection:
        row = connection.execute(_SQL["count"]).fetchone()
        total = row["seals"] if row else 0

        def batches() -> Iterator[tuple[Seal, Mapping[UUID, Event]]]:
            for done, batch in enumerate(_batches(connection)):
                progress(done, total)
                yield batch

        result = verify(batches(), COLUMNS, public_keys, expected_head)
        progress(total, total)
        _check_unaccounted(connection, result)
        _check_people(connection, result)
        waiting = connection.execute(_SQL["waiting"]).fetchone()
        return result, Waiting(**waiting) if waiting else Waiting(0, None)


def prove(settings: DatabaseSettings, event_id: UUID) -> Proof:
    """The proof of an event. Raises `EventNotSealed`, `psycopg.Error`."""
    with _snapshot(settings) as connection:
        connection.execute(queries("audit")["by_index"])
        seal = connection.execute(_SQL["of_event"], {"id": event_id}).fetchone()
        event = connection.execute(_SQL["events"], {"ids": [event_id]}).fetchone()
        if seal is None or event is None:
            raise EventNotSealed
        return proof(_seal(seal), event, COLUMNS)


@contextmanager
def _snapshot(settings: DatabaseSettings) -> Iterator[Connection]:
    """A connection that sees one moment and changes nothing, with all the time it needs."""
    arguments = connection_arguments(settings, statement_timeout=0)
    with psycopg.connect(**arguments, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


def _batches(connection: Connection) -> Iterator[tuple[Seal, Mapping[UUID, Event]]]:
    """All seals by their numbers, each with what the log has of its events."""
    with connection.cursor("seals", binary=True) as cursor:
        cursor.itersize = 20
        cursor.execute(_SQL["all"])
        for seals in _together(map(_seal, cursor)):
            ids = list(chain.from_iterable(seal.ids for seal in seals))
            rows = connection.execute(_SQL["events"], {"ids": ids}, binary=True).fetchall()
            found = {event["id"]: event for event in rows}
            for seal in seals:
                yield seal, {event_id: found[event_id] for event_id in seal.ids if event_id in found}


def _together(seals: Iterator[Seal]) -> Iterator[list[Seal]]:
    """Seals whose events are read at once: small ones would take a round trip each."""
    together: list[Seal] = []
    events = 0
    for seal in seals:
        together.append(seal)
        events += len(seal.ids)
        if events >= _READ_AT_ONCE:
            yield together
            together, events = [], 0
    if together:
        yield together


def _check_unaccounted(connection: Connection, result: Verification) -> None:
    for row in connection.execute(_SQL["unaccounted"]):
        if row["gone"]:
            result.note(Fault.EVENT_REMOVED, event=row["id"])
        else:
            result.note(Fault.EVENT_DOUBLED if row["times"] else Fault.EVENT_INSERTED, event=row["id"])


def _check_people(connection: Connection, result: Verification) -> None:
    """Find personal values that do not open although nobody erased the person, as far as the role may read."""
    may_read = connection.execute(_SQL["may_read"]).fetchone()
    if may_read is None or not (may_read["people"] or may_read["keys"]):
        return
    result.checked_people = True
    query = _SQL["people"].replace("{people}", _PEOPLE if may_read["keys"] else "audit_people")
    with connection.cursor("people", binary=True) as cursor:
        cursor.execute(query, {"mark": personal.MARK})
        while rows := cursor.fetchmany(_READ_AT_ONCE):
            unmarked = [row["user_id"] for row in rows if not row["gone"] and row["fingerprint"] is None]
            keys = _audit_keys(connection, unmarked) if may_read["keys"] else {}
            for row in rows:
                if row["gone"]:
                    result.note(Fault.PERSON_REMOVED, event=row["id"])
                elif row["fingerprint"] is not None or (may_read["keys"] and not _opens(row, keys)):
                    result.note(Fault.PERSON_KEY_CHANGED, event=row["id"])


def _audit_keys(connection: Connection, users: list[UUID]) -> dict[UUID, bytes | None]:
    rows = connection.execute(queries("audit")["audit_keys"], {"ids": users})
    return {row["id"]: row["audit_key"] for row in rows}


def _opens(row: Row, keys: Mapping[UUID, bytes | None]) -> bool:
    """Whether the person's key opens a value that has no fingerprint."""
    key = keys.get(row["user_id"])
    return key is not None and personal.unseal(row["value"], row["id"], key) is not None


def _seal(row: Row) -> Seal:
    leaves = row.pop("leaves")
    return Seal(
        ids=tuple(row.pop("events")),
        leaves=tuple(leaves[start : start + HASH_SIZE] for start in range(0, len(leaves), HASH_SIZE)),
        **row,
    )


def _row(seal: Seal) -> Row:
    return {
        "number": seal.number,
        "previous": seal.previous,
        "root": seal.root,
        "events": list(seal.ids),
        "leaves": b"".join(seal.leaves),
        "sealed_at": seal.sealed_at,
        "key_id": seal.key_id,
        "signature": seal.signature,
    }
