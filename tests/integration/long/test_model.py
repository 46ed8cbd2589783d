"""Random operations through HTTP beside the same in memory: every answer and the final state are compared.

`MODEL_EXAMPLES=2000 pytest tests/integration/long/test_model.py` tries new ones for longer; what runs without it
is always the same.
"""

import base64
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

from tests.conftest import OWNER_ID, assert_problem, delete_rows
from tests.integration.test_access import AUDIT, ME, bearer
from tests.reference import DEFAULTS, FOLDED, ORDERS, SCOPES, Key, Reference, Refused, may_have
from tests.serving import OFTEN, USERS

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
STATUS = {
    "VALIDATION_ERROR": 400, "USER_NOT_FOUND": 404, "KEY_NOT_FOUND": 404, "SECRET_NOT_FOUND": 404,
    "DUPLICATE_TAG": 409, "DUPLICATE_EMAIL": 409, "USER_SUSPENDED": 409, "VERSION_MISMATCH": 412,
    "IDEMPOTENCY_KEY_REUSED": 422, "IDEMPOTENT_ANSWER_ERASED": 409,
}  # fmt: skip


def some(members: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A few of these members at a time: of all at once hardly any user would be left."""
    pairs = [st.tuples(st.just(name), values) for name, values in members.items()]
    return st.lists(st.one_of(pairs), max_size=3).map(dict)


# Few of each, so that they meet.
TAGS = st.sampled_from(["ada", "Ada", "bob-2", "c.d_e", "dan", "eve"])
EMAILS = st.sampled_from(["ada@example.com", "ADA@example.com", "bob@x.org", "c@x.org", "d@example.com"])
KINDS = st.sampled_from(["human", "service"])
ROLES = st.sampled_from(sorted(SCOPES))
STATUSES = st.sampled_from(["active", "suspended"])
ATTRIBUTES = st.sampled_from([{}, {"team": "red"}, {"team": "red", "n": 1}, {"n": "1", "on": True}])
MEMBERS = {
    "email": EMAILS | st.none(),
    "name": st.sampled_from(sorted(FOLDED)),
    "kind": KINDS,
    "role": ROLES,
    "status": STATUSES,
    "models": st.sampled_from([[], ["gpt-*"], ["*"]]),
    "attributes": ATTRIBUTES,
}
NEW = st.tuples(
    st.fixed_dictionaries({"tag": TAGS, "email": EMAILS})
    | st.fixed_dictionaries({"tag": TAGS, "kind": st.just("service")}),
    some(MEMBERS),
).map(lambda parts: parts[0] | parts[1])
CHANGE = some({"tag": TAGS, **MEMBERS})
FILTERED: dict[str, list[str]] = {
    "status": ["active", "suspended", "deleted"],
    "role": sorted(SCOPES),
    "kind": ["human", "service"],
    "tag": ["ada", "Bob-2"],
    "email": ["ada@example.com", "BOB@x.org"],
    "tag[prefix]": ["a", "B", "c.d", "x"],
    "email[prefix]": ["ada@", "B"],
    "name[prefix]": ["ada", "DANG", "zoe", "b"],
    "q": ["ada", "x", "luka", "EX", "ada king", "e", "com dang"],
    "attributes[team]": ["red"],
    "attributes[n]": ["1"],
    "attributes[on]": ["true", "false"],
    "sort": [sign + name for name in ORDERS for sign in ("", "-")],
}
FILTERS = some({name: st.sampled_from(values) for name, values in FILTERED.items()})
SECRET_NAMES = st.sampled_from(["openai", "other"])
PROVIDERS = st.sampled_from(["openai", "openai", "anthropic"])
VALUES = st.sampled_from([{"value": "sk-a-longer-one"}, {"valueBase64": base64.b64encode(b"\x00\xff").decode()}])
SCOPE_LISTS = st.none() | st.lists(st.sampled_from(sorted(SCOPES["owner"])), unique=True, max_size=4)
VERSIONS = st.sampled_from(["none", "right", "stale"])
ONCE = st.sampled_from([None, None, "first", "second"])


class Directory(RuleBasedStateMachine):
    """The service, and the reference beside it."""

    api: httpx.Client
    sql: psycopg.Connection
    users = Bundle("users")
    keys = Bundle("keys")

    @initialize(target=users)
    def begin(self) -> Any:
        """Begin with a person and a service."""
        delete_rows(self.sql)
        self.model = Reference()
        self.made: list[tuple[str, str]] = []
        person = {"tag": "zoe", "email": "zoe@example.com", "name": "Zoë"}
        return multiple(*(self.created(sent, None) for sent in (person, {"tag": "gateway", "kind": "service"})))

    def ask(
        self,
        method: str,
        path: str,
        expected: Callable[[], Any],
        body: object = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> tuple[httpx.Response, Any]:
        """Send a request, and return its answer with what is expected; None where both refuse, as they must alike."""
        response = self.api.request(method, path, json=body, headers=headers, params=params)
        try:
            return response, expected()
        except Refused as refused:
            assert_problem(response, STATUS[refused.code], refused.code)
            return response, None

    def precondition(self, user_id: str, which: str) -> tuple[dict[str, str], int | None]:
        """`If-Match` with a version, and the version."""
        if which == "none":
            return {}, None
        version = self.model.users.get(user_id, {"version": 1})["version"] + (which == "stale")
        return {"If-Match": f'"{version}"'}, version

    # Users

    @rule(target=users, sent=NEW, once=ONCE)
    def create(self, sent: dict[str, Any], once: str | None) -> Any:
        """The same key and body again is the first answer again."""
        user = self.created(sent, once)
        return multiple() if user is None else user

    def created(self, sent: dict[str, Any], once: str | None) -> str | None:
        """The id of a user who came of it."""
        kept = self.model.kept.get(once or "")
        if kept and kept[0] != sent and _whole(kept[0]) == _whole(sent):
            return None

        def expected() -> dict[str, Any]:
            if once in self.model.erased:
                raise Refused("IDEMPOTENT_ANSWER_ERASED")
            if kept is None:
                return self.model.create(sent)
            if kept[0] != sent:
                raise Refused("IDEMPOTENCY_KEY_REUSED")
            return {}

        headers = {"Idempotency-Key": once} if once else {}
        response, user = self.ask("POST", USERS, expected, sent, headers)
        if user is None:
            return None
        assert response.status_code == 201, response.text
        answer = response.json()
        assert ("Idempotent-Replayed" in response.headers) == (kept is not None)
        if kept is not None:
            assert answer["id"] == kept[1]
            return None
        own = {member: answer[member] for member in ("id", "createdAt", "updatedAt")}
        assert answer == {**user, **own, "deletedAt": None, "version": 1}
        assert answer["createdAt"] == answer["updatedAt"]
        self.model.created(answer)
        if once:
            self.model.kept[once] = (sent, answer["id"])
        return str(answer["id"])

    @rule(user=users)
    def get(self, user: str) -> None:
        """As it was when it was last changed."""
        response, expected = self.ask("GET", f"{USERS}/{user}", lambda: self.model.get(user))
        if expected:
            assert response.json() == expected
            assert response.headers["ETag"] == f'"{expected["version"]}"'

    @rule(user=users, sent=CHANGE, which=VERSIONS)
    def change(self, user: str, sent: dict[str, Any], which: str) -> None:
        """The members that are sent, and only where the version is the one that is meant."""
        headers, version = self.precondition(user, which)
        response, expected = self.ask(
            "PUT", f"{USERS}/{user}", lambda: self.model.change(user, sent, version), sent, headers
        )
        if expected:
            answer = response.json()
            before = self.model.users[user]
            if expected is not before:
                assert ORDERS["updatedAt"](answer) > ORDERS["updatedAt"](before)
                expected["updatedAt"] = answer["updatedAt"]
            assert (response.status_code, answer) == (200, expected)
            self.model.users[user] = expected

    @rule(user=users, which=VERSIONS)
    def delete(self, user: str, which: str) -> None:
        """The user stays, marked."""
        headers, version = self.precondition(user, which)

        def expected() -> bool:
            self.model.delete(user, version)
            return True

        response, deleted = self.ask("DELETE", f"{USERS}/{user}", expected, headers=headers)
        if deleted:
            assert response.status_code == 204
            now = self.api.get(f"{USERS}/{user}").json()
            assert now["deletedAt"] == now["updatedAt"]
            self.model.users[user] |= {"updatedAt": now["updatedAt"], "deletedAt": now["deletedAt"]}
            assert now == self.model.users[user]

    @rule(user=users, which=VERSIONS)
    def purge(self, user: str, which: str) -> None:
        """Nothing stays but events."""
        headers, version = self.precondition(user, which)
        self.ask("DELETE", f"{USERS}/{user}", lambda: self.model.purge(user, version), headers=headers, params=PURGE)

    @rule(query=FILTERS, size=st.integers(1, 3))
    def find(self, query: dict[str, str], size: int) -> None:
        """Page by page, each user once and in order, with the right total."""
        assert self.listed(query, size) == self.model.find(query)

    def listed(self, query: Mapping[str, str], size: int) -> list[str]:
        """The ids of all pages but for the owner, who is in no reference; each user is as the reference has it."""
        found: list[str] = []
        cursor: dict[str, str] = {}
        total = 0
        while True:
            page = self.api.get(USERS, params={**query, "size": str(size), **cursor}).json()
            for user in page["data"]:
                total += 1
                if user["id"] != str(OWNER_ID):
                    assert user == self.model.users[user["id"]]
                    found.append(user["id"])
            assert not page["totalIsEstimate"]
            if page["nextCursor"] is None:
                assert total == page["total"]
                return found
            assert len(page["data"]) == size
            cursor = {"cursor": page["nextCursor"]}

    # Keys

    @rule(target=keys, user=users, scopes=SCOPE_LISTS, likely=st.booleans())
    def make_key(self, user: str, scopes: list[str] | None, likely: bool) -> Any:
        """With some scopes, or with all."""
        if likely and scopes and user in self.model.users:
            scopes = sorted(set(scopes) & may_have(self.model.users[user]))
        sent = {"name": "x", "scopes": scopes}
        response, key = self.ask("POST", f"{USERS}/{user}/keys", lambda: self.model.make_key(user, sent), sent)
        if key is None:
            return multiple()
        assert response.status_code == 201, response.text
        made = response.json()
        key.value = made["key"]
        self.model.keys[made["id"]] = key
        self.made.append((made["id"], made["key"]))
        return made["id"], made["key"]

    @rule(target=keys, user=users, key=keys)
    def rotate_key(self, user: str, key: tuple[str, str]) -> Any:
        """The key keeps its id; its value before opens nothing more."""
        user = self.usually_its(user, key)
        path = f"{USERS}/{user}/keys/{key[0]}/rotate"
        response, rotated = self.ask("POST", path, lambda: self.model.rotate(user, key[0]), {})
        if rotated is None:
            return multiple()
        assert (response.status_code, response.json()["id"]) == (200, key[0]), response.text
        rotated.value = response.json()["key"]
        self.made.append((key[0], rotated.value))
        return key[0], rotated.value

    @rule(user=users, key=keys, sent=st.fixed_dictionaries({}, optional={"name": TAGS, "scopes": SCOPE_LISTS}))
    def change_key(self, user: str, key: tuple[str, str], sent: dict[str, Any]) -> None:
        """Of this user or of another one."""
        user = self.usually_its(user, key)
        response, changed = self.ask(
            "PUT", f"{USERS}/{user}/keys/{key[0]}", lambda: self.model.change_key(user, key[0], sent), sent
        )
        if changed:
            answer = response.json()
            assert (answer["name"], answer["scopes"]) == (changed.name, changed.scopes)

    @rule(user=users, key=keys)
    def revoke(self, user: str, key: tuple[str, str]) -> None:
        """For good."""
        user = self.usually_its(user, key)
        self.ask("DELETE", f"{USERS}/{user}/keys/{key[0]}", lambda: self.model.revoke(user, key[0]))

    def usually_its(self, user: str, key: tuple[str, str]) -> str:
        """The user whose key it is, unless the one who was drawn has the same role."""
        present = self.model.keys.get(key[0])
        if present is None or self.model.users.get(user, {}).get("role") == self.model.users[present.user]["role"]:
            return user
        return present.user

    @rule(user=users)
    def list_keys(self, user: str) -> None:
        """Oldest first, as the reference has them."""
        response, there = self.ask("GET", f"{USERS}/{user}/keys", lambda: self.model.live(user))
        if there:
            keys = {key_id: key for key_id, key in self.model.keys.items() if key.user == user}
            listed = {key["id"]: _of_answer(user, key) for key in response.json()["data"]}
            assert list(listed.items()) == list(keys.items())

    @rule(key=keys)
    def use_key(self, key: tuple[str, str]) -> None:
        """What it opens is what its scopes and its user's role and status say."""
        allowed = self.model.allowed(*key)
        for path, scope in ((ME, None), (USERS, "users:read"), (AUDIT, "audit:read")):
            status = 401 if allowed is None else 200 if scope is None or scope in allowed else 403
            assert self.api.get(path, headers=bearer(key[1]), params=ONE if scope else None).status_code == status
        known = self.api.post("/ai/introspect", data={"token": key[1]}).json()
        assert known["active"] == (allowed is not None)
        if allowed is not None:
            assert set(known["scope"].split()) == allowed

    # Credentials

    @rule(user=users, name=SECRET_NAMES, provider=PROVIDERS, value=VALUES)
    def put_secret(self, user: str, name: str, provider: str, value: dict[str, str]) -> None:
        """The same again is no new version."""
        response, is_new = self.ask(
            "PUT",
            f"{USERS}/{user}/secrets/{name}",
            lambda: self.model.put(user, name, provider, value),
            {"provider": provider, **value},
        )
        if is_new is not None:
            self.assert_in_force(response, 201 if is_new else 200, user, name)

    @rule(user=users, name=SECRET_NAMES, version=st.integers(1, 4))
    def restore_secret(self, user: str, name: str, version: int) -> None:
        """An earlier version comes again as a new one."""

        def expected() -> bool:
            self.model.restore(user, name, version)
            return True

        path = f"{USERS}/{user}/secrets/{name}/restore"
        response, restored = self.ask("POST", path, expected, {"version": version})
        if restored:
            self.assert_in_force(response, 200, user, name)

    def assert_in_force(self, response: httpx.Response, status: int, user: str, name: str) -> None:
        """The answer is the newest version of the reference."""
        number, version = len(self.model.secrets[user, name]), self.model.secrets[user, name][-1]
        answer = response.json()
        assert (response.status_code, answer["version"], answer["provider"]) == (status, number, version.provider)
        value = version.value.get("value", "")
        assert answer["lastFour"] == (value[-4:] if len(value) >= 12 else "")

    @rule(user=users, name=SECRET_NAMES)
    def remove_secret(self, user: str, name: str) -> None:
        """Out of force; the versions stay."""
        self.ask("DELETE", f"{USERS}/{user}/secrets/{name}", lambda: self.model.remove(user, name))

    @rule(user=users, name=SECRET_NAMES)
    def reveal_secret(self, user: str, name: str) -> None:
        """The value as it was sent."""
        path = f"{USERS}/{user}/secrets/{name}/reveal"
        response, version = self.ask("POST", path, lambda: self.model.reveal(user, name), {"reason": "x"})
        if version:
            expected = {"name": name, "provider": version.provider, **version.value}
            assert response.json() == {**expected, "version": len(self.model.secrets[user, name])}

    @rule(user=users)
    def list_secrets(self, user: str) -> None:
        """Those in force, and all versions of each."""
        response, there = self.ask("GET", f"{USERS}/{user}/secrets", lambda: self.model.live(user))
        if there:
            mine = {name: versions for (owner, name), versions in self.model.secrets.items() if owner == user}
            in_force = sorted(name for name, versions in mine.items() if versions[-1].is_in_force)
            assert [secret["name"] for secret in response.json()["data"]] == in_force
            for name, versions in mine.items():
                listed = self.api.get(f"{USERS}/{user}/secrets/{name}/versions").json()["data"]
                expected = [(number, version.provider) for number, version in enumerate(versions, 1)]
                assert [(each["version"], each["provider"]) for each in reversed(listed)] == expected
                assert [each["endedAt"] is None for each in reversed(listed)] == [each.is_in_force for each in versions]

    # The end

    def teardown(self) -> None:
        """Everybody is as the reference has them, and the log has one event for each change."""
        # What a step has found is not to be hidden by what follows from it.
        if sys.exc_info()[0] is not None:
            return
        for name, values in FILTERED.items():
            for value in values:
                self.find({name: value}, 100)
        for key in self.made:
            self.use_key(key)
        everybody = [
            user for status in ("active", "suspended", "deleted") for user in self.listed({"status": status}, 3)
        ]
        assert sorted(everybody) == sorted(self.model.users)
        keys = self.sql.execute("SELECT id::text FROM api_keys WHERE user_id <> %s", [OWNER_ID]).fetchall()
        assert sorted(key for (key,) in keys) == sorted(self.model.keys)
        versions = sum(map(len, self.model.secrets.values()))
        assert self.sql.execute("SELECT count(*) FROM user_secrets").fetchone() == (versions,)
        events = self.sql.execute(
            "SELECT action, target_id::text FROM audit_events WHERE action <> 'access:refuse'"
        ).fetchall()
        assert Counter(events) == Counter(self.model.events)


ONE = {"size": "1"}
PURGE = {"purge": "true"}


def _whole(sent: Mapping[str, Any]) -> dict[str, Any]:
    """A body as the service reads it: what is left out is the same as the default said."""
    return {**DEFAULTS, "name": None, **sent, "tag": sent["tag"].lower()}


def _of_answer(user: str, key: Mapping[str, Any]) -> Key:
    return Key(user, key["name"], key["scopes"])


@pytest.mark.config(CREDENTIAL_CACHE_S="0", REVEALS_PER_SECOND="10000", LOG_LEVEL="ERROR", **OFTEN)
def test_the_service_does_what_the_reference_does(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Sequences of fifty operations."""

    class Ours(Directory):
        pass

    Ours.api, Ours.sql = api, sql
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=50,
        derandomize="MODEL_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        # Not to explain: it takes minutes.
        phases=[Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(Ours, settings=chosen)
