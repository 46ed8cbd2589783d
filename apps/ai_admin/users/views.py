"""Users: who may use the platform's AI, and which models. Find, create, get, change, delete and erase them."""

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, request

from ai_admin.access.guard import actor, may_read
from ai_admin.access.scopes import Scope
from ai_admin.database import CHANGE_ERRORS, Connection, Row
from ai_admin.errors import (
    DatabaseUnavailable,
    DuplicateEmail,
    DuplicateTag,
    LastOwner,
    RequestInvalid,
    UserNotFound,
    VersionMismatch,
)
from ai_admin.etags import entity_tag, if_match, none_match
from ai_admin.http import once
from ai_admin.http.answers import answer, encode
from ai_admin.http.body import BODY_ERRORS, read_body
from ai_admin.http.paging import Cursors
from ai_admin.http.path import read_uuid
from ai_admin.http.query import read_query
from ai_admin.idempotency import Answer
from ai_admin.listing import COUNTED, Window, count, fetch_page
from ai_admin.operations import Header, NoQuery, describe
from ai_admin.services import services
from ai_admin.users import directory
from ai_admin.users.schemas import (
    LARGEST_PAGE,
    LARGEST_USER,
    AiUser,
    AiUserCreate,
    AiUserUpdate,
    DeleteQuery,
    UserPage,
    UserQuery,
)

users = Blueprint("users", __name__, url_prefix="/ai/admin/users")

_IF_MATCH = Header("If-Match", None, "Go ahead only if the user is still this version.", '"3"')
_IF_NONE_MATCH = Header("If-None-Match", None, "Answer 304 if the user is still this version.", '"3"')


@users.get("")
@describe(
    "Find users",
    Scope.USERS_READ,
    answers={200: UserPage},
    query=UserQuery,
    errors=(RequestInvalid, DatabaseUnavailable),
)
def list_users() -> Response:
    """Filters are joined by AND; a repeated parameter is "any of". Follow `nextCursor` to read everything."""
    query = read_query(UserQuery)
    size = min(query.size, LARGEST_PAGE)
    order = directory.LISTING.orders[query.sort.value]
    conditions = directory.conditions(query)
    cursors = Cursors.of("users", query, {"size", "page", "cursor", "count"})
    window = Window(size, _offset(query, size), cursors.position(query.cursor))
    with services().database.connection() as connection:
        page = fetch_page(connection, directory.LISTING, conditions, order, window)
        if query.count != "none":
            total = services().estimates.of(cursors.asked, lambda: count(connection, directory.LISTING, conditions))
    body: dict[str, Any] = {"data": page.rows}
    if query.cursor is None:
        body["page"] = query.page or 1
    body["size"] = size
    if query.count != "none":
        body |= {"total": total.rows, "totalIsEstimate": total.is_estimate}
    body["nextCursor"] = cursors.cursor(page.last)
    return answer(body)


@users.post("")
@describe(
    "Create a user",
    Scope.USERS_WRITE,
    answers={201: AiUser},
    body=AiUserCreate,
    largest=LARGEST_USER,
    headers=(once.HEADER,),
    errors=(
        *BODY_ERRORS,
        DuplicateTag,
        DuplicateEmail,
        *once.ERRORS,
        *CHANGE_ERRORS,
    ),
)
def create_user() -> Response:
    """Tag and email are unique among users not deleted; the database decides, also between two at once."""
    read_query(NoQuery)
    by = actor()

    def work(connection: Connection, new: AiUserCreate) -> tuple[UUID, Answer]:
        user = directory.create(connection, by, new)
        headers = {"Location": f"{users.url_prefix}/{user['id']}", "ETag": entity_tag(user["version"])}
        return user["id"], Answer(201, headers, encode(user))

    return once.create_once(f"create user, {by.user_id}", AiUserCreate, work)


@users.get("/<UserID>")
@describe(
    "Get a user",
    Scope.USERS_READ,
    answers={200: AiUser, 304: None},
    headers=(_IF_NONE_MATCH,),
    errors=(RequestInvalid, UserNotFound, DatabaseUnavailable),
)
def get_user(UserID: str) -> Response:  # noqa: N803  the name that the route has under Fission
    """A deleted user is found too, until purged."""
    read_query(NoQuery)
    user_id = read_uuid("UserID", UserID)
    with services().database.connection() as connection:
        user = directory.get(connection, user_id)
    if none_match(request.headers.get("If-None-Match"), user["version"]):
        return _user(user)
    return Response(status=304, headers={"ETag": entity_tag(user["version"])})


@users.put("/<UserID>")
@describe(
    "Change a user",
    Scope.USERS_WRITE,
    answers={200: AiUser, 204: None},
    body=AiUserUpdate,
    largest=LARGEST_USER,
    headers=(_IF_MATCH,),
    errors=(
        *BODY_ERRORS,
        UserNotFound,
        DuplicateTag,
        DuplicateEmail,
        LastOwner,
        VersionMismatch,
        *CHANGE_ERRORS,
    ),
)
def change_user(UserID: str) -> Response:  # noqa: N803
    """Members that are not sent stay as they are. A change that changes nothing leaves the version alone.

    A deleted user is brought back by a change that sends a `status`. A new role gives nothing to keys that are there:
    they keep what they did so far, and those of a new owner do nothing that needs a scope. A demotion takes
    `tokens:introspect` and `secrets:reveal` from them, except what the new role gives.

    A caller without `users:read` gets 204 with the new `ETag`, unless the user is the caller.
    """
    read_query(NoQuery)
    user_id = read_uuid("UserID", UserID)
    precondition = if_match(request.headers.get("If-Match"))
    update = read_body(AiUserUpdate)
    with services().database.transaction() as connection:
        user = directory.change(connection, actor(), user_id, update, precondition)
    if may_read(Scope.USERS_READ, user_id):
        return _user(user)
    return Response(status=204, headers={"ETag": entity_tag(user["version"])})


@users.delete("/<UserID>")
@describe(
    "Delete a user",
    Scope.USERS_WRITE,
    answers={204: None},
    query=DeleteQuery,
    headers=(_IF_MATCH,),
    errors=(RequestInvalid, UserNotFound, LastOwner, VersionMismatch, *CHANGE_ERRORS),
)
def delete_user(UserID: str) -> Response:  # noqa: N803
    """The user is marked deleted and loses access at once; the record stays and can be brought back.

    With `purge=true` the person is erased for good, whether marked deleted before or not.
    """
    query = read_query(DeleteQuery)
    user_id = read_uuid("UserID", UserID)
    precondition = if_match(request.headers.get("If-Match"))
    ring = services().key_ring.current()
    with services().database.transaction() as connection:
        if query.purge == "true":
            directory.purge(connection, ring, actor(), user_id, precondition)
        else:
            directory.delete(connection, actor(), user_id, precondition)
    return Response(status=204)


def _user(user: Row) -> Response:
    return answer(user, headers={"ETag": entity_tag(user["version"])})


def _offset(query: UserQuery, size: int) -> int:
    if query.page is None:
        return 0
    if query.cursor is not None:
        raise RequestInvalid.at("query", "page", message="Send either page or cursor")
    if query.page * size > COUNTED:
        raise RequestInvalid.at(
            "query", "page", message=f"Pages go as far as row {COUNTED}; follow nextCursor to go deeper"
        )
    return (query.page - 1) * size
