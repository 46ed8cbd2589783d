"""A key ring in a file of the operator's, on its way into the Secret: keys added, promoted and retired."""

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from ai_admin.vault.keyring import Key, KeyRing, KeyRingInvalid, new_key_entry


def read_ring(file: Path) -> KeyRing:
    """The ring in a file. Raises `KeyRingInvalid`, also where the file cannot be read."""
    try:
        text = SecretStr(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeyRingInvalid(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        # Not from within: the error holds the text.
        text = SecretStr("")
    return KeyRing.parse(text)


def write_ring(file: Path, ring: KeyRing) -> None:
    """Replace the file at once, readable by its owner alone. Raises `OSError`."""
    entries = [
        {"id": key.id, "key": base64.b64encode(key.key.get_secret_value()).decode("ascii"), "state": key.state}
        for key in ring.keys
    ]
    # A temporary file has the mode 0600 from its start.
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as scratch:
            scratch.write(json.dumps({"keys": entries}, indent=2) + "\n")
            scratch.flush()
            os.fsync(handle)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def with_new_key(ring: KeyRing, key_id: str) -> KeyRing:
    """The ring with a new random key, `active` until every process has it. Raises `ValueError`."""
    if ring.find(key_id):
        raise KeyRingInvalid(f"the ring has a key {key_id}; an id is never used for another key")
    return KeyRing(keys=(*ring.keys, Key.model_validate(new_key_entry(key_id))))


def promoted(ring: KeyRing, key_id: str) -> KeyRing:
    """The ring with an active key made `primary`, and the primary key `active`. Raises `KeyRingInvalid`."""
    key = _found(ring, key_id)
    if key.state != "active":
        raise KeyRingInvalid(f"{key_id} is {key.state}; a key is promoted that is active, and deployed everywhere")
    return _with_states(ring, {ring.primary.id: "active", key_id: "primary"})


def retired(ring: KeyRing, key_id: str) -> KeyRing:
    """The ring with an active key `retired`. Raises `KeyRingInvalid`; the caller knows that no row needs the key."""
    key = _found(ring, key_id)
    if key.state == "primary":
        raise KeyRingInvalid(f"{key_id} is primary; promote another key, deploy the ring and run vault rotate first")
    return _with_states(ring, {key_id: "retired"})


def _found(ring: KeyRing, key_id: str) -> Key:
    key = ring.find(key_id)
    if key is None:
        raise KeyRingInvalid(f"the ring has no key {key_id}; it has {', '.join(key.id for key in ring.keys)}")
    return key


def _with_states(ring: KeyRing, states: dict[str, Literal["primary", "active", "retired"]]) -> KeyRing:
    keys = (key.model_copy(update={"state": states.get(key.id, key.state)}) for key in ring.keys)
    return KeyRing(keys=tuple(keys))
