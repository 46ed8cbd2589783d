"""A browser at a real server: Chromium, watched for errors of scripts and for requests that leave the host."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from tests.conftest import OWNER_KEY, ROOT
from tests.serving import OFTEN, empty, own_database, serving

from ai_admin.config import Settings
from ai_admin.embedded import EmbeddedPostgres

CONSOLE = "/ai/admin/console"
# What the tests have seen, for who wants to look.
SHOTS = ROOT / ".local" / "screenshots"
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@dataclass
class Visit:
    """A page of the console in a browser, and the API beside it."""

    page: Page
    api: httpx.Client

    def open(self, path: str) -> None:
        """Go to a page of the console, which is not one on a fault of ours."""
        answer = self.page.goto(f"{self.api.base_url}".rstrip("/") + CONSOLE + path)
        assert answer is not None, path
        assert answer.status < 500, path

    def sign_in(self, key: str = OWNER_KEY) -> None:
        """Sign in through the form."""
        self.open("/sign-in")
        self.page.fill("#key", key)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "sign-in" not in url)

    def user(self, tag: str, **members: object) -> str:
        """The id of a new service."""
        answer = self.api.post("/ai/admin/users", json={"tag": tag, "kind": "service", **members})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def look(self, name: str) -> None:
        """Keep a screenshot, and let axe look too (WCAG 2.2 AA)."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
        found = Axe().run(self.page, options=_RULES)
        assert found.violations_count == 0, found.generate_report()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not on this machine")
    with sync_playwright() as playwright:
        # As root, which CI is, Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, httpx.Client]]:
    """A server for all tests."""
    folder = tmp_path_factory.mktemp("served")
    with own_database(postgres, folder, **OFTEN) as settings, serving(settings, folder, workers=1) as api:
        yield settings, api


@contextmanager
def visiting(
    chromium: Browser,
    api: httpx.Client,
    scheme: Literal["light", "dark"] = "light",
    *,
    others: frozenset[str] = frozenset(),
    scripts: bool = True,
) -> Iterator[Visit]:
    """A browser of its own; at the end, no script has failed and no request has left for other hosts than `others`."""
    context = chromium.new_context(
        color_scheme=scheme, locale="en", viewport={"width": 1280, "height": 800}, java_script_enabled=scripts
    )
    page = context.new_page()
    errors: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    # A form that is not taken is answered with its status, which the browser notes as a failure to load.
    page.on(
        "console",
        lambda said: (
            errors.append(said.text) if said.type in {"error", "warning"} and "status of 4" not in said.text else None
        ),
    )
    page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
    yield Visit(page, api)
    context.close()
    assert errors == []
    assert hosts - others == {urlsplit(str(api.base_url)).netloc}


@pytest.fixture(params=["light"])
def visit(
    request: pytest.FixtureRequest,
    chromium: Browser,
    served: tuple[Settings, httpx.Client],
    postgres: EmbeddedPostgres,
) -> Iterator[Visit]:
    """A browser at an empty directory."""
    settings, api = served
    empty(postgres, settings.secret.pg_database)
    with visiting(chromium, api, request.param) as visit:
        yield visit
