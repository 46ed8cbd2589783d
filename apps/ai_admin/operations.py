"""What a view says about itself, beside its code, for the OpenAPI document and for tests that walk all routes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, cast

from flask import Flask
from pydantic import BaseModel, ConfigDict

from ai_admin.access.scopes import Entry
from ai_admin.errors import ApiError
from ai_admin.http.answers import JSON

# Below this path are the pages for people, with their files; everything else is the API.
PAGES = "/ai/admin/console"
View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE = "operation"
FORM = "application/x-www-form-urlencoded"
UPLOAD = "multipart/form-data"
# Most bytes that any body may have: MAX_BODY_BYTES cannot be set higher.
LARGEST = 64 * 1024 * 1024
# Those of a form that anybody may send, and of one that takes a session; the longest value of a credential fits,
# percent-encoded.
_LARGEST_PUBLIC_FORM = 16 * 1024
_LARGEST_FORM = 256 * 1024
# Fields of the same: a page of 200 users has one for each.
_MOST_PUBLIC_FIELDS = 16
_MOST_FIELDS = 256


class NoQuery(BaseModel):
    """No query parameters."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Header:
    """A request header that an operation reads."""

    name: str
    pattern: str | None
    meaning: str
    example: str


@dataclass(frozen=True)
class Operation:
    """One operation: its name, who may call it, its answers by status (None: no body), what it reads, its errors.

    `largest` is the most bytes that its body may have, and `fields` the most fields of a form.
    """

    summary: str
    entry: Entry
    answers: Mapping[int, type[BaseModel] | None]
    errors: tuple[type[ApiError], ...]
    query: type[BaseModel]
    body: type[BaseModel] | None
    body_type: str
    largest: int
    fields: int
    # Media types of a body that is a file, each with an example.
    upload: Mapping[str, object]
    headers: tuple[Header, ...]
    # A page of the console, for people: not of the API, and entered with a session in place of a bearer credential.
    page: bool
    # Asked by a proxy with the headers of another request, which are not meant for this service (nginx's auth_request).
    subrequest: bool


def describe(
    summary: str,
    entry: Entry,
    *,
    answers: Mapping[int, type[BaseModel] | None],
    errors: tuple[type[ApiError], ...] = (),
    query: type[BaseModel] = NoQuery,
    body: type[BaseModel] | None = None,
    body_type: str = "",
    largest: int | None = None,
    upload: Mapping[str, object] = MappingProxyType({}),
    headers: tuple[Header, ...] = (),
    page: bool = False,
    subrequest: bool = False,
) -> Callable[[View], View]:
    """Attach an operation's description to its view; the view's docstring is its longer text.

    `largest` is that of JSON if not given: a form has the bound of all forms.
    """
    is_public = entry == "public"
    if largest is None and page:
        largest = _LARGEST_PUBLIC_FORM if is_public else _LARGEST_FORM

    def attach(view: View) -> View:
        said = Operation(
            summary,
            entry,
            answers,
            errors,
            query,
            body,
            body_type or (FORM if page else JSON),
            LARGEST if largest is None else largest,
            _MOST_PUBLIC_FIELDS if is_public else _MOST_FIELDS,
            upload,
            headers,
            page,
            subrequest,
        )
        setattr(view, _ATTRIBUTE, said)
        return view

    return attach


def operation_of(app: Flask, endpoint: str) -> Operation | None:
    """The description of an endpoint's view; None where it has none, as Flask's own static route."""
    return cast("Operation | None", getattr(app.view_functions[endpoint], _ATTRIBUTE, None))
