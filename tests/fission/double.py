"""A test double of Fission: its Python environment and its router, as their sources have them.

The environment (fission/environments, python/server.py) is a Flask application that calls a function's `main()`: for
path `/` alone in the image of Python 3.10, for every path in later ones. The router (fission/fission, pkg/router)
matches the HTTPTriggers of `specs/`, forwards to path `/` with the query kept, names the whole address in
`X-Fission-Full-Url` and the path's parameters in `X-Fission-Params-<Name>`, and answers what matches no trigger itself.
It gives every request an id, or takes the client's, and puts it on every answer beside the function's own headers.
"""

import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from flask import Flask, Response
from werkzeug.wrappers import Response as Answer

from tests.fission.specs import functions, triggers

Main = Callable[[], Response]
WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]
_REQUEST_ID = re.compile(r"[!-~]{1,192}")
_PART = re.compile(r"\{(\w+)(?::([^}]+))?\}|([^{]+)")
# server.py routes these; PATCH gets 405 before `main()`.
ENVIRONMENT_METHODS = ["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"]


def load(folder: Path, name: str) -> Main:
    """The function `module.main` of a package's folder, its module imported anew."""
    module_name, function = name.rsplit(".", 1)
    spec = importlib.util.spec_from_file_location(f"specialised_{module_name}", folder / f"{module_name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Main = getattr(module, function)
    return main


def environment(main: Main, *, every_path: bool = False) -> Flask:
    """The environment, specialised with a function; `every_path` as since 747905e, after the image of Python 3.10."""
    app = Flask("server")

    def userfunc_call(*_: object, **__: object) -> Response:
        return main()

    app.add_url_rule("/", "userfunc_call", userfunc_call, methods=ENVIRONMENT_METHODS)
    if every_path:
        app.add_url_rule("/<path:path>", "userfunc_call", userfunc_call, methods=ENVIRONMENT_METHODS)
    return app


def specialised(folder: Path) -> dict[str, WSGIApplication]:
    """An environment for each function in `specs/`, specialised with the package in `folder`."""
    return {name: environment(load(folder, main)) for name, main in functions().items()}


@dataclass(frozen=True)
class _Trigger:
    path: re.Pattern[str]
    methods: frozenset[str]
    function: WSGIApplication


class Router:
    """A WSGI application that forwards to the environments of all functions in `specs/`, by the functions' names."""

    def __init__(self, environments: Mapping[str, WSGIApplication], *, direct: bool = False) -> None:
        """`direct` is no router but a caller inside the cluster: any method, parameters, no `X-Fission-Full-Url`."""
        self._direct = direct
        self._triggers = [
            _Trigger(_pattern(trigger.path), frozenset(trigger.methods), environments[trigger.function])
            for trigger in triggers()
        ]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Forward a request, or answer as the router does: 404, or 405 where the path has other methods."""
        if self._direct:
            return self._answer(environ, start_response)
        given = environ.get("HTTP_X_FISSION_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid4())

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            # Go's reverse proxy adds the function's headers to those that are set already (net/http/httputil).
            return start_response(status, [("X-Fission-Request-ID", request_id), *headers], exc_info)

        return self._answer({**environ, "HTTP_X_FISSION_REQUEST_ID": request_id}, start)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        matches = [(trigger, match) for trigger in self._triggers if (match := trigger.path.fullmatch(path))]
        for trigger, match in matches:
            if self._direct or environ["REQUEST_METHOD"] in trigger.methods:
                return trigger.function(self._forwarded(environ, path, match), start_response)
        return Answer(status=405 if matches else 404)(environ, start_response)

    def _forwarded(self, environ: dict[str, Any], path: str, match: re.Match[str]) -> dict[str, Any]:
        query = environ.get("QUERY_STRING", "")
        headers = {f"X_FISSION_PARAMS_{name.upper()}": value for name, value in match.groupdict().items()}
        if not self._direct:
            # As Go writes a URL (net/url, EscapedPath).
            escaped = quote(path, safe="$&+,/:;=@")
            headers["X_FISSION_FULL_URL"] = f"{escaped}?{query}" if query else escaped
        # PEP 3333: octets as Latin-1.
        octets = {f"HTTP_{name}": value.encode().decode("latin-1") for name, value in headers.items()}
        return {**environ, **octets, "PATH_INFO": "/"}


def _pattern(path: str) -> re.Pattern[str]:
    """A trigger's path: `{Name}` is a segment, `{Name:expression}` what matches that (httpmux, template.go)."""
    return re.compile("".join(f"(?P<{n}>{e or '[^/]+'})" if n else re.escape(c) for n, e, c in _PART.findall(path)))
