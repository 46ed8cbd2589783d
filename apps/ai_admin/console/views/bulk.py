"""Several users at once: asked about first, done one after the other, and undone for a while."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any
from uuid import UUID

from flask import Response, g, request

from ai_admin.access.guard import REFUSALS, actor, record_refusal, require_scope
from ai_admin.access.scopes import Scope
from ai_admin.console.catalogue import gettext
from ai_admin.console.forms import read_version, told
from ai_admin.console.sealed import NotOurs, seal, unseal
from ai_admin.console.views.pages import HOME, console, own_path, page
from ai_admin.console.views.user import of_ids
from ai_admin.database import CHANGE_ERRORS, Row, repeat_lost
from ai_admin.errors import ApiError, RequestInvalid, Unauthenticated
from ai_admin.etags import Precondition, entity_tag
from ai_admin.http.path import read_uuid
from ai_admin.operations import describe
from ai_admin.services import services
from ai_admin.users import directory
from ai_admin.users.schemas import AiUserUpdate, Status

ACTIONS = ("suspend", "activate", "delete")
_TO: dict[str, Status] = {"suspend": Status.SUSPENDED, "activate": Status.ACTIVE, "delete": Status.DELETED}
_MOST = 200
UNDONE_FOR = timedelta(minutes=10)


@dataclass(frozen=True)
class Outcome:
    """What became of one user: their version now, or why nothing did."""

    user: Row
    version: int
    fault: str | None


@console.post("/users/bulk")
@describe("Ask about several users", Scope.USERS_WRITE, answers={200: None}, errors=(RequestInvalid,), page=True)
def ask_about_several() -> Response:
    """How many, and which, before anything is done."""
    action = _action()
    ids = request.form.getlist("id")
    users = _users([read_uuid("id", text) for text in ids[:_MOST]])
    concerned = [user for user in users if user["status"] != _TO[action].value]
    return page(
        "bulk",
        action=action,
        users=concerned,
        unconcerned=len(users) - len(concerned),
        to=_TO[action],
        next=own_path(request.form.get("next")),
    )


@console.post("/users/bulk/apply")
@describe(
    "Change several users", Scope.USERS_WRITE, answers={200: None}, errors=(RequestInvalid, *CHANGE_ERRORS), page=True
)
def change_several() -> Response:
    """Each user in a transaction of their own: one who cannot be changed stops no other."""
    action = _action()
    versions = _versions()
    outcomes = [_changed(user, _TO[action], versions[user["id"]]) for user in _users(list(versions))]
    return _done(action, outcomes, own_path(request.form.get("next")))


@console.post("/users/bulk/undo")
@describe(
    "Undo a change of several users",
    Scope.USERS_WRITE,
    answers={200: None},
    errors=(RequestInvalid, *CHANGE_ERRORS),
    page=True,
)
def undo_several() -> Response:
    """Each of them as they were, unless somebody has changed them since."""
    states = _opened(request.form.get("undo", ""))
    outcomes = []
    for user in _users(list(states)):
        version, status = states[user["id"]]
        outcomes.append(_changed(user, Status(status), version))
    return _done("undo", outcomes, own_path(request.form.get("next")))


def _action() -> str:
    action = request.form.get("action", "")
    if action not in ACTIONS:
        raise RequestInvalid.at("body", "action", message=f"Must be one of {', '.join(ACTIONS)}")
    return action


def _versions() -> dict[UUID, int]:
    """The users that were shown, each with the version that was."""
    versions = {}
    for text in request.form.getlist("user")[:_MOST]:
        user_id, _, version = text.partition(":")
        versions[read_uuid("user", user_id)] = read_version(version, "user")
    return versions


def _users(ids: list[UUID]) -> list[Row]:
    """Return the users that were chosen, at most `_MOST`.

    Their names are shown: raises `ScopeLacking` for a caller who may not read users.
    """
    require_scope(Scope.USERS_READ)
    if not ids:
        raise RequestInvalid.at("body", "id", message=gettext("Choose at least one user."))
    with services().database.connection() as connection:
        return of_ids(connection, ids)


def _changed(user: Row, to: Status, version: int) -> Outcome:
    try:
        # Here and not for the whole request: the users before this one have been changed already.
        return Outcome(user, repeat_lost(partial(_change, user["id"], to, version)), None)
    except CHANGE_ERRORS:
        raise
    except Unauthenticated:
        # The administrator was suspended meanwhile: nothing more of this is theirs to do.
        raise
    except ApiError as error:
        if isinstance(error, REFUSALS):
            record_refusal(error, user["id"])
        return Outcome(user, version, told(error))


def _change(user_id: UUID, to: Status, version: int) -> int:
    """Change a user of this version, in a transaction; return the new version."""
    unchanged = Precondition((entity_tag(version),))
    with services().database.transaction() as connection:
        if to == Status.DELETED:
            directory.delete(connection, actor(), user_id, unchanged)
            return version + 1
        update = AiUserUpdate(status=to.value)
        return int(directory.change(connection, actor(), user_id, update, unchanged)["version"])


def _done(action: str, outcomes: list[Outcome], target: str) -> Response:
    done = [outcome for outcome in outcomes if outcome.fault is None]
    undo = None
    if done and action != "undo":
        undo = _sealed([[str(one.user["id"]), one.version, one.user["status"]] for one in done])
    return page(
        "bulk_done",
        action=action,
        done=done,
        failed=[outcome for outcome in outcomes if outcome.fault],
        undo=undo,
        minutes=int(UNDONE_FOR.total_seconds()) // 60,
        next=target if target != HOME else f"{HOME}/users",
    )


def _purpose() -> bytes:
    """What undoes a change is for who made it alone."""
    return b"ai-admin console undo 1" + bytes(g.principal.user_id.bytes)


def _sealed(states: list[list[Any]]) -> str:
    until = datetime.now(timezone.utc) + UNDONE_FOR
    return seal([until.timestamp(), states], _purpose())


def _opened(sealed: str) -> dict[UUID, tuple[int, str]]:
    try:
        until, states = unseal(sealed, _purpose())
    except NotOurs:
        raise RequestInvalid.at("body", "undo", message=gettext("There is nothing to undo.")) from None
    if until < datetime.now(timezone.utc).timestamp():
        raise RequestInvalid.at("body", "undo", message=gettext("The time to undo this is over."))
    return {UUID(user_id): (version, status) for user_id, version, status in states}
