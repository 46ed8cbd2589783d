"""Records of a file made ready to be taken: validated as the API does, with all that creating their users takes.

This needs no database: a batch is made ready while the one before it is written.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import IO, Any, NamedTuple
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from ai_admin.access.actors import Actor
from ai_admin.audit import events
from ai_admin.audit.events import Action
from ai_admin.errors import RequestInvalid
from ai_admin.folding import sort_key, words
from ai_admin.http.validation import validate, validate_json
from ai_admin.transfer.formats import WRITTEN, Format, Record
from ai_admin.transfer.rejects import Reject, reject
from ai_admin.transfer.repeats import NamedUsers
from ai_admin.users.schemas import AiUserCreate

# What of a new user goes into the staging table.
STAGED = (
    "id", "tag", "email", "name", "name_key", "kind", "role", "status", "models", "attributes", "words", "audit_key",
)  # fmt: skip
_WRITTEN = frozenset(WRITTEN)


class ImportedUser(AiUserCreate):
    """A user of a file: what the API takes, and what an export has on top, which is left alone."""

    id: object = None
    created_at: object = None
    updated_at: object = None
    deleted_at: object = None
    version: object = None


class NewUser(NamedTuple):
    """A valid record: the whole user, as the API would create them, and which members the file has.

    `staged` and `event` are what creating the user takes, made beforehand.
    """

    line: int
    user: dict[str, Any]
    sent: frozenset[str]
    staged: tuple[str | None, ...]
    event: events.PreparedEvent
    # Tags to take where another user has this one.
    other_tags: tuple[str, ...] = ()

    def tagged(self, tag: str) -> "NewUser":
        """The same user with another tag, to be created alone: what was made beforehand is of the first one."""
        return self._replace(user={**self.user, "tag": tag})


class Batch(NamedTuple):
    """Some records of a file, one behind the other: how many, and up to which octet they are read."""

    records: int
    position: int
    users: list[NewUser]
    rejects: list[Reject]

    def parts(self, size: int) -> "Iterator[Batch]":
        """The same records in smaller batches."""
        items: list[NewUser | Reject] = [*self.users, *self.rejects]
        items.sort(key=lambda item: item.line)
        for start in range(0, len(items), size):
            part = items[start : start + size]
            users = [item for item in part if isinstance(item, NewUser)]
            rejects = [item for item in part if isinstance(item, Reject)]
            yield Batch(len(part), self.position, users, rejects)


def batches(file: IO[bytes], by: Actor, form: Format, skipped: int, size: int) -> Iterator[Batch]:
    """The records of the file behind those `skipped`, `size` at once.

    Those that are not valid, or name a user of an earlier record again, are rejects.
    """
    records = form.read(file)
    with closing(NamedUsers(form.unit)) as named:
        for record in islice(records, skipped):
            _taken(record, by, named)
        while taken := list(islice(records, size)):
            items = [_taken(record, by, named) for record in taken]
            users = [item for item in items if isinstance(item, NewUser)]
            rejects = [item for item in items if isinstance(item, Reject)]
            yield Batch(len(taken), file.tell(), users, rejects)


def _taken(record: Record, by: Actor, named: NamedUsers) -> NewUser | Reject:
    try:
        new = _validated(record, by)
        tag, email = new.user["tag"], new.user["email"]
        if record.named is None:
            # An address has an @, and a tag has none.
            named.add(new.line, {tag: "tag"} | ({email: "email"} if email else {}))
            return new
        # A name begins with a blank here, so that it is no tag.
        named.add(new.line, {email: "email"} if email else {f" {record.named}": "tag"})
        chosen = named.take(new.line, [tag, *record.other_tags])
        if chosen == 0:
            return new
        others = record.other_tags[chosen:]
        members = {**new.user, "tag": record.other_tags[chosen - 1]}
        again = Record(record.line, {name: members[name] for name in new.sent | {"tag"}}, record.named, others)
        return _validated(again, by)
    except RequestInvalid as error:
        return reject(record.line, error)


def _validated(record: Record, by: Actor) -> NewUser:
    """The user of a record. Raises `RequestInvalid` as the API does for the same members."""
    if isinstance(record.members, str):
        raise RequestInvalid.at("body", message=record.members)
    if isinstance(record.members, bytes):
        new = validate_json(ImportedUser, record.members)
    else:
        new = validate(ImportedUser, record.members, "body")
    user: dict[str, Any] = {
        "tag": new.tag,
        "email": new.email,
        "name": new.name or new.tag,
        "kind": new.kind.value,
        "role": new.role.value,
        "status": new.status,
        "models": new.models,
        "attributes": new.attributes,
    }
    sent = new.model_fields_set & _WRITTEN
    user_id, audit_key = uuid7(), os.urandom(32)
    event = events.prepared(by, Action.USERS_CREATE, user_id, audit_key, events.changed({}, user))
    staged = _staged(user_id, user, audit_key)
    named = frozenset(sent if new.name else sent - {"name"})
    return NewUser(record.line, user, named, staged, event, record.other_tags)


def _staged(user_id: UUID, user: dict[str, Any], audit_key: bytes) -> tuple[str | None, ...]:
    tag, email, name = user["tag"], user["email"], user["name"]
    return (
        str(user_id),
        tag,
        email,
        name,
        sort_key(name),
        user["kind"],
        user["role"],
        user["status"],
        # Neither a pattern of models nor a word has a blank in it.
        " ".join(user["models"]),
        orjson.dumps(user["attributes"]).decode(),
        " ".join(words(tag, email, name)),
        f"\\x{audit_key.hex()}",
    )
