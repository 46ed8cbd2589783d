"""Errors as `application/problem+json` (RFC 9457). The one place that writes an error body."""

import logging

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from ai_admin.errors import (
    ApiError,
    BadRequest,
    InternalError,
    MethodNotAllowed,
    PayloadTooLarge,
    RouteNotFound,
    SealedValueUnreadable,
    UnsupportedMediaType,
)
from ai_admin.http.answers import encode
from ai_admin.http.request_log import request_id
from ai_admin.vault.ciphertext import VaultError

PROBLEM = "application/problem+json"
_log = logging.getLogger(__name__)

# What Werkzeug raises while it routes and reads.
_FROM_STATUS: dict[int, type[ApiError]] = {
    404: RouteNotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
}


def problem_body(error: ApiError, request: str) -> dict[str, object]:
    """The members of an error's answer to the request with this id."""
    body: dict[str, object] = {
        # A relative reference to its place in the documentation.
        "type": f"/ai/admin/docs#{error.code.value}",
        "title": error.title,
        "status": error.status,
        "detail": " ".join(error.detail.split()),
        "errorCode": error.code.value,
        "requestId": request,
    }
    if error.details is not None:
        body["details"] = error.details
    return body


def problem(error: ApiError) -> Response:
    """The answer that an error is."""
    g.error = error
    body = encode(problem_body(error, request_id()))
    return Response(body, error.status, dict(error.answer_headers), content_type=PROBLEM)


def _api_error(error: ApiError) -> Response:
    if error.status >= 500:  # noqa: PLR2004  ours, not the caller's
        # What the driver says stays here.
        _log.warning("%s", error.code.value, exc_info=error.__cause__ or error, extra=_fields())
    return problem(error)


def _fields() -> dict[str, object]:
    return {"fields": {"requestId": request_id()}}


def _http_exception(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:  # noqa: PLR2004  a redirect is raised too
        return Response(status=error.code or 500, headers=error.get_headers(request.environ))
    answer = problem(of_http(error))
    if isinstance(error, WerkzeugMethodNotAllowed):
        answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return answer


def _vault_error(error: VaultError) -> Response:
    unreadable = SealedValueUnreadable()
    unreadable.__cause__ = error
    return _api_error(unreadable)


def unexpected(error: Exception) -> ApiError:
    """What a caller is told of a fault of ours; the log has the rest."""
    _log.error("unexpected", exc_info=error, extra=_fields())
    return InternalError()


def of_http(error: HTTPException) -> ApiError:
    """The error that Werkzeug means."""
    return _FROM_STATUS.get(error.code or 0, BadRequest)()


def _unexpected(error: Exception) -> Response:
    return problem(unexpected(error))


def _refuse_other_spellings() -> None:
    """Werkzeug takes `delete` for DELETE, though methods are case-sensitive (RFC 9110, 9.1), and `//ai` for `/ai`."""
    environ = request.environ
    if environ["PATH_INFO"].startswith("//"):
        raise RouteNotFound
    if environ["REQUEST_METHOD"] != environ["REQUEST_METHOD"].upper():
        adapter = current_app.create_url_adapter(request)
        raise WerkzeugMethodNotAllowed(adapter.allowed_methods() if adapter else None)


def install(app: Flask) -> None:
    """Answer every error of the application with a problem."""
    app.before_request(_refuse_other_spellings)
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(VaultError, _vault_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(Exception, _unexpected)
