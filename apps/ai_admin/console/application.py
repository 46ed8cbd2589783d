"""The console within an application: templates, form tokens, and the key that signs them."""

import hashlib
from typing import Any

from flask import Flask, Request, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect

from ai_admin.console import catalogue, shown
from ai_admin.services import Services

_CONTEXT = b"ai-admin console 1"
csrf = CSRFProtect()


class _ConsoleSessions(SecureCookieSessionInterface):
    """Flask's sessions for the console alone: no route of the API reads one, and each would have its signer made."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if not request.path.startswith(self.get_cookie_path(app)):
            return None
        return super().open_session(app, request)

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return is_over_tls()


def is_over_tls() -> bool:
    """Whether the browser came over TLS, as far as the server or the proxy before it says."""
    return request.is_secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def install(app: Flask) -> None:
    """Make an application that gets the console's routes able to serve them. No other route changes."""
    made: Services = app.extensions["ai_admin"]
    key = made.settings.secret.cursor_key_bytes()
    app.config.update(
        # Signs a random form token and nothing else; the session proper is in the database (access/sessions.py).
        SECRET_KEY=hashlib.blake2b(_CONTEXT, key=key, digest_size=32).digest(),
        SESSION_COOKIE_NAME="aia_form",
        SESSION_COOKIE_PATH="/ai/admin/console",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        # The console asks for the token itself; the API, which no cookie opens, needs none.
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
        # A proxy may end TLS and change the host; the token and Sec-Fetch-Site tell enough.
        WTF_CSRF_SSL_STRICT=False,
        # A field may be as large as a body, such as the file that an import is asked about.
        MAX_FORM_MEMORY_SIZE=made.settings.config.max_body_bytes,
    )
    app.session_interface = _ConsoleSessions()
    csrf.init_app(app)
    environment = app.jinja_env
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.add_extension("jinja2.ext.i18n")
    # The extension adds it to the environment, which the types do not know.
    translate: Any = environment
    translate.install_gettext_callables(catalogue.gettext, catalogue.ngettext, newstyle=True)
    environment.filters.update(shown.FILTERS)
