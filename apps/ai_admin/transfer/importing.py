"""Imports of users: a file's records validated as the API does, and the directory brought to what they say.

Records are taken in batches, each in one transaction that also keeps how far the import has come. Whatever ends it,
the same file goes on behind its last whole batch, and nothing is done twice. A batch gives what its records would
give one after the other:

- New users go through COPY into a staging table and from there into `users`, all at once.
- Whoever is there already as the record says is left alone.
- All others (changes, conflicts, new owners) go one by one through the operations of the API, each in a savepoint.

Every user who is created or changed has an event. A record that is refused is kept with its line and reason.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import IO, Any, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from ai_admin.access.actors import Actor
from ai_admin.access.standing import require_standing
from ai_admin.audit import events
from ai_admin.config import Settings
from ai_admin.database import CHANGE_ERRORS, Connection, Row, domain_errors, repeat_lost
from ai_admin.errors import (
    ApiError,
    DuplicateEmail,
    DuplicateTag,
    Forbidden,
    Unauthenticated,
    VersionMismatch,
)
from ai_admin.etags import Precondition
from ai_admin.sql import queries
from ai_admin.transfer.formats import FORMATS, Format, Match
from ai_admin.transfer.records import STAGED, Batch, NewUser, batches
from ai_admin.transfer.rejects import KeptRejects, Reject, reject
from ai_admin.transfer.session import session
from ai_admin.users import directory
from ai_admin.users.schemas import AiUserCreate, AiUserUpdate, Kind, Role

# Records a transaction.
BATCH = 2_000
# In one that changes more users than this, so many: a request waits for a row that the transaction has locked, and no
# longer than LOCK_TIMEOUT_MS.
_MOST_CHANGES = 100
_SQL = {name: sql.replace("{columns}", directory.COLUMNS) for name, sql in queries("transfer").items()}
_ANY_VERSION = Precondition(None)
# A row that another transaction changes meanwhile is found only if it still matches.
_FOR_UPDATE = "\nFOR UPDATE"
# What ends the import; every other error of the API is of one record.
_ENDING: tuple[type[ApiError], ...] = (Unauthenticated, *CHANGE_ERRORS)
_Item = TypeVar("_Item")


# Told of a record that the actor has not the rights for, in the transaction of its batch: the error, the record's line,
# and the user it names, if there is one. The service itself, which commands act as, lacks none.
OnRefusal = Callable[[Connection, Forbidden, int, UUID | None], None]


class ImportElsewhere(Exception):
    """Another process is importing this file."""


@dataclass
class Summary:
    """What an import did, or a dry run would do, in records of the file."""

    records: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0

    def add(self, other: "Summary") -> None:
        """Count what another one has counted."""
        for name, number in asdict(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass(frozen=True)
class Progress:
    """How far an import is: octets of the file, all of them, and what it has done so far."""

    position: int
    size: int
    summary: Summary


@dataclass(frozen=True)
class Outcome:
    """What came of an import; `id` is None for a dry run. `rejects` are read where they are kept."""

    id: UUID | None
    summary: Summary
    # Records that an earlier run of the same file had done.
    resumed_at: int
    _rejects: Iterable[Reject] = ()

    def rejects(self, settings: Settings) -> Iterator[Reject]:
        """All rejects by their lines."""
        if self.id is None:
            yield from self._rejects
        else:
            yield from rejects_of(settings, self.id)


def import_users(
    settings: Settings,
    by: Actor,
    file: IO[bytes],
    form: str,
    *,
    match: Match | None = None,
    dry_run: bool = False,
    most_rejects: int | None = None,
    batch: int = BATCH,
    progress: Callable[[Progress], None] = lambda _: None,
    on_refusal: OnRefusal = lambda *_: None,
) -> Outcome:
    """Bring the directory to what the file says. `file` can seek; `form` is one of `FORMATS`.

    Users are found by `match`, that of the format if not given; who has no email, by tag. Goes on with an import of
    the same file, format and actor that has not ended. All rejects are kept, or the first `most_rejects` of them.
    `on_refusal` is told of each record that `by` has not the rights for, of a dry run too.

    Raises `FileInvalid` before anything is done, and behind the last whole batch `ImportElsewhere`, `Unauthenticated`
    where `by` was put out meanwhile, `DatabaseUnavailable` and `SchemaOutdated`.
    """
    chosen = FORMATS[form]
    if chosen.require_whole:
        chosen.require_whole(file)
    by_members = match or chosen.match
    size = file.seek(0, os.SEEK_END)
    with session(settings) as connection:
        place = None if dry_run else _started(connection, _digest(file, form, by_members, by))
        done = Summary() if place is None else place[1]
        file.seek(0)
        by = events.with_audit_key(connection, by)
        run = _Run(connection, by, chosen, by_members, place and place[0], most_rejects, on_refusal)
        resumed_at = done.records
        progress(Progress(0, size, done))
        for each in _ahead(batches(file, by, chosen, resumed_at, batch)):
            for part in run.parts(each):
                done.add(repeat_lost(partial(run.take, part, done)))
                progress(Progress(part.position, size, done))
        if place is not None:
            connection.execute(_SQL["finish"], {"id": place[0]})
    return Outcome(place and place[0], done, resumed_at, run.kept)


def rejects_of(settings: Settings, import_id: UUID) -> Iterator[Reject]:
    """The rejects of an import by their lines, as many as there are."""
    with session(settings) as connection, connection.transaction(), connection.cursor("rejects") as cursor:
        for row in cursor.execute(_SQL["rejects"], {"id": import_id}):
            yield Reject(row["line"], row["problem"])


def _digest(file: IO[bytes], form: str, match: Match, by: Actor) -> bytes:
    """What the import is known by: the octets of the file, how they are read, and for whom."""
    digest = hashlib.sha256(f"{form} {match} {by.user_id}\n".encode())
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()


def _started(connection: Connection, digest: bytes) -> tuple[UUID, Summary]:
    """The import of this file that has not ended, or a new one; and what it has done."""
    with connection.transaction():
        connection.execute(_SQL["clear"])
        connection.execute(_SQL["start"], {"id": uuid7(), "digest": digest})
        row = connection.execute(_SQL["unfinished"], {"digest": digest}).fetchone()
    if row is None:
        raise ImportElsewhere("another process has just finished the import of this file")
    return row.pop("id"), Summary(**row)


# Validation, in a thread of its own: while the database writes a batch the next one is read


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, each made while the one before it is used."""
    with ThreadPoolExecutor(1, "read-import") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


class _Run:
    """An import at work on its connection. `kept` are the rejects of a dry run."""

    def __init__(
        self,
        connection: Connection,
        by: Actor,
        form: Format,
        match: Match,
        import_id: UUID | None,
        most_rejects: int | None,
        on_refusal: OnRefusal,
    ) -> None:
        self._most_rejects = most_rejects
        self._on_refusal = on_refusal
        self._connection = connection
        self._by = by
        self._only_new = form.only_new
        self._match = match
        self._id = import_id
        self._roles: dict[str, ApiError | None] = {}
        self.kept = KeptRejects()
        if import_id is None:
            connection.execute(_SQL["foresee"])

    def parts(self, batch: Batch) -> Iterable[Batch]:
        """The batch, in parts where it changes many users."""
        if self._id is None:
            return [batch]
        present = self._present(batch.users)
        changes = sum(self._key(new.user) in present and self._differs(new, present) for new in batch.users)
        return batch.parts(_MOST_CHANGES) if changes > _MOST_CHANGES else [batch]

    def take(self, batch: Batch, done: Summary) -> Summary:
        """Take the batch that comes behind what is done; all of it, or nothing."""
        with domain_errors(), self._connection.transaction():
            if self._id is not None:
                row = self._connection.execute(_SQL["lock"], {"id": self._id}).fetchone()
                if row is None or row["records"] != done.records:
                    raise ImportElsewhere("another process goes on with the import of this file")
            self._connection.execute(_SQL["stage"])
            summary, rejects = Summary(records=batch.records), list(batch.rejects)
            for users in _chunks(batch.users):
                self._take_distinct(users, summary, rejects)
            summary.rejected = len(rejects)
            room = None if self._most_rejects is None else max(0, self._most_rejects - done.rejected)
            kept = sorted(rejects, key=lambda each: each.line)[:room]
            if self._id is None:
                self.kept.add(kept)
            else:
                self._keep(summary, kept)
        return summary

    def _keep(self, summary: Summary, rejects: list[Reject]) -> None:
        if rejects:
            copying = "COPY import_rejects (import_id, line, problem) FROM STDIN"
            with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
                for each in rejects:
                    copy.write_row((self._id, each.line, Jsonb(each.problem)))
        self._connection.execute(_SQL["advance"], {"id": self._id, **asdict(summary)})

    def _take_distinct(self, users: list[NewUser], summary: Summary, rejects: list[Reject]) -> None:
        """Take users of whom no two have a tag or an email address in common."""
        matched = self._present(users)
        unknown = [new for new in users if self._key(new.user) not in matched]
        inserted = self._insert([new for new in unknown if self._is_plain(new)])
        summary.created += len(inserted)
        matched |= self._present([new for new in unknown if new.user["tag"] not in inserted])
        others = [new for new in users if new.user["tag"] not in inserted]
        differing = [new for new in others if self._differs(new, matched)]
        summary.unchanged += len(others) - len(differing)
        present = self._locked(differing, matched)
        for new in differing:
            try:
                self._require_same(new, matched, present)
                self._take_tagged(new, summary)
            except _ENDING:
                raise
            except ApiError as error:
                rejects.append(reject(new.line, error))
                if isinstance(error, Forbidden):
                    user = present.get(self._key(new.user))
                    self._on_refusal(self._connection, error, new.line, user["id"] if user else None)

    # Users who are new

    def _is_plain(self, new: NewUser) -> bool:
        """Whether nothing but a conflict can stand in the way of creating this user."""
        user = new.user
        if user["role"] == Role.OWNER or (user["kind"] == Kind.HUMAN and user["email"] is None):
            return False
        if user["role"] not in self._roles:
            try:
                self._by.require_role_grant(Role(user["role"]))
                self._roles[user["role"]] = None
            except ApiError as error:
                self._roles[user["role"]] = error
        return self._roles[user["role"]] is None

    def _insert(self, users: list[NewUser]) -> set[str]:
        """Create those whose tag and address nobody has; returns their tags."""
        if not users:
            return set()
        with self._connection.cursor() as cursor:
            cursor.execute("TRUNCATE staged_users")
            with cursor.copy(f"COPY staged_users ({', '.join(STAGED)}) FROM STDIN") as copy:
                for new in users:
                    copy.write_row(new.staged)
            if self._id is None:
                return self._foresee(users)
            inserted = {row["tag"] for row in cursor.execute(_SQL["insert"])}
        # After the insert, which waits for whoever is about to take a tag or an address.
        require_standing(self._connection, self._by)
        events.write_prepared(self._connection, [new.event for new in users if new.user["tag"] in inserted])
        return inserted

    def _foresee(self, users: list[NewUser]) -> set[str]:
        """For a dry run: the tags of those who would be created, who are remembered for later records."""
        tags = {row["tag"] for row in self._connection.execute(_SQL["would_insert"])}
        with self._connection.cursor() as cursor, cursor.copy("COPY foreseen_users FROM STDIN") as copy:
            for user in (new.user for new in users if new.user["tag"] in tags):
                copy.write_row((user["tag"], user["email"] and user["email"].lower(), Jsonb(user)))
        return tags

    # Users who are there already, or stand in the way

    def _key(self, user: dict[str, Any]) -> tuple[str, str]:
        if self._match == "email" and user["email"] is not None:
            return "email", user["email"].lower()
        return "tag", user["tag"]

    def _present(self, users: list[NewUser], lock: str = "") -> dict[tuple[str, str], Row]:
        """Those users of the directory whom the records name, by key; locked where `lock` is FOR UPDATE."""
        found: dict[tuple[str, str], Row] = {}
        keys = [self._key(new.user) for new in users]
        for member in ("tag", "email"):
            wanted = [key for kind, key in keys if kind == member]
            if wanted:
                rows = self._connection.execute(_SQL[f"by_{member}"] + lock, {"keys": wanted}).fetchall()
                found |= {(member, row[member].lower()): row for row in rows}
        return found

    def _differs(self, new: NewUser, present: Mapping[tuple[str, str], Row]) -> bool:
        """Whether the record names nobody of these users, or says something else of one."""
        before = present.get(self._key(new.user))
        return before is None or directory.differs(before, self._changes(new))

    def _locked(self, users: list[NewUser], matched: Mapping[tuple[str, str], Row]) -> Mapping[tuple[str, str], Row]:
        """Lock the users whom the records matched; return whom they match now, as it stays until the batch ends."""
        ids = [matched[key]["id"] for key in map(self._key, (new.user for new in users)) if key in matched]
        # A dry run keeps no request waiting.
        if self._id is None or not ids:
            return matched
        self._connection.execute(_SQL["lock_users"], {"ids": ids})
        return self._present(users)

    def _require_same(
        self, new: NewUser, matched: Mapping[tuple[str, str], Row], present: Mapping[tuple[str, str], Row]
    ) -> None:
        """Raise `VersionMismatch` where the record no longer matches the user whom it matched before the lock."""
        key = self._key(new.user)
        if key in matched and (key not in present or present[key]["id"] != matched[key]["id"]):
            raise VersionMismatch(
                f"The user with this {key[0]} was deleted, or their {key[0]} changed, while the file was imported. "
                "Check the user, then import the row again."
            )

    def _changes(self, new: NewUser) -> dict[str, Any]:
        """What the record says about a user who is there."""
        return {member: new.user[member] for member in new.sent - self._only_new}

    def _take_tagged(self, new: NewUser, summary: Summary) -> None:
        """Take one user; a new one whose tag was made, and is another user's, with the next of their tags."""
        for tag in new.other_tags:
            try:
                return self._take_one(new, summary)
            except DuplicateTag:
                new = new.tagged(tag)
        return self._take_one(new, summary)

    def _take_one(self, new: NewUser, summary: Summary) -> None:
        """Create or change one user as the API does. Raises what it raises, as domain errors."""
        if self._id is None and self._is_foreseen(new, summary):
            return
        # A dry run sees what would come of it, and leaves nothing.
        with domain_errors(), self._connection.transaction(force_rollback=self._id is None):
            before = self._present([new], _FOR_UPDATE).get(self._key(new.user))
            if before is None:
                asked = {member: new.user[member] for member in new.sent}
                directory.create(self._connection, self._by, AiUserCreate.model_validate(asked | _named(new)))
                summary.created += 1
                return
            update = AiUserUpdate.model_validate(self._changes(new))
            after = directory.change(self._connection, self._by, before["id"], update, _ANY_VERSION)
        if after["version"] == before["version"]:
            summary.unchanged += 1
        else:
            summary.changed += 1

    def _is_foreseen(self, new: NewUser, summary: Summary) -> bool:
        """Whether a record before this one would have created the user; raises what then stands in the way."""
        asked = {"tag": new.user["tag"], "email": new.user["email"] and new.user["email"].lower()}
        rows = self._connection.execute(_SQL["foreseen"], asked).fetchall()
        same = [row["members"] for row in rows if self._key(row["members"]) == self._key(new.user)]
        if len(rows) > len(same):
            raise DuplicateEmail if self._key(new.user)[0] == "tag" else DuplicateTag
        if not same:
            return False
        if directory.differs(same[0], self._changes(new)):
            summary.changed += 1
        else:
            summary.unchanged += 1
        return True


def _named(new: NewUser) -> dict[str, Any]:
    return {"tag": new.user["tag"], "name": new.user["name"]}


def _chunks(users: Iterable[NewUser]) -> Iterator[list[NewUser]]:
    """The users in their order, cut wherever one has the tag or address of one before: they follow one another."""
    chunk: list[NewUser] = []
    seen: set[str] = set()
    for new in users:
        # An address has an @, and a tag has none.
        keys = {new.user["tag"], (new.user["email"] or new.user["tag"]).lower()}
        if seen & keys:
            yield chunk
            chunk, seen = [], set()
        chunk.append(new)
        seen |= keys
    if chunk:
        yield chunk
