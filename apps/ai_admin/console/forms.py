"""Fields of forms as the models of the API, and their faults as texts beside the fields."""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel

from ai_admin.console.catalogue import N_, gettext
from ai_admin.errors import (
    ApiError,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DuplicateEmail,
    DuplicateTag,
    Forbidden,
    InternalError,
    KeyNotFound,
    KeyNotWorking,
    LastOwner,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    RequestInvalid,
    RouteNotFound,
    SchemaOutdated,
    ScopeLacking,
    SealedValueUnreadable,
    SecretNotFound,
    TooManyKeys,
    TooManySecrets,
    Unauthenticated,
    UserNotFound,
    UserSuspended,
    VersionMismatch,
)
from ai_admin.http.validation import validate_json
from ai_admin.json_values import RepeatedMember, loads

Model = TypeVar("Model", bound=BaseModel)
# As far as PostgreSQL's `integer` goes.
_VERSION = re.compile(r"[0-9]{1,9}")
# What a person can mend in the form that they sent.
FAULTS: tuple[type[ApiError], ...] = (
    RequestInvalid,
    DuplicateTag,
    DuplicateEmail,
    Forbidden,
    LastOwner,
    TooManyKeys,
    TooManySecrets,
    UserSuspended,
)
_FIELD_OF = {DuplicateTag: "tag", DuplicateEmail: "email"}
# What a person is told; the texts of the errors themselves are for callers of the API.
_OF_ERROR: dict[type[ApiError], str] = {
    DuplicateTag: N_("Another user has this tag."),
    DuplicateEmail: N_("Another user has this email address."),
    LastOwner: N_("This is the last active owner: make another one first."),
    TooManyKeys: N_("A user has at most 100 keys: revoke one first."),
    TooManySecrets: N_("A user has at most 100 credentials: remove one first."),
    UserSuspended: N_("The user is suspended: their credentials are handed to nobody."),
    VersionMismatch: N_("Somebody else has made a change meanwhile. Look at it, and decide anew."),
    RouteNotFound: N_("There is no page at this address."),
    UserNotFound: N_("There is no such user. They may have been erased."),
    KeyNotFound: N_("There is no such key. It may have been revoked."),
    SecretNotFound: N_("There is no such credential, or no longer that version of it."),
    PayloadTooLarge: N_("This is larger than the service takes."),
    Unauthenticated: N_("Invalid key: it may be mistyped, revoked or expired."),
    RateLimited: N_("That was too much at once. Wait a moment, and try again."),
    Overloaded: N_("The service is overloaded. Wait a moment, and try again."),
    DatabaseUnavailable: N_("The database is away or too slow. Look whether a change was made before you try again."),
    DatabaseReadOnly: N_("The database takes no changes at the moment. Nothing was changed: try again later."),
    SchemaOutdated: N_("The database waits for a migration. Until then nothing can be changed."),
    SealedValueUnreadable: N_(
        "The value cannot be opened with the keys that are there. Tell whoever runs the service."
    ),
    InternalError: N_("Something went wrong here. Tell whoever runs the service the number below."),
}
# What the holder of a key that has ended is told.
_OF_ENDED_KEY = {
    "expired": N_("This key expired on %(end)s."),
    "revoked": N_("This key was revoked on %(end)s."),
    "rotated": N_("This key was rotated; this value of it stopped working on %(end)s."),
}
# Refusals with a text of their own, by that text.
_REFUSALS = frozenset(
    {
        N_("Only an owner can see or change what belongs to an owner."),
        N_("Only an owner grants secrets:reveal."),
        N_("The key is limited to models, and this would go beyond them."),
        N_("A key makes none that outlives it."),
        N_("This key expires: it cannot change or end a key that lasts longer."),
    }
)
# What is said of a field whose form is wrong, whatever is wrong with it.
_OF_FIELD = {
    "tag": N_("1 to 63 of a-z, 0-9, dot, underscore and hyphen; a letter or digit first."),
    "email": N_("An address such as ada@example.com. A person has one."),
    "name": N_("1 to 200 characters, without control characters."),
    "models": N_("Patterns such as gpt-5*, one a line, 100 at most."),
    "attributes": N_("A JSON object of at most 16 KiB."),
    "provider": N_("1 to 64 of a-z, 0-9, dot, underscore and hyphen."),
    "Name": N_("1 to 64 of a-z, 0-9, dot, underscore and hyphen."),
    "value": N_("1 byte to 64 KiB of text."),
    "reason": N_("1 to 500 characters in one line."),
    "expiresAt": N_("A day that lies in the future."),
}


def told(error: ApiError) -> str:
    """What a person is told of an error, in their language."""
    if isinstance(error, ScopeLacking):
        text = gettext("Your role, or the key that you signed in with, does not give the scope %(scope)s.")
        return text % {"scope": error.scope}
    if isinstance(error, KeyNotWorking):
        return gettext(_OF_ENDED_KEY[error.ended_by]) % {"end": error.end}
    if type(error) in _OF_ERROR:
        return gettext(_OF_ERROR[type(error)])
    if isinstance(error, RequestInvalid) and error.details:
        return " ".join(str(detail["msg"]) for detail in error.details)
    return gettext(error.detail) if error.detail in _REFUSALS else error.detail


class Faults:
    """From errors to texts by the names of the fields; the empty name is the form as a whole."""

    @staticmethod
    def of(error: ApiError) -> dict[str, str]:
        """What is said, and where."""
        if type(error) in _FIELD_OF:
            return {_FIELD_OF[type(error)]: gettext(_OF_ERROR[type(error)])}
        if not isinstance(error, RequestInvalid) or not error.details:
            return {"": told(error)}
        texts = {}
        for detail in error.details:
            field = str(detail["loc"][1]) if len(detail["loc"]) > 1 else ""
            is_general = field in _OF_FIELD and detail["type"] != "repeated"
            texts[field] = gettext(_OF_FIELD[field]) if is_general else detail["msg"]
        return texts


def read_fields(model: type[Model], members: dict[str, Any]) -> Model:
    """Members as a model of the API. Raises `RequestInvalid`."""
    # The standard library writes integers of any size, which the model refuses.
    return validate_json(model, json.dumps(members).encode())


def read_version(text: str, field: str = "version") -> int:
    """The number of a version that a page has shown. Raises `RequestInvalid`."""
    if not _VERSION.fullmatch(text):
        raise RequestInvalid.at("body", field, message=gettext("Must be the version that was shown."))
    return int(text)


def lines_of(text: str) -> list[str]:
    """A list that is written one a line, or with commas between."""
    return [part for line in text.replace(",", "\n").splitlines() if (part := line.strip())]


def attributes_of(text: str) -> Any:
    """A JSON object as it is written; nothing is an empty one. Raises `RequestInvalid`."""
    try:
        return loads(text) if text.strip() else {}
    except RepeatedMember as error:
        message = gettext("The member %(name)s occurs twice.") % {"name": error.place[-1]}
        raise RequestInvalid.at("body", "attributes", message=message, kind="repeated") from None
    except ValueError:
        raise RequestInvalid.at("body", "attributes", message="This is no JSON") from None
