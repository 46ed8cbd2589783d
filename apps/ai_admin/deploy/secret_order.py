"""Whether a Secret can follow another one while pods with either answer side by side.

A changed Secret makes Fission replace the pods, one after the other. Until the last old one is gone, each kind of pod
is given what the other has sealed.
"""

from collections.abc import Mapping

from pydantic import SecretStr

from ai_admin.vault.keyring import KeyRing, KeyRingInvalid

_RING, _CURSORS = "VAULT_KEYS", "CURSOR_KEY"


def faults(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what breaks while pods with both Secrets answer; each fault says what to do first."""
    return _of_ring(before.get(_RING), after.get(_RING)) + _of_cursors(before.get(_CURSORS), after.get(_CURSORS))


def notes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what to know of the change, though it may be what is wanted."""
    if before.get("PG_USER") == after.get("PG_USER") and before.get("PG_PASSWORD") != after.get("PG_PASSWORD"):
        told = "PG_PASSWORD changes for the same role: old pods open no new connection once PostgreSQL has the new one."
        return [f"{told} A second role avoids that: docs/operations.md, Rotation"]
    return []


def _of_ring(before: str | None, after: str | None) -> list[str]:
    try:
        old, new = KeyRing.parse(SecretStr(before or "")), KeyRing.parse(SecretStr(after or ""))
    except KeyRingInvalid:
        # No pod runs with a ring that is none.
        return []
    try:
        new.require_same_keys(old)
    except KeyRingInvalid as error:
        return [f"{_RING}: {error}"]
    found = []
    if not _opens(old, new.primary.id):
        found.append(
            f"{_RING}: old pods cannot open what {new.primary.id} seals. Apply a ring with {new.primary.id} active and "
            f"{old.primary.id} primary first, then promote it"
        )
    if not _opens(new, old.primary.id):
        found.append(
            f"{_RING}: new pods cannot open what {old.primary.id} seals in old ones. Apply a ring with "
            f"{old.primary.id} active first, run `ai-admin vault rotate`, then retire it"
        )
    return found


def _opens(ring: KeyRing, key_id: str) -> bool:
    key = ring.find(key_id)
    return key is not None and key.state != "retired"


def _of_cursors(before: str | None, after: str | None) -> list[str]:
    old, new = (before or "").split(), (after or "").split()
    if not old or not new:
        return []
    found = []
    if new[0] not in old:
        found.append(
            f"{_CURSORS}: old pods do not know the key that seals. Apply the old key and then the new one first"
        )
    if old[0] not in new:
        found.append(
            f"{_CURSORS}: new pods do not know the key that seals in old ones. Keep it behind the new one first"
        )
    return found
