"""What the pages share: their blueprints, their headers, where they lead to, and errors as pages."""

from typing import Any, cast
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import Blueprint, Flask, Response, current_app, g, render_template, request, session
from flask_wtf.csrf import CSRFError, generate_csrf
from werkzeug.exceptions import HTTPException

from ai_admin.access.principals import Principal
from ai_admin.access.scopes import Scope
from ai_admin.console import catalogue
from ai_admin.console.application import csrf, install, is_from_own_page
from ai_admin.console.catalogue import gettext
from ai_admin.console.forms import told
from ai_admin.console.sealed import NotOurs, seal, unseal
from ai_admin.errors import ApiError, BadRequest, Forbidden, RequestInvalid, Unauthenticated
from ai_admin.http import problems
from ai_admin.http.body import hold_form
from ai_admin.http.request_log import request_id
from ai_admin.operations import PAGES

HOME = PAGES
# The pages with files of users, which a server has and a function has not.
TRANSFER = "console_transfer"
_ADDRESS = b"ai-admin console address 1"
# Sealing doubles it.
_LONGEST_ADDRESS = 4096
# Fields that a form may have several times.
_LISTS = frozenset({"id", "user", "scope", "seen"})
# Scripts and styles from this origin alone, none in the page, no frame around it, forms to nobody else.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
}


def page(template: str, status: int = 200, **values: Any) -> Response:
    """A page made of a template."""
    caller: Principal | None = g.get("principal")
    common = {
        "me": caller,
        "can": {scope.name for scope in caller.scopes} if caller else set(),
        "language": catalogue.language(),
        "languages": catalogue.LANGUAGES,
        "here": HOME,
        "address": as_next(),
        "has_transfer": TRANSFER in current_app.blueprints,
    }
    text = render_template(f"console/{template}.html", csrf_token=generate_csrf, **{**common, **values})
    return Response(text, status, content_type="text/html; charset=utf-8")


def see_other(path: str, **query: str) -> Response:
    """Lead on to another page of the console (RFC 9110, 15.4.4)."""
    response = Response(status=303, headers={"Location": f"{path}?{urlencode(query)}" if query else path})
    # Werkzeug 2.0 would write the host that it believes to be at, which is not what the browser sees.
    response.autocorrect_location_header = False
    return response


def as_next(path: str | None = None) -> str:
    """A `next` that leads to a page, the current one if not given: sealed, as its query is nobody's on the way.

    It fits into a form that anybody may send: an address that is too long for that is not returned to.
    """
    target = path or _present()
    return seal(target if len(target) <= _LONGEST_ADDRESS else HOME, _ADDRESS)


def _present() -> str:
    """The address of this page as the browser had it: decoded once more, `%252e%252e` would lead out of the console."""
    path = quote(request.path, safe="/:@!$&'()*+,;=")
    query = request.query_string.decode("latin-1")
    if {".", ".."} & set(path.split("/")):
        return HOME
    return f"{path}?{query}" if query else path


def own_path(sealed: str | None) -> str:
    """Where a `next` leads to: the page that was sealed in it, or else the first page."""
    try:
        return str(unseal(sealed or "", _ADDRESS))
    except NotOurs:
        return HOME


def holds(scope: Scope) -> bool:
    """Whether who is signed in has a scope."""
    return scope in g.principal.scopes


def see_user(user_id: UUID, **query: str) -> Response:
    """Lead on to the page of a user after a change; a caller who may not read users is led to their own page."""
    return see_other(f"{HOME}/users/{user_id}" if holds(Scope.USERS_READ) else f"{HOME}/account", **query)


def _check_form() -> None:
    """Refuse a form that is not one of ours (OWASP CSRF Prevention: token, SameSite, Sec-Fetch-Site and Origin).

    Nothing of the body is read before the browser has shown the cookie that a form goes with.
    """
    if request.method == "POST":
        if request.content_length is None:
            # Browsers send one. Without it, a function would read to the end of whatever comes.
            raise BadRequest("A form has a Content-Length.")
        if not is_from_own_page():
            raise Forbidden(gettext("This form was sent from another site."))
        if current_app.config["WTF_CSRF_FIELD_NAME"] not in session:
            raise CSRFError("The cookie of the form is missing.")
        hold_form()
        csrf.protect()
        for name, values in request.form.lists():
            if len(values) > 1 and name not in _LISTS:
                message = gettext("The field %(name)s was sent twice.") % {"name": name[:50]}
                raise RequestInvalid.at("body", name, message=message, kind="repeated")


def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _form_is_old(_: CSRFError) -> Response:
    return _error(BadRequest(gettext("This form is too old, or not ours. Load the page again and send it anew.")))


def _http_exception(error: HTTPException) -> Response:
    return _error(problems.of_http(error))


def _unexpected(error: Exception) -> Response:
    return _error(problems.unexpected(error))


def answered(error: ApiError) -> int:
    """Note that the page is the answer to an error, which may be a refusal to record; return its status."""
    g.error = error
    return error.status


def _error(error: ApiError) -> Response:
    """A page that says what went wrong; whoever is not signed in is asked to."""
    answered(error)
    if isinstance(error, Unauthenticated):
        return see_other(f"{HOME}/sign-in", **({"next": as_next()} if request.method == "GET" else {}))
    response = page("error", error.status, error=error, told=told(error), request_id=request_id())
    response.headers.update(error.answer_headers)
    return response


def blueprint(name: str) -> Blueprint:
    """Pages of the console that an application has or has not, with the headers, checks and errors of all."""
    made = Blueprint(name, __name__, url_prefix=HOME, template_folder="../templates")
    made.before_request(_check_form)
    made.after_request(_add_headers)
    made.register_error_handler(CSRFError, _form_is_old)
    made.register_error_handler(HTTPException, _http_exception)
    made.register_error_handler(Exception, _unexpected)
    made.register_error_handler(ApiError, _error)
    return made


console = blueprint("console")
console.record_once(lambda state: install(cast(Flask, state.app)))
