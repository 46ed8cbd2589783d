"""Where the bare addresses lead: a browser to the console, a program to a list of links."""

from flask import Blueprint, Response, request
from pydantic import BaseModel

from ai_admin.console.views.files import get_file
from ai_admin.console.views.pages import HOME, see_other
from ai_admin.http.answers import answer
from ai_admin.operations import describe

front = Blueprint("front", __name__)


class Links(BaseModel):
    """What there is at this address."""

    console: str = HOME
    users: str = "/ai/admin/users"
    documentation: str = "/ai/admin/docs"
    openapi: str = "/ai/admin/openapi.json"


@front.get("/")
@describe("Links", "public", answers={200: Links, 303: None})
def links() -> Response:
    """A browser, which asks for `text/html`, is led to the console; a program gets the links of the service."""
    return _links()


@front.get("/ai/admin")
@describe("Links, below the common prefix", "public", answers={200: Links, 303: None})
def links_below() -> Response:
    """The same as at `/`, which a proxy may keep for something else."""
    return _links()


def _links() -> Response:
    if "text/html" in request.headers.get("Accept", ""):
        return see_other(HOME)
    return answer(Links().model_dump())


@front.get("/favicon.ico")
@describe("Icon", "public", answers={200: None, 304: None})
def icon() -> Response:
    """The icon that browsers ask for by themselves, as SVG."""
    return get_file("icon.svg")
