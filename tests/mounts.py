"""The ways to run the application that `--mount` chooses from, each reached through an HTTP client."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from unittest import mock

import httpx
import pytest

from ai_admin import fission
from ai_admin.app import create_app
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.console.views import console
from tests.conftest import AS_OWNER, BASE_URL, ROOT, calling
from tests.fission import double, real
from tests.serving import serving

# These run in processes of their own, which a test cannot look into.
OVER_HTTP = ("server", "environment")


@contextmanager
def mounted(
    settings: Settings, config: pytest.Config, mount: str | None = None, *, direct: bool = False
) -> Iterator[httpx.Client]:
    """A client of the API with these settings, run as `mount` says, and where that is None as `--mount` does.

    `direct` leaves Fission's router out, as a caller inside the cluster does.
    """
    mount = mount or config.getoption("--mount")
    folder = settings.root.parent
    if mount == "application":
        with calling(create_app(settings)) as client:
            yield client
    elif mount == "function":
        with mock.patch.dict(os.environ, {ROOT_VARIABLE: str(settings.root)}):
            fission.application.cache_clear()
            router = double.Router(double.specialised(ROOT / "apps"), direct=direct)
            apps = fission.application(), fission.application(console)
        with closing(apps[1].extensions["ai_admin"].database), calling(apps[0], router) as client:
            yield client
    elif mount == "server":
        with serving(settings, folder) as client:
            yield client
    else:
        image = real.Image(*(config.getoption(f"--fission-{part}") for part in ("environment", "python", "package")))
        with real.specialised(image, settings.root, folder) as pods:
            transport = httpx.WSGITransport(double.Router(pods, direct=direct))
            with httpx.Client(transport=transport, base_url=BASE_URL, headers=AS_OWNER) as client:
                yield client
