"""Runs the application inside a Fission function: same routes, same errors, same headers as under a WSGI server.

Fission's Python environment is a Flask application of its own that calls a function's `main()` without arguments
while its request is the current one (fission/environments, python/server.py). The router forwards every request
to path `/`, keeps the query, and puts path parameters into headers `X-Fission-Params-<Name>`. The path is rebuilt
here from the function's own route and those headers, so a direct call of the function works as well, and no header
can lead to another route than the function's.

A function that serves all below a prefix reads its path in `X-Fission-Full-Url`: the environment of Python 3.10 knows
no path but `/`. Later ones take every path, so there a trigger with `keepPrefix` does as well.
"""

import re
from collections.abc import Callable
from functools import cache
from urllib.parse import unquote_to_bytes, urlsplit

from flask import Blueprint, Flask, Response, request

from ai_admin.app import create_app
from ai_admin.http import request_log
from ai_admin.services import Services, services

Job = Callable[[Services], None]
_PARAMETER = re.compile(r"<(\w+)>")


@cache
def application(*more: Blueprint) -> Flask:
    """The application of this process, with more routes where a function has some. Raises `ConfigError`."""
    return create_app(more=more)


def answer(app: Flask, *routes: str) -> Response:
    """The application's answer to the request that Fission's environment handles now.

    `routes` are the application's rules that the function serves, such as `/ai/admin/users/<UserID>`.
    """
    route = _asked(routes, request.environ)
    # PEP 3333: the decoded path, its octets as Latin-1, which is how the header's value arrived.
    return _answer(app, _PARAMETER.sub(lambda name: _parameter(request.environ, name[1]), route))


def answer_below(app: Flask, prefix: str) -> Response:
    """The application's answer, as `answer` gives it, where the function serves all that is below a prefix.

    The application takes a path for what it says: one with `..` or `//` in it leads nowhere, and not out of the prefix.
    """
    path = str(request.environ["PATH_INFO"])
    if path == "/":
        path = unquote_to_bytes(_path(request.headers.get("X-Fission-Full-Url", ""))).decode("latin-1")
    is_below = path == prefix or path.startswith(f"{prefix}/")
    # Only who calls the function past the router asks for what is not its own. No route has two slashes.
    return _answer(app, path if is_below else f"{prefix}//{path}")


def _answer(app: Flask, path: str) -> Response:
    with app.request_context({**request.environ, "PATH_INFO": path, "SCRIPT_NAME": ""}):
        response = app.full_dispatch_request()
    # The router gives every request an id and puts it on the answer itself; a second one would be added to it.
    if response.headers.get(request_log.HEADER) == request.environ.get(request_log.VARIABLE):
        response.headers.remove(request_log.HEADER)
    return response


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
