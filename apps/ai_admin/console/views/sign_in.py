"""Signing in and out: an API key is exchanged for a session, whose token is in a cookie that no script reads.

`provider.py` has the other way in.
"""

from flask import Response, request, session

from ai_admin.access import sessions
from ai_admin.access.actors import Actor
from ai_admin.console.application import is_over_tls
from ai_admin.console.forms import told
from ai_admin.console.views.pages import HOME, answered, as_next, console, own_path, page, see_other
from ai_admin.errors import RateLimited, Unauthenticated
from ai_admin.http.request_log import request_id
from ai_admin.operations import describe
from ai_admin.services import services


@console.get("/sign-in")
@describe("Sign in", "public", answers={200: None}, page=True)
def show_sign_in() -> Response:
    """The form; `next` is where it leads to."""
    return sign_in_page(200, own_path(request.args.get("next")))


@console.post("/sign-in")
@describe("Sign in with a key", "public", answers={303: None, 401: None}, errors=(RateLimited,), page=True)
def sign_in() -> Response:
    """A session with a new token, whatever the browser had before (session fixation, CWE-384)."""
    target = own_path(request.form.get("next"))
    key = request.form.get("key", "").strip()
    try:
        # A token of an identity provider is no key: it comes by way of views/provider.py, or to the API.
        caller = services().principals.of_token(key if "." not in key else "", nobody)
        services().sign_ins.require(caller.user_id)
        with services().database.transaction() as connection:
            # In this order: two sign-ins of a user both lock the user first.
            token = sessions.begin(connection, nobody(), caller, services().settings.config.sessions_per_user)
            sessions.end(connection, nobody(), request.cookies.get(sessions.COOKIE))
    except Unauthenticated as error:
        return sign_in_page(answered(error), target, fault=told(error))
    session.clear()
    response = see_other(target)
    keep_session(response, token, secure=is_over_tls())
    return response


def sign_in_page(status: int, target: str, *, fault: str = "", provider_fault: str = "") -> Response:
    """The page to sign in by, with what was wrong the last time."""
    config = services().settings.config
    # Under the address that the provider leads back to: what is kept meanwhile lies in a cookie of that host.
    provider = f"{config.public_url}{HOME}/sign-in/provider" if config.oidc_client_id else None
    # Of the callback's own address nobody is to be led back to: its code is used up.
    values = {"address": as_next(f"{HOME}/sign-in"), "provider": provider}
    return page("sign_in", status, next=as_next(target), fault=fault, provider_fault=provider_fault, **values)


def keep_session(response: Response, token: str, *, secure: bool) -> None:
    """Let the browser keep a session, from scripts and other sites' pages."""
    response.set_cookie(
        sessions.COOKIE,
        token,
        max_age=int(sessions.LONGEST.total_seconds()),
        path=HOME,
        secure=secure,
        httponly=True,
        samesite="Strict",
    )


@console.post("/sign-out")
@describe("Sign out", "public", answers={303: None}, page=True)
def sign_out() -> Response:
    """End the session in the database, and forget it in the browser. Works whether or not it still holds."""
    with services().database.transaction() as connection:
        sessions.end(connection, nobody(), request.cookies.get(sessions.COOKIE))
    session.clear()
    response = see_other(f"{HOME}/sign-in")
    response.delete_cookie(sessions.COOKIE, path=HOME)
    return response


def nobody() -> Actor:
    """Who asks for a sign-in."""
    return Actor(request_id=request_id(), source=request.remote_addr or "")
