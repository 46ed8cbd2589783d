"""Scripts and style sheets: ours, and Bootstrap's, which comes in the package of Bootstrap-Flask."""

from functools import cache
from pathlib import Path

from flask import Response

from ai_admin.console.views.pages import console
from ai_admin.errors import RouteNotFound
from ai_admin.http.files import package_folder, revalidated
from ai_admin.operations import describe

_OURS = Path(__file__).parent.with_name("static")
_BOOTSTRAP = "static/bootstrap5/css/bootstrap.min.css"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
# The closed list of what is served; no name from a request is ever a path.
FILES = ("bootstrap.css", "console.css", "console.js", "icon.svg")


@console.get("/files/<File>")
@describe("File of the console", "public", answers={200: None, 304: None}, errors=(RouteNotFound,), page=True)
def get_file(File: str) -> Response:  # noqa: N803
    """Kept by the browser and asked for anew each time, at the cost of a 304 (RFC 9111, 5.2.2.4)."""
    if File not in FILES:
        raise RouteNotFound
    return revalidated(_content(File), _TYPES[Path(File).suffix])


@cache
def _content(name: str) -> bytes:
    if name != "bootstrap.css":
        return (_OURS / name).read_bytes()
    # Its map is not served, so it is not named either.
    text = (package_folder("flask_bootstrap") / _BOOTSTRAP).read_bytes()
    return text.rpartition(b"/*# sourceMappingURL=")[0] or text
