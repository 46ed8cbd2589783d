"""Bodies as models: JSON, and forms."""

from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected

from ai_admin.errors import (
    ApiError,
    BadRequest,
    PayloadTooLarge,
    RequestInvalid,
    RequestTimeout,
    UnsupportedMediaType,
)
from ai_admin.http.answers import JSON
from ai_admin.http.query import read_pairs
from ai_admin.http.validation import details_of
from ai_admin.services import services

FORM = "application/x-www-form-urlencoded"
Model = TypeVar("Model", bound=BaseModel)
# What reading a body raises.
BODY_ERRORS: tuple[type[ApiError], ...] = (RequestInvalid, RequestTimeout, PayloadTooLarge, UnsupportedMediaType)
CUT_SHORT = "The body was cut short."


def read_body(model: type[Model]) -> Model:
    """The current request's body as a model.

    Raises `UnsupportedMediaType`, `PayloadTooLarge`, and `RequestInvalid` with a detail for each fault.
    """
    if _media_type() != JSON:
        raise UnsupportedMediaType
    try:
        return model.model_validate_json(_read(services().settings.config.max_body_bytes))
    except ValidationError as error:
        raise RequestInvalid(details=details_of(error, "body")) from None


def read_form(model: type[Model]) -> Model:
    """The current request's form as a model; raises what `read_body` raises."""
    if _media_type() != FORM:
        raise UnsupportedMediaType(f"The body must be a form, sent with Content-Type: {FORM}.")
    raw = _read(services().settings.config.max_body_bytes)
    return read_pairs(model, raw.decode("latin-1"), "body")


def _media_type() -> str:
    # Read here rather than by Werkzeug, whose versions differ over "application/json, text/plain".
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _read(limit: int) -> bytes:
    """The whole body, read no further than the limit: a length that is declared is not believed."""
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge(f"The body is larger than the {limit} bytes that this service takes.")
    try:
        raw = request.stream.read(limit + 1)
    except ClientDisconnected:
        raise BadRequest(CUT_SHORT) from None
    # Werkzeug tells of a caller who left only at the read after the last octets.
    if len(raw) < (request.content_length or 0):
        raise BadRequest(CUT_SHORT)
    if len(raw) > limit:
        raise PayloadTooLarge(f"The body is larger than the {limit} bytes that this service takes.")
    return raw
