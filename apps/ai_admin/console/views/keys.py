"""Keys of a user: made and shown once, rotated, revoked."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Response, request

from ai_admin.access.guard import actor
from ai_admin.access.scopes import Scope
from ai_admin.console.forms import FAULTS, Faults, lines_of, read_fields, told
from ai_admin.console.views.pages import answered, console, see_user
from ai_admin.console.views.user import user_page
from ai_admin.database import CHANGE_ERRORS
from ai_admin.errors import ApiError, KeyNotFound, RequestInvalid, TooManyKeys, UserNotFound
from ai_admin.http.path import read_uuid
from ai_admin.keys import store
from ai_admin.keys.schemas import ApiKeyCreate, ApiKeyRotate
from ai_admin.operations import describe
from ai_admin.services import services

_ERRORS: tuple[type[ApiError], ...] = (RequestInvalid, UserNotFound, KeyNotFound, TooManyKeys, *CHANGE_ERRORS)
_HOUR_S = 3600


@console.post("/users/<UserID>/keys")
@describe("Make a key", Scope.KEYS_WRITE, answers={200: None}, errors=_ERRORS, page=True)
def make_key(UserID: str) -> Response:  # noqa: N803
    """The page that answers shows the key; no other one does, and nothing keeps it."""
    form = request.form
    members: dict[str, Any] = {"name": form.get("name", "").strip()}
    if form.get("models", "").strip():
        members["models"] = lines_of(form["models"])
    members |= _end(form)
    if "limited" in form:
        members["scopes"] = form.getlist("scope")
    return _make(read_uuid("UserID", UserID), members)


@console.post("/users/<UserID>/keys/<KeyID>/rotate")
@describe("Rotate a key", Scope.KEYS_WRITE, answers={200: None}, errors=_ERRORS, page=True)
def rotate_key(UserID: str, KeyID: str) -> Response:  # noqa: N803
    """The key gets a new value and, where a day is given, a new end; the old value works for a day, an hour or not."""
    user_id, key_id = read_uuid("UserID", UserID), read_uuid("KeyID", KeyID)
    hours = request.form.get("hours", "")
    if hours not in {"0", "1", "24"}:
        raise RequestInvalid.at("body", "hours", message="Must be 0, 1 or 24")
    members = {"overlapSeconds": int(hours) * _HOUR_S, **_end(request.form)}
    try:
        wanted = read_fields(ApiKeyRotate, members)
        with services().database.transaction() as connection:
            row, key = store.rotate(connection, actor(), user_id, key_id, wanted)
    except FAULTS as error:
        return user_page(user_id, answered(error), rotate_faults={key_id: Faults.of(error)})
    return user_page(user_id, new_key={**row, "key": key})


@console.post("/users/<UserID>/keys/<KeyID>/revoke")
@describe("Revoke a key", Scope.KEYS_WRITE, answers={303: None}, errors=_ERRORS, page=True)
def revoke_key(UserID: str, KeyID: str) -> Response:  # noqa: N803
    """It ends for good, and so do the sessions that it was signed in by."""
    user_id = read_uuid("UserID", UserID)
    try:
        with services().database.transaction() as connection:
            store.revoke(connection, actor(), user_id, read_uuid("KeyID", KeyID))
    except FAULTS as error:
        return user_page(user_id, answered(error), notice=told(error))
    return see_user(user_id, saved="1")


def _end(form: Mapping[str, str]) -> dict[str, str]:
    """The day on which a key is to end, as the API takes it; nothing where the field was left empty."""
    day = form.get("expiresAt", "").strip()
    return {"expiresAt": f"{day}T00:00:00Z"} if day else {}


def _make(user_id: UUID, members: dict[str, Any]) -> Response:
    try:
        new = read_fields(ApiKeyCreate, members)
        with services().database.transaction() as connection:
            row, key = store.create(connection, actor(), user_id, new)
    except FAULTS as error:
        return user_page(user_id, answered(error), key_faults=Faults.of(error), key_form=request.form)
    return user_page(user_id, new_key={**row, "key": key})
