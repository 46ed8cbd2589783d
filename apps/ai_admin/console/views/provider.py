"""Signing in with the organisation's identity provider: off to it, and back from it.

The way back is a navigation that another site began, on which browsers send no SameSite=Strict cookie. So what the
answer is compared with lies in a cookie of its own, sealed, Lax, for a few minutes and for the one path that is led
back to; and the session's cookie is first sent by the page that follows, which is one of ours.
"""

from dataclasses import astuple
from datetime import datetime, timedelta, timezone

from flask import Response, after_this_request, request, session

from ai_admin.access import sessions
from ai_admin.access.attempts import Attempt, BrokenOff, StaleAttempt, code_of, new_attempt
from ai_admin.access.principals import Principal
from ai_admin.config import ConfigSettings
from ai_admin.console.catalogue import N_, gettext
from ai_admin.console.sealed import NotOurs, seal, unseal
from ai_admin.console.views.pages import HOME, answered, console, own_path, page, see_other
from ai_admin.console.views.sign_in import keep_session, nobody, sign_in_page
from ai_admin.errors import ApiError, IdentityProviderUnavailable, RouteNotFound, Unauthenticated
from ai_admin.operations import describe
from ai_admin.services import services

COOKIE = "aia_sign_in"
CALLBACK = f"{HOME}/sign-in/callback"
# How long a sign-in at the provider may take.
_PATIENCE = timedelta(minutes=10)
# A cookie holds 4 KiB, and sealing doubles; a longer address is not returned to.
_LONGEST_TARGET = 1000
_PURPOSE = b"ai-admin console sign-in 1"
_FAULTS: dict[type[ApiError], str] = {
    StaleAttempt: N_("This sign-in was begun in another browser, or too long ago. Begin it anew."),
    BrokenOff: N_("The sign-in was broken off at your organisation."),
    Unauthenticated: N_("Your organisation knows you, but no active user here is bound to you. Ask an administrator."),
    IdentityProviderUnavailable: N_("Your organisation's sign-in does not answer. Try again later, or use a key."),
}


@console.get("/sign-in/provider")
@describe("Sign in with the provider", "public", answers={303: None}, errors=(RouteNotFound,), page=True)
def go_to_provider() -> Response:
    """Lead the browser to the provider; `next` is where all of it leads to in the end."""
    config, attempt = _offered(), new_attempt()
    from ai_admin.access.code_flow import authorization_address  # noqa: PLC0415  see there

    target = own_path(request.args.get("next"))
    until = datetime.now(timezone.utc) + _PATIENCE
    kept = [astuple(attempt), target if len(target) <= _LONGEST_TARGET else HOME, until.timestamp()]
    response = see_other(authorization_address(config, attempt, config.public_url + CALLBACK))
    response.set_cookie(
        COOKIE,
        seal(kept, _PURPOSE),
        max_age=int(_PATIENCE.total_seconds()),
        path=CALLBACK,
        secure=_is_secure(config),
        httponly=True,
        samesite="Lax",
    )
    return response


@console.get("/sign-in/callback")
@describe(
    "Back from the provider", "public", answers={200: None, 401: None, 503: None}, errors=(RouteNotFound,), page=True
)
def come_from_provider() -> Response:
    """A new session, and a page that leads on. What was kept for this sign-in serves no second one."""
    config = _offered()
    after_this_request(_forget_attempt)
    try:
        attempt, target = _attempt()
        response = _enter(config, _caller(config, attempt), target)
    except (Unauthenticated, IdentityProviderUnavailable) as error:
        return sign_in_page(answered(error), HOME, provider_fault=gettext(_FAULTS[type(error)]))
    return response


def _forget_attempt(response: Response) -> Response:
    """Whatever the answer is: the attempt is over, and its address, which has the code, is told to no page after it."""
    response.delete_cookie(COOKIE, path=CALLBACK)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _offered() -> ConfigSettings:
    """Raises `RouteNotFound` where the settings name no client."""
    config = services().settings.config
    if not config.oidc_client_id:
        raise RouteNotFound
    return config


def _attempt() -> tuple[Attempt, str]:
    """What this browser has under way, and where it leads to. Raises `StaleAttempt`."""
    try:
        members, target, until = unseal(request.cookies.get(COOKIE, ""), _PURPOSE)
    except NotOurs:
        raise StaleAttempt("no sign-in under way in this browser") from None
    if until < datetime.now(timezone.utc).timestamp():
        raise StaleAttempt("sign-in took too long")
    return Attempt(*members), target


def _caller(config: ConfigSettings, attempt: Attempt) -> Principal:
    """Whom the provider vouches for in its answer."""
    code = code_of(dict(request.args.lists()), attempt, config.oidc_issuer)
    from ai_admin.access.code_flow import id_token  # noqa: PLC0415  see there

    token = id_token(services().settings, attempt, code, config.public_url + CALLBACK)
    return services().principals.of_id_token(token, attempt.nonce, nobody)


def _enter(config: ConfigSettings, caller: Principal, target: str) -> Response:
    services().sign_ins.require(caller.user_id)
    with services().database.transaction() as connection:
        token = sessions.begin(connection, nobody(), caller, config.sessions_per_user)
    # The cookie with the form token was not sent either; whoever has planted it knows it (CWE-384).
    session.clear()
    response = page("signed_in", next=target)
    keep_session(response, token, secure=_is_secure(config))
    return response


def _is_secure(config: ConfigSettings) -> bool:
    """The provider leads back to this address, whatever a proxy says of the request."""
    return config.public_url.startswith("https:")
