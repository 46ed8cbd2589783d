"""Bodies as models: JSON, and forms."""

import re
from typing import IO, TypeVar, cast

from flask import current_app, g, request
from pydantic import BaseModel
from werkzeug.exceptions import ClientDisconnected

from ai_admin.errors import (
    ApiError,
    BadRequest,
    Overloaded,
    PayloadTooLarge,
    RequestInvalid,
    RequestTimeout,
    UnsupportedMediaType,
)
from ai_admin.http import admission
from ai_admin.http.answers import JSON
from ai_admin.http.query import read_pairs
from ai_admin.http.validation import validate_json
from ai_admin.operations import FORM, UPLOAD, operation_of
from ai_admin.services import services

Model = TypeVar("Model", bound=BaseModel)
# What reading a body raises.
BODY_ERRORS: tuple[type[ApiError], ...] = (
    RequestInvalid,
    RequestTimeout,
    PayloadTooLarge,
    UnsupportedMediaType,
    Overloaded,
)
CUT_SHORT = "The body was cut short."
# Characters of the Content-Type of a form, and bytes of the head of one of its parts.
_LONGEST_TYPE = 256
_LONGEST_HEAD = 4096
# UTF-8 and what is a part of it.
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)', re.IGNORECASE)
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})
# Octets of a large body that are read at once.
_PART = 1 << 16


def read_body(model: type[Model]) -> Model:
    """The current request's body as a model.

    Raises `UnsupportedMediaType`, `PayloadTooLarge`, and `RequestInvalid` with a detail for each fault.
    """
    if media_type() != JSON:
        raise UnsupportedMediaType
    return validate_json(model, _read(largest_body()))


def read_form(model: type[Model]) -> Model:
    """The current request's form as a model; raises what `read_body` raises."""
    if media_type() != FORM:
        raise UnsupportedMediaType(f"The body must be a form, sent with Content-Type: {FORM}.")
    return read_pairs(model, _read(largest_body()).decode("latin-1"), "body")


def largest_body() -> int:
    """Most bytes that the body of the current request may have: those of its operation, and never `MAX_BODY_BYTES`."""
    operation = operation_of(current_app, request.url_rule.endpoint) if request.url_rule else None
    most = services().settings.config.max_body_bytes
    return min(most, operation.largest) if operation else most


def hold_form() -> None:
    """Read the current request's form into memory, where `request.form` parses it, if it is small enough for that.

    Werkzeug bounds the fields of no form in one version, and of some in another. Raises `UnsupportedMediaType`,
    `PayloadTooLarge`, `BadRequest`, and `RequestInvalid` for more fields than the operation takes.
    """
    operation = operation_of(current_app, request.endpoint or "")
    assert operation is not None, "a page has a description"
    if media_type() != operation.body_type or len(request.headers["Content-Type"]) > _LONGEST_TYPE:
        raise UnsupportedMediaType(f"The body must be a form, sent with Content-Type: {operation.body_type}.")
    _require_plain()
    require_length(largest_body())
    try:
        raw = request.get_data()
    except ClientDisconnected:
        raise BadRequest(CUT_SHORT) from None
    _require_whole(len(raw))
    between = b"&" if operation.body_type == FORM else b"--" + request.mimetype_params.get("boundary", "").encode()
    if raw.count(between) >= operation.fields:
        raise RequestInvalid.at("body", message=f"More than {operation.fields} fields")
    if operation.body_type == UPLOAD:
        _require_short_heads(raw.split(between)[1:])


def _require_short_heads(parts: list[bytes]) -> None:
    """Raise `RequestInvalid` where the head of a form's part is no head: Werkzeug parses it line by line."""
    if any(len(part.partition(b"\r\n\r\n")[0]) > _LONGEST_HEAD for part in parts):
        raise RequestInvalid.at("body", message=f"The head of a part is longer than {_LONGEST_HEAD} bytes")


def receive(file: IO[bytes], limit: int) -> None:
    """Put the current request's body into a file, a part at a time.

    Raises `PayloadTooLarge`, `BadRequest` where it breaks off, and `RequestTimeout` where a server waits no longer.
    """
    _require_plain()
    require_length(limit)
    received = 0
    try:
        while part := request.stream.read(_PART):
            received += len(part)
            if received > limit:
                raise _too_large(limit)
            file.write(part)
    except ClientDisconnected:
        raise BadRequest(CUT_SHORT) from None
    _require_whole(received)


def _require_plain() -> None:
    """Raise `UnsupportedMediaType` where the body is compressed or in another charset: it would be misread."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType("The body is compressed: send it without Content-Encoding.")
    charset = _CHARSET.search(request.headers.get("Content-Type", "")[:_LONGEST_TYPE])
    if charset and charset[1].lower() not in _UTF8:
        raise UnsupportedMediaType("The body must be UTF-8: convert it, and leave charset away or send charset=utf-8.")


def media_type() -> str:
    """That of the current request's body, without parameters, in small letters."""
    # Read here rather than by Werkzeug, whose versions differ over "application/json, text/plain".
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _read(limit: int) -> bytes:
    """Return the whole body, kept for a view that is called again.

    It is read no further than the limit: a length that is declared is not believed.
    """
    if "raw_body" not in g:
        g.raw_body = _received(limit)
    return cast(bytes, g.raw_body)


def _received(limit: int) -> bytes:
    _require_plain()
    require_length(limit)
    try:
        raw = request.stream.read(limit + 1)
    except ClientDisconnected:
        raise BadRequest(CUT_SHORT) from None
    _require_whole(len(raw))
    if len(raw) > limit:
        raise _too_large(limit)
    return raw


def require_length(limit: int) -> None:
    """Raise `PayloadTooLarge` where the current request says that its body has more octets.

    A body without a declared length is not collected beyond the limit either.
    """
    admission.limit_body(limit)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)


def _require_whole(received: int) -> None:
    """Werkzeug tells of a caller who left only at the read after the last octets."""
    if received < (request.content_length or 0):
        raise BadRequest(CUT_SHORT)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than the {limit} bytes that this service takes.")
