"""Everything that can go wrong, as domain exceptions with a code, a status and a text for the caller.

An exception's docstring is the `detail` that callers read. `problems.py` turns them into answers
(RFC 9457, `application/problem+json`); nothing else in the package writes an error body.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from enum import Enum
from typing import ClassVar, TypedDict
from uuid import UUID

from typing_extensions import NotRequired

# What the holder of a key that has ended reads, by what ended it: the fact, and what to do.
_END_OF_KEY = {
    "expired": "The key expired on {end}.",
    "revoked": "The key was revoked on {end}.",
    "rotated": "The key was rotated, and its previous value stopped working on {end}.",
}
_AFTER_END = {
    "expired": "Ask for a new expiry, or for another key.",
    "revoked": "Ask for another key.",
    "rotated": "Use the new value of the key.",
}


class ErrorCode(str, Enum):
    """The closed list of what an error can be."""

    # `docs/api.md` holds the same list; a test compares them.

    VALIDATION_ERROR = "VALIDATION_ERROR"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    KEY_NOT_FOUND = "KEY_NOT_FOUND"
    SECRET_NOT_FOUND = "SECRET_NOT_FOUND"  # noqa: S105  a code, and no secret
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    DUPLICATE_TAG = "DUPLICATE_TAG"
    DUPLICATE_EMAIL = "DUPLICATE_EMAIL"
    LAST_OWNER = "LAST_OWNER"
    TOO_MANY_KEYS = "TOO_MANY_KEYS"
    KEY_ENDED = "KEY_ENDED"
    TOO_MANY_SECRETS = "TOO_MANY_SECRETS"
    USER_SUSPENDED = "USER_SUSPENDED"
    IDEMPOTENCY_KEY_IN_USE = "IDEMPOTENCY_KEY_IN_USE"
    IDEMPOTENT_ANSWER_ERASED = "IDEMPOTENT_ANSWER_ERASED"
    IMPORT_RUNNING = "IMPORT_RUNNING"
    VERSION_MISMATCH = "VERSION_MISMATCH"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    RATE_LIMITED = "RATE_LIMITED"
    BAD_REQUEST = "BAD_REQUEST"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SEALED_VALUE_UNREADABLE = "SEALED_VALUE_UNREADABLE"
    OVERLOADED = "OVERLOADED"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    DATABASE_READ_ONLY = "DATABASE_READ_ONLY"
    SCHEMA_OUTDATED = "SCHEMA_OUTDATED"
    IDENTITY_PROVIDER_UNAVAILABLE = "IDENTITY_PROVIDER_UNAVAILABLE"


class Detail(TypedDict):
    """One entry of `details`, in the shape of Pydantic's `errors()`."""

    type: str
    loc: Sequence[str | int]
    msg: str
    ctx: NotRequired[Mapping[str, object]]


class ApiError(Exception):
    """An answer other than success. Subclasses name the code, the status and the title."""

    code: ClassVar[ErrorCode]
    status: ClassVar[int]
    title: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str | None = None, *, details: Sequence[Detail] | None = None) -> None:
        """`detail` replaces the class's text; `details` lists what is wrong, member by member."""
        self.detail = detail or (self.__doc__ or self.title)
        self.details = details
        super().__init__(self.detail)

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """The headers of the answer; those of the class unless this error has more to say."""
        return self.headers


class RequestInvalid(ApiError):
    """The request does not have the form this operation takes; details names each fault."""

    code = ErrorCode.VALIDATION_ERROR
    status = 400
    title = "The request is not valid"

    @classmethod
    def at(cls, *loc: str | int, message: str, kind: str = "value_error") -> "RequestInvalid":
        """One fault at one place, for example `RequestInvalid.at("query", "cursor", message=…)`."""
        return cls(details=[{"type": kind, "loc": loc, "msg": message}])


class Unauthenticated(ApiError):
    """A valid credential is needed: an API key, or a token of the organisation, as Authorization: Bearer."""

    code = ErrorCode.UNAUTHENTICATED
    status = 401
    title = "Not signed in"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="ai-admin"'}

    def __init__(self, reason: str = "", user_id: UUID | None = None, detail: str | None = None) -> None:
        """`reason`, and whose the credential is, are for the audit log and not for the caller."""
        self.reason, self.user_id = reason, user_id
        super().__init__(detail)


class KeyNotWorking(Unauthenticated):
    """The key that was presented has ended. Only its holder can present it, so the answer may say why."""

    def __init__(self, ended_by: str, at: datetime, user_id: UUID) -> None:
        """`ended_by` is `expired`, `revoked` or `rotated`; `at` is when."""
        self.ended_by = ended_by
        self.end = at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.description = _END_OF_KEY[ended_by].format(end=self.end)
        super().__init__(f"{ended_by} key", user_id, f"{self.description} {_AFTER_END[ended_by]}")

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """The challenge with what is wrong with the token (RFC 6750, 3)."""
        challenge = self.headers["WWW-Authenticate"]
        return {"WWW-Authenticate": f'{challenge}, error="invalid_token", error_description="{self.description}"'}


class Forbidden(ApiError):
    """The credential is valid and does not allow this."""

    code = ErrorCode.FORBIDDEN
    status = 403
    title = "Not allowed"


class ScopeLacking(Forbidden):
    """The credential is valid and lacks a scope."""

    def __init__(self, scope: str) -> None:
        """`scope` is the one that the route names."""
        self.scope = scope
        super().__init__(f"This needs the scope {scope}, which the credential does not have.")


class RouteNotFound(ApiError):
    """There is nothing at this path."""

    code = ErrorCode.NOT_FOUND
    status = 404
    title = "Not found"


class UserNotFound(ApiError):
    """There is no user with this id."""

    code = ErrorCode.USER_NOT_FOUND
    status = 404
    title = "No such user"


class KeyNotFound(ApiError):
    """The user has no key with this id; it may have been revoked."""

    code = ErrorCode.KEY_NOT_FOUND
    status = 404
    title = "No such key"


class SecretNotFound(ApiError):
    """The user has no credential of this name, or no longer that version of it."""

    code = ErrorCode.SECRET_NOT_FOUND
    status = 404
    title = "No such credential"


class MethodNotAllowed(ApiError):
    """This path does not take this method; the Allow header lists those it takes."""

    code = ErrorCode.METHOD_NOT_ALLOWED
    status = 405
    title = "Method not allowed"


class RequestTimeout(ApiError):
    """The body did not arrive in time."""

    code = ErrorCode.REQUEST_TIMEOUT
    status = 408
    title = "The body came too slowly"


class DuplicateTag(ApiError):
    """Another user has this tag."""

    code = ErrorCode.DUPLICATE_TAG
    status = 409
    title = "The tag is taken"


class DuplicateEmail(ApiError):
    """Another user has this email address; letters' case makes no difference."""

    code = ErrorCode.DUPLICATE_EMAIL
    status = 409
    title = "The email address is taken"


class LastOwner(ApiError):
    """This is the last active owner: make another one first."""

    code = ErrorCode.LAST_OWNER
    status = 409
    title = "The last owner stays"


class TooManyKeys(ApiError):
    """A user has at most 100 keys: revoke one first."""

    code = ErrorCode.TOO_MANY_KEYS
    status = 409
    title = "Too many keys"


class KeyEnded(ApiError):
    """The key that this Idempotency-Key made has been revoked, rotated or has expired; send another Idempotency-Key."""

    code = ErrorCode.KEY_ENDED
    status = 409
    title = "The key has ended"


class TooManySecrets(ApiError):
    """A user has at most 100 credentials: remove one first."""

    code = ErrorCode.TOO_MANY_SECRETS
    status = 409
    title = "Too many credentials"


class UserSuspended(ApiError):
    """The user is suspended: their credentials are kept, and handed to nobody."""

    code = ErrorCode.USER_SUSPENDED
    status = 409
    title = "The user is suspended"


class IdempotencyKeyInUse(ApiError):
    """A request with this Idempotency-Key is still running; ask again when it has ended."""

    code = ErrorCode.IDEMPOTENCY_KEY_IN_USE
    status = 409
    title = "The same request is still running"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class IdempotentAnswerErased(ApiError):
    """The user that this Idempotency-Key was used for has been erased; to send the request again, use a new key."""

    code = ErrorCode.IDEMPOTENT_ANSWER_ERASED
    status = 409
    title = "The user has been erased"


class ImportRunning(ApiError):
    """The same file is being imported by another request of yours; ask again when that has ended."""

    code = ErrorCode.IMPORT_RUNNING
    status = 409
    title = "The same import is still running"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class VersionMismatch(ApiError):
    """The record is no longer the version that If-Match names; read it again and decide anew."""

    code = ErrorCode.VERSION_MISMATCH
    status = 412
    title = "The record has changed"


class PayloadTooLarge(ApiError):
    """The body is larger than this service takes."""

    code = ErrorCode.PAYLOAD_TOO_LARGE
    status = 413
    title = "The body is too large"


class UnsupportedMediaType(ApiError):
    """The body must be JSON, sent with Content-Type: application/json."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE
    status = 415
    title = "Unsupported media type"


class IdempotencyKeyReused(ApiError):
    """This Idempotency-Key has been used with another body in the last 24 hours."""

    code = ErrorCode.IDEMPOTENCY_KEY_REUSED
    status = 422
    title = "The idempotency key was used for something else"


class RateLimited(ApiError):
    """Too many requests of this caller at once; wait, and send it again."""

    code = ErrorCode.RATE_LIMITED
    status = 429
    title = "Too many requests"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}

    def __init__(self, detail: str | None = None, *, retry_after_s: int = 1) -> None:
        """`retry_after_s` is when the caller may send the request again, in seconds."""
        self.retry_after_s = retry_after_s
        super().__init__(detail)

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """The time to wait for this rate."""
        return {"Retry-After": str(self.retry_after_s)}


class BadRequest(ApiError):
    """The request could not be read as HTTP."""

    code = ErrorCode.BAD_REQUEST
    status = 400
    title = "Bad request"


class InternalError(ApiError):
    """Something went wrong here, not in the request; the log holds it under this requestId."""

    code = ErrorCode.INTERNAL_ERROR
    status = 500
    title = "Internal error"


class SealedValueUnreadable(ApiError):
    """What is stored cannot be opened with the keys that this service has; the log holds it under this requestId."""

    code = ErrorCode.SEALED_VALUE_UNREADABLE
    status = 500
    title = "A sealed value cannot be opened"


class Overloaded(ApiError):
    """The service has no memory left for more request bodies. Wait, then send the request again."""

    code = ErrorCode.OVERLOADED
    status = 503
    title = "The service is overloaded"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class DatabaseUnavailable(ApiError):
    """The database is away or too slow. Read before you repeat a change: where the connection broke it may have held.

    A read can be repeated as it is, and so can a create that carries an Idempotency-Key.
    """

    code = ErrorCode.DATABASE_UNAVAILABLE
    status = 503
    title = "The database is unavailable"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "2"}


class DatabaseReadOnly(ApiError):
    """The database takes no changes, as a standby does after a failover. Reads work; nothing was changed. Try later."""

    code = ErrorCode.DATABASE_READ_ONLY
    status = 503
    title = "The database is read-only"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "10"}


class SchemaOutdated(ApiError):
    """The database's schema is not the one this version needs. Changes are refused until both fit."""

    code = ErrorCode.SCHEMA_OUTDATED
    status = 503
    title = "The database's schema does not fit this version"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "30"}


class IdentityProviderUnavailable(ApiError):
    """The identity provider's keys cannot be fetched, so no token can be checked. API keys work as ever."""

    code = ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE
    status = 503
    title = "The identity provider is unavailable"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


def error_classes() -> list[type[ApiError]]:
    """Every concrete error, in the order of its declaration; the documentation is made from this."""
    return ApiError.__subclasses__()
