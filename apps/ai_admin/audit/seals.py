"""Seals of the audit log: batches of events, signed and chained, so that nothing sealed changes unnoticed.

The events of a batch are the leaves of a Merkle tree (RFC 6962). A seal signs (Ed25519, RFC 8032) the tree's root, the
ids of the events in their order, and the hash of the seal before it. docs/audit.md defines every byte.

A root tells that a batch was changed, not where. So a seal keeps the ids and leaf hashes of its events, 48 bytes an
event: verification can then name the event, and a proof reads no event but its own. Root and signature cover them.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from enum import Enum
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple, TypedDict
from uuid import UUID

import orjson
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from ai_admin.audit import merkle

Value = str | int | bytes | datetime | UUID | None
# An event by its columns. `columns` below are the names that are sealed; the first is that of its id, a UUID.
Event = Mapping[str, Value]
Columns = tuple[str, ...]

_AS_THEY_STAND = frozenset({str, int, bool, UUID})
_PURPOSE = "ai-admin audit seal v1"


class Head(NamedTuple):
    """A seal's number and hash. Kept elsewhere, it is what shows that the end of the chain was cut off or rewritten."""

    number: int
    hash: bytes


GENESIS = Head(0, bytes(merkle.HASH_SIZE))


@dataclass(frozen=True)
class Seal:
    """A sealed batch. Numbers begin at 1; hashes are 32 bytes; `sealed_at` is text as in the statement.

    `ids` and `leaves` have one entry an event, in the order of the ids.
    """

    number: int
    previous: bytes
    root: bytes
    ids: tuple[UUID, ...]
    leaves: tuple[bytes, ...] = field(repr=False)
    sealed_at: str
    key_id: str
    signature: bytes

    @property
    def head(self) -> Head:
        """The head of a chain that ends with this seal."""
        return Head(self.number, seal_hash(self))


class EventNotSealed(Exception):
    """The seal does not cover this event as it is now."""


def _instant(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a time without its offset")
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _plain(value: Value) -> str:
    if isinstance(value, datetime):
        return _instant(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} has no canonical form")


def leaf(event: Event, columns: Columns) -> bytes:
    """The canonical bytes of an event: JSON with sorted members, and the names of the columns in it.

    A column that is NULL is left out, so that a nullable one added later leaves old seals valid. Raises `KeyError` for
    a column that is missing, `ValueError` for a time without offset, `TypeError` for what has no canonical form.
    """
    values = {}
    for name in columns:
        value = event[name]
        if value is not None:
            # Most are as they stand, and this is where verification spends its time.
            values[name] = value if type(value) in _AS_THEY_STAND else _plain(value)
    return orjson.dumps({"columns": values, "version": 1}, option=orjson.OPT_SORT_KEYS)


def key_id(key: VerifyKey) -> str:
    """The name of a public key: the first 8 bytes of its SHA-256, in hex."""
    return sha256(bytes(key)).hexdigest()[:16]


def statement(seal: Seal) -> bytes:
    """What is signed: eight lines, of which the first keeps the signature from passing for one of another kind."""
    ids = sha256(b"".join(event_id.bytes for event_id in seal.ids))
    lines = [
        _PURPOSE,
        f"number {seal.number}",
        f"previous {seal.previous.hex()}",
        f"size {len(seal.ids)}",
        f"root {seal.root.hex()}",
        f"ids {ids.hexdigest()}",
        f"sealed-at {seal.sealed_at}",
        f"key {seal.key_id}",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def seal_hash(seal: Seal) -> bytes:
    """What the next seal refers to: SHA-256 of the statement."""
    return sha256(statement(seal)).digest()


def _event_id(event: Event, columns: Columns) -> UUID:
    event_id = event[columns[0]]
    if not isinstance(event_id, UUID):
        raise TypeError(f"{columns[0]} is no UUID")
    return event_id


def make_seal(
    previous: Seal | None, events: Iterable[Event], columns: Columns, signing_key: SigningKey, now: datetime
) -> Seal:
    """Seal a batch of events. Raises `ValueError` if there are none, or they are not in the order of their ids."""
    batch = [(_event_id(event, columns), merkle.leaf_hash(leaf(event, columns))) for event in events]
    ids, leaves = tuple(event_id for event_id, _ in batch), tuple(digest for _, digest in batch)
    if not ids or _misplaced(ids) is not None:
        raise ValueError("a seal covers at least one event, and each once, in the order of their ids")
    unsigned = Seal(
        number=previous.number + 1 if previous else 1,
        previous=seal_hash(previous) if previous else GENESIS.hash,
        root=merkle.root(leaves),
        ids=ids,
        leaves=leaves,
        sealed_at=_instant(now),
        key_id=key_id(signing_key.verify_key),
        signature=b"",
    )
    return replace(unsigned, signature=signing_key.sign(statement(unsigned)).signature)


def _misplaced(ids: tuple[UUID, ...]) -> UUID | None:
    """The first id that is not greater than the one before it; None where all are in their order."""
    return next((event_id for before, event_id in pairwise(ids) if event_id <= before), None)


class Fault(str, Enum):
    """The kinds of what can be wrong, each with its description."""

    EVENT_CHANGED = "the event is not what was sealed"
    EVENT_REMOVED = "the event is gone"
    EVENT_INSERTED = "the event is in no seal, and was never to come into one"
    EVENT_DOUBLED = "the event is in two seals, or in one and due for another"
    EVENT_REORDERED = "the seal does not have the event in its order"
    EVENTS_CHANGED = "events are not what was sealed; the seal is faulty too, so which of them cannot be told"
    SEAL_CHANGED = "the seal's ids and leaf hashes do not give its root"
    SEAL_REMOVED = "the seal is not in its place"
    SEAL_REORDERED = "the seal comes after a later one, or twice"
    SIGNATURE_INVALID = "the seal is not what its key signed"
    KEY_UNKNOWN = "the seal was signed with an unknown key"
    CHAIN_BROKEN = "the seal does not refer to the one before it"
    HEAD_DIFFERS = "the seal is another than the one expected at this number"
    TRUNCATED = "the seal is gone, and so are all up to the head that was expected"
    PERSON_KEY_CHANGED = "the person's key is not the one that the event's personal values were sealed with"
    PERSON_REMOVED = "the person is gone from the directory, and no event says that they were erased"


class Finding(NamedTuple):
    """A fault, the number of its seal and the id of its event, as far as it concerns them."""

    fault: Fault
    seal: int | None = None
    event: UUID | None = None

    def __str__(self) -> str:
        place = (("seal", self.seal), ("event", self.event))
        return f"{', '.join(f'{kind} {name}' for kind, name in place if name is not None)}: {self.fault.value}"


@dataclass
class Verification:
    """What was read, the last seal of the chain, and the first finding of each kind in the order they were met."""

    seals: int = 0
    events: int = 0
    head: Head = GENESIS
    findings: dict[Fault, Finding] = field(default_factory=dict)
    # Whether the keys of persons were looked at, which not every role may.
    checked_people: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def note(self, fault: Fault, seal: int | None = None, event: UUID | None = None) -> None:
        """Keep a finding if it is the first of its kind."""
        self.findings.setdefault(fault, Finding(fault, seal, event))


def verify(
    batches: Iterable[tuple[Seal, Mapping[UUID, Event]]],
    columns: Columns,
    public_keys: Mapping[str, VerifyKey],
    expected_head: Head | None = None,
) -> Verification:
    """Check a chain from its first seal on, each seal with what the log has of its events, by their ids.

    `public_keys` are by `key_id`. Without a head that was kept elsewhere, seals cut off at the end are not missed; and
    events that are in no seal are not looked for here. Memory holds what `batches` gives at a time.
    """
    result = Verification()
    for seal, events in batches:
        _check_place(seal, result)
        if _check_seal(seal, public_keys, result):
            _check_events(seal, events, columns, result)
        else:
            _check_root(seal, events, columns, result)
        head = seal.head
        if expected_head and head.number == expected_head.number and head != expected_head:
            result.note(Fault.HEAD_DIFFERS, seal.number)
        result.seals += 1
        result.events += len(events)
        if head.number > result.head.number:
            result.head = head
    if expected_head and result.head.number < expected_head.number:
        result.note(Fault.TRUNCATED, result.head.number + 1)
    return result


def _check_place(seal: Seal, result: Verification) -> None:
    due = result.head.number + 1
    if seal.number < due:
        result.note(Fault.SEAL_REORDERED, seal.number)
    elif seal.number > due:
        result.note(Fault.SEAL_REMOVED, due)
    elif seal.previous != result.head.hash:
        result.note(Fault.CHAIN_BROKEN, seal.number)


def _check_seal(seal: Seal, public_keys: Mapping[str, VerifyKey], result: Verification) -> bool:
    """Whether the seal's ids and leaf hashes can be relied on to name events."""
    misplaced = _misplaced(seal.ids)
    if misplaced is not None:
        result.note(Fault.EVENT_REORDERED, seal.number, misplaced)
    intact = len(seal.ids) == len(seal.leaves) and seal.root == merkle.root(seal.leaves)
    if not intact:
        result.note(Fault.SEAL_CHANGED, seal.number)
    key = public_keys.get(seal.key_id)
    if key is None:
        result.note(Fault.KEY_UNKNOWN, seal.number)
        return False
    try:
        key.verify(statement(seal), seal.signature)
    except CryptoError:
        result.note(Fault.SIGNATURE_INVALID, seal.number)
        return False
    return intact


def _check_events(seal: Seal, events: Mapping[UUID, Event], columns: Columns, result: Verification) -> None:
    for event_id, sealed in zip(seal.ids, seal.leaves, strict=True):
        event = events.get(event_id)
        if event is None:
            result.note(Fault.EVENT_REMOVED, seal.number, event_id)
        elif merkle.leaf_hash(leaf(event, columns)) != sealed:
            result.note(Fault.EVENT_CHANGED, seal.number, event_id)


def _check_root(seal: Seal, events: Mapping[UUID, Event], columns: Columns, result: Verification) -> None:
    found = (events[event_id] for event_id in seal.ids if event_id in events)
    if merkle.root(merkle.leaf_hash(leaf(event, columns)) for event in found) != seal.root:
        result.note(Fault.EVENTS_CHANGED, seal.number)


class Proof(TypedDict):
    """That an event was sealed, for whoever has the public key: the JSON of `examples/check_audit_proof.py`."""

    event: str
    index: int
    path: list[str]
    seal: str
    signature: str


def proof(seal: Seal, event: Event, columns: Columns) -> Proof:
    """The proof of an event from the seal that covers it. Raises `EventNotSealed`."""
    entry, event_id = leaf(event, columns), _event_id(event, columns)
    index = seal.ids.index(event_id) if event_id in seal.ids else None
    if index is None or seal.leaves[index] != merkle.leaf_hash(entry):
        raise EventNotSealed
    return {
        "event": base64.b64encode(entry).decode("ascii"),
        "index": index,
        "path": [sibling.hex() for sibling in merkle.inclusion_proof(seal.leaves, index)],
        "seal": statement(seal).decode(),
        "signature": seal.signature.hex(),
    }
