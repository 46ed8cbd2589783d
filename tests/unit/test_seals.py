"""Seals: each kind of tampering is found and named, and a proof convinces a checker that shares no code with us."""

import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from ai_admin.audit import merkle
from ai_admin.audit.seals import (
    Event,
    EventNotSealed,
    Fault,
    Finding,
    Head,
    Seal,
    Verification,
    key_id,
    leaf,
    make_seal,
    proof,
    seal_hash,
    statement,
    verify,
)
from tests.conftest import ROOT

# The same examples in each run, and no limit of time on a busy machine.
FIXED = settings(derandomize=True, deadline=None)

# The first key pair of RFC 8032, 7.1.
KEY = SigningKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
OTHER_KEY = SigningKey(bytes(32))
KEYS = {key_id(KEY.verify_key): KEY.verify_key}
COLUMNS = ("id", "at", "actor", "action", "before", "after", "address")
START = datetime(2026, 1, 27, 1, 23, 56, tzinfo=timezone.utc)
ACTOR = UUID("01890A5D-AC96-774B-BCCE-B302099A8057")
CHECKER = ROOT / "examples" / "check_audit_proof.py"
SIZE = 5
values = st.none() | st.integers(-(2**63), 2**64 - 1) | st.text('ab"\\\n\0é')

Row = dict[str, Any]


def row(number: int) -> Row:
    """An event as the table gives it."""
    return {
        "id": UUID(int=number),
        "at": START + timedelta(microseconds=number),
        "actor": ACTOR,
        "action": "user:update",
        "before": None,
        "after": json.dumps({"name": f"Ada {number}"}),
        "address": bytes([127, 0, 0, 1]),
    }


@dataclass
class Log:
    """A log of batches and their seals, to be tampered with."""

    rows: list[list[Row]]
    seals: list[Seal]

    def seal(self, first: int, key: SigningKey = KEY, later: timedelta = timedelta(0)) -> None:
        """Seal the batches from this number on."""
        del self.seals[first - 1 :]
        for batch in self.rows[first - 1 :]:
            previous = self.seals[-1] if self.seals else None
            now = START + timedelta(minutes=len(self.seals)) + later
            self.seals.append(make_seal(previous, batch, COLUMNS, key, now))

    def change_seal(self, **members: Any) -> None:
        """Replace members of the third seal, as one who can write to the table."""
        self.seals[2] = replace(self.seals[2], **members)

    def head(self) -> Head:
        """The head, as someone outside would have noted it."""
        return self.seals[-1].head

    def batches(self) -> Iterator[tuple[Seal, dict[UUID, Row]]]:
        """Each seal with what the table has of its events."""
        table = {event["id"]: event for event in chain.from_iterable(self.rows)}
        return ((seal, {number: table[number] for number in seal.ids if number in table}) for seal in self.seals)

    def verify(self, expected_head: Head | None = None) -> Verification:
        """Verify it all."""
        return verify(self.batches(), COLUMNS, KEYS, expected_head)

    def found(self, expected_head: Head | None = None) -> list[Finding]:
        """The findings, in the order they were met."""
        return list(self.verify(expected_head).findings.values())


@pytest.fixture
def log() -> Log:
    """Four batches: events 1 to 5, 6 to 10, 11 to 15, 16 to 20."""
    log = Log([[row(first + offset) for offset in range(SIZE)] for first in range(1, 4 * SIZE, SIZE)], [])
    log.seal(1)
    return log


def test_an_honest_log(log: Log) -> None:
    """What nobody touched has no findings, with a head of any age; and the report says how much was read."""
    old_head, head = Head(2, seal_hash(log.seals[1])), log.head()
    assert head == Head(4, seal_hash(log.seals[3]))
    assert log.verify() == log.verify(old_head) == log.verify(head) == Verification(4, 20, head, {})
    assert log.verify().ok
    assert [seal.number for seal in log.seals] == [1, 2, 3, 4]
    assert log.seals[0].previous == bytes(32)


def test_a_new_key(log: Log) -> None:
    """Keys can be replaced: old seals stay valid under the old one."""
    log.seal(3, OTHER_KEY)
    keys = KEYS | {key_id(OTHER_KEY.verify_key): OTHER_KEY.verify_key}
    assert verify(log.batches(), COLUMNS, keys).ok


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", START),
        ("actor", UUID(int=1)),
        ("actor", None),
        ("action", "user:Update"),
        ("before", "null"),
        ("after", '{"name": "Ada"}'),
        ("address", b"\x7f\x00\x00\x02"),
    ],
)
def test_an_event_changed(log: Log, column: str, value: object) -> None:
    """No column of a sealed event can be changed, emptied or filled, by however little."""
    log.rows[2][1][column] = value
    log.rows[3][0][column] = value
    assert log.found() == [Finding(Fault.EVENT_CHANGED, 3, UUID(int=12))]


def _swap(items: list[Any], first: int, second: int) -> None:
    items[first], items[second] = items[second], items[first]


def _swap_contents(log: Log) -> None:
    _swap(log.rows[1], 1, 3)
    log.rows[1][1]["id"], log.rows[1][3]["id"] = UUID(int=7), UUID(int=9)


def _reorder(log: Log) -> None:
    """Two events of a seal change places, with their leaf hashes and the root, so that the seal fits together."""
    order = [0, 2, 1, 3, 4]
    ids, leaves = log.seals[2].ids, tuple(log.seals[2].leaves[place] for place in order)
    log.change_seal(ids=tuple(ids[place] for place in order), leaves=leaves, root=merkle.root(leaves))


def _seal_again(log: Log) -> None:
    """One event and its seal are changed by who holds another key."""
    log.rows[2][1]["action"] = "user:delete"
    log.seals[2] = make_seal(log.seals[1], log.rows[2], COLUMNS, OTHER_KEY, START)


def _change_event_and_key(log: Log) -> None:
    """Nothing that an unknown key signed is relied on, not even to name an event."""
    log.rows[2][1]["action"] = "user:delete"
    log.change_seal(key_id=key_id(OTHER_KEY.verify_key))


def _splice(log: Log) -> None:
    """A seal of another history, signed with the right key: of a backup that was sealed on its own, say."""
    other = Log([*log.rows[:2], [row(90)]], [])
    other.seal(1, later=timedelta(seconds=1))
    log.seals[2], log.rows[2] = other.seals[2], other.rows[2]


def _change_event_and_leaf(log: Log) -> None:
    log.rows[2][1]["action"] = "user:delete"
    changed = make_seal(log.seals[1], log.rows[2], COLUMNS, KEY, START)
    log.change_seal(leaves=changed.leaves)


def _change_event_leaf_and_root(log: Log) -> None:
    log.rows[2][1]["action"] = "user:delete"
    changed = make_seal(log.seals[1], log.rows[2], COLUMNS, KEY, START)
    log.change_seal(leaves=changed.leaves, root=changed.root)


def _remove_event_and_leaf(log: Log) -> None:
    del log.rows[2][1]
    changed = make_seal(log.seals[1], log.rows[2], COLUMNS, KEY, START)
    log.change_seal(leaves=changed.leaves, root=changed.root, ids=changed.ids)


def _forge(log: Log) -> None:
    forged = OTHER_KEY.sign(statement(log.seals[2])).signature
    log.change_seal(signature=forged)


TAMPERINGS: dict[str, tuple[Callable[[Log], object], list[Finding]]] = {
    # Events.
    "an event removed": (lambda log: log.rows[2].pop(1), [Finding(Fault.EVENT_REMOVED, 3, UUID(int=12))]),
    "the last event removed": (lambda log: log.rows[2].pop(), [Finding(Fault.EVENT_REMOVED, 3, UUID(int=15))]),
    "all events of a batch removed": (
        lambda log: log.rows[2].clear(),
        [Finding(Fault.EVENT_REMOVED, 3, UUID(int=11))],
    ),
    "contents swapped": (_swap_contents, [Finding(Fault.EVENT_CHANGED, 2, UUID(int=7))]),
    # Members of a seal.
    "number": (
        lambda log: log.change_seal(number=9),
        [
            Finding(Fault.SEAL_REMOVED, 3),
            Finding(Fault.SIGNATURE_INVALID, 9),
            Finding(Fault.SEAL_REORDERED, 4),
        ],
    ),
    "previous": (
        lambda log: log.change_seal(previous=bytes(32)),
        [Finding(Fault.CHAIN_BROKEN, 3), Finding(Fault.SIGNATURE_INVALID, 3)],
    ),
    "ids fewer": (
        lambda log: log.change_seal(ids=log.seals[2].ids[:-1]),
        [
            Finding(Fault.SEAL_CHANGED, 3),
            Finding(Fault.SIGNATURE_INVALID, 3),
            Finding(Fault.EVENTS_CHANGED, 3),
            Finding(Fault.CHAIN_BROKEN, 4),
        ],
    ),
    "root": (
        lambda log: log.change_seal(root=bytes(32)),
        [
            Finding(Fault.SEAL_CHANGED, 3),
            Finding(Fault.SIGNATURE_INVALID, 3),
            Finding(Fault.EVENTS_CHANGED, 3),
            Finding(Fault.CHAIN_BROKEN, 4),
        ],
    ),
    "ids": (
        lambda log: log.change_seal(ids=tuple(UUID(int=number) for number in (11, 13, 12, 14, 15))),
        [
            Finding(Fault.EVENT_REORDERED, 3, UUID(int=12)),
            Finding(Fault.SIGNATURE_INVALID, 3),
            Finding(Fault.EVENTS_CHANGED, 3),
            Finding(Fault.CHAIN_BROKEN, 4),
        ],
    ),
    "ids, leaves and root": (
        _reorder,
        [
            Finding(Fault.EVENT_REORDERED, 3, UUID(int=12)),
            Finding(Fault.SIGNATURE_INVALID, 3),
            Finding(Fault.CHAIN_BROKEN, 4),
        ],
    ),
    "leaves": (lambda log: log.change_seal(leaves=log.seals[1].leaves), [Finding(Fault.SEAL_CHANGED, 3)]),
    "leaves fewer": (lambda log: log.change_seal(leaves=log.seals[2].leaves[:-1]), [Finding(Fault.SEAL_CHANGED, 3)]),
    "sealed_at": (
        lambda log: log.change_seal(sealed_at="infinity"),
        [Finding(Fault.SIGNATURE_INVALID, 3), Finding(Fault.CHAIN_BROKEN, 4)],
    ),
    "key_id": (
        lambda log: log.change_seal(key_id="0" * 16),
        [Finding(Fault.KEY_UNKNOWN, 3), Finding(Fault.CHAIN_BROKEN, 4)],
    ),
    "signature": (lambda log: log.change_seal(signature=log.seals[1].signature), [Finding(Fault.SIGNATURE_INVALID, 3)]),
    "signature removed": (lambda log: log.change_seal(signature=b""), [Finding(Fault.SIGNATURE_INVALID, 3)]),
    "signature forged": (_forge, [Finding(Fault.SIGNATURE_INVALID, 3)]),
    # Seals.
    "a seal removed": (lambda log: log.seals.pop(2), [Finding(Fault.SEAL_REMOVED, 3)]),
    "the first seal removed": (lambda log: log.seals.pop(0), [Finding(Fault.SEAL_REMOVED, 1)]),
    "seals reordered": (
        lambda log: _swap(log.seals, 1, 2),
        [Finding(Fault.SEAL_REMOVED, 2), Finding(Fault.SEAL_REORDERED, 2)],
    ),
    "a seal doubled": (lambda log: log.seals.insert(3, log.seals[2]), [Finding(Fault.SEAL_REORDERED, 3)]),
    "an old seal among later ones": (lambda log: log.seals.insert(3, log.seals[0]), [Finding(Fault.SEAL_REORDERED, 1)]),
    "a seal of another history": (_splice, [Finding(Fault.CHAIN_BROKEN, 3)]),
    # Events and seals together.
    "an event changed and sealed again": (_seal_again, [Finding(Fault.KEY_UNKNOWN, 3), Finding(Fault.CHAIN_BROKEN, 4)]),
    "an event and the key changed": (
        _change_event_and_key,
        [Finding(Fault.KEY_UNKNOWN, 3), Finding(Fault.EVENTS_CHANGED, 3), Finding(Fault.CHAIN_BROKEN, 4)],
    ),
    "an event and its leaf changed": (
        _change_event_and_leaf,
        [Finding(Fault.SEAL_CHANGED, 3), Finding(Fault.EVENTS_CHANGED, 3)],
    ),
    "an event, its leaf and the root changed": (
        _change_event_leaf_and_root,
        [Finding(Fault.SIGNATURE_INVALID, 3), Finding(Fault.CHAIN_BROKEN, 4)],
    ),
    "an event and its leaf removed": (
        _remove_event_and_leaf,
        [Finding(Fault.SIGNATURE_INVALID, 3), Finding(Fault.CHAIN_BROKEN, 4)],
    ),
}


@pytest.mark.parametrize(("tamper", "findings"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_each_tampering_is_found_and_named(log: Log, tamper: Callable[[Log], object], findings: list[Finding]) -> None:
    """Nobody changes, removes, adds or moves an event or a seal unseen, and the report leads to the place."""
    tamper(log)
    assert log.found() == findings
    assert not log.verify().ok


def test_the_end_cut_off(log: Log) -> None:
    """Who notes the head elsewhere sees that the latest seals are gone, even all; without it nobody can."""
    head = log.head()
    del log.seals[2:]
    assert log.found() == []
    assert log.found(head) == [Finding(Fault.TRUNCATED, 3)]
    log.seals.clear()
    assert log.found(head) == [Finding(Fault.TRUNCATED, 1)]


def test_the_end_rewritten_with_the_key(log: Log) -> None:
    """Not even who holds the signing key rewrites what lies before a head that was noted elsewhere."""
    head = log.head()
    log.rows[2][1]["action"] = "user:delete"
    log.seal(3)
    assert log.found() == []
    assert log.found(head) == [Finding(Fault.HEAD_DIFFERS, 4)]
    log.rows.append([row(21)])
    log.seal(5)
    assert log.found(head) == [Finding(Fault.HEAD_DIFFERS, 4)]


def test_every_kind_of_fault_is_tried() -> None:
    """A new kind of fault needs a tampering that shows it."""
    shown = {finding.fault for _, findings in TAMPERINGS.values() for finding in findings}
    # Those that the other tests show, and tests/integration/test_sealing.py.
    others = {Fault.TRUNCATED, Fault.HEAD_DIFFERS, Fault.EVENT_INSERTED, Fault.EVENT_DOUBLED}
    assert set(Fault) - shown == others | {Fault.PERSON_KEY_CHANGED, Fault.PERSON_REMOVED}


def test_a_finding_in_words() -> None:
    """The report is read by people."""
    event = UUID(int=12)
    assert str(Finding(Fault.EVENT_REMOVED, 3, event)) == f"seal 3, event {event}: the event is gone"
    assert str(Finding(Fault.EVENT_REMOVED, None, event)) == f"event {event}: the event is gone"
    assert str(Finding(Fault.KEY_UNKNOWN, 3)) == "seal 3: the seal was signed with an unknown key"


def test_the_canonical_form() -> None:
    """The bytes of an event are the same on every machine and in every time zone; a change of them breaks old seals."""
    event = row(7) | {"at": START.astimezone(timezone(timedelta(hours=7))), "ignored": 1}
    assert leaf(event, COLUMNS) == (
        b'{"columns":{"action":"user:update","actor":"01890a5d-ac96-774b-bcce-b302099a8057","address":"fwAAAQ==",'
        b'"after":"{\\"name\\": \\"Ada 7\\"}","at":"2026-01-27T01:23:56.000000Z",'
        b'"id":"00000000-0000-0000-0000-000000000007"},"version":1}'
    )
    assert leaf({"seq": 1, "name": "Zo\u00eb"}, ("seq", "name")) == (
        '{"columns":{"name":"Zo\u00eb","seq":1},"version":1}'.encode()
    )


@FIXED
@given(st.dictionaries(st.text("abc", min_size=1), values))
def test_the_canonical_form_loses_nothing(event: Row) -> None:
    """Two events that differ have different bytes: nothing of one can be shifted to another column."""
    columns = json.loads(leaf(event, tuple(event)))["columns"]
    assert columns == {name: value for name, value in event.items() if value is not None}
    assert leaf(event, tuple(event)) == leaf(event, tuple(reversed(event)))


def test_a_column_added_later(log: Log) -> None:
    """A migration that adds a column does not invalidate the log; one that renames a column cannot pass unseen."""
    for event in chain.from_iterable(log.rows):
        event["key"] = None
    assert verify(log.batches(), (*COLUMNS, "key"), KEYS).ok
    renamed = tuple("source" if name == "address" else name for name in COLUMNS)
    for event in chain.from_iterable(log.rows):
        event["source"] = event.pop("address")
    result = verify(log.batches(), renamed, KEYS)
    assert list(result.findings.values()) == [Finding(Fault.EVENT_CHANGED, 1, UUID(int=1))]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"id": ACTOR, "at": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001
        ({"id": ACTOR, "at": 1.5}, TypeError),
        ({"id": ACTOR, "at": {}}, TypeError),
        ({"id": ACTOR}, KeyError),
        ({"id": str(ACTOR), "at": None}, TypeError),
    ],
)
def test_what_has_no_canonical_form_is_not_sealed(event: Event, error: type[Exception]) -> None:
    """A value whose bytes depend on the machine would make honest events look changed."""
    with pytest.raises(error):
        make_seal(None, [event], ("id", "at"), KEY, START)


@pytest.mark.parametrize("rows", [[], [row(1), row(1)], [row(2), row(1)]])
def test_a_batch_that_is_no_batch(rows: list[Row]) -> None:
    """An empty seal proves nothing; and only where each event has its place is a reordering seen."""
    with pytest.raises(ValueError, match="at least one event"):
        make_seal(None, rows, COLUMNS, KEY, START)


def test_memory_does_not_grow_with_the_log() -> None:
    """A log of years is verified on a small machine: ten times the events take no more memory."""
    template = row(0)

    def peak(batches: int) -> int:
        def sealed() -> Iterator[tuple[Seal, dict[UUID, Row]]]:
            seal = None
            for batch in range(batches):
                ids = [UUID(int=number) for number in range(batch * 1000, batch * 1000 + 1000)]
                events = {event_id: template | {"id": event_id} for event_id in ids}
                seal = make_seal(seal, events.values(), COLUMNS, KEY, START)
                yield seal, events

        tracemalloc.start()
        try:
            result = verify(sealed(), COLUMNS, KEYS)
            assert (result.events, result.ok) == (batches * 1000, True)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert peak(20) < 1.2 * peak(2)


def check(folder: Path, document: Any, key: str = bytes(KEY.verify_key).hex()) -> tuple[int, str]:
    """Exit code and output of the checker, run with nothing of ours on its path."""
    file = folder / "proof.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-I", str(CHECKER), str(file), key], cwd=folder, capture_output=True, check=False, timeout=60
    )
    return ran.returncode, (ran.stdout + ran.stderr).decode()


@pytest.mark.parametrize(("batch", "place"), [(0, 0), (2, 1), (3, 4)])
def test_a_proof_convinces_the_checker(log: Log, tmp_path: Path, batch: int, place: int) -> None:
    """Someone who trusts neither us nor our code sees that the event was logged, and what it says."""
    event = log.rows[batch][place]
    code, output = check(tmp_path, proof(log.seals[batch], event, COLUMNS))
    assert code == 0, output
    assert (
        output == f"OK: in seal {batch + 1} of 2026-01-27T01:2{3 + batch}:56.000000Z\n{leaf(event, COLUMNS).decode()}\n"
    )


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("event", lambda _: "e30=", "not in the sealed batch"),
        ("event", lambda event: event + "\n", "no proof"),
        ("index", lambda index: index - 1, "not in the sealed batch"),
        ("index", lambda index: index + 1, "not in the sealed batch"),
        ("index", lambda _: 4, "not one of this tree"),
        ("index", lambda _: 5, "outside the tree"),
        ("index", lambda _: -1, "outside the tree"),
        ("index", lambda _: 1.0 + 1, "outside the tree"),
        ("path", lambda path: path[::-1], "not in the sealed batch"),
        ("path", lambda path: path[1:], "not one of this tree"),
        ("path", lambda path: [*path, path[0]], "not one of this tree"),
        ("path", lambda path: [path[0][2:], *path[1:]], "not one of this tree"),
        ("path", lambda path: ["x", *path[1:]], "no proof"),
        ("path", lambda _: None, "no proof"),
        ("signature", lambda signature: "00" + signature[2:], "signature is not"),
        ("signature", lambda signature: signature[2:], "signature is not"),
        ("signature", lambda _: "", "signature is not"),
        ("seal", lambda seal: seal.replace("seal v1", "seal v2"), "not of this format"),
        ("seal", lambda seal: seal.replace("number 3", "number 4"), "signature is not"),
        ("seal", lambda seal: re.sub("previous ..", "previous 00", seal), "signature is not"),
        ("seal", lambda seal: seal.replace("size 5", "size 6"), "signature is not"),
        ("seal", lambda seal: re.sub("root ..", "root 00", seal), "signature is not"),
        ("seal", lambda seal: re.sub("ids ..", "ids 00", seal), "signature is not"),
        ("seal", lambda seal: seal.replace("sealed-at 2026", "sealed-at 2025"), "signature is not"),
        ("seal", lambda seal: re.sub("key ..", "key 00", seal), "another key"),
        ("seal", lambda seal: seal + "\n", "not of this format"),
        ("seal", lambda seal: seal[:-1], "not of this format"),
    ],
)
def test_a_false_proof_is_refused(
    log: Log, tmp_path: Path, member: str, value: Callable[[Any], object], reason: str
) -> None:
    """No member of a proof can be changed; the checker says what is wrong."""
    document: Row = dict(proof(log.seals[2], log.rows[2][1], COLUMNS))
    changed = value(document[member])
    assert changed != document[member]
    code, output = check(tmp_path, document | {member: changed})
    assert (code, output[:9]) == (1, "REFUSED: ")
    assert reason in output


def test_a_proof_under_another_key_or_none(log: Log, tmp_path: Path) -> None:
    """Who signs with a key of their own convinces nobody, not even under our key's name; nor does what is no proof."""
    document = proof(log.seals[2], log.rows[2][1], COLUMNS)
    assert "another key" in check(tmp_path, document, bytes(OTHER_KEY.verify_key).hex())[1]
    _forge(log)
    assert "signature is not" in check(tmp_path, proof(log.seals[2], log.rows[2][1], COLUMNS))[1]
    malformed: list[object] = [{}, [], None, "proof"]
    for nothing in malformed:
        code, output = check(tmp_path, nothing)
        assert (code, "no proof" in output) == (1, True)
    assert check(tmp_path, document, "no key")[0] == 1


def test_checker_says_what_it_needs(tmp_path: Path) -> None:
    """An auditor who has no PyNaCl, gives no key or mistypes the file got no word of it."""

    def said(*command: str) -> str:
        ran = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, check=False, timeout=60, text=True
        )
        assert ran.returncode == 1
        return ran.stderr

    assert "needs PyNaCl" in said("-I", "-S", str(CHECKER), "proof.json", "00")
    for arguments in ([], ["proof.json"], ["proof.json", "00", "00"]):
        assert said("-I", str(CHECKER), *arguments).startswith("Usage: ")
    assert said("-I", str(CHECKER), "proof.json", "00") == "proof.json: No such file or directory\n"


def test_the_checker_shares_no_code() -> None:
    """A checker that calls the code it checks proves nothing; it is short enough to be read first."""
    lines = CHECKER.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 90
    words = [line.split() for line in lines]
    imports = {line[1].split(".")[0] for line in words if line[:1] in (["import"], ["from"])}
    assert imports - sys.stdlib_module_names == {"nacl"}


def test_no_proof_of_what_was_not_sealed(log: Log) -> None:
    """A proof that cannot hold is not handed out."""
    with pytest.raises(EventNotSealed):
        proof(log.seals[2], row(1), COLUMNS)
    with pytest.raises(EventNotSealed):
        proof(log.seals[2], row(12) | {"action": "user:delete"}, COLUMNS)


def test_the_documented_example(tmp_path: Path) -> None:
    """Who writes a checker after docs/audit.md has bytes to compare; and the format does not change unnoticed."""
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    seal = make_seal(None, [row(number) for number in (1, 2, 3)], COLUMNS, KEY, START)
    assert json.loads(example) == proof(seal, row(2), COLUMNS)
    code, output = check(tmp_path, json.loads(example), bytes(KEY.verify_key).hex())
    assert code == 0, output
    assert bytes(KEY.verify_key).hex() in text
    for part in (seal_hash(seal).hex(), leaf(row(2), COLUMNS).decode(), *statement(seal).decode().splitlines()):
        assert part in text
