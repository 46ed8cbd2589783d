"""Runs the application inside a Fission function: same routes, same errors, same headers as under a WSGI server.

Fission's Python environment is a Flask application of its own that calls a function's `main()` without arguments
while its request is the current one (fission/environments, python/server.py). The router forwards every request
to path `/`, keeps the query, and puts path parameters into headers `X-Fission-Params-<Name>`. The path is rebuilt
here from the function's own route and those headers, so a direct call of the function works as well, and no header
can lead to another route than the function's.
"""

import re
from collections.abc import Callable
from functools import cache
from urllib.parse import urlsplit

from flask import Flask, Response, request

from ai_admin.app import create_app
from ai_admin.services import Services, services

Job = Callable[[Services], None]
_PARAMETER = re.compile(r"<(\w+)>")


@cache
def application() -> Flask:
    """The application of this process. Raises `ConfigError` for settings that are wrong."""
    return create_app()


def answer(app: Flask, *routes: str) -> Response:
    """The application's answer to the request that Fission's environment handles now.

    `routes` are the application's rules that the function serves, such as `/ai/admin/users/<UserID>`.
    """
    environ = dict(request.environ)
    route = _asked(routes, environ)
    # PEP 3333: the decoded path, its octets as Latin-1, which is how the header's value arrived.
    environ["PATH_INFO"] = _PARAMETER.sub(lambda name: _parameter(environ, name[1]), route)
    environ["SCRIPT_NAME"] = ""
    with app.request_context(environ):
        return app.full_dispatch_request()


def run(app: Flask, job: Job) -> Response:
    """Do a job that a time trigger calls for: 204, or the application's answer to what went wrong.

    Nothing of the request reaches the job, so that whoever calls the function can do no more than the timer does.
    """
    with app.request_context(request.environ):
        try:
            job(services())
        except Exception as error:  # noqa: BLE001  the application's handlers log it and make the answer
            return app.make_response(app.handle_user_exception(error))
    return Response(status=204)


def _asked(routes: tuple[str, ...], environ: dict[str, object]) -> str:
    """Which of the function's routes is asked for: by the whole address, or by the parameters in a direct call."""
    path = _path(str(environ.get("HTTP_X_FISSION_FULL_URL", "")))
    for route in routes:
        if re.fullmatch(_PARAMETER.sub("[^/]+", route), path):
            return route
    complete = [route for route in routes if all(_parameter(environ, name) for name in _PARAMETER.findall(route))]
    # Of several with the same parameters the first: the others are called by their whole address alone.
    return max(complete, key=lambda route: len(_PARAMETER.findall(route)), default=routes[0])


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _parameter(environ: dict[str, object], name: str) -> str:
    """A path parameter. A slash in it, which no router puts there, is doubled: there is no such route."""
    return str(environ.get(f"HTTP_X_FISSION_PARAMS_{name.upper()}", "")).replace("/", "//")
