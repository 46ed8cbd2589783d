"""Metrics in the Prometheus text format, added up over the workers of one server."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock

from flask import Blueprint, Flask, Response, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from ai_admin.http.request_log import elapsed
from ai_admin.operations import describe
from ai_admin.services import services

metrics = Blueprint("metrics", __name__)

_REQUESTS = Counter("ai_admin_http_requests", "Requests answered.", ["method", "route", "status"])
_SECONDS = Histogram("ai_admin_http_request_duration_seconds", "Time to the answer.", ["method", "route"])
_CONNECTIONS = Gauge("ai_admin_pool_connections", "Connections in the pool.", ["state"], multiprocess_mode="livesum")
_WAITING = Gauge("ai_admin_pool_requests_waiting", "Requests that wait for a connection.", multiprocess_mode="livesum")
_REFUSED_RINGS = Gauge(
    "ai_admin_vault_ring_refused",
    "Workers that keep an older key ring because that of the mounted file cannot be used.",
    multiprocess_mode="livesum",
)
_READ_ONLY = Gauge(
    "ai_admin_database_read_only", "1 where the last /readyz found the database read-only.", multiprocess_mode="livemax"
)
_IDLE, _USED = _CONNECTIONS.labels("idle"), _CONNECTIONS.labels("used")
# Methods have a handful of names; a caller may invent more, and each would be a series.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


# What each gauge shows.
_shown: dict[Gauge, int] = {}
_showing = Lock()


@metrics.get("/metrics")
@describe("Metrics", "public", answers={200: None})
def scrape() -> Response:
    """Counters and histograms by route, never by user or path."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


@cache
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Those that an answer counts in, looked up once."""
    return _REQUESTS.labels(method, route, status), _SECONDS.labels(method, route)


def _measure(response: Response) -> Response:
    method, rule = request.method, request.url_rule
    method = method if method in _METHODS else "other"
    answers, seconds = _series(method, rule.rule if rule else "none", response.status_code)
    answers.inc()
    seconds.observe(elapsed())
    stats = services().database.stats()
    size, available = stats.get("pool_size", 0), stats.get("pool_available", 0)
    _show({_IDLE: available, _USED: size - available, _WAITING: stats.get("requests_waiting", 0)})
    return response


def show_read_only(is_read_only: bool) -> None:
    """Show whether the database takes no changes."""
    _show({_READ_ONLY: int(is_read_only)})


def _show(values: Mapping[Gauge, int]) -> None:
    """Show what is another value than before: each one that is set goes into the file that the workers share."""
    with _showing:
        for gauge, value in values.items():
            if _shown.get(gauge) != value:
                gauge.set(value)
                _shown[gauge] = value


def show_refused_key_ring(is_refused: bool) -> None:
    """Show whether this worker keeps an older key ring than that of the mounted file."""
    _show({_REFUSED_RINGS: int(is_refused)})


def _forget_dead_workers(folder: Path) -> None:
    """Drop the gauges of processes that are gone: a worker that replaces one must not count its connections too."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if pid != os.getpid() and not _is_alive(pid):
            file.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def install_metrics(app: Flask, folder: Path) -> None:
    """Measure every request of the application; the workers' counts are in this folder."""
    _forget_dead_workers(folder)
    app.after_request(_measure)
