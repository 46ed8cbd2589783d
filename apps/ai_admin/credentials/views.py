"""Credentials of users at providers. They are set and revealed, never listed; gateways fetch them by a reveal."""

from datetime import timedelta
from uuid import UUID

from flask import Blueprint, Response

from ai_admin.access.guard import actor, may_read, principal
from ai_admin.access.scopes import Scope
from ai_admin.credentials import store
from ai_admin.credentials.content import as_sent
from ai_admin.credentials.schemas import (
    LARGEST_QUESTION,
    LARGEST_SECRET,
    RevealedSecret,
    SecretPut,
    SecretRestore,
    SecretReveal,
    SecretVersionList,
    UserSecret,
    UserSecretList,
    read_name,
)
from ai_admin.database import CHANGE_ERRORS
from ai_admin.errors import (
    DatabaseUnavailable,
    RequestInvalid,
    SealedValueUnreadable,
    SecretNotFound,
    TooManySecrets,
    UserNotFound,
    UserSuspended,
)
from ai_admin.http import admission
from ai_admin.http.answers import answer
from ai_admin.http.body import BODY_ERRORS, read_body
from ai_admin.http.path import read_uuid
from ai_admin.http.query import read_query
from ai_admin.operations import NoQuery, describe
from ai_admin.services import services

secrets = Blueprint("secrets", __name__, url_prefix="/ai/admin/users/<UserID>/secrets")


@secrets.get("")
@describe(
    "List credentials",
    Scope.SECRETS_READ,
    answers={200: UserSecretList},
    errors=(RequestInvalid, UserNotFound, DatabaseUnavailable),
)
def list_secrets(UserID: str) -> Response:  # noqa: N803  the name that the route has under Fission
    """The user's credentials without their values. Those of an owner are for owners alone."""
    user_id = _asked(UserID)
    with services().database.connection() as connection:
        return answer({"data": store.list_of(connection, actor(), user_id, _history())})


@secrets.put("/<Name>")
@describe(
    "Set a credential",
    Scope.SECRETS_WRITE,
    answers={200: UserSecret, 201: UserSecret, 204: None},
    body=SecretPut,
    largest=LARGEST_SECRET,
    errors=(*BODY_ERRORS, UserNotFound, TooManySecrets, *CHANGE_ERRORS),
)
def put_secret(UserID: str, Name: str) -> Response:  # noqa: N803
    """201 where the user had none of this name, and 200 where it is replaced.

    Provider and value as they are already make no new version, so the request can be repeated. A caller without
    `secrets:read` gets 204.
    """
    user_id, name = _asked(UserID), read_name(Name)
    new = read_body(SecretPut)
    ring = services().key_ring.current()
    with services().database.transaction() as connection:
        row, is_new = store.put(connection, ring, actor(), user_id, name, new, _history())
    if not may_read(Scope.SECRETS_READ):
        return Response(status=204)
    if not is_new:
        return answer(row)
    return answer(row, 201, {"Location": f"/ai/admin/users/{user_id}/secrets/{name}"})


@secrets.delete("/<Name>")
@describe(
    "Remove a credential",
    Scope.SECRETS_WRITE,
    answers={204: None},
    errors=(RequestInvalid, UserNotFound, SecretNotFound, *CHANGE_ERRORS),
)
def remove_secret(UserID: str, Name: str) -> Response:  # noqa: N803
    """It is revealed no longer, and can be restored as long as versions are kept."""
    user_id, name = _asked(UserID), read_name(Name)
    with services().database.transaction() as connection:
        store.remove(connection, actor(), user_id, name)
    return Response(status=204)


@secrets.post("/<Name>/reveal")
@describe(
    "Reveal a credential",
    Scope.SECRETS_REVEAL,
    answers={200: RevealedSecret},
    body=SecretReveal,
    largest=LARGEST_QUESTION,
    errors=(*BODY_ERRORS, UserNotFound, UserSuspended, SecretNotFound, SealedValueUnreadable, *CHANGE_ERRORS),
)
def reveal_secret(UserID: str, Name: str) -> Response:  # noqa: N803
    """The value in the form in which it was sent. The audit log holds who asked, and the reason, before it is answered.

    That of a user who is suspended is handed to nobody, nor is that of one who is deleted.
    """
    user_id, name = _asked(UserID), read_name(Name)
    admission.require(services().reveals, principal().user_id)
    asked = read_body(SecretReveal)
    ring = services().key_ring.current()
    with services().database.transaction() as connection:
        row, content = store.reveal(connection, ring, actor(), user_id, name, asked.reason)
    return answer({**row, **as_sent(content)})


@secrets.get("/<Name>/versions")
@describe(
    "List versions of a credential",
    Scope.SECRETS_READ,
    answers={200: SecretVersionList},
    errors=(RequestInvalid, UserNotFound, SecretNotFound, DatabaseUnavailable),
)
def list_secret_versions(UserID: str, Name: str) -> Response:  # noqa: N803
    """The version in force and those that can be restored, without their values; also of one that was removed."""
    user_id, name = _asked(UserID), read_name(Name)
    with services().database.connection() as connection:
        return answer({"data": store.versions(connection, actor(), user_id, name, _history())})


@secrets.post("/<Name>/restore")
@describe(
    "Restore a version of a credential",
    Scope.SECRETS_WRITE,
    answers={200: UserSecret, 204: None},
    body=SecretRestore,
    largest=LARGEST_QUESTION,
    errors=(
        *BODY_ERRORS,
        UserNotFound,
        SecretNotFound,
        TooManySecrets,
        SealedValueUnreadable,
        *CHANGE_ERRORS,
    ),
)
def restore_secret(UserID: str, Name: str) -> Response:  # noqa: N803
    """Makes a new version of an earlier one, also where the credential was removed.

    A caller without `secrets:read` gets 204.
    """
    user_id, name = _asked(UserID), read_name(Name)
    asked = read_body(SecretRestore)
    ring = services().key_ring.current()
    with services().database.transaction() as connection:
        row = store.restore(connection, ring, actor(), user_id, name, asked.version, _history())
    return answer(row) if may_read(Scope.SECRETS_READ) else Response(status=204)


def _asked(user_id: str) -> UUID:
    read_query(NoQuery)
    return read_uuid("UserID", user_id)


def _history() -> timedelta:
    return timedelta(days=services().settings.config.secret_history_days)
