"""Signing in and out: an API key is exchanged for a session, whose token is in a cookie that no script reads."""

from flask import Response, g, request, session

from ai_admin.access import sessions
from ai_admin.access.actors import Actor
from ai_admin.console.views.pages import HOME, as_next, console, is_over_tls, own_path, page, see_other
from ai_admin.errors import Unauthenticated
from ai_admin.http.request_log import request_id
from ai_admin.operations import describe
from ai_admin.services import services


@console.get("/sign-in")
@describe("Sign in", "public", answers={200: None}, page=True)
def show_sign_in() -> Response:
    """The form; `next` is where it leads to."""
    return page("sign_in", next=as_next(own_path(request.args.get("next"))), fault=False)


@console.post("/sign-in")
@describe("Sign in with a key", "public", answers={303: None, 401: None}, page=True)
def sign_in() -> Response:
    """A session with a new token, whatever the browser had before (session fixation, CWE-384)."""
    target = own_path(request.form.get("next"))
    key = request.form.get("key", "").strip()
    try:
        # A session rests on a key, which its revocation ends; a token of an identity provider is none.
        caller = services().principals.of_token(key if "." not in key else "", _nobody)
    except Unauthenticated as error:
        g.error = error
        return page("sign_in", 401, next=as_next(target), fault=True)
    with services().database.transaction() as connection:
        sessions.end(connection, request.cookies.get(sessions.COOKIE))
        token = sessions.begin(connection, caller)
    session.clear()
    response = see_other(target)
    response.set_cookie(
        sessions.COOKIE,
        token,
        max_age=int(sessions.LONGEST.total_seconds()),
        path=HOME,
        secure=is_over_tls(),
        httponly=True,
        samesite="Strict",
    )
    return response


@console.post("/sign-out")
@describe("Sign out", "public", answers={303: None}, page=True)
def sign_out() -> Response:
    """End the session in the database, and forget it in the browser. Works whether or not it still holds."""
    with services().database.transaction() as connection:
        sessions.end(connection, request.cookies.get(sessions.COOKIE))
    session.clear()
    response = see_other(f"{HOME}/sign-in")
    response.delete_cookie(sessions.COOKIE, path=HOME)
    return response


def _nobody() -> Actor:
    return Actor(request_id=request_id(), source=request.remote_addr or "")
