"""Requests as models, and Pydantic's errors as the `details` of a problem."""

from collections.abc import Mapping
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ai_admin.errors import Detail, RequestInvalid
from ai_admin.json_values import RepeatedMember, require_distinct

Model = TypeVar("Model", bound=BaseModel)
# An answer is no multiple of the request: beyond these many faults, and letters of a caller's name, it is cut.
MOST_DETAILS = 100
LONGEST_NAME = 200
# Pydantic's own reading of JSON: what another parser refuses must not get past the count of members.
_MEMBERS = TypeAdapter(dict[str, Any])


def validate_json(model: type[Model], raw: bytes, place: str = "body") -> Model:
    """Return JSON text as a model. Raises `RequestInvalid` with at most `MOST_DETAILS` faults.

    A member that occurs twice is a fault, at any depth: two readers could each take another one.
    """
    try:
        _require_few_unknown(model, _MEMBERS.validate_json(raw), place)
        read = model.model_validate_json(raw)
        require_distinct(raw)
    except ValidationError as error:
        raise RequestInvalid(details=details_of(error, place)) from None
    except RepeatedMember as error:
        loc = (part[:LONGEST_NAME] if isinstance(part, str) else part for part in error.place)
        raise RequestInvalid.at(place, *loc, message="Give this member once", kind="repeated") from None
    return read


def validate(model: type[Model], members: Mapping[str, object], place: str) -> Model:
    """Return members as a model. Raises `RequestInvalid` with at most `MOST_DETAILS` faults."""
    _require_few_unknown(model, members, place)
    try:
        return model.model_validate(members)
    except ValidationError as error:
        raise RequestInvalid(details=details_of(error, place)) from None


def details_of(error: ValidationError, place: str) -> list[Detail]:
    """Pydantic's `errors()`, each location under `body`, `query`, `path` or `header`.

    The inputs are left out: a member may hold a secret, and an answer must not be as large as the request.
    """
    details: list[Detail] = []
    for fault in error.errors(include_url=False, include_input=False)[:MOST_DETAILS]:
        loc = [part[:LONGEST_NAME] if isinstance(part, str) else part for part in fault["loc"]]
        detail: Detail = {"type": fault["type"], "loc": [place, *loc], "msg": fault["msg"]}
        if "ctx" in fault:
            detail["ctx"] = {name: _plain(value) for name, value in fault["ctx"].items()}
        details.append(detail)
    return details + _more(error.error_count() - len(details), place)


def _require_few_unknown(model: type[BaseModel], members: Mapping[str, object], place: str) -> None:
    """Raise `RequestInvalid` for more unknown members than an answer lists, before Pydantic makes an error of each."""
    known = _known(model)
    unknown = list(islice((name for name in members if name not in known), MOST_DETAILS + 1))
    if len(unknown) <= MOST_DETAILS:
        return
    details: list[Detail] = [
        {"type": "extra_forbidden", "loc": [place, name[:LONGEST_NAME]], "msg": "Extra inputs are not permitted"}
        for name in unknown[:MOST_DETAILS]
    ]
    present = sum(name in members for name in known)
    raise RequestInvalid(details=details + _more(len(members) - present - len(details), place))


@cache
def _known(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for field, info in model.model_fields.items() for name in (field, info.alias or field))


def _more(number: int, place: str) -> list[Detail]:
    return [{"type": "too_many", "loc": [place], "msg": f"{number} more faults are not listed"}] if number > 0 else []


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else str(value)
