"""Credentials of a user: set, removed, restored, and revealed to who says why."""

from datetime import timedelta

from flask import Response, g, request

from ai_admin.access.guard import actor
from ai_admin.access.scopes import Scope
from ai_admin.console.forms import FAULTS, Faults, read_fields, read_version, told
from ai_admin.console.views.pages import answered, console, holds, page, see_user
from ai_admin.console.views.user import user_page
from ai_admin.credentials import store
from ai_admin.credentials.content import as_sent
from ai_admin.credentials.schemas import SecretPut, SecretReveal, read_name
from ai_admin.database import CHANGE_ERRORS
from ai_admin.errors import (
    ApiError,
    RateLimited,
    RequestInvalid,
    SealedValueUnreadable,
    SecretNotFound,
    TooManySecrets,
    UserNotFound,
    UserSuspended,
    VersionMismatch,
)
from ai_admin.http import admission
from ai_admin.http.path import read_uuid
from ai_admin.operations import describe
from ai_admin.services import services
from ai_admin.users import directory

_ERRORS: tuple[type[ApiError], ...] = (RequestInvalid, UserNotFound, SecretNotFound, *CHANGE_ERRORS)
_REFUSED: tuple[type[ApiError], ...] = (*FAULTS, VersionMismatch)


@console.post("/users/<UserID>/secrets")
@describe(
    "Set a credential",
    Scope.SECRETS_WRITE,
    answers={303: None, 412: None},
    errors=(*_ERRORS, TooManySecrets),
    page=True,
)
def set_secret(UserID: str) -> Response:  # noqa: N803
    """Its value is in the form that was sent and in no answer, not even in one that refuses it."""
    user_id = read_uuid("UserID", UserID)
    form = request.form
    try:
        name = read_name(form.get("name", "").strip())
        new = read_fields(SecretPut, {"provider": form.get("provider", "").strip(), "value": form.get("value", "")})
        ring = services().key_ring.current()
        with services().database.transaction() as connection:
            store.require_version(connection, actor(), user_id, name, _seen(name))
            store.put(connection, ring, actor(), user_id, name, new, _history())
    except _REFUSED as error:
        kept = {"name": form.get("name", ""), "provider": form.get("provider", "")}
        return user_page(user_id, answered(error), secret_faults=Faults.of(error), secret_form=kept)
    return see_user(user_id, saved="1")


@console.post("/users/<UserID>/secrets/<Name>/reveal")
@describe(
    "Reveal a credential",
    Scope.SECRETS_REVEAL,
    answers={200: None},
    errors=(*_ERRORS, UserSuspended, SealedValueUnreadable, RateLimited),
    page=True,
)
def reveal_secret(UserID: str, Name: str) -> Response:  # noqa: N803
    """The page that answers shows the value; the event with the reason is written before."""
    user_id, name = read_uuid("UserID", UserID), read_name(Name)
    admission.require(services().reveals, g.principal.user_id)
    try:
        asked = read_fields(SecretReveal, {"reason": request.form.get("reason", "").strip()})
        ring = services().key_ring.current()
        with services().database.transaction() as connection:
            row, content = store.reveal(connection, ring, actor(), user_id, name, asked.reason)
    except FAULTS as error:
        return user_page(user_id, answered(error), reveal_faults={name: next(iter(Faults.of(error).values()))})
    return user_page(user_id, revealed={**row, **as_sent(content)})


@console.post("/users/<UserID>/secrets/<Name>/remove")
@describe("Remove a credential", Scope.SECRETS_WRITE, answers={303: None}, errors=_ERRORS, page=True)
def remove_secret(UserID: str, Name: str) -> Response:  # noqa: N803
    """It can be restored as long as versions are kept."""
    user_id, name = read_uuid("UserID", UserID), read_name(Name)
    try:
        with services().database.transaction() as connection:
            store.require_version(connection, actor(), user_id, name, _seen(name))
            store.remove(connection, actor(), user_id, name)
    except VersionMismatch as error:
        return user_page(user_id, answered(error), notice=told(error))
    return see_user(user_id, saved="1")


@console.get("/users/<UserID>/secrets/<Name>/versions")
@describe("Versions of a credential", Scope.SECRETS_READ, answers={200: None}, errors=_ERRORS, page=True)
def show_versions(UserID: str, Name: str) -> Response:  # noqa: N803
    """Those that are kept, the newest first; of one that was removed too."""
    user_id, name = read_uuid("UserID", UserID), read_name(Name)
    with services().database.connection() as connection:
        versions = store.versions(connection, actor(), user_id, name, _history())
        user = directory.get(connection, user_id) if holds(Scope.USERS_READ) else None
    return page("versions", user_id=user_id, user=user, name=name, versions=versions)


@console.post("/users/<UserID>/secrets/<Name>/restore")
@describe(
    "Restore a credential", Scope.SECRETS_WRITE, answers={303: None}, errors=(*_ERRORS, TooManySecrets), page=True
)
def restore_secret(UserID: str, Name: str) -> Response:  # noqa: N803
    """An earlier version is in force again, as the newest; nobody sees its value for that."""
    user_id, version = read_uuid("UserID", UserID), read_version(request.form.get("version", ""))
    ring = services().key_ring.current()
    with services().database.transaction() as connection:
        store.restore(connection, ring, actor(), user_id, read_name(Name), version, _history())
    return see_user(user_id, saved="1")


def _seen(name: str) -> int | None:
    """The version of a credential that the page has shown; None where it had none, or names none."""
    versions = dict(text.rpartition(":")[::2] for text in request.form.getlist("seen"))
    return read_version(versions[name], "seen") if name in versions else None


def _history() -> timedelta:
    return timedelta(days=services().settings.config.secret_history_days)
