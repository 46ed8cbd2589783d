"""The key ring: the keys that seal and open, and which of them does what.

It is the JSON text of the setting VAULT_KEYS:

    {"keys": [{"id": "2026-11", "key": "<32 bytes in base64>", "state": "primary"}, ...]}

The `primary` key seals, and opens. `active` keys open. A `retired` key does neither: it stands in the ring for as
long as it may be wanted back, and what it has sealed is refused like anything that does not open.
"""

import base64
import logging
import re
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from itertools import combinations
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    ValidationError,
    model_validator,
)

from ai_admin.json_values import RepeatedMember, require_distinct
from ai_admin.vault.ciphertext import KEY_ID, KEY_SIZE, Context, VaultError, decrypt, encrypt, key_id_of
from ai_admin.vault.secret_value import SecretValue

_log = logging.getLogger(__name__)
_FORM = 'write it as {"keys": [{"id": "...", "key": "...", "state": "primary"}]}'


class KeyRingInvalid(ValueError):
    """The text is no key ring. The message names every fault and what to do, and shows nothing of a key."""


def _key_id(text: str) -> str:
    if not re.fullmatch(KEY_ID, text):
        raise ValueError(
            "must be 1 to 32 of a-z, 0-9, dot, underscore and hyphen, with a letter or digit first, such as 2026-11"
        )
    return text


def _key_bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("must be base64 in quotes")  # noqa: TRY004  Pydantic takes no TypeError
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("must be base64") from None
    if len(raw) != KEY_SIZE:
        raise ValueError(f"must be {KEY_SIZE} bytes in base64, not {len(raw)}")
    require_random(raw)
    return raw


def require_random(key: bytes) -> None:
    """Raise `ValueError` for a key that is one byte again and again, as a placeholder is."""
    if len(set(key)) == 1:
        raise ValueError("must be random bytes, not one byte again and again; make one with openssl rand -base64 32")


class Key(BaseModel):
    """One key of the ring."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: Annotated[str, AfterValidator(_key_id)]
    key: Annotated[SecretValue, BeforeValidator(_key_bytes)]
    state: Literal["primary", "active", "retired"]


class KeyRing(BaseModel):
    """Keys of different ids, one of them primary. Made by `parse`; never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: SecretStr) -> "KeyRing":
        """The ring of a text. Raises `KeyRingInvalid`."""
        outcome = _parse(text)
        if isinstance(outcome, KeyRing):
            return outcome
        raise KeyRingInvalid("; ".join(outcome))

    @model_validator(mode="after")
    def _as_a_whole(self) -> "KeyRing":
        faults = []
        for one, other in combinations(self.keys, 2):
            if one.id == other.id:
                faults.append(f"the id {one.id} stands twice; give each key an id of its own")
            elif one.key == other.key:
                faults.append(f"{one.id} and {other.id} are the same key; make a new one for each id")
        primaries = [key.id for key in self.keys if key.state == "primary"]
        if not primaries:
            faults.append("no key is primary; make the one that is to seal primary")
        if len(primaries) > 1:
            faults.append(f"{' and '.join(primaries)} are primary; leave one, and make the others active")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def primary(self) -> Key:
        """The key that seals."""
        return next(key for key in self.keys if key.state == "primary")

    def find(self, key_id: str) -> Key | None:
        """The key of this id, whatever its state."""
        return next((key for key in self.keys if key.id == key_id), None)

    def require_same_keys(self, other: "KeyRing") -> None:
        """Raise `KeyRingInvalid` where an id is another key in the other ring: what that one sealed would not open."""
        changed = [key.id for key in self.keys if (former := other.find(key.id)) and former.key != key.key]
        if changed:
            raise KeyRingInvalid(f"{' and '.join(changed)}: another key had this id; give a new key a new id")

    def seal(self, value: bytes, context: Context) -> bytes:
        """The ciphertext of a value for its place in the database, under the primary key."""
        key = self.primary
        return encrypt(value, context, key.id, key.key)

    def digests(self, value: bytes, purpose: bytes) -> list[bytes]:
        """The digest of a value under each key, the primary one first: nobody without the keys can guess the value.

        `purpose`, at most 16 bytes, keeps digests for one purpose from being those for another.
        """
        keys = sorted(self.keys, key=lambda key: key.state != "primary")
        return [blake2b(value, digest_size=32, key=key.key.get_secret_value(), person=purpose).digest() for key in keys]

    def open(self, ciphertext: bytes, context: Context) -> bytes:
        """The value of a ciphertext from the same place. Raises `VaultError`; the log says why, and names the key."""
        outcome = self._attempt(ciphertext, context)
        if isinstance(outcome, bytes):
            return outcome
        fields = {"table": context.table, "column": context.column, **outcome}
        _log.warning("a sealed value cannot be opened", extra={"fields": fields})
        raise VaultError

    def _attempt(self, ciphertext: bytes, context: Context) -> bytes | Mapping[str, str]:
        """The value, or what the log tells."""
        try:
            key_id = key_id_of(ciphertext)
        except VaultError:
            return {"why": "it is no ciphertext of a format that this version knows"}
        key = self.find(key_id)
        if key is None:
            return {"keyId": key_id, "why": "the key is missing in the ring"}
        if key.state == "retired":
            return {"keyId": key_id, "why": "the key is retired"}
        value = decrypt(ciphertext, context, key_id, key.key)
        if value is None:
            return {"keyId": key_id, "why": "it is damaged, or of another place, or another key had this id"}
        return value


def _parse(text: SecretStr) -> KeyRing | list[str]:
    """The ring, or its faults: a `ValidationError` holds the text, so it ends here."""
    try:
        ring = KeyRing.model_validate_json(text.get_secret_value())
        require_distinct(text.get_secret_value())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        return [_told(fault["type"], fault["loc"], fault["msg"]) for fault in faults]
    except RepeatedMember as error:
        # Its name is one of those that a ring has.
        return [f"{_place(error.place)} occurs twice; leave one"]
    return ring


def _told(kind: str, loc: tuple[int | str, ...], message: str) -> str:
    """One of Pydantic's errors in the words of this page."""
    if kind == "extra_forbidden":
        # Not by its name, which may be a key in the wrong place.
        return f"{_place(loc[:-1]) or 'the ring'} has a member that does not belong there; take it out"
    place = _place(loc)
    if kind == "missing":
        return f"{place} is missing; add it"
    if kind == "literal_error":
        return f"{place} must be primary, active or retired"
    message = message.removeprefix("Value error, ")
    if kind in {"json_invalid", "model_type"}:
        message += f"; {_FORM}"
    return f"{place}: {message}" if place else message


def _place(loc: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).lstrip(".")


def new_key_entry(key_id: str) -> dict[str, str]:
    """An entry for VAULT_KEYS with a new random key, `active` until every process has it. Raises `ValueError`."""
    key = base64.b64encode(secrets.token_bytes(KEY_SIZE)).decode("ascii")
    return {"id": _key_id(key_id), "key": key, "state": "active"}
