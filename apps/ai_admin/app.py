"""The application: a standard Flask application, the same in a Fission function and under a server."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from threading import BoundedSemaphore
from typing import Any

from flask import Blueprint, Flask
from flask.typing import ResponseReturnValue

from ai_admin import logs
from ai_admin.access import guard
from ai_admin.access.principals import Principals
from ai_admin.access.rates import Rates
from ai_admin.audit.refusals import Refusals
from ai_admin.audit.views import audit
from ai_admin.config import Settings, load_settings, unknown_settings
from ai_admin.credentials.views import secrets
from ai_admin.database import Database, repeat_lost
from ai_admin.http import cors, heads, host, once, problems, request_log, security_headers, source
from ai_admin.introspection.views import introspection
from ai_admin.keys.views import every, keys, own
from ai_admin.services import Services
from ai_admin.totals import Estimates
from ai_admin.users.views import users
from ai_admin.vault.mounted import MountedKeyRing

# Refusals that one process writes into the audit log in any second, at most.
_RECORDED_REFUSALS = 20
# Imports, exports and verifications that one process has under way at most; a server has twice as many threads as
# connections.
_LONG_WORK = 3
_log = logging.getLogger(__name__)


class _Application(Flask):
    """Flask, which calls a view again where PostgreSQL has ended its transaction for a deadlock or a conflict."""

    def dispatch_request(self, *context: Any) -> ResponseReturnValue:
        return repeat_lost(partial(super().dispatch_request, *context))

    # The type is RequestContext, and AppContext from Flask 3.2 on.
    def request_context(self, environ: dict[str, Any]) -> Any:
        """Cut what is too long before anything of it is parsed; a server and a function both come by here."""
        return super().request_context(heads.bounded(environ))

    # Flask asks before each function that it calls whether it is a coroutine function: none is here.
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Settings | None = None, more: Iterable[Blueprint] = ()) -> Flask:
    """The API, and the routes that only a server has. Connects to nothing until a request needs it.

    Raises `ConfigError` for settings that are wrong, and `RouteWithoutEntry`.
    """
    settings = settings or load_settings()
    config = settings.config
    logs.configure(config.log_level)
    for told in unknown_settings(settings.root):
        _log.warning("%s", told)
    app = _Application("ai_admin", static_folder=None)
    # A path is what it says: a proxy's rule for /ai/admin must not be passed by writing //ai/admin.
    app.url_map.merge_slashes = False
    database = Database(settings)
    Services(
        settings,
        database,
        MountedKeyRing(settings.root),
        Principals(database, config),
        Rates(config.rate_per_second),
        Refusals(_RECORDED_REFUSALS),
        Rates(config.reveals_per_second),
        Rates(config.writes_per_second),
        Rates.per_minute(config.own_writes_per_minute),
        Rates.per_minute(config.sign_ins_per_minute),
        Estimates(),
        BoundedSemaphore(min(_LONG_WORK, config.pool_size)),
    ).attach(app)
    source.install(app, config.trusted_proxies)
    # The last to be installed sees an answer first: CORS and the log line come after every other change.
    request_log.install(app)
    host.install(app)
    heads.install(app)
    cors.install(app)
    security_headers.install(app)
    problems.install(app)
    for blueprint in (users, keys, every, own, secrets, audit, introspection, *more):
        app.register_blueprint(blueprint)
    guard.install(app)
    once.install(app)
    return app
