"""The audit log sealed in a real database: nothing is left out, whoever tampers is found, and nobody waits for it."""

import base64
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import psycopg
import pytest
from nacl.secret import Aead
from nacl.signing import SigningKey
from typer.testing import CliRunner, Result

from ai_admin.access.actors import service
from ai_admin.app import create_app
from ai_admin.audit import events, personal, sealer, sealing
from ai_admin.audit.sealing import COLUMNS, AlreadySealing, checkpoint, parse_checkpoint, seal_next, seal_waiting
from ai_admin.audit.seals import Fault, Finding, Head, Seal, key_id, make_seal
from ai_admin.cli import app as cli
from ai_admin.config import SECRET_NAME, Settings, load_settings
from ai_admin.database import Database
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import OWNER_ID, ROOT, calling, write_mount
from tests.serving import HANGS, USERS, serving, together

AUDIT = "/ai/admin/audit"
KEY = SigningKey(b"seal" * 8)
KEYS = {key_id(KEY.verify_key): KEY.verify_key}
OTHER_KEY = SigningKey(b"else" * 8)
CHECKER = ROOT / "examples" / "check_audit_proof.py"
SIZE = 4


def seal_key(key: SigningKey) -> str:
    """A signing key as the Secret has it."""
    return base64.b64encode(bytes(key)).decode()


@dataclass
class Log:
    """The audit log of a database with an API that writes to it, and a superuser who tampers with it."""

    settings: Settings
    database: Database
    api: httpx.Client
    sql: psycopg.Connection

    def users(self, prefix: str, number: int = SIZE) -> list[str]:
        """Write as many events: those of new users. The users' ids."""
        answers = [
            self.api.post(USERS, json={"tag": f"{prefix}-{each}", "email": f"{prefix}-{each}@example.com"})
            for each in range(number)
        ]
        assert [answer.status_code for answer in answers] == [201] * number
        return [answer.json()["id"] for answer in answers]

    def seal(self, key: SigningKey = KEY, most: int = SIZE) -> Seal:
        """The next seal."""
        seal = seal_next(self.database, key, most)
        assert seal
        return seal

    def found(self, expected: Head | None = None) -> list[Finding]:
        """What a verification finds, in its order."""
        return [*sealing.verify_log(self.settings.secret, KEYS, expected)[0].findings.values()]

    def run(self, *arguments: str) -> Result:
        """`ai-admin audit` with these arguments."""
        return CliRunner().invoke(cli, ["audit", *arguments, "--root", str(self.settings.root)])

    def times_sealed(self) -> set[int]:
        """In how many seals the events are."""
        rows = self.sql.execute("""
            SELECT count(number) FROM audit_events LEFT JOIN audit_seals ON id = ANY(events) GROUP BY id
        """)
        return {times for (times,) in rows}


@pytest.fixture
def log(settings: Settings, sql: psycopg.Connection) -> Iterator[Log]:
    """A log without events yet; the settings have the key that signs. The superuser's triggers are off."""
    write_mount(settings.root, {"AUDIT_SEAL_KEY": seal_key(KEY)}, {})
    settings = load_settings(settings.root)
    sql.execute("SET session_replication_role = replica")
    with calling(create_app(settings)) as api:
        database = Database(settings)
        yield Log(settings, database, api, sql)
        database.close()


class Sealed(NamedTuple):
    """A log with three seals of four events each, and the id of one event that waits."""

    log: Log
    seals: list[Seal]
    waiting: UUID


@pytest.fixture
def sealed(log: Log) -> Sealed:
    """A log to tamper with."""
    seals = []
    for number in range(3):
        log.users(f"u{number}")
        seals.append(log.seal())
    log.users("waiting", 1)
    [[waiting]] = log.sql.execute("SELECT event_id FROM audit_unsealed")
    return Sealed(log, seals, waiting)


# Nothing is left out


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition, which something else brings about."""
    deadline = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@contextmanager
def again_and_again(act: Callable[[], object]) -> Iterator[None]:
    """Do something over and over in a thread until the block ends."""
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(HANGS)


def write(log: Log, writer: int, meanwhile: Callable[[], object] = lambda: None) -> None:
    """An event in a transaction that lasts as long as `meanwhile`; that of writer 3 is undone."""
    with log.database.transaction() as connection:
        events.refused(connection, service(f"writer-{writer}"), {"by": writer})
        meanwhile()
        if writer == 3:
            raise psycopg.Rollback


def test_every_event_comes_into_exactly_one_seal(log: Log) -> None:
    """Transactions that end late, or never, while others go on and a sealer runs: none is missed, none doubled."""
    seals: list[Seal] = []

    def until_two_more() -> None:
        past = len(seals)
        wait_until(lambda: len(seals) >= past + 2)

    def late(writer: int) -> None:
        for _ in range(3):
            write(log, writer, until_two_more)

    with (
        again_and_again(lambda: seals.extend(seal_waiting(log.database, KEY))),
        again_and_again(lambda: write(log, 10)),
        again_and_again(lambda: write(log, 11)),
    ):
        together(4, late)
    seals.extend(seal_waiting(log.database, KEY))
    assert log.times_sealed() == {1}
    assert log.found() == []
    assert log.sql.execute("SELECT DISTINCT changes -> 'by' FROM audit_events ORDER BY 1").fetchall() == [
        (writer,) for writer in (0, 1, 2, 10, 11)
    ]
    # That the test means something: events came into later seals than events with greater ids.
    assert any(later.ids[0] < earlier.ids[-1] for earlier, later in itertools.combinations(seals, 2))


def test_sealers_at_once(log: Log) -> None:
    """Server, time trigger and command may all seal: one does at a time, the others return at once."""
    log.users("many", 20)
    with log.database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [sealing._LOCK])
        with pytest.raises(AlreadySealing):
            seal_next(log.database, KEY)
        assert log.run("seal").exit_code == 1

    def seal_some(_: int) -> list[int]:
        made: list[int] = []
        while log.sql.execute("SELECT 1 FROM audit_unsealed").fetchone():
            try:
                seal = seal_next(log.database, KEY, 2)
            except AlreadySealing:
                continue
            made += [seal.number] if seal else []
        return made

    numbers = sorted(number for made in together(4, seal_some) for number in made)
    assert numbers == list(range(1, 11))
    assert log.times_sealed() == {1}
    assert log.found() == []


def blocked(log: Log) -> bool:
    """Whether a sealer waits in the middle of its transaction."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO audit_seals%%'"
    )
    return log.sql.execute(waiting).fetchone() is not None


def test_a_sealer_that_is_killed_loses_nothing(log: Log) -> None:
    """Half a seal is none: the events wait as before, and the next sealer takes them."""
    log.users("kept")
    with psycopg.connect(log.sql.info.dsn, user="postgres") as other:
        other.execute("LOCK TABLE audit_seals IN EXCLUSIVE MODE")
        process = subprocess.Popen(
            [sys.executable, "-m", "ai_admin", "audit", "seal", "--root", str(log.settings.root)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "apps")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: blocked(log))
        finally:
            process.kill()
        assert process.wait(HANGS) == -signal.SIGKILL
    wait_until(lambda: not blocked(log))
    assert len(log.seal().ids) == SIZE
    assert log.times_sealed() == {1}
    assert log.found() == []


def test_writers_do_not_wait_for_a_sealer(log: Log) -> None:
    """While a sealer stands in the middle of its transaction, with all the locks it takes, changes go through."""
    log.users("before")
    made: list[Seal] = []
    with psycopg.connect(log.sql.info.dsn, user="postgres") as other:
        other.execute("LOCK TABLE audit_seals IN EXCLUSIVE MODE")
        thread = threading.Thread(target=lambda: made.append(log.seal()))
        thread.start()
        wait_until(lambda: blocked(log))
        (held,) = log.sql.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() or (0,)
        assert held == 1
        user = log.users("meanwhile")[0]
        assert log.api.put(f"{USERS}/{user}", json={"role": "admin"}).status_code == 200
        assert log.api.delete(f"{USERS}/{user}").status_code == 204
        assert blocked(log)
    thread.join(HANGS)
    assert [len(seal.ids) for seal in made] == [SIZE]
    assert sum(len(seal.ids) for seal in seal_waiting(log.database, KEY)) == SIZE + 2


def test_the_log_shows_the_seal_of_an_event(log: Log) -> None:
    """Whoever reads the log sees what is sealed, by its number, and what waits."""
    log.users("first")
    log.seal()
    log.users("second", 2)
    log.seal()
    log.users("third", 1)
    shown = log.api.get(AUDIT, params={"sort": "at"}).json()["data"]
    assert [event["seal"] for event in shown] == [1, 1, 1, 1, 2, 2, None]


@contextmanager
def plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The plans of all statements on the log that are executed in the block."""
    found: list[str] = []
    execute = psycopg.Connection.execute

    def explain(self: Any, query: str, values: Any = None, **options: Any) -> Any:
        if re.search("audit_(events|unsealed|seals)", query):
            found.append(str(execute(self, f"EXPLAIN (FORMAT JSON) {query}", values, prepare=False).fetchone()))
        return execute(self, query, values, **options)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", explain)
        yield found


def test_nothing_reads_more_as_the_log_grows(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log of years, a change, a seal, a page with its seals and a proof read their own events alone."""
    log.sql.execute("""
        INSERT INTO audit_events (id, action, changes, request_id)
        SELECT gen_random_uuid(), 'access:refuse', '{}', 'r' FROM generate_series(1, 50000);
        INSERT INTO audit_unsealed SELECT id FROM audit_events
    """)
    log.sql.execute("VACUUM ANALYZE audit_events, audit_unsealed")
    event = [log.seal(most=1000) for _ in range(20)][7].ids[3]
    log.sql.execute("VACUUM ANALYZE audit_seals")
    with plans(monkeypatch) as found:
        log.users("new", 1)
        log.seal(most=100)
        assert log.api.get(AUDIT).status_code == 200
        sealing.prove(log.settings.secret, event)
    # insert; take, last, insert; the page and its seals; seal and event of the proof
    assert len(found) == 8
    scans = re.findall(r"'Node Type': 'Seq Scan'.*?'Relation Name': '(\w+)'", "".join(found))
    # Of the others there are a few rows here.
    assert not {"audit_events", "audit_seals"} & set(scans), found


# Whoever tampers is found


def test_an_honest_log(sealed: Sealed) -> None:
    """What nobody touched has no findings, and the report tells how much was read and what waits."""
    log, seals, _ = sealed
    reports: list[tuple[int, int]] = []
    result, waiting = sealing.verify_log(
        log.settings.secret, KEYS, seals[1].head, lambda done, total: reports.append((done, total))
    )
    assert (result.seals, result.events, result.head, result.findings) == (3, 12, seals[2].head, {})
    assert reports == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert (waiting.events, waiting.since is not None) == (1, True)


# A column's values: one that was there before, made another by as little as possible, or by what cannot be read.
CHANGES = {
    "id": ["gen_random_uuid()"],
    "at": ["at + interval '1 microsecond'", "at - interval '4051 years'", "'infinity'", "'-infinity'", "'99999-01-01'"],
    "actor_id": ["gen_random_uuid()", "NULL"],
    "key_id": ["gen_random_uuid()", "NULL"],
    "action": ["action || ' '"],
    "target_id": ["gen_random_uuid()", "NULL"],
    "changes": ["changes - 'role'", "jsonb_set(changes, '{role,after}', '\"owner\"')"],
    "personal": ["set_bit(personal, 77, 1 - get_bit(personal, 77))", "NULL"],
    "request_id": ["upper(request_id) || '1'"],
    "source": ["set_bit(source, 0, 1 - get_bit(source, 0))", "NULL"],
}


@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in CHANGES.items() for value in values])
def test_a_changed_column_is_found(sealed: Sealed, column: str, value: str) -> None:
    """No column of a sealed event can be changed, emptied or filled, by however little."""
    log, seals, _ = sealed
    event = seals[1].ids[2]
    changed = log.sql.execute(f"UPDATE audit_events SET {column} = {value} WHERE id = %s", [event])
    assert changed.rowcount == 1
    first = log.found()[0]
    assert first == Finding(Fault.EVENT_REMOVED if column == "id" else Fault.EVENT_CHANGED, 2, event)


def test_every_column_is_sealed(sql: psycopg.Connection) -> None:
    """A column that a migration adds must come under the seals, and be tried above."""
    rows = sql.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'audit_events'")
    assert {name for (name,) in rows} == set(COLUMNS) == set(CHANGES)


def test_a_text_moved_to_another_century_is_another(sealed: Sealed) -> None:
    """Two times that differ by their era alone are not the same to a seal."""
    log, seals, _ = sealed
    before_christ = "to_timestamp(to_char(at, 'YYYY-MM-DD HH24:MI:SS.US') || ' BC', 'YYYY-MM-DD HH24:MI:SS.US BC')"
    log.sql.execute(f"UPDATE audit_events SET at = {before_christ} WHERE id = %s", [seals[0].ids[0]])
    assert log.found()[0] == Finding(Fault.EVENT_CHANGED, 1, seals[0].ids[0])


# Personal values whose key is gone


def old_form(value: bytes, event_id: UUID, key: bytes) -> bytes:
    """A personal value as version 0.1.0 sealed it."""
    return bytes(Aead(key).encrypt(value, event_id.bytes))


def created(log: Log, user: str) -> UUID:
    """The id of the event of a user's creation."""
    row = log.sql.execute("SELECT id FROM audit_events WHERE target_id = %s ORDER BY at LIMIT 1", [user]).fetchone()
    assert row
    return UUID(str(row[0]))


# What is done to the row of the user {user}, and what that is.
LOSSES = {
    "exchanged": ("UPDATE users SET audit_key = sha256('another') WHERE id = %(user)s", Fault.PERSON_KEY_CHANGED),
    "emptied": ("UPDATE users SET audit_key = NULL WHERE id = %(user)s", Fault.PERSON_KEY_CHANGED),
    "of another length": ("UPDATE users SET audit_key = '\\x00' WHERE id = %(user)s", Fault.PERSON_KEY_CHANGED),
    "swapped": (
        """UPDATE users AS one SET audit_key = other.audit_key FROM users AS other
           WHERE one.id = %(user)s AND other.id <> one.id AND other.role = 'owner'""",
        Fault.PERSON_KEY_CHANGED,
    ),
    "removed": ("DELETE FROM users WHERE id = %(user)s", Fault.PERSON_REMOVED),
}


@pytest.mark.parametrize("old", [False, True], ids=["today's values", "values without a fingerprint"])
@pytest.mark.parametrize(("statement", "fault"), LOSSES.values(), ids=LOSSES)
def test_verify_after_a_persons_key_is_lost_names_the_event(
    log: Log, monkeypatch: pytest.MonkeyPatch, statement: str, fault: Fault, old: bool
) -> None:
    """A writer to the database could make a person's values vanish from the log, and all would be said to be well."""
    if old:
        monkeypatch.setattr(personal, "seal", old_form)
    _, user = log.users("u", 2)
    log.seal()
    assert log.found() == []
    log.sql.execute(statement, {"user": user})
    assert log.found() == [Finding(fault, None, created(log, user))]
    told = log.run("verify")
    assert (told.exit_code, fault.value in told.output) == (1, True)


def test_verify_after_a_lost_key_and_later_changes_names_the_event(log: Log) -> None:
    """The key that the user is given anew seals later values, and does not hide that the earlier ones are lost."""
    [user] = log.users("u", 1)
    log.sql.execute("UPDATE users SET audit_key = NULL WHERE id = %s", [user])
    assert log.api.put(f"{USERS}/{user}", json={"name": "New"}).status_code == 200
    log.seal()
    assert log.found() == [Finding(Fault.PERSON_KEY_CHANGED, None, created(log, user))]
    first, last = log.api.get(AUDIT, params={"target": user, "sort": "at"}).json()["data"]
    # Nobody has erased the person, and the log does not say so.
    assert first["changes"].keys() & {"erased", "unreadable", "tag"} == {"unreadable"}
    assert last["changes"]["name"]["after"] == "New"


def test_verify_after_the_callers_key_is_lost_names_the_event(log: Log) -> None:
    """The addresses of a caller are under the caller's key."""
    first, *_ = log.users("u")
    log.sql.execute("UPDATE users SET audit_key = sha256('another') WHERE id = %s", [OWNER_ID])
    assert log.found() == [Finding(Fault.PERSON_KEY_CHANGED, None, created(log, first))]


def test_verify_after_an_erasure_finds_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure destroys the key, and says so; values without a fingerprint are no exception."""
    people = log.users("new", 2)
    with monkeypatch.context() as patch:
        patch.setattr(personal, "seal", old_form)
        people += log.users("old", 2)
    log.seal(most=100)
    for user in people[::2]:
        assert log.api.delete(f"{USERS}/{user}", params={"purge": "true"}).status_code == 204
    assert log.found() == []
    # Somebody whose values are of both kinds.
    assert log.api.put(f"{USERS}/{people[3]}", json={"name": "New"}).status_code == 200
    assert log.found() == []


INSERTED = UUID(int=7)
_COPY = f"""
    INSERT INTO audit_events
    SELECT (jsonb_populate_record(event, '{{"id": "{INSERTED}"}}')).* FROM audit_events AS event WHERE id = %(event)s
"""
# SQL that has `event`, the third of the second seal, `next`, the one after it, and `waiting`; then the first finding.
TAMPERINGS: dict[str, tuple[str, Callable[[Sealed], Finding]]] = {
    "an event removed": (
        "DELETE FROM audit_events WHERE id = %(event)s",
        lambda at: Finding(Fault.EVENT_REMOVED, 2, at.seals[1].ids[2]),
    ),
    "all events of a seal removed": (
        "DELETE FROM audit_events WHERE id = ANY((SELECT events FROM audit_seals WHERE number = 2)::uuid[])",
        lambda at: Finding(Fault.EVENT_REMOVED, 2, at.seals[1].ids[0]),
    ),
    "a waiting event removed": (
        "DELETE FROM audit_events WHERE id = %(waiting)s",
        lambda at: Finding(Fault.EVENT_REMOVED, None, at.waiting),
    ),
    "a waiting event taken off the queue": (
        "DELETE FROM audit_unsealed",
        lambda at: Finding(Fault.EVENT_INSERTED, None, at.waiting),
    ),
    "an event inserted": (_COPY, lambda _: Finding(Fault.EVENT_INSERTED, None, INSERTED)),
    "an event put on the queue again": (
        "INSERT INTO audit_unsealed VALUES (%(event)s)",
        lambda at: Finding(Fault.EVENT_DOUBLED, None, at.seals[1].ids[2]),
    ),
    "two events' contents swapped": (
        """UPDATE audit_events AS one SET changes = other.changes, personal = other.personal
           FROM audit_events AS other WHERE (one.id, other.id) IN ((%(event)s, %(next)s), (%(next)s, %(event)s))""",
        lambda at: Finding(Fault.EVENT_CHANGED, 2, at.seals[1].ids[2]),
    ),
    "events reordered in a seal": (
        "UPDATE audit_seals SET events = events[1:2] || events[4] || events[3] WHERE number = 2",
        lambda at: Finding(Fault.EVENT_REORDERED, 2, at.seals[1].ids[2]),
    ),
    "an event taken out of a seal": (
        """UPDATE audit_seals SET events = array_remove(events, %(event)s),
               leaves = substr(leaves, 1, 64) || substr(leaves, 97) WHERE number = 2""",
        lambda _: Finding(Fault.SEAL_CHANGED, 2),
    ),
    "an event put into a seal": (
        "UPDATE audit_seals SET events = events || %(waiting)s WHERE number = 2",
        lambda _: Finding(Fault.SEAL_CHANGED, 2),
    ),
    "nothing in place of an event": (
        "UPDATE audit_seals SET events[3] = NULL WHERE number = 2",
        lambda _: Finding(Fault.SEAL_CHANGED, 2),
    ),
    "leaves": (
        "UPDATE audit_seals SET leaves = set_bit(leaves, 0, 1 - get_bit(leaves, 0)) WHERE number = 2",
        lambda _: Finding(Fault.SEAL_CHANGED, 2),
    ),
    "leaves cut": (
        "UPDATE audit_seals SET leaves = substr(leaves, 2) WHERE number = 2",
        lambda _: Finding(Fault.SEAL_CHANGED, 2),
    ),
    "root": (
        "UPDATE audit_seals SET root = set_bit(root, 0, 1 - get_bit(root, 0)) WHERE number = 2",
        lambda _: Finding(Fault.SEAL_CHANGED, 2),
    ),
    "previous": (
        "UPDATE audit_seals SET previous = set_bit(previous, 0, 1 - get_bit(previous, 0)) WHERE number = 2",
        lambda _: Finding(Fault.CHAIN_BROKEN, 2),
    ),
    "sealed_at": (
        "UPDATE audit_seals SET sealed_at = sealed_at - interval '1 microsecond' WHERE number = 2",
        lambda _: Finding(Fault.SIGNATURE_INVALID, 2),
    ),
    "sealed_at without end": (
        "UPDATE audit_seals SET sealed_at = '-infinity' WHERE number = 2",
        lambda _: Finding(Fault.SIGNATURE_INVALID, 2),
    ),
    "key_id": (
        "UPDATE audit_seals SET key_id = reverse(key_id) WHERE number = 2",
        lambda _: Finding(Fault.KEY_UNKNOWN, 2),
    ),
    "signature": (
        "UPDATE audit_seals SET signature = set_bit(signature, 0, 1 - get_bit(signature, 0)) WHERE number = 2",
        lambda _: Finding(Fault.SIGNATURE_INVALID, 2),
    ),
    "signature emptied": (
        "UPDATE audit_seals SET signature = '' WHERE number = 2",
        lambda _: Finding(Fault.SIGNATURE_INVALID, 2),
    ),
    "number": (
        "UPDATE audit_seals SET number = 9 WHERE number = 2",
        lambda _: Finding(Fault.SEAL_REMOVED, 2),
    ),
    "seals swapped": (
        """UPDATE audit_seals SET number = 9 WHERE number = 2;
           UPDATE audit_seals SET number = 2 WHERE number = 3;
           UPDATE audit_seals SET number = 3 WHERE number = 9""",
        lambda _: Finding(Fault.CHAIN_BROKEN, 2),
    ),
    "a seal removed": ("DELETE FROM audit_seals WHERE number = 2", lambda _: Finding(Fault.SEAL_REMOVED, 2)),
    "the first seal removed": ("DELETE FROM audit_seals WHERE number = 1", lambda _: Finding(Fault.SEAL_REMOVED, 1)),
    "the last seal removed": (
        "DELETE FROM audit_seals WHERE number = 3",
        lambda at: Finding(Fault.EVENT_INSERTED, None, at.seals[2].ids[0]),
    ),
    "a seal doubled": (
        """ALTER TABLE audit_seals DROP CONSTRAINT audit_seals_pkey;
           INSERT INTO audit_seals SELECT * FROM audit_seals WHERE number = 2""",
        lambda _: Finding(Fault.SEAL_REORDERED, 2),
    ),
}


@pytest.mark.parametrize(("statements", "finding"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_each_tampering_is_found_and_named(
    sealed: Sealed, statements: str, finding: Callable[[Sealed], Finding]
) -> None:
    """Who has the database and not the key changes, removes, adds or moves nothing unseen; the report says where."""
    log, seals, waiting = sealed
    assert log.found() == []
    values = {"event": seals[1].ids[2], "next": seals[1].ids[3], "waiting": waiting}
    for statement in statements.split(";"):
        log.sql.execute(statement, {name: value for name, value in values.items() if f"%({name})s" in statement})
    first = finding(sealed)
    assert log.found()[0] == first
    result = log.run("verify")
    assert result.exit_code == 1
    assert f"error: {first}" in result.output


def _forge(log: Log, seals: list[Seal], **members: Any) -> None:
    """Change an event of the second seal, and make all seals from there anew with another key."""
    log.sql.execute("UPDATE audit_events SET changes = '{}' WHERE id = %s", [seals[1].ids[2]])
    last = seals[0]
    for old in seals[1:]:
        rows = log.sql.cursor(row_factory=psycopg.rows.dict_row).execute(sealing._SQL["events"], {"ids": list(old.ids)})
        ordered = sorted(rows, key=lambda event: event["id"])
        last = replace(make_seal(last, ordered, COLUMNS, OTHER_KEY, datetime.now(timezone.utc)), **members)
        log.sql.execute("DELETE FROM audit_seals WHERE number = %s", [last.number])
        log.sql.execute(sealing._SQL["insert"], sealing._row(last))


@pytest.mark.parametrize(
    ("members", "fault"),
    [({}, Fault.KEY_UNKNOWN), ({"key_id": key_id(KEY.verify_key)}, Fault.SIGNATURE_INVALID)],
)
def test_forged_seals(sealed: Sealed, members: dict[str, Any], fault: Fault) -> None:
    """A whole chain made anew by somebody without the key, also under the key's name, convinces nobody."""
    log, seals, _ = sealed
    _forge(log, seals, **members)
    assert log.found()[0] == Finding(fault, 2)


def test_a_seal_under_a_key_that_the_database_names(sealed: Sealed) -> None:
    """Keys that verification trusts come from the Secret or the command line: nothing in the database adds one."""
    log, seals, _ = sealed
    _forge(log, seals)
    result = log.run("verify")
    assert result.exit_code == 1
    assert f"seal 2: {Fault.KEY_UNKNOWN.value}" in result.output
    trusting = log.run("verify", *(f"--public-key={bytes(key.verify_key).hex()}" for key in (KEY, OTHER_KEY)))
    assert trusting.exit_code == 0


def test_the_end_cut_off(sealed: Sealed) -> None:
    """Whole seals gone from the end, with their events: a checkpoint that was kept shows it, and nothing else can."""
    log, seals, _ = sealed
    kept = parse_checkpoint(checkpoint(seals[2].head))
    log.sql.execute("DELETE FROM audit_events WHERE id = ANY(%s)", [list(seals[2].ids)])
    log.sql.execute("DELETE FROM audit_seals WHERE number = 3")
    assert log.found() == []
    assert log.found(kept) == [Finding(Fault.TRUNCATED, 3)]
    log.users("other")
    log.seal(most=100)
    assert log.found() == []
    assert log.found(kept) == [Finding(Fault.HEAD_DIFFERS, 3)]


def test_purge_leaves_every_seal_valid(log: Log) -> None:
    """The right to be forgotten and the proof do not exclude each other: ciphertexts are sealed, the key goes."""
    purged = log.users("gone")[0]
    assert log.api.put(f"{USERS}/{purged}", json={"name": "Ada King"}).status_code == 200
    log.seal(most=100)
    assert log.api.delete(f"{USERS}/{purged}", params={"purge": "true"}).status_code == 204
    assert log.found() == []
    log.seal()
    assert log.found() == []
    shown = log.api.get(AUDIT, params={"target": purged, "sort": "at"}).json()["data"]
    assert [event["changes"].get("erased") for event in shown] == [True, True, None]


# Proofs and commands


def check(folder: Path, document: dict[str, Any], key: str) -> tuple[int, str]:
    """Exit code and output of the independent checker."""
    file = folder / "proof.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-I", str(CHECKER), str(file), key], capture_output=True, check=False, timeout=HANGS, text=True
    )
    return ran.returncode, ran.stdout + ran.stderr


def _flip(text: str) -> str:
    """The text with one bit of its first hexadecimal digit, or base64 character, another."""
    return ("1" if text[0] == "0" else "0" if text[0] == "1" else chr(ord(text[0]) ^ 1)) + text[1:]


def test_a_proof(sealed: Sealed, tmp_path: Path) -> None:
    """An auditor with a checker of their own is convinced by the proof, and by none with a bit flipped."""
    log, seals, _ = sealed
    key = log.run("public-key").output.strip()
    assert key == bytes(KEY.verify_key).hex()
    printed = log.run("proof", str(seals[1].ids[2]))
    assert printed.exit_code == 0, printed.output
    proof = json.loads(printed.output)
    code, said = check(tmp_path, proof, key)
    assert code == 0, said
    assert said.startswith(f"OK: in seal 2 of {seals[1].sealed_at}\n")
    assert f'"id":"{seals[1].ids[2]}"' in said
    assert '"action":"users:create"' in said
    for wrong in (
        proof | {"event": _flip(proof["event"])},
        proof | {"index": proof["index"] ^ 1},
        proof | {"path": [_flip(proof["path"][0]), *proof["path"][1:]]},
        proof | {"path": [*proof["path"][:-1], _flip(proof["path"][-1])]},
        proof | {"seal": proof["seal"].replace("number 2", "number 3")},
        proof | {"signature": _flip(proof["signature"])},
    ):
        code, said = check(tmp_path, wrong, key)
        assert (code, said[:9]) == (1, "REFUSED: ")


def test_no_proof(sealed: Sealed) -> None:
    """What waits, what never was and what was changed has no proof."""
    log, seals, waiting = sealed
    log.sql.execute("UPDATE audit_events SET changes = '{}' WHERE id = %s", [seals[0].ids[0]])
    for event in (waiting, UUID(int=1), seals[0].ids[0]):
        result = log.run("proof", str(event))
        assert result.exit_code == 1
        assert f"no seal covers an event {event}" in result.output


def test_the_commands(log: Log) -> None:
    """From events to a checkpoint that is kept, and checked at the next verification."""
    assert log.run("seal").output == "no event waits for a seal\n"
    log.users("a", 5)
    waiting = log.run("verify")
    assert waiting.exit_code == 0
    assert "5 events wait for a seal, the oldest since 20" in waiting.output
    said = log.run("seal")
    assert (said.exit_code, said.output[:32]) == (0, "sealed 5 events; checkpoint 1:" + said.output[30:32])
    kept = said.output.split()[-1]
    verified = log.run("verify", "--checkpoint", kept)
    assert (verified.exit_code, verified.stdout) == (0, f"5 events in 1 seals; checkpoint {kept}\n")
    wrong = log.run("verify", "--checkpoint", f"1:{'0' * 64}")
    assert wrong.exit_code == 1
    assert f"seal 1: {Fault.HEAD_DIFFERS.value}" in wrong.output
    for bad in ("1", "x:00", f"1:{'0' * 62}"):
        assert log.run("verify", "--checkpoint", bad).exit_code == 2
    assert log.run("verify", "--public-key", "abc").exit_code == 2


def test_a_new_key(log: Log) -> None:
    """The key can be changed: what the old one signed is verified with its public key, by whoever has kept it."""
    log.users("a")
    log.seal()
    log.users("b")
    write_mount(log.settings.root, {"AUDIT_SEAL_KEY": seal_key(OTHER_KEY)}, {})
    assert log.run("seal").exit_code == 0
    alone = log.run("verify")
    assert (alone.exit_code, f"seal 1: {Fault.KEY_UNKNOWN.value}" in alone.output) == (1, True)
    both = (f"--public-key={bytes(key.verify_key).hex()}" for key in (KEY, OTHER_KEY))
    assert log.run("verify", *both).exit_code == 0


def test_an_auditor_who_can_only_read(log: Log) -> None:
    """Verification is for people who are trusted with nothing else: a role that reads the log, and a public key."""
    log.users("a", 1)
    log.seal()
    log.sql.execute("""
        DROP ROLE IF EXISTS log_reader;
        CREATE ROLE log_reader LOGIN;
        GRANT SELECT ON audit_events, audit_unsealed, audit_seals TO log_reader
    """)
    for file in (log.settings.root / "secrets" / "default" / SECRET_NAME).glob("*_KEY"):
        file.unlink()
    write_mount(log.settings.root, {"PG_USER": "log_reader"}, {})
    verified = log.run("verify", "--public-key", bytes(KEY.verify_key).hex())
    log.sql.execute("GRANT SELECT ON audit_people TO log_reader")
    with_people = log.run("verify", "--public-key", bytes(KEY.verify_key).hex())
    log.sql.execute("UPDATE users SET audit_key = sha256('another') WHERE tag = 'a-0'")
    after_exchange = log.run("verify", "--public-key", bytes(KEY.verify_key).hex())
    log.sql.execute("DROP OWNED BY log_reader; DROP ROLE log_reader")
    assert verified.exit_code == 0, verified.output
    assert "the keys of persons were not checked: the role needs SELECT on audit_people" in verified.output
    assert with_people.exit_code == 0, with_people.output
    assert "not checked" not in with_people.output
    assert (after_exchange.exit_code, Fault.PERSON_KEY_CHANGED.value in after_exchange.output) == (1, True)


def test_audit_people_shows_no_key(log: Log) -> None:
    """An auditor who may read the view opens no personal value: it has fingerprints alone."""
    rows = log.sql.execute("SELECT p.*, audit_key FROM audit_people AS p JOIN users USING (id)").fetchall()
    assert len(rows) == 1
    for user, fingerprint, key in rows:
        assert user == OWNER_ID
        assert personal.seal(b"", user, key)[8:24] == fingerprint
        assert fingerprint not in key


def test_without_a_key(log: Log) -> None:
    """Who has set no key is told so, and events are kept for the day when there is one."""
    log.users("a", 1)
    write_mount(log.settings.root, {"AUDIT_SEAL_KEY": ""}, {})
    for command, code in (("seal", 2), ("verify", 2), ("public-key", 2)):
        result = log.run(command)
        assert (result.exit_code, "AUDIT_SEAL_KEY is not set" in result.output) == (code, True)
    assert log.sql.execute("SELECT count(*) FROM audit_unsealed").fetchone() == (1,)


def test_verification_with_the_database_away(log: Log) -> None:
    """Monitoring tells a log that is faulty from one that cannot be read."""
    write_mount(log.settings.root, {"PG_DATABASE": "none"}, {})
    assert log.run("verify").exit_code == 2


# Beside a server


class Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def messages(self) -> list[str]:
        """The texts."""
        return [record.getMessage() for record in self.records]


@pytest.fixture
def said() -> Iterator[Said]:
    """What the audit log's own code logs."""
    handler = Said()
    logging.getLogger("ai_admin.audit").addHandler(handler)
    yield handler
    logging.getLogger("ai_admin.audit").removeHandler(handler)


@pytest.mark.config(POOL_TIMEOUT_MS="700")
def test_the_sealer_survives_an_outage(
    log: Log, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    """A database that goes away and comes back is sealed on, without a restart; the log tells the outage once."""
    tries: list[Database] = []

    def counted(database: Database, key: SigningKey) -> Iterator[Seal]:
        tries.append(database)
        return seal_waiting(database, key)

    monkeypatch.setattr(sealer, "_PAUSE_S", 0.01)
    monkeypatch.setattr(sealer, "seal_waiting", counted)
    name = log.settings.secret.pg_database
    with sealer.sealing(log.settings), postgres.connect("postgres") as admin:
        log.users("before", 1)
        wait_until(lambda: said.messages() == ["sealed"])
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        wait_until(lambda: "not sealed" in said.messages())
        enough = len(tries) + 4
        wait_until(lambda: len(tries) >= enough)
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        log.users("after", 1)
        wait_until(lambda: said.messages()[-1] == "sealed")
    assert "sealer" not in {thread.name for thread in threading.enumerate()}
    assert said.messages() == ["sealed", "not sealed", "sealed"]
    assert log.found() == []


def test_the_sealer_says_what_to_keep(log: Log, said: Said) -> None:
    """A log that is collected elsewhere has a checkpoint for every seal: the end cannot be cut off unseen."""
    log.users("a", 3)
    seal = log.seal()
    assert [record.__dict__["fields"] for record in said.records] == [
        {"seal": 1, "events": 3, "checkpoint": checkpoint(seal.head)}
    ]


def test_a_server_seals_and_ends(log: Log, tmp_path: Path) -> None:
    """What is done through a server is sealed within seconds, and the sealer does not hold up its end."""
    with serving(log.settings, tmp_path) as client:
        assert client.post(USERS, json={"tag": "ada", "kind": "service"}).status_code == 201
        wait_until(lambda: [event["seal"] for event in client.get(AUDIT).json()["data"]] == [1])
    assert '"event":"sealed"' in (tmp_path / "server.log").read_text()
    assert log.found() == []
