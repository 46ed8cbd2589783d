"""The guard before every route: no credential, no entry, unless the route says otherwise."""

import logging
from typing import cast
from uuid import UUID

from flask import Flask, Response, current_app, g, request

from ai_admin.access import sessions
from ai_admin.access.actors import Actor
from ai_admin.access.principals import Principal
from ai_admin.access.scopes import GATEWAY_SCOPES, Scope
from ai_admin.audit import events
from ai_admin.database import CHANGE_ERRORS, Connection
from ai_admin.errors import (
    ApiError,
    DatabaseUnavailable,
    Forbidden,
    IdentityProviderUnavailable,
    RateLimited,
    ScopeLacking,
    Unauthenticated,
)
from ai_admin.http import admission
from ai_admin.http.request_log import request_id
from ai_admin.operations import operation_of
from ai_admin.services import services

# What the guard itself answers, on every route that is not public.
ERRORS: tuple[type[ApiError], ...] = (
    Unauthenticated,
    Forbidden,
    RateLimited,
    DatabaseUnavailable,
    IdentityProviderUnavailable,
)
# Methods that change nothing (RFC 9110, 9.2.1). A POST with a gateway scope changes nothing either.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Errors that are an event of their own: the caller is unknown, or may not do this.
REFUSALS: tuple[type[ApiError], ...] = (Unauthenticated, Forbidden)
_log = logging.getLogger(__name__)


class RouteWithoutEntry(Exception):
    """A route does not say who may call it; the application does not start."""


def principal() -> Principal:
    """Who makes the current request, which is not to a public route."""
    return cast(Principal, g.principal)


def require_scope(scope: Scope) -> None:
    """Raise `ScopeLacking` unless the caller has a scope that an operation needs beside that of its route."""
    if scope not in principal().scopes:
        raise ScopeLacking(scope.value)


def may_read(scope: Scope, user_id: UUID | None = None) -> bool:
    """Return whether the answer to a change may show the record, which a GET with this scope shows.

    With `user_id` the record is one that its own user may always read.
    """
    caller = principal()
    return scope in caller.scopes or caller.user_id == user_id


def actor() -> Actor:
    """Who makes the current request, as operations and the audit log need them."""
    caller = principal()
    return Actor(
        user_id=caller.user_id,
        key_id=caller.key_id,
        role=caller.role,
        scopes=caller.scopes,
        key_digest=caller.key_digest,
        key_models=caller.key_models,
        key_expires_at=caller.key_expires_at,
        identity=caller.identity,
        audit_key=caller.audit_key,
        request_id=request_id(),
        source=request.remote_addr or "",
    )


def _admit() -> None:
    """Let the request pass, or raise one of `ERRORS`."""
    rule = request.url_rule
    if rule is None:
        return
    operation = operation_of(current_app, rule.endpoint)
    assert operation is not None, "install() has looked at every route"
    if operation.entry == "public":
        return
    caller = _by_session() if operation.page else _by_credential()
    g.principal = caller
    admission.admit(caller.user_id)
    admission.require(services().rates, caller.user_id)
    if isinstance(operation.entry, Scope) and operation.entry not in caller.scopes:
        raise ScopeLacking(operation.entry.value)
    if request.method not in _SAFE and operation.entry not in GATEWAY_SCOPES:
        rates = services().own_writes if operation.entry == "signed-in" else services().writes
        admission.require(rates, caller.user_id)


def _by_credential() -> Principal:
    return services().principals.authenticate(request.headers.get("Authorization"), _nobody)


def _by_session() -> Principal:
    """A page goes by its session alone: what a browser sends along by itself opens nothing of the API."""
    made = services()
    return sessions.principal_of(made.database, request.cookies.get(sessions.COOKIE), made.settings.config.oidc_issuer)


def _record_answer(response: Response) -> Response:
    """Record the refusal that an answer is, whatever its status: a page without a session leads to the sign-in."""
    error = g.get("error")
    if isinstance(error, REFUSALS) and not _is_first_visit(error):
        record_refusal(error, _target())
    return response


def _is_first_visit(error: ApiError) -> bool:
    """Whether a browser without a session opened a page: nothing was presented, and so nothing refused."""
    is_without = isinstance(error, Unauthenticated) and error.reason == sessions.NO_SESSION
    return is_without and request.method in {"GET", "HEAD"}


def record_refusal(error: ApiError, user_id: UUID | None, **where: object) -> None:
    """Write the event of a refusal, where the rate allows it; `user_id` is the user it was about.

    For a part of a request that is refused while the rest goes on; `where` says which part. A refusal that is the
    answer is recorded without this. An event that cannot be written is in the log at least, and the answer stays.
    """
    try:
        with services().database.transaction() as connection:
            write_refusal(connection, error, user_id, **where)
    except CHANGE_ERRORS:
        _log.warning("refusal not recorded", extra={"fields": {"requestId": request_id()}})


def write_refusal(connection: Connection, error: ApiError, user_id: UUID | None, **where: object) -> None:
    """As `record_refusal`, in a transaction that is under way."""
    by = actor() if "principal" in g else _known(error)
    if services().refusals.take(by.user_id):
        events.refused(connection, by, {**_what_was_refused(error), **where}, user_id)


def _nobody() -> Actor:
    return _known(None)


def _known(error: ApiError | None) -> Actor:
    """Nobody, or the user whose credential was refused because they are suspended or it is over."""
    user_id = error.user_id if isinstance(error, Unauthenticated) else None
    return Actor(user_id=user_id, request_id=request_id(), source=request.remote_addr or "")


def _target() -> UUID | None:
    """The user in the path, who need not exist."""
    try:
        return UUID((request.view_args or {})["UserID"])
    except (KeyError, ValueError):
        return None


def _what_was_refused(error: ApiError) -> dict[str, object]:
    return {
        "method": request.method,
        "route": request.url_rule.rule if request.url_rule else None,
        "status": error.status,
        "reason": error.reason if isinstance(error, Unauthenticated) else error.detail,
    }


def install(app: Flask) -> None:
    """Guard every route of the application. Raises `RouteWithoutEntry` for one that does not say who may call it.

    Comes after all blueprints: what is registered later would not have been looked at.
    """
    for rule in app.url_map.iter_rules():
        if operation_of(app, rule.endpoint) is None:
            raise RouteWithoutEntry(f"The view of {rule.rule} has no @describe with an entry")
    app.before_request(_admit)
    app.after_request(_record_answer)
