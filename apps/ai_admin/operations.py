"""What a view says about itself, beside its code, for the OpenAPI document and for tests that walk all routes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, cast

from flask import Flask
from pydantic import BaseModel, ConfigDict

from ai_admin.access.scopes import Entry
from ai_admin.errors import ApiError

# Below this path are the pages for people, with their files; everything else is the API.
PAGES = "/ai/admin/console"
View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE = "operation"


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
    """One operation: its name, who may call it, its answers by status (None: no body), what it reads, its errors."""

    summary: str
    entry: Entry
    answers: Mapping[int, type[BaseModel] | None]
    errors: tuple[type[ApiError], ...]
    query: type[BaseModel]
    body: type[BaseModel] | None
    body_type: str
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
    body_type: str = "application/json",
    upload: Mapping[str, object] = MappingProxyType({}),
    headers: tuple[Header, ...] = (),
    page: bool = False,
    subrequest: bool = False,
) -> Callable[[View], View]:
    """Attach an operation's description to its view; the view's docstring is its longer text."""

    def attach(view: View) -> View:
        said = Operation(summary, entry, answers, errors, query, body, body_type, upload, headers, page, subrequest)
        setattr(view, _ATTRIBUTE, said)
        return view

    return attach


def operation_of(app: Flask, endpoint: str) -> Operation | None:
    """The description of an endpoint's view; None where it has none, as Flask's own static route."""
    return cast("Operation | None", getattr(app.view_functions[endpoint], _ATTRIBUTE, None))
