"""Who is signed in, and the language they read."""

from flask import Response, g, request

from ai_admin.access.scopes import Scope
from ai_admin.console import catalogue
from ai_admin.console.application import is_over_tls
from ai_admin.console.views.pages import HOME, console, holds, own_path, page, see_other
from ai_admin.errors import RequestInvalid, RouteNotFound
from ai_admin.operations import describe
from ai_admin.services import services
from ai_admin.users import directory

_YEAR_S = 365 * 24 * 3600


@console.get("")
@describe("First page", "signed-in", answers={303: None}, page=True)
def first_page() -> Response:
    """The overview where the caller may see it, and otherwise themselves."""
    return see_other(f"{HOME}/overview" if holds(Scope.USERS_READ) else f"{HOME}/account")


@console.get("/<path:Rest>")
@describe("No page", "signed-in", answers={}, errors=(RouteNotFound,), page=True)
def find_nothing(Rest: str) -> Response:  # noqa: N803, ARG001
    """An address that was mistyped is told on a page, and not as a program is."""
    raise RouteNotFound


@console.get("/account")
@describe("Who is signed in", "signed-in", answers={200: None}, page=True)
def show_account() -> Response:
    """The caller as the directory has them, and what their key lets them do."""
    with services().database.connection() as connection:
        user = directory.get(connection, g.principal.user_id)
    return page("account", user=user, scopes=sorted(scope.value for scope in g.principal.scopes))


@console.post("/language")
@describe("Choose a language", "public", answers={303: None}, page=True)
def choose_language() -> Response:
    """Kept in a cookie of the browser."""
    chosen = request.form.get("language", "")
    if chosen not in catalogue.LANGUAGES:
        raise RequestInvalid.at("body", "language", message="There is no such language")
    response = see_other(own_path(request.form.get("next")))
    response.set_cookie(
        catalogue.COOKIE,
        chosen,
        max_age=_YEAR_S,
        path=HOME,
        secure=is_over_tls(),
        httponly=True,
        samesite="Strict",
    )
    return response
