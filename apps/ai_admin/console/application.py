"""The console within an application: templates, form tokens, and the key that signs them."""

import hashlib
from typing import Any

from flask import Flask, Request, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect

from ai_admin.console import catalogue, shown
from ai_admin.operations import PAGES
from ai_admin.services import Services, services

_CONTEXT = b"ai-admin console 1"
csrf = CSRFProtect()


class _ConsoleSessions(SecureCookieSessionInterface):
    """Flask's sessions for the console alone: no route of the API reads one, and each would have its signer made."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = keys

    def get_signing_serializer(self, app: Flask) -> Any:
        # Flask knows of several keys since 3.1 alone.
        serializer = super().get_signing_serializer(app)
        if serializer is not None:
            serializer.secret_keys = self._keys
        return serializer

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if not request.path.startswith(self.get_cookie_path(app)):
            return None
        return super().open_session(app, request)

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return is_over_tls()


def is_over_tls() -> bool:
    """Whether the browser came over TLS, as far as the server or the proxy before it says."""
    return request.is_secure or _forwarded("Proto").lower() == "https"


def is_from_own_page() -> bool:
    """Whether the browser sent the current form from a page of this origin, as far as its headers say.

    `Sec-Fetch-Site` is the browser's own comparison, which holds behind a proxy that changes the host too. Browsers
    send it over TLS and to this machine; otherwise `Origin` is compared here. A client that sends neither is no browser
    of the last ten years: the form's token alone tells then.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site == "same-origin" and origin != "null"
    return origin is None or origin in _own_origins()


def _own_origins() -> set[str]:
    """The origins that this request may have been sent to, as browsers write them (RFC 6454, 6.2)."""
    scheme, port = ("https", ":443") if is_over_tls() else ("http", ":80")
    # No page of another origin can set a header X-Forwarded-Host without a preflight request, which pages refuse.
    hosts = {request.headers.get("Host", ""), _forwarded("Host")} - {""}
    origins = {f"{scheme}://{host.lower().removesuffix(port)}" for host in hosts}
    return origins | ({services().settings.config.public_url} - {""})


def _forwarded(name: str) -> str:
    """What the proxy nearest to the browser says in an X-Forwarded header; the empty string without one."""
    return request.headers.get(f"X-Forwarded-{name}", "").partition(",")[0].strip()


def install(app: Flask) -> None:
    """Make an application that gets the console's routes able to serve them. No other route changes."""
    made: Services = app.extensions["ai_admin"]
    # The order of itsdangerous: the last one signs, and all verify.
    keys = [
        hashlib.blake2b(_CONTEXT, key=key, digest_size=32).digest()
        for key in reversed(made.settings.secret.cursor_keys())
    ]
    app.config.update(
        # Signs a random form token and nothing else; the session proper is in the database (access/sessions.py).
        SECRET_KEY=keys[-1],
        WTF_CSRF_SECRET_KEY=keys,
        SESSION_COOKIE_NAME="aia_form",
        SESSION_COOKIE_PATH=PAGES,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        # The console asks for the token itself; the API, which no cookie opens, needs none.
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
        # `is_from_own_page` compares the origin, and knows of proxies that end TLS.
        WTF_CSRF_SSL_STRICT=False,
        # A field may be as large as a body, such as the file that an import is asked about.
        MAX_FORM_MEMORY_SIZE=made.settings.config.max_body_bytes,
    )
    app.session_interface = _ConsoleSessions(keys)
    csrf.init_app(app)
    environment = app.jinja_env
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.add_extension("jinja2.ext.i18n")
    # The extension adds it to the environment, which the types do not know.
    translate: Any = environment
    translate.install_gettext_callables(catalogue.gettext, catalogue.ngettext, newstyle=True)
    environment.filters.update(shown.FILTERS)
