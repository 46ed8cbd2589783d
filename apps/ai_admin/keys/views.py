"""API keys, which users and gateways present: list, make, change and revoke them, for others or oneself."""

from uuid import UUID

import orjson
from flask import Blueprint, Response

from ai_admin.access.actors import Actor
from ai_admin.access.guard import actor, may_read, principal
from ai_admin.access.scopes import Scope
from ai_admin.database import CHANGE_ERRORS, Connection
from ai_admin.errors import (
    DatabaseUnavailable,
    KeyEnded,
    KeyNotFound,
    RequestInvalid,
    TooManyKeys,
    UserNotFound,
)
from ai_admin.etags import entity_tag
from ai_admin.http import once
from ai_admin.http.answers import answer, encode
from ai_admin.http.body import BODY_ERRORS, read_body
from ai_admin.http.paging import Cursors
from ai_admin.http.path import read_uuid
from ai_admin.http.query import read_query
from ai_admin.idempotency import Answer
from ai_admin.keys import inventory, store
from ai_admin.keys.schemas import (
    LARGEST_KEY,
    LARGEST_ROTATION,
    ApiKey,
    ApiKeyCreate,
    ApiKeyList,
    ApiKeyRotate,
    ApiKeyUpdate,
    KeyPage,
    KeyQuery,
    LeakedKey,
    LeakReport,
    NewApiKey,
)
from ai_admin.listing import Window
from ai_admin.operations import NoQuery, describe
from ai_admin.services import services
from ai_admin.users import directory
from ai_admin.users.schemas import LARGEST_PAGE, AiUser

keys = Blueprint("keys", __name__, url_prefix="/ai/admin/users/<UserID>/keys")
every = Blueprint("all_keys", __name__, url_prefix="/ai/admin/keys")
own = Blueprint("me", __name__, url_prefix="/ai/me")


@every.get("")
@describe(
    "Find keys",
    Scope.KEYS_READ,
    answers={200: KeyPage},
    query=KeyQuery,
    errors=(RequestInvalid, DatabaseUnavailable),
)
def list_all_keys() -> Response:
    """The keys of all users. Filters are joined by AND; follow `nextCursor` to read everything.

    A key without expiry counts as the last to expire, and one that was never used as the first to be used.
    """
    query = read_query(KeyQuery)
    size = min(query.size, LARGEST_PAGE)
    cursors = Cursors.of("keys", query, {"size", "cursor"})
    window = Window(size, after=cursors.position(query.cursor))
    with services().database.connection() as connection:
        page = inventory.read(connection, actor(), query, inventory.LISTING.orders[query.sort.value], window)
    return answer({"data": page.rows, "size": size, "nextCursor": cursors.cursor(page.last)})


@every.post("/report-leak")
@describe(
    "Report a leaked key",
    Scope.KEYS_WRITE,
    answers={200: LeakedKey},
    body=LeakReport,
    largest=LARGEST_ROTATION,
    errors=(*BODY_ERRORS, KeyNotFound, *CHANGE_ERRORS),
)
def report_leak() -> Response:
    """Finds a key by its text and revokes it, whoever its user is. The text is kept nowhere.

    A text that a rotation replaced, and that no longer works, leaves the key alone.
    """
    read_query(NoQuery)
    report = read_body(LeakReport)
    with services().database.transaction() as connection:
        return answer(inventory.end_leaked(connection, actor(), report.key))


@keys.get("")
@describe(
    "List keys",
    Scope.KEYS_READ,
    answers={200: ApiKeyList},
    errors=(RequestInvalid, UserNotFound, DatabaseUnavailable),
)
def list_keys(UserID: str) -> Response:  # noqa: N803  the name that the route has under Fission
    """The user's keys, without the keys themselves: those are shown once, when they are made.

    An owner's keys are listed for owners only.
    """
    return _list(read_uuid("UserID", UserID))


@keys.post("")
@describe(
    "Make a key",
    Scope.KEYS_WRITE,
    answers={201: NewApiKey},
    body=ApiKeyCreate,
    largest=LARGEST_KEY,
    headers=(once.HEADER,),
    errors=(*BODY_ERRORS, UserNotFound, TooManyKeys, KeyEnded, *once.ERRORS, *CHANGE_ERRORS),
)
def create_key(UserID: str) -> Response:  # noqa: N803
    """The answer shows the key, and no other does."""
    user_id = read_uuid("UserID", UserID)
    return _create(user_id, f"/ai/admin/users/{user_id}/keys")


@keys.put("/<KeyID>")
@describe(
    "Change a key",
    Scope.KEYS_WRITE,
    answers={200: ApiKey, 204: None},
    body=ApiKeyUpdate,
    largest=LARGEST_KEY,
    errors=(*BODY_ERRORS, UserNotFound, KeyNotFound, *CHANGE_ERRORS),
)
def change_key(UserID: str, KeyID: str) -> Response:  # noqa: N803
    """Members that are not sent stay as they are.

    A caller without `keys:read` gets 204, unless the key is their own.
    """
    return _change(read_uuid("UserID", UserID), KeyID)


@keys.post("/<KeyID>/rotate")
@describe(
    "Rotate a key",
    Scope.KEYS_WRITE,
    answers={200: NewApiKey},
    body=ApiKeyRotate,
    largest=LARGEST_ROTATION,
    headers=(once.HEADER,),
    errors=(*BODY_ERRORS, UserNotFound, KeyNotFound, KeyEnded, *once.ERRORS, *CHANGE_ERRORS),
)
def rotate_key(UserID: str, KeyID: str) -> Response:  # noqa: N803
    """The key gets a new value, which this answer alone shows, and keeps its id and all that is not sent.

    The value before works for `overlapSeconds` more, until `previousExpiresAt`; one from an earlier rotation ends now.
    """
    user_id = read_uuid("UserID", UserID)
    return _rotate(user_id, KeyID, f"/ai/admin/users/{user_id}/keys")


@keys.delete("/<KeyID>")
@describe(
    "Revoke a key",
    Scope.KEYS_WRITE,
    answers={204: None},
    errors=(RequestInvalid, UserNotFound, KeyNotFound, *CHANGE_ERRORS),
)
def revoke_key(UserID: str, KeyID: str) -> Response:  # noqa: N803
    """The key ends for good, in every process within five seconds."""
    return _revoke(read_uuid("UserID", UserID), KeyID)


@own.get("")
@describe("Get oneself", "signed-in", answers={200: AiUser}, errors=(RequestInvalid, UserNotFound, DatabaseUnavailable))
def get_me() -> Response:
    """The user behind the credential."""
    read_query(NoQuery)
    with services().database.connection() as connection:
        user = directory.get(connection, principal().user_id)
    return answer(user, headers={"ETag": entity_tag(user["version"])})


@own.get("/keys")
@describe(
    "List one's keys",
    "signed-in",
    answers={200: ApiKeyList},
    errors=(RequestInvalid, UserNotFound, DatabaseUnavailable),
)
def list_my_keys() -> Response:
    """One's own keys, without the keys themselves."""
    return _list(principal().user_id)


@own.post("/keys")
@describe(
    "Make a key for oneself",
    "signed-in",
    answers={201: NewApiKey},
    body=ApiKeyCreate,
    largest=LARGEST_KEY,
    headers=(once.HEADER,),
    errors=(*BODY_ERRORS, UserNotFound, TooManyKeys, KeyEnded, *once.ERRORS, *CHANGE_ERRORS),
)
def create_my_key() -> Response:
    """It can do no more than the credential that makes it: no other scopes or models, and no longer."""
    return _create(principal().user_id, "/ai/me/keys")


@own.put("/keys/<KeyID>")
@describe(
    "Change one's key",
    "signed-in",
    answers={200: ApiKey},
    body=ApiKeyUpdate,
    largest=LARGEST_KEY,
    errors=(*BODY_ERRORS, UserNotFound, KeyNotFound, *CHANGE_ERRORS),
)
def change_my_key(KeyID: str) -> Response:  # noqa: N803
    """Members that are not sent stay as they are."""
    return _change(principal().user_id, KeyID)


@own.post("/keys/<KeyID>/rotate")
@describe(
    "Rotate one's key",
    "signed-in",
    answers={200: NewApiKey},
    body=ApiKeyRotate,
    largest=LARGEST_ROTATION,
    headers=(once.HEADER,),
    errors=(*BODY_ERRORS, UserNotFound, KeyNotFound, KeyEnded, *once.ERRORS, *CHANGE_ERRORS),
)
def rotate_my_key(KeyID: str) -> Response:  # noqa: N803
    """A key may rotate itself. With an overlap, a client whose answer was lost can send the request again."""
    return _rotate(principal().user_id, KeyID, "/ai/me/keys")


@own.delete("/keys/<KeyID>")
@describe(
    "Revoke one's key",
    "signed-in",
    answers={204: None},
    errors=(RequestInvalid, UserNotFound, KeyNotFound, *CHANGE_ERRORS),
)
def revoke_my_key(KeyID: str) -> Response:  # noqa: N803
    """The key ends for good, in every process within five seconds."""
    return _revoke(principal().user_id, KeyID)


def _list(user_id: UUID) -> Response:
    read_query(NoQuery)
    with services().database.connection() as connection:
        return answer({"data": store.list_of(connection, actor(), user_id)})


def _create(user_id: UUID, path: str) -> Response:
    read_query(NoQuery)
    by = actor()

    def work(connection: Connection, new: ApiKeyCreate) -> tuple[UUID, Answer]:
        row, key = store.create(connection, by, user_id, new)
        return user_id, Answer(201, {"Location": f"{path}/{row['id']}"}, encode({**row, "key": key}))

    return once.create_once(f"create key, {path}, {_powers(by)}", ApiKeyCreate, work, _require_working)


def _rotate(user_id: UUID, key: str, path: str) -> Response:
    read_query(NoQuery)
    by = actor()
    key_id = read_uuid("KeyID", key)

    def work(connection: Connection, wanted: ApiKeyRotate) -> tuple[UUID, Answer]:
        row, new = store.rotate(connection, by, user_id, key_id, wanted)
        return user_id, Answer(200, {}, encode({**row, "key": new}))

    return once.create_once(f"rotate key, {path}/{key_id}, {_powers(by)}", ApiKeyRotate, work, _require_working)


def _powers(by: Actor) -> str:
    """Who asks, and what they may do: a key is shown again to the same credential, and only while it may do as much."""
    scopes = " ".join(sorted(scope.value for scope in by.scopes))
    return f"{by.user_id}, {by.key_id}, {by.role.value}, {scopes}, {by.key_models}, {by.key_expires_at}"


def _require_working(connection: Connection, kept: Answer) -> None:
    """Raise `KeyEnded` where the key in a kept answer no longer works: its caller would take it for a new one."""
    store.require_working(connection, orjson.loads(kept.body)["key"])


def _change(user_id: UUID, key: str) -> Response:
    read_query(NoQuery)
    key_id = read_uuid("KeyID", key)
    update = read_body(ApiKeyUpdate)
    with services().database.transaction() as connection:
        changed = store.change(connection, actor(), user_id, key_id, update)
    return answer(changed) if may_read(Scope.KEYS_READ, user_id) else Response(status=204)


def _revoke(user_id: UUID, key: str) -> Response:
    read_query(NoQuery)
    key_id = read_uuid("KeyID", key)
    with services().database.transaction() as connection:
        store.revoke(connection, actor(), user_id, key_id)
    return Response(status=204)
