"""API keys, which users and gateways present: list, make, change and revoke them, for others or oneself."""

from uuid import UUID

from flask import Blueprint, Response

from ai_admin.access.guard import actor, principal
from ai_admin.access.scopes import Scope
from ai_admin.database import CHANGE_ERRORS, Connection
from ai_admin.errors import (
    DatabaseUnavailable,
    KeyNotFound,
    RequestInvalid,
    TooManyKeys,
    UserNotFound,
)
from ai_admin.etags import entity_tag
from ai_admin.http import once
from ai_admin.http.answers import answer, encode
from ai_admin.http.body import BODY_ERRORS, read_body
from ai_admin.http.path import read_uuid
from ai_admin.http.query import read_query
from ai_admin.idempotency import Answer
from ai_admin.keys import store
from ai_admin.keys.schemas import LARGEST_KEY, ApiKey, ApiKeyCreate, ApiKeyList, ApiKeyUpdate, NewApiKey
from ai_admin.operations import NoQuery, describe
from ai_admin.services import services
from ai_admin.users import directory
from ai_admin.users.schemas import AiUser

keys = Blueprint("keys", __name__, url_prefix="/ai/admin/users/<UserID>/keys")
own = Blueprint("me", __name__, url_prefix="/ai/me")


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
    errors=(*BODY_ERRORS, UserNotFound, KeyNotFound, TooManyKeys, *once.ERRORS, *CHANGE_ERRORS),
)
def create_key(UserID: str) -> Response:  # noqa: N803
    """The answer shows the key, and no other does. With `replaces` another key of the user ends after an overlap."""
    user_id = read_uuid("UserID", UserID)
    return _create(user_id, f"/ai/admin/users/{user_id}/keys")


@keys.put("/<KeyID>")
@describe(
    "Change a key",
    Scope.KEYS_WRITE,
    answers={200: ApiKey},
    body=ApiKeyUpdate,
    largest=LARGEST_KEY,
    errors=(*BODY_ERRORS, UserNotFound, KeyNotFound, *CHANGE_ERRORS),
)
def change_key(UserID: str, KeyID: str) -> Response:  # noqa: N803
    """Members that are not sent stay as they are."""
    return _change(read_uuid("UserID", UserID), KeyID)


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
    errors=(*BODY_ERRORS, UserNotFound, KeyNotFound, TooManyKeys, *once.ERRORS, *CHANGE_ERRORS),
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

    # A key is shown again only to the credential that made it, and only while that may do what it might do then.
    scopes = " ".join(sorted(scope.value for scope in by.scopes))
    limits = f"{by.key_models}, {by.key_expires_at}"
    return once.create_once(
        f"create key, {path}, {by.user_id}, {by.key_id}, {by.role.value}, {scopes}, {limits}", ApiKeyCreate, work
    )


def _change(user_id: UUID, key: str) -> Response:
    read_query(NoQuery)
    key_id = read_uuid("KeyID", key)
    update = read_body(ApiKeyUpdate)
    with services().database.transaction() as connection:
        return answer(store.change(connection, actor(), user_id, key_id, update))


def _revoke(user_id: UUID, key: str) -> Response:
    read_query(NoQuery)
    key_id = read_uuid("KeyID", key)
    with services().database.transaction() as connection:
        store.revoke(connection, actor(), user_id, key_id)
    return Response(status=204)
