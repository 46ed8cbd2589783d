"""Answers in JSON."""

from collections.abc import Mapping

import orjson
from flask import Response

JSON = "application/json"


def encode(value: object) -> bytes:
    """JSON in UTF-8; times in RFC 3339 with Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def canonical(value: object) -> bytes:
    """JSON with the members of every object in order: equal values have equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS)


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encode(value), status, headers, content_type=JSON)
