"""The reference: this application's OpenAPI document, and a page that shows it with a table of the errors."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, current_app
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ai_admin import __version__
from ai_admin.errors import RouteNotFound, error_classes
from ai_admin.http.answers import JSON
from ai_admin.http.files import package_folder, revalidated
from ai_admin.operations import describe

reference = Blueprint("reference", __name__, url_prefix="/ai/admin")

_OURS = Path(__file__).with_name("reference_assets")
_SWAGGER = "flask_openapi3_swagger"
_SCRIPT = "text/javascript"
_STYLE = "text/css"
# Everything comes from this origin, nothing stands in the page; Swagger UI's style sheet has pictures as data URIs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Asset:
    """A file that the page loads: one of ours, or one of Swagger UI's in its package."""

    media_type: str
    file: str
    package: str | None = None

    def read(self) -> bytes:
        """The file's content."""
        return (package_folder(self.package) if self.package else _OURS).joinpath(self.file).read_bytes()


# The closed list of what is served; no name from a request is ever a path.
ASSETS = {
    "page.css": Asset(_STYLE, "page.css"),
    "init.js": Asset(_SCRIPT, "init.js"),
    "swagger-ui.css": Asset(_STYLE, "templates/swagger/css/swagger-ui.css", _SWAGGER),
    "swagger-ui-bundle.js": Asset(_SCRIPT, "templates/swagger/js/swagger-ui-bundle.js", _SWAGGER),
}


@reference.get("/openapi.json")
@describe("OpenAPI document", "public", answers={200: None, 304: None})
def openapi_document() -> Response:
    """This document: all that the service answers, made from its routes and models."""
    from ai_admin import openapi  # noqa: PLC0415  it takes a tenth of a second that most processes need not spend

    return revalidated(openapi.document(current_app), JSON)


@reference.get("/docs")
@describe("Documentation", "public", answers={200: None, 304: None})
def docs_page() -> Response:
    """The document as a page, and the table of the errors that each problem's `type` leads to."""
    response = revalidated(_page(), "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@reference.get("/docs/<asset>")
@describe("File of the documentation", "public", answers={200: None, 304: None}, errors=(RouteNotFound,))
def docs_asset(asset: str) -> Response:
    """A script or style sheet of the page. Nothing is loaded from elsewhere."""
    if asset not in ASSETS:
        raise RouteNotFound
    return revalidated(_content(asset), f"{ASSETS[asset].media_type}; charset=utf-8")


@cache
def _content(name: str) -> bytes:
    return ASSETS[name].read()


@cache
def _page() -> bytes:
    """The page; the errors are written here, so that an address such as `…/docs#DUPLICATE_TAG` always leads there."""
    templates = Environment(loader=FileSystemLoader(_OURS), autoescape=True, undefined=StrictUndefined)
    errors = sorted(error_classes(), key=lambda error: error.status)
    return templates.get_template("page.html").render(version=__version__, errors=errors).encode()
