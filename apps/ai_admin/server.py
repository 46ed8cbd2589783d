"""The single-process form: the application with health, metrics and documentation, under Granian."""

import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from flask import Flask

from ai_admin import logs
from ai_admin.app import create_app
from ai_admin.asgi import AsgiApplication
from ai_admin.audit.sealer import sealing
from ai_admin.config import Settings, load_settings
from ai_admin.services import Services

# Where the workers of one server keep their metrics, for any of them to add up (prometheus_client.multiprocess).
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# How long requests under way may take to finish when the server stops, in seconds.
_DRAIN_S = 15

# Most connections that a worker holds, idle ones with them; each costs some kilobytes.
_MOST_CONNECTIONS = 16_384
# Bytes of a connection that are held before the application reads them, and so the size of the largest head.
_UNREAD = 128 * 1024
# Files that a worker may need beside its connections.
_OTHER_FILES = 512


def create_worker() -> AsgiApplication:
    """What each worker of the server loads."""
    _end_with_parent()
    settings = load_settings()
    app = create_server_app(settings)
    _follow_key_ring(app)
    return AsgiApplication(
        app,
        # More threads than connections, so that answers which need none do not queue behind those that wait.
        threads=settings.config.pool_size * 2,
        max_body_bytes=settings.config.max_body_bytes,
        body_timeout_s=settings.config.body_timeout_s,
        body_memory_bytes=settings.config.body_memory_bytes,
        streamed=frozenset({"/ai/admin/users/import"}),
    )


def create_server_app(settings: Settings) -> Flask:
    """The application with the routes that only a server has."""
    from ai_admin.console.views import console  # noqa: PLC0415  only servers have all of these routes
    from ai_admin.console.views.transfer import console_transfer  # noqa: PLC0415
    from ai_admin.front import front  # noqa: PLC0415
    from ai_admin.health import health  # noqa: PLC0415
    from ai_admin.metrics import install_metrics, metrics  # noqa: PLC0415
    from ai_admin.reference import reference  # noqa: PLC0415
    from ai_admin.transfer.views import transfer  # noqa: PLC0415

    app = create_app(settings, (front, transfer, health, reference, metrics, console, console_transfer))
    install_metrics(app, Path(os.environ[_METRICS_VARIABLE]))
    return app


def _end_with_parent() -> None:
    """Stop this worker when the server that started it is gone, even killed: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def _follow_key_ring(app: Flask) -> None:
    """Notice a change of the key ring's file while there are no requests, until this worker ends."""
    from ai_admin.metrics import show_refused_key_ring  # noqa: PLC0415  as above

    made: Services = app.extensions["ai_admin"]
    # Nobody sets the event: the thread ends with the process.
    arguments = (show_refused_key_ring, threading.Event().wait)
    threading.Thread(target=made.key_ring.follow, args=arguments, daemon=True, name="watch-key-ring").start()


def serve(host: str, port: int, workers: int, metrics_folder: Path, ready: Callable[[str], None]) -> None:
    """Serve, and seal the audit log, until SIGINT, SIGTERM or SIGHUP; requests under way are finished.

    `ready` is called with the address once the first worker answers. A worker that dies is replaced.
    """
    from granian import Granian  # noqa: PLC0415
    from granian.constants import Interfaces  # noqa: PLC0415
    from granian.http import HTTP1Settings, HTTP2Settings  # noqa: PLC0415
    from granian.log import LogLevels  # noqa: PLC0415

    # A forked worker would inherit the locks that other threads hold at that moment, and wait for them forever.
    multiprocessing.set_start_method("spawn", force=True)
    shutil.rmtree(metrics_folder, ignore_errors=True)
    metrics_folder.mkdir(parents=True)
    os.environ[_METRICS_VARIABLE] = str(metrics_folder)
    server = Granian(
        "ai_admin.server:create_worker",
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        websockets=False,
        workers=workers,
        factory=True,
        respawn_failed_workers=True,
        # Counts connections, not requests. With the default, a thousand that are silent keep all others out.
        backpressure=_connections(),
        http1_settings=HTTP1Settings(max_buffer_size=_UNREAD),
        http2_settings=HTTP2Settings(
            initial_connection_window_size=_UNREAD, initial_stream_window_size=_UNREAD, max_headers_size=_UNREAD
        ),
        workers_kill_timeout=_DRAIN_S,
        log_level=LogLevels.error,
    )
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    # Whose terminal has gone wants an end, and not new workers.
    server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
    server.on_startup(lambda: threading.Thread(target=_announce, args=(address, ready), daemon=True).start())
    settings = load_settings()
    logs.configure(settings.config.log_level)
    with sealing(settings):
        server.serve()


def _connections() -> int:
    """How many connections a worker can hold: the limit of open files is raised as far as that needs and may be."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (_MOST_CONNECTIONS + _OTHER_FILES, most)
    files = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return max(files - _OTHER_FILES, files // 2)


def _announce(address: str, ready: Callable[[str], None]) -> None:
    """Wait for the first answer, as a probe of Kubernetes would."""
    reachable = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    # Without the proxies of the environment, which lead away from this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(f"{reachable}/healthz", timeout=1):
                ready(address)
                return
        except OSError:
            time.sleep(0.02)
