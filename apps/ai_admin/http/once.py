"""Creates that are safe to send again: Idempotency-Key over HTTP."""

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from flask import Flask, Response, current_app, request
from pydantic import BaseModel

from ai_admin.access.guard import actor
from ai_admin.access.standing import require_standing
from ai_admin.database import Connection
from ai_admin.errors import (
    ApiError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    IdempotentAnswerErased,
    RequestInvalid,
    SealedValueUnreadable,
)
from ai_admin.http.answers import JSON, canonical
from ai_admin.http.body import read_body
from ai_admin.idempotency import KEY, Answer, once, read_key
from ai_admin.operations import Header, operation_of
from ai_admin.services import services

Model = TypeVar("Model", bound=BaseModel)
HEADER = Header(
    "Idempotency-Key",
    f"^{KEY}$",
    "Makes a retry safe for 24 hours: the same key with the same body gets the first answer again.",
    "b2c1b7c2-6b0e-4a52-9d3c-5a6f2a0d4e11",
)
ERRORS: tuple[type[ApiError], ...] = (
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    IdempotentAnswerErased,
    SealedValueUnreadable,
)


def create_once(
    operation: str,
    model: type[Model],
    work: Callable[[Connection, Model], tuple[UUID, Answer]],
    check: Callable[[Connection, Answer], None] | None = None,
) -> Response:
    """The answer of `work` to the body of the current request, or the one that its Idempotency-Key got before.

    `operation` says what is done and for whom: a key means nothing in another. `work` is called in a transaction and
    returns the user it concerns and the answer. `check` is called before an answer is given again, and raises where
    that would no longer be right. Raises what `read_body`, `work` and `check` raise, and `ERRORS`.
    """
    key = read_key(request.headers.get(HEADER.name))
    new = read_body(model)
    # As it was sent: a member that was left out may mean another thing than null.
    asked = canonical(new.model_dump(mode="json", exclude_unset=True)) if key else b""
    ring = services().key_ring.current()
    with services().database.transaction() as connection:
        given = once(connection, ring, operation, key, asked, lambda: work(connection, new))
        if given.replayed:
            require_standing(connection, actor())
            if check is not None:
                check(connection, given)
    response = Response(given.body, given.status, dict(given.headers), content_type=JSON)
    if given.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _refuse_where_it_means_nothing() -> None:
    """Raise `RequestInvalid` for a key on a request that keeps no answer: the client would rely on it in vain."""
    if HEADER.name not in request.headers or request.url_rule is None:
        return
    operation = operation_of(current_app, request.url_rule.endpoint)
    assert operation is not None, "the guard has looked at every route"
    if operation.entry == "public" or operation.page or operation.subrequest or HEADER in operation.headers:
        return
    takers = ", ".join(_takers(current_app))
    raise RequestInvalid.at("header", HEADER.name, message=f"This request takes none; leave it out. It is for {takers}")


def _takers(app: Flask) -> list[str]:
    """The operations that keep an answer, such as `POST /ai/admin/users`."""
    rules = [rule for rule in app.url_map.iter_rules() if HEADER in _headers(app, rule.endpoint)]
    return sorted(f"POST {rule.rule.replace('<', '{').replace('>', '}')}" for rule in rules)


def _headers(app: Flask, endpoint: str) -> tuple[Header, ...]:
    operation = operation_of(app, endpoint)
    return operation.headers if operation else ()


def install(app: Flask) -> None:
    """Look at every request of the application. Comes after the guard: strangers learn nothing of its routes."""
    app.before_request(_refuse_where_it_means_nothing)
