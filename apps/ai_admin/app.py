"""The application: a standard Flask application, the same in a Fission function and under a WSGI server."""

from flask import Flask

from ai_admin import logs
from ai_admin.config import Settings, load_settings
from ai_admin.database import Database
from ai_admin.http import cors, problems, request_log
from ai_admin.services import Services
from ai_admin.users.views import users


def create_app(settings: Settings | None = None) -> Flask:
    """The API. Connects to nothing until a request needs it. Raises `ConfigError` for settings that are wrong."""
    settings = settings or load_settings()
    logs.configure(settings.config.log_level)
    app = Flask("ai_admin", static_folder=None)
    Services(settings, Database(settings)).attach(app)
    # The last to be installed sees an answer first: CORS and the log line come after every other change.
    request_log.install(app)
    cors.install(app)
    problems.install(app)
    app.register_blueprint(users)
    return app
