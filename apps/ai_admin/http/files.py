"""Files that go to browsers: ours, and those that lie in a package."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from flask import Response, request


def revalidated(content: bytes, content_type: str) -> Response:
    """An answer that is kept and asked for anew each time, at the cost of a 304 (RFC 9111, 5.2.2.4)."""
    response = Response(content, content_type=content_type)
    response.set_etag(hashlib.sha256(content).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


def package_folder(package: str) -> Path:
    """Where a package lies. It is not imported: that could bring a framework along, and the files are all we want."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The package {package} is not installed")
    return Path(spec.submodule_search_locations[0])
