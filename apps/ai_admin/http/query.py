"""Query strings, strictly: unknown, repeated and undecodable parameters are errors and never ignored."""

import re
from collections.abc import Iterable
from functools import cache
from typing import TypeVar, cast
from urllib.parse import parse_qsl

from flask import request
from pydantic import BaseModel

from ai_admin.errors import Detail, RequestInvalid
from ai_admin.http.heads import MOST_PARAMETERS
from ai_admin.http.validation import LONGEST_NAME, MOST_DETAILS, validate

Model = TypeVar("Model", bound=BaseModel)

# `attributes[team]`: the parameter and the key. `tag[prefix]` is a name of its own.
_MEMBER = re.compile(r"(\w+)\[(.+)\]", re.DOTALL)


def read_query(model: type[Model]) -> Model:
    """The current request's query string as a model. Raises `RequestInvalid` with a detail for each fault.

    A parameter may be repeated where the model has a list; `name[key]=value` fills a dict where it has one.
    """
    return read_pairs(model, request.environ.get("QUERY_STRING", ""), "query")


def read_pairs(model: type[Model], raw: str, place: str) -> Model:
    """Names and values (application/x-www-form-urlencoded) as a model; `place` is where faults say they are."""
    values, faults = _collect(model, pairs_of(raw, place), place)
    try:
        read = validate(model, values, place)
    except RequestInvalid as error:
        faults += error.details or ()
    if faults:
        raise RequestInvalid(details=faults)
    return read


def pairs_of(raw: str, place: str) -> list[tuple[str, str]]:
    """Names and values (application/x-www-form-urlencoded) in their order. Raises `RequestInvalid`."""
    if not raw:
        return []
    try:
        # PEP 3333 hands bytes over as Latin-1; a URI is ASCII (RFC 3986), its octets UTF-8.
        raw.encode("ascii")
        return parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except UnicodeError:
        raise RequestInvalid.at(place, message=f"The {place} is not percent-encoded UTF-8") from None
    except ValueError:
        raise RequestInvalid.at(place, message=f"More than {MOST_PARAMETERS} parameters") from None


def _collect(
    model: type[BaseModel], pairs: Iterable[tuple[str, str]], place: str
) -> tuple[dict[str, object], list[Detail]]:
    """The values by parameter, and the faults that a model cannot see. Raises `RequestInvalid` where they are many."""
    fields = _fields(model)
    values: dict[str, object] = {}
    faults: list[Detail] = []
    for name, value in pairs:
        if len(faults) == MOST_DETAILS:
            raise RequestInvalid(details=faults)
        member = _MEMBER.fullmatch(name)
        if name in fields and "list[" in fields[name]:
            values.setdefault(name, [])
            _append(values[name], value)
        elif member and name not in fields and "dict[" in fields.get(member[1], ""):
            if not _put(values.setdefault(member[1], {}), member[2], value):
                faults.append(_repeated(place, name))
            elif len(cast("dict[str, str]", values[member[1]])) > MOST_DETAILS:
                raise RequestInvalid.at(place, member[1], message=f"More than {MOST_DETAILS} keys")
        elif name in values:
            faults.append(_repeated(place, name))
        else:
            values[name] = value
    return values, faults


@cache
def _fields(model: type[BaseModel]) -> dict[str, str]:
    """The parameters of a model, with their types as Python prints them; that takes longer than all the rest."""
    return {field.alias or name: str(field.annotation) for name, field in model.model_fields.items()}


def _append(values: object, value: str) -> None:
    if isinstance(values, list):
        values.append(value)


def _put(values: object, key: str, value: str) -> bool:
    if not isinstance(values, dict) or key in values:
        return False
    values[key] = value
    return True


def _repeated(place: str, name: str) -> Detail:
    return {"type": "repeated", "loc": [place, name[:LONGEST_NAME]], "msg": "Give this parameter once"}
