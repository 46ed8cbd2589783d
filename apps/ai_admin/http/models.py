"""What the models of all requests and answers share."""

import re
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

_DIGITS = re.compile(r"[+-]?[0-9]{1,40}")


class ApiModel(BaseModel):
    """A JSON object: members in camelCase, and no others."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)


class ProblemDetail(BaseModel):
    """One fault of a request, in the shape of Pydantic's `errors()`."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(description="The kind of fault.", examples=["string_pattern_mismatch"])]
    loc: Annotated[
        list[str | int],
        Field(description="Where: `body`, `query`, `path` or `header`, then the way to the member."),
    ]
    msg: Annotated[str, Field(description="The fault in words.")]
    ctx: Annotated[
        dict[str, str | int | float | bool], Field(default_factory=dict, description="The limits that were missed.")
    ]


# A member that was not sent is left alone. It is told from `null` by `model_fields_set`, so these
# defaults are never looked at; a factory keeps them out of the JSON Schema.
LEFT_ALONE: Any = Field(default_factory=lambda: None)


def _time_text(value: object) -> object:
    """Pydantic takes a bare number for a time; RFC 3339 does not."""
    if not isinstance(value, str) or "T" not in value.upper():
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z; write + as %2B")
    return value


def _in_utc(value: datetime) -> datetime:
    """Neither Python nor an answer has times beyond these years, though a zone may lead there."""
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from None


def _digits(value: object) -> object:
    """Pydantic takes `1_000`, ` 1` and `1.0` for integers; a query parameter is digits."""
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise ValueError("must be an integer")
    return value


# The bound stands before the validator: after it, Pydantic 2 leaves it out of the JSON Schema.
Positive = Annotated[int, Field(ge=1), BeforeValidator(_digits)]
Time = Annotated[
    AwareDatetime,
    BeforeValidator(_time_text),
    AfterValidator(_in_utc),
    Field(description="An RFC 3339 time with its zone.", examples=["2026-01-31T12:00:00Z"]),
]
