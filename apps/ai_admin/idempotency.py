"""Idempotency-Key: a request that is sent again gets the first answer again, for 24 hours.

After the IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header). The
key is claimed, the work done and the answer kept, sealed, in one transaction: if the work fails nothing is kept,
and the next try starts afresh.

An erasure takes the kept answers about the user along. It leaves a digest of each Idempotency-Key, so that a retry that
was still on its way does not create the person again. A client may write a name into a key, and a plain digest would
let a reader of the database try names; so the digest is made with a key of the vault.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from ai_admin.database import Connection
from ai_admin.errors import IdempotencyKeyInUse, IdempotencyKeyReused, IdempotentAnswerErased, RequestInvalid
from ai_admin.sql import queries
from ai_admin.vault.keyring import KeyRing
from ai_admin.vault.registry import KEPT_ANSWERS

# What the digests of keys of erased users are for; at most 16 bytes.
_ERASED = b"erased answers 1"
KEY = r"[\x21-\x7e]{1,255}"
_SQL = queries("idempotency")


@dataclass(frozen=True)
class Answer:
    """An answer that can be kept and sent again."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    replayed: bool = False


def read_key(header: str | None) -> str | None:
    """Check the header's form: 1 to 255 visible ASCII characters. Raises `RequestInvalid`."""
    if header is not None and not re.fullmatch(KEY, header):
        raise RequestInvalid.at(
            "header", "Idempotency-Key", message="Must be 1 to 255 visible ASCII characters without spaces"
        )
    return header


def _digest(*parts: str | bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


def once(
    connection: Connection,
    ring: KeyRing,
    operation: str,
    key: str | None,
    request: bytes,
    work: Callable[[], tuple[UUID, Answer]],
) -> Answer:
    """Do the work unless this key has its answer already; without a key, just do it.

    `request` is the canonical form of what was asked. `work` returns the user it concerns and the answer.
    The connection must be in a transaction. Raises `IdempotencyKeyInUse`, `IdempotencyKeyReused`,
    `IdempotentAnswerErased` and `VaultError`.
    """
    if key is None:
        return work()[1]
    key_digest, request_digest = _digest(operation, key), _digest(request)
    place = KEPT_ANSWERS.place(key_digest)
    _claim(connection, key_digest)
    kept = connection.execute(_SQL["find"], {"key_digest": key_digest}).fetchone()
    if kept:
        if kept["request_digest"] != request_digest:
            raise IdempotencyKeyReused
        return Answer(kept["status"], kept["headers"], ring.open(kept["body"], place), replayed=True)
    digests = ring.digests(key_digest, _ERASED)
    if connection.execute(_SQL["find_erased"], {"digests": digests}).fetchone() is not None:
        raise IdempotentAnswerErased
    user_id, answer = work()
    connection.execute(
        _SQL["store"],
        {
            "key_digest": key_digest,
            "request_digest": request_digest,
            "user_id": user_id,
            "status": answer.status,
            "headers": Jsonb(answer.headers),
            "body": ring.seal(answer.body, place),
        },
    )
    connection.execute(_SQL["forget_expired"])
    return answer


def erase_answers(connection: Connection, ring: KeyRing, user_id: UUID) -> None:
    """Forget the kept answers about a user, and refuse their Idempotency-Keys for as long as they were kept.

    For an erasure: the user is locked, so none comes in between.
    """
    for row in connection.execute(_SQL["take_of_user"], {"user_id": user_id}).fetchall():
        digest = ring.digests(row["key_digest"], _ERASED)[0]
        connection.execute(_SQL["remember_erased"], {"digest": digest, "expires_at": row["expires_at"]})


def _claim(connection: Connection, key_digest: bytes) -> None:
    lock = int.from_bytes(key_digest[:8], "big", signed=True)
    row = connection.execute(_SQL["claim"], {"lock": lock}).fetchone()
    if row is None or not row["claimed"]:
        raise IdempotencyKeyInUse
