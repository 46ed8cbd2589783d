"""How values are shown: names of members and actions, numbers, times, differences."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from markupsafe import Markup

from ai_admin.console.catalogue import N_, gettext, language

# What is said of each value of an enumeration, and of each member of a user.
WORDS: Mapping[str, str] = {
    "human": N_("Person"),
    "service": N_("Service"),
    "owner": N_("Owner"),
    "admin": N_("Admin"),
    "auditor": N_("Auditor"),
    "member": N_("Member"),
    "active": N_("Active"),
    "suspended": N_("Suspended"),
    "expired": N_("Expired"),
    "deleted": N_("Deleted"),
    "tag": N_("Tag"),
    "email": N_("Email"),
    "name": N_("Name"),
    "kind": N_("Kind"),
    "role": N_("Role"),
    "status": N_("Status"),
    "models": N_("Models"),
    "attributes": N_("Attributes"),
    "createdAt": N_("Created"),
    "updatedAt": N_("Updated"),
    "expiresAt": N_("Expires"),
    "scopes": N_("Scopes"),
    "provider": N_("Provider"),
    "version": N_("Version"),
    "value": N_("Value"),
    "secret": N_("Credential"),
    "key": N_("Key"),
    "reason": N_("Reason"),
    "route": N_("Route"),
    "method": N_("Method"),
    "replaces": N_("Replaces"),
    "revoked": N_("Revoked"),
    "overlapSeconds": N_("Overlap in seconds"),
    "from": N_("From version"),
    "identity": N_("Identity"),
    "signIn": N_("Sign-in"),
    "line": N_("Line"),
    "dryRun": N_("Dry run"),
    "erased": N_("Erased"),
    "users:create": N_("created the user"),
    "users:update": N_("changed the user"),
    "users:suspend": N_("suspended the user"),
    "users:activate": N_("activated the user"),
    "users:delete": N_("deleted the user"),
    "users:restore": N_("restored the user"),
    "users:purge": N_("erased the user"),
    "keys:create": N_("made a key"),
    "keys:update": N_("changed a key"),
    "keys:rotate": N_("rotated a key"),
    "keys:revoke": N_("revoked a key"),
    "keys:report_leak": N_("reported a leaked key"),
    "secrets:set": N_("set a credential"),
    "secrets:remove": N_("removed a credential"),
    "secrets:restore": N_("restored a credential"),
    "secrets:reveal": N_("revealed a credential"),
    "identities:bind": N_("bound an identity"),
    "identities:unbind": N_("unbound an identity"),
    "sessions:begin": N_("signed in"),
    "sessions:end": N_("signed out"),
    "access:refuse": N_("was refused"),
}
# Members whose values have words of their own; those of the others are as people wrote them.
_ENUMERATED = frozenset({"kind", "role", "status"})
_NOTHING = "\N{EN DASH}"
_TIME = Markup('<time datetime="{}" data-form="{}">{} UTC</time>')
_THOUSANDS = {"en": ",", "vi": "."}


def word(value: object) -> str:
    """A value of an enumeration, or a member's name, in the reader's language; anything else as it is."""
    text = str(getattr(value, "value", value))
    return gettext(WORDS[text]) if text in WORDS else text


def number(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}".replace(",", _THOUSANDS[language()])


def moment(value: datetime | None, relative: str = "") -> Markup:
    """A time, in UTC, for a script to show in the reader's zone; a dash where there is none."""
    if value is None:
        return Markup('<span class="nothing">{}</span>').format(_NOTHING)
    exact = value.astimezone(timezone.utc)
    return _TIME.format(exact.isoformat(), relative or "short", exact.strftime("%Y-%m-%d %H:%M"))


def plain(value: object) -> str:
    """A value of an event or an attribute in one line."""
    if value is None:
        return _NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or _NOTHING
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def differences(changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The changes of an event as rows: the member, and its value before and after, or its one value."""
    rows = []
    for member, change in changes.items():
        if isinstance(change, dict) and set(change) == {"before", "after"}:
            before = None if change["before"] is None else _of_member(member, change["before"])
            after = _of_member(member, change["after"])
            rows.append({"member": member, "before": before, "after": after, "both": True})
        elif change is not None:
            rows.append({"member": member, "after": _of_member(member, change), "both": False})
    return rows


def _of_member(member: str, value: object) -> str:
    """A value of an event as its member has it: a word, a time, or what people wrote."""
    if member in _ENUMERATED and value is not None:
        return word(value)
    if member.endswith("At") and isinstance(value, str):
        # Python 3.10 does not read the Z.
        return moment(datetime.fromisoformat(value.replace("Z", "+00:00")))
    return plain(value)


def initials(name: str) -> str:
    """The letters that stand for a person where there is no picture."""
    parts = name.replace(".", " ").replace("-", " ").split()
    words = [part for part in parts if part[0].isalnum()] or parts
    return "".join(part[0] for part in (words[:1] + words[-1:] if len(words) > 1 else words)).upper()


def hue(text: object) -> int:
    """One of eight colours, always the same for the same text."""
    return sum(str(text).encode()) % 8


FILTERS: dict[str, Callable[..., Any]] = {
    "word": word,
    "number": number,
    "moment": moment,
    "plain": plain,
    "differences": differences,
    "initials": initials,
    "hue": hue,
}
