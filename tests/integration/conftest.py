"""What tests of the API may ask for: the API over HTTP, run in the way that `--mount` says, on an empty directory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from flask import Flask

from ai_admin.config import Settings
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.server import create_server_app
from tests.mounts import OVER_HTTP, mounted
from tests.serving import OFTEN, empty, own_database


@dataclass(frozen=True)
class Deployment:
    """The API, and the settings that it runs with."""

    settings: Settings
    api: httpx.Client


@pytest.fixture(scope="session")
def shared(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Deployment]:
    """One deployment for the session, where starting one for each test would take long."""
    with (
        own_database(postgres, tmp_path_factory.mktemp("shared"), **OFTEN) as settings,
        mounted(settings, pytestconfig) as api,
    ):
        yield Deployment(settings, api)


@pytest.fixture
def settings(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Settings]:
    """Settings that lead to an empty migrated database, which no other test uses meanwhile.

    `@pytest.mark.config(KEY="value")` sets values of the ConfigMap.
    """
    marker = request.node.get_closest_marker("config")
    if request.config.getoption("--mount") in OVER_HTTP and not marker:
        shared: Deployment = request.getfixturevalue("shared")
        empty(postgres, shared.settings.secret.pg_database)
        yield shared.settings
    else:
        with own_database(postgres, tmp_path, **(marker.kwargs if marker else {})) as settings:
            yield settings


@pytest.fixture
def api(request: pytest.FixtureRequest, settings: Settings) -> Iterator[httpx.Client]:
    """An HTTP client of the API on that database."""
    if "shared" in request.fixturenames:
        yield request.getfixturevalue("shared").api
    else:
        with mounted(settings, request.config) as client:
            yield client


@pytest.fixture
def server_app(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application with all that a server adds to it (`ai_admin.server`), on an empty directory."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    app = create_server_app(settings)
    yield app
    app.extensions["ai_admin"].database.close()
