"""The directory in memory, as docs/api.md tells it: what each operation answers, without a database, HTTP or our code.

Whoever calls is an owner who is not in it, so nothing is refused for lack of a scope, and nobody is the last owner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ADMIN = {
    "users:read", "users:write", "keys:read", "keys:write", "secrets:read", "secrets:write", "tokens:introspect",
}  # fmt: skip
SCOPES: dict[str, set[str]] = {
    "owner": ADMIN | {"secrets:reveal", "audit:read"},
    "admin": ADMIN,
    "auditor": {"users:read", "audit:read"},
    "member": set(),
}
GATEWAY = {"tokens:introspect", "secrets:reveal"}
DEFAULTS: dict[str, Any] = {
    "email": None, "kind": "human", "role": "member", "status": "active", "models": [], "attributes": {},
}  # fmt: skip
# Names that tests use, as people look for them.
FOLDED = {"Ada": "ada", "ada King": "ada king", "Đặng Ánh": "dang anh", "Zoë": "zoe", "Bob-Łukasz": "bob-lukasz"}


class Refused(Exception):
    """The operation fails with this error code."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass
class Key:
    """An API key."""

    user: str
    name: str
    scopes: list[str] | None
    value: str = field(default="", compare=False)


@dataclass
class Version:
    """A value of a credential."""

    provider: str
    value: Mapping[str, str]
    is_in_force: bool = True


@dataclass
class Reference:
    """What is in the directory, by id, and what has been done, in order."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    secrets: dict[tuple[str, str], list[Version]] = field(default_factory=dict)
    kept: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    # Idempotency keys of creates whose user was purged.
    erased: set[str] = field(default_factory=set)
    events: list[tuple[str, str]] = field(default_factory=list)

    # Users

    def create(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        """The user that comes of it, but for what only the service knows."""
        user = {**DEFAULTS, "name": sent["tag"].lower(), **sent, "tag": sent["tag"].lower()}
        self._require_free(user)
        return user

    def created(self, user: dict[str, Any]) -> None:
        """Take up a user as the service has answered."""
        self.users[user["id"]] = user
        self.events.append(("users:create", user["id"]))

    def get(self, user_id: str) -> dict[str, Any]:
        """The user, deleted or not."""
        if user_id not in self.users:
            raise Refused("USER_NOT_FOUND")
        return self.users[user_id]

    def change(self, user_id: str, sent: Mapping[str, Any], version: int | None) -> dict[str, Any]:
        """The user that comes of it; the same one where nothing changes."""
        before = self._at_version(user_id, version)
        sent = {**sent, **({"tag": sent["tag"].lower()} if "tag" in sent else {})}
        if all(before[member] == value for member, value in sent.items()):
            return before
        if before["status"] == "deleted" and "status" not in sent:
            raise Refused("VALIDATION_ERROR")
        after = {**before, **sent, "version": before["version"] + 1, "deletedAt": None}
        self._require_free(after)
        self.events.append((_action(before["status"], after["status"]), user_id))
        if (before["role"], before["kind"]) != (after["role"], after["kind"]):
            self._settle_keys(before, after)
        return after

    def _settle_keys(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        gained, lost = SCOPES[after["role"]] - SCOPES[before["role"]], SCOPES[before["role"]] - SCOPES[after["role"]]
        for key in self.keys.values():
            if key.user != before["id"] or (key.scopes is None and not gained):
                continue
            did = _scopes(key, before)
            kept = did if gained else set(key.scopes or ())
            if gained and after["role"] == "owner":
                kept = set()
            # A scope of a gateway stays where it worked, and where nothing was taken from the user or the role has it.
            stays = did & (SCOPES[after["role"]] if lost else may_have(after))
            kept = {scope for scope in kept if scope not in GATEWAY or scope in stays}
            if key.scopes is None or set(key.scopes) != kept:
                key.scopes = sorted(kept)
                self.events.append(("keys:update", key.user))

    def delete(self, user_id: str, version: int | None) -> None:
        """Mark a user deleted."""
        user = self._at_version(user_id, version, deleted=False)
        user |= {"status": "deleted", "version": user["version"] + 1}
        self.events.append(("users:delete", user_id))

    def purge(self, user_id: str, version: int | None) -> None:
        """Erase a user with all that is theirs."""
        self._at_version(user_id, version)
        del self.users[user_id]
        self.keys = {key_id: key for key_id, key in self.keys.items() if key.user != user_id}
        self.secrets = {place: versions for place, versions in self.secrets.items() if place[0] != user_id}
        self.erased |= {name for name, kept in self.kept.items() if kept[1] == user_id}
        self.kept = {name: kept for name, kept in self.kept.items() if kept[1] != user_id}
        self.events.append(("users:purge", user_id))

    def live(self, user_id: str) -> dict[str, Any]:
        """The user, who is not deleted."""
        user = self.get(user_id)
        if user["status"] == "deleted":
            raise Refused("USER_NOT_FOUND")
        return user

    def _at_version(self, user_id: str, version: int | None, *, deleted: bool = True) -> dict[str, Any]:
        user = self.get(user_id) if deleted else self.live(user_id)
        if version not in {None, user["version"]}:
            raise Refused("VERSION_MISMATCH")
        return user

    def _require_free(self, user: Mapping[str, Any]) -> None:
        if user["kind"] == "human" and user["email"] is None:
            raise Refused("VALIDATION_ERROR")
        others = [other for other in self.users.values() if other["id"] != user.get("id")]
        live = [other for other in others if other["status"] != "deleted"]
        if user["tag"] in {other["tag"] for other in live}:
            raise Refused("DUPLICATE_TAG")
        if user["email"] and user["email"].lower() in {_email(other) for other in live}:
            raise Refused("DUPLICATE_EMAIL")

    def find(self, query: Mapping[str, str]) -> list[str]:
        """The ids of the users whom a list has, in its order."""
        asked = dict(query)
        sort = asked.pop("sort", "-createdAt")
        key = ORDERS[sort.lstrip("-")]
        conditions = [_condition(name, value) for name, value in asked.items()]
        if "status" not in asked:
            conditions.append(lambda user: user["status"] != "deleted")
        found = [user for user in self.users.values() if all(holds(user) for holds in conditions)]
        found.sort(key=lambda user: (key(user), user["id"]), reverse=sort.startswith("-"))
        return [user["id"] for user in found]

    # Keys

    def make_key(self, user_id: str, sent: Mapping[str, Any]) -> Key:
        """The key that comes of it."""
        user = self.live(user_id)
        key = Key(user_id, sent["name"], sent.get("scopes"))
        _require_allowed(key, user)
        self.events.append(("keys:create", user_id))
        return key

    def rotate(self, user_id: str, key_id: str) -> Key:
        """The same key, which is to get a new value."""
        self.live(user_id)
        key = self.key(user_id, key_id)
        self.events.append(("keys:rotate", user_id))
        return key

    def change_key(self, user_id: str, key_id: str, sent: Mapping[str, Any]) -> Key:
        """The key as it is afterwards."""
        user, key = self.live(user_id), self.key(user_id, key_id)
        after = Key(user_id, sent.get("name", key.name), sent.get("scopes", key.scopes), key.value)
        if after != key:
            _require_allowed(after, user)
            self.keys[key_id] = after
            self.events.append(("keys:update", user_id))
        return after

    def revoke(self, user_id: str, key_id: str) -> None:
        """End a key for good."""
        self.get(user_id)
        self.key(user_id, key_id)
        del self.keys[key_id]
        self.events.append(("keys:revoke", user_id))

    def key(self, user_id: str, key_id: str) -> Key:
        """A key of a user."""
        key = self.keys.get(key_id)
        if key is None or key.user != user_id:
            raise Refused("KEY_NOT_FOUND")
        return key

    def allowed(self, key_id: str, value: str) -> set[str] | None:
        """What a caller who presents this value of a key may do; None where it opens nothing."""
        key = self.keys.get(key_id)
        if key is None or key.value != value or self.users[key.user]["status"] != "active":
            return None
        return _scopes(key, self.users[key.user])

    # Credentials

    def put(self, user_id: str, name: str, provider: str, value: Mapping[str, str]) -> bool:
        """Set a credential; whether there was none."""
        self.live(user_id)
        before = self._in_force(user_id, name)
        if before is None or (before.provider, before.value) != (provider, value):
            self._add(user_id, name, Version(provider, value))
            self.events.append(("secrets:set", user_id))
        return before is None

    def restore(self, user_id: str, name: str, number: int) -> None:
        """Make a new version of an earlier one."""
        self.live(user_id)
        versions = self.secrets.get((user_id, name), [])
        if not 0 < number <= len(versions):
            raise Refused("SECRET_NOT_FOUND")
        earlier, now = versions[number - 1], self._in_force(user_id, name)
        if now is None or (now.provider, now.value) != (earlier.provider, earlier.value):
            self._add(user_id, name, Version(earlier.provider, earlier.value))
            self.events.append(("secrets:restore", user_id))

    def remove(self, user_id: str, name: str) -> None:
        """End a credential; its versions stay."""
        self.live(user_id)
        version = self._in_force(user_id, name)
        if version is None:
            raise Refused("SECRET_NOT_FOUND")
        version.is_in_force = False
        self.events.append(("secrets:remove", user_id))

    def reveal(self, user_id: str, name: str) -> Version:
        """The credential in force of an active user."""
        if self.live(user_id)["status"] == "suspended":
            raise Refused("USER_SUSPENDED")
        version = self._in_force(user_id, name)
        if version is None:
            raise Refused("SECRET_NOT_FOUND")
        self.events.append(("secrets:reveal", user_id))
        return version

    def _in_force(self, user_id: str, name: str) -> Version | None:
        versions = self.secrets.get((user_id, name), [])
        return next((version for version in versions if version.is_in_force), None)

    def _add(self, user_id: str, name: str, version: Version) -> None:
        versions = self.secrets.setdefault((user_id, name), [])
        for former in versions:
            former.is_in_force = False
        versions.append(version)


def _action(before: str, after: str) -> str:
    if before == after:
        return "users:update"
    if before == "deleted":
        return "users:restore"
    return "users:suspend" if after == "suspended" else "users:activate"


def _scopes(key: Key, user: Mapping[str, Any]) -> set[str]:
    return SCOPES[user["role"]] if key.scopes is None else set(key.scopes) & may_have(user)


def may_have(user: Mapping[str, Any]) -> set[str]:
    """The scopes that a key of this user can be given."""
    return SCOPES[user["role"]] | (GATEWAY if user["kind"] == "service" else set())


def _require_allowed(key: Key, user: Mapping[str, Any]) -> None:
    if set(key.scopes or ()) - may_have(user):
        raise Refused("VALIDATION_ERROR")


def _email(user: Mapping[str, Any]) -> str:
    return (user["email"] or "").lower()


def _name(user: Mapping[str, Any]) -> str:
    return FOLDED.get(user["name"], str(user["name"]))


def _words(user: Mapping[str, Any]) -> set[str]:
    text = f"{user['tag']} {_email(user)} {_name(user)}"
    return set("".join(letter if letter.isalnum() else " " for letter in text).split())


ORDERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "createdAt": lambda user: datetime.fromisoformat(user["createdAt"].replace("Z", "+00:00")),
    "updatedAt": lambda user: datetime.fromisoformat(user["updatedAt"].replace("Z", "+00:00")),
    "tag": lambda user: user["tag"],
    "email": _email,
    "name": _name,
}
_PREFIXED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "tag[prefix]": lambda user: user["tag"],
    "email[prefix]": _email,
    "name[prefix]": _name,
}


def _condition(name: str, value: str) -> Callable[[Mapping[str, Any]], bool]:
    """What a query parameter asks of a user."""
    if name in _PREFIXED:
        return lambda user: _PREFIXED[name](user).startswith(value.lower())
    if name == "q":
        asked = value.lower().split()
        return lambda user: all(any(word.startswith(part) for word in _words(user)) for part in asked)
    if name.startswith("attributes["):
        member = name[len("attributes[") : -1]
        return lambda user: member in user["attributes"] and value in _said(user["attributes"][member])
    if name == "email":
        return lambda user: _email(user) == value.lower()
    if name == "tag":
        return lambda user: user["tag"] == value.lower()
    return lambda user: user[name] == value


def _said(value: object) -> set[str]:
    """The texts that an attribute equals."""
    return {value} if isinstance(value, str) else {str(value).lower()}
