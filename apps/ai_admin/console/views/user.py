"""One user, everything on one page; and changes to their profile and status."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from flask import Response, g, request

from ai_admin.access.guard import actor
from ai_admin.access.scopes import GATEWAY_SCOPES, ROLE_SCOPES, Scope
from ai_admin.audit import log
from ai_admin.audit.schemas import EventFilter
from ai_admin.console.forms import FAULTS, Faults, attributes_of, lines_of, read_fields, read_version, told
from ai_admin.console.views.pages import answered, console, holds, page, see_user
from ai_admin.credentials import store as secret_store
from ai_admin.database import CHANGE_ERRORS, Connection, Row
from ai_admin.errors import (
    ApiError,
    DatabaseUnavailable,
    DuplicateEmail,
    DuplicateTag,
    LastOwner,
    RequestInvalid,
    UserNotFound,
    VersionMismatch,
)
from ai_admin.etags import Precondition, entity_tag
from ai_admin.http.path import read_uuid
from ai_admin.keys import store as key_store
from ai_admin.listing import Window, fetch_page
from ai_admin.operations import describe
from ai_admin.services import services
from ai_admin.users import directory
from ai_admin.users.schemas import AiUserUpdate, Kind, Role, Status, UserFilter

MEMBERS = ("tag", "email", "name", "kind", "role", "models", "attributes")
_EVENTS = 30
_REFUSED: tuple[type[ApiError], ...] = (*FAULTS, VersionMismatch)
_STATUSES = ("active", "suspended", "deleted")


@dataclass(frozen=True)
class Difference:
    """A member that somebody else has changed while it was edited: as it is now, and as it was to be."""

    member: str
    theirs: str
    ours: str


@console.get("/users/<UserID>")
@describe(
    "One user",
    Scope.USERS_READ,
    answers={200: None},
    errors=(RequestInvalid, UserNotFound, DatabaseUnavailable),
    page=True,
)
def show_user(UserID: str) -> Response:  # noqa: N803
    """Profile, models, attributes, keys, credentials and events."""
    return user_page(read_uuid("UserID", UserID))


@console.post("/users/<UserID>")
@describe(
    "Change a user's profile",
    Scope.USERS_WRITE,
    answers={303: None, 400: None, 412: None},
    errors=(RequestInvalid, UserNotFound, DuplicateTag, DuplicateEmail, LastOwner, VersionMismatch, *CHANGE_ERRORS),
    page=True,
)
def change_profile(UserID: str) -> Response:  # noqa: N803
    """Where somebody else was faster, both are shown, and who asks chooses."""
    user_id = read_uuid("UserID", UserID)
    sent = {name: request.form.get(name, "") for name in MEMBERS}
    try:
        update = read_fields(AiUserUpdate, _members(sent))
        with services().database.transaction() as connection:
            directory.change(connection, actor(), user_id, update, _unchanged())
    except VersionMismatch as error:
        return user_page(user_id, answered(error), form=sent, conflict=True)
    except FAULTS as error:
        return user_page(user_id, answered(error), form=sent, faults=Faults.of(error))
    return see_user(user_id, saved="1")


@console.post("/users/<UserID>/status")
@describe(
    "Change a user's status",
    Scope.USERS_WRITE,
    answers={303: None, 412: None},
    errors=(RequestInvalid, UserNotFound, LastOwner, VersionMismatch, *CHANGE_ERRORS),
    page=True,
)
def change_status(UserID: str) -> Response:  # noqa: N803
    """Suspend, activate, delete or bring back."""
    user_id = read_uuid("UserID", UserID)
    status = request.form.get("status", "")
    if status not in _STATUSES:
        raise RequestInvalid.at("body", "status", message=f"Must be one of {', '.join(_STATUSES)}")
    try:
        with services().database.transaction() as connection:
            if status == Status.DELETED.value:
                directory.delete(connection, actor(), user_id, _unchanged())
            else:
                update = read_fields(AiUserUpdate, {"status": status})
                directory.change(connection, actor(), user_id, update, _unchanged())
    except _REFUSED as error:
        return user_page(user_id, answered(error), notice=told(error))
    return see_user(user_id, saved="1")


def user_page(
    user_id: UUID,
    status: int = 200,
    *,
    form: dict[str, str] | None = None,
    faults: dict[str, str] | None = None,
    conflict: bool = False,
    **values: Any,
) -> Response:
    """The page of a user, with a form as it was sent where it was not taken.

    A caller who may not read users gets a page with the result alone.
    """
    if not holds(Scope.USERS_READ):
        return _result_page(status, conflict, faults, **values)
    with services().database.connection() as connection:
        user = directory.get(connection, user_id)
        is_there = user["status"] != Status.DELETED
        keys = _keys(connection, user) if is_there else None
        secrets = _secrets(connection, user) if is_there else None
        events = _events(connection, user_id)
        people = names(connection, {event["actor"] for event in events or ()})
    present = _fields(user)
    shown = form or present
    return page(
        "user",
        status,
        user=user,
        form=shown,
        faults=faults or {},
        differences=[
            Difference(name, present[name], shown[name])
            for name in MEMBERS
            if conflict and present[name] != shown[name]
        ],
        conflict=conflict,
        keys=keys,
        secrets=secrets,
        events=events,
        people=people,
        may_change=holds(Scope.USERS_WRITE) and _reaches(user),
        reaches=_reaches(user),
        kinds=list(Kind),
        roles=list(Role),
        scopes=sorted(scope.value for scope in ROLE_SCOPES[Role(user["role"])]),
        offered=sorted(scope.value for scope in _offered(user)),
        history_days=services().settings.config.secret_history_days,
        now=datetime.now(timezone.utc),
        **values,
    )


def _result_page(status: int, conflict: bool, faults: dict[str, str] | None, **values: Any) -> Response:
    """Return what came of a form, and nothing of the user that it was about."""
    told_of_fields = [faults, *(values.get(name) for name in ("key_faults", "secret_faults", "reveal_faults"))]
    told_of_fields += values.get("rotate_faults", {}).values()
    texts = [text for each in told_of_fields for text in (each or {}).values()]
    notice = values.get("notice") or (told(VersionMismatch()) if conflict else None)
    return page(
        "result",
        status,
        faults=[notice, *texts] if notice else texts,
        new_key=values.get("new_key"),
        revealed=values.get("revealed"),
    )


def _offered(user: Row) -> frozenset[Scope]:
    """What a key of the user may be limited to."""
    given = ROLE_SCOPES[Role(user["role"])]
    return given | GATEWAY_SCOPES if user["kind"] == Kind.SERVICE else given


def names(connection: Connection, ids: set[UUID | None]) -> dict[UUID, Row] | None:
    """The users of these ids who are still there; None where the caller may not read users."""
    if not holds(Scope.USERS_READ):
        return None
    return {row["id"]: row for row in of_ids(connection, [user_id for user_id in ids if user_id is not None])}


def of_ids(connection: Connection, ids: list[UUID]) -> list[Row]:
    """The users of these ids in one query, in the order of their names, deleted or not."""
    if not ids:
        return []
    asked = UserFilter.model_construct(id=ids, status=list(Status))
    order = directory.LISTING.orders["name"]
    return fetch_page(connection, directory.LISTING, directory.conditions(asked), order, Window(len(ids))).rows


def _unchanged() -> Precondition:
    """That the user still is the version that the form was made from."""
    return Precondition((entity_tag(read_version(request.form.get("version", ""))),))


def _members(sent: dict[str, str]) -> dict[str, Any]:
    return {
        **{name: sent[name].strip() for name in ("tag", "name", "kind", "role")},
        "email": sent["email"].strip() or None,
        "models": lines_of(sent["models"]),
        "attributes": attributes_of(sent["attributes"]),
    }


def _fields(user: Row) -> dict[str, str]:
    """A user as the fields of the form."""
    return {
        **{name: user[name] or "" for name in ("tag", "email", "name", "kind", "role")},
        "models": "\n".join(user["models"]),
        "attributes": json.dumps(user["attributes"], indent=2, ensure_ascii=False) if user["attributes"] else "",
    }


def _reaches(user: Row) -> bool:
    return bool(user["role"] != Role.OWNER or g.principal.role == Role.OWNER)


def _keys(connection: Connection, user: Row) -> list[Row] | None:
    if not holds(Scope.KEYS_READ) or not _reaches(user):
        return None
    return key_store.list_of(connection, actor(), user["id"])


def _secrets(connection: Connection, user: Row) -> list[Row] | None:
    if not holds(Scope.SECRETS_READ) or not _reaches(user):
        return None
    history = timedelta(days=services().settings.config.secret_history_days)
    return secret_store.list_of(connection, actor(), user["id"], history)


def _events(connection: Connection, user_id: UUID) -> list[Row] | None:
    if not holds(Scope.AUDIT_READ):
        return None
    asked = EventFilter.model_validate({"target": [str(user_id)]})
    return log.read(connection, asked, log.LISTING.orders["-at"], Window(_EVENTS)).rows
