"""Creates that are safe to send again: Idempotency-Key over HTTP."""

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from flask import Response, request
from pydantic import BaseModel

from ai_admin.access.guard import actor
from ai_admin.access.standing import require_standing
from ai_admin.database import Connection
from ai_admin.errors import ApiError, IdempotencyKeyInUse, IdempotencyKeyReused, SealedValueUnreadable
from ai_admin.http.answers import JSON, canonical
from ai_admin.http.body import read_body
from ai_admin.idempotency import KEY, Answer, once, read_key
from ai_admin.operations import Header
from ai_admin.services import services

Model = TypeVar("Model", bound=BaseModel)
HEADER = Header(
    "Idempotency-Key",
    f"^{KEY}$",
    "Makes a retry safe for 24 hours: the same key with the same body gets the first answer again.",
    "6f1f7b2e-create-ada",
)
ERRORS: tuple[type[ApiError], ...] = (IdempotencyKeyInUse, IdempotencyKeyReused, SealedValueUnreadable)


def create_once(
    operation: str, model: type[Model], work: Callable[[Connection, Model], tuple[UUID, Answer]]
) -> Response:
    """The answer of `work` to the body of the current request, or the one that its Idempotency-Key got before.

    `operation` says what is done and for whom: a key means nothing in another. `work` is called in a transaction and
    returns the user it concerns and the answer. Raises what `read_body` and `work` raise, and `ERRORS`.
    """
    key = read_key(request.headers.get(HEADER.name))
    new = read_body(model)
    asked = canonical(new.model_dump(mode="json")) if key else b""
    ring = services().key_ring.current()
    with services().database.transaction() as connection:
        given = once(connection, ring, operation, key, asked, lambda: work(connection, new))
        if given.replayed:
            require_standing(connection, actor())
    response = Response(given.body, given.status, dict(given.headers), content_type=JSON)
    if given.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response
