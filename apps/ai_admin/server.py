"""The single-process form: the application with health, metrics and documentation, under Granian."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from flask import Flask

from ai_admin.app import create_app
from ai_admin.config import Settings

# Where the workers of one server keep their metrics, for any of them to add up (prometheus_client.multiprocess).
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def create_server_app() -> Flask:
    """The application as each worker of the server loads it."""
    from ai_admin.health import health  # noqa: PLC0415  only servers have these routes
    from ai_admin.metrics import install_metrics  # noqa: PLC0415
    from ai_admin.reference import reference  # noqa: PLC0415

    app = create_app()
    app.register_blueprint(health)
    app.register_blueprint(reference)
    install_metrics(app)
    return app


def serve(
    settings: Settings, host: str, port: int, workers: int, metrics_folder: Path, ready: Callable[[], None]
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished. `ready` is called once it listens."""
    from granian import Granian  # noqa: PLC0415
    from granian.constants import Interfaces  # noqa: PLC0415

    shutil.rmtree(metrics_folder, ignore_errors=True)
    metrics_folder.mkdir(parents=True)
    os.environ[_METRICS_VARIABLE] = str(metrics_folder)
    server = Granian(
        "ai_admin.server:create_server_app",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        factory=True,
        # More threads than connections, so that answers which need none are not behind those that wait.
        blocking_threads=settings.config.pool_size * 2,
        backpressure=512,
        respawn_failed_workers=True,
        workers_kill_timeout=15,
        log_level="warning",
    )
    server.on_startup(ready)
    logging.getLogger("granian").setLevel(logging.WARNING)
    server.serve()
