"""Pictures of every page of the console, as docs/console.md shows them: light and dark, narrow and wide."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

import httpx
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from tests.conftest import OWNER_KEY, ROOT, write_mount
from tests.serving import USERS, directory, serving

from ai_admin import demo
from ai_admin.config import Settings, load_settings

FOLDER = ROOT / "docs" / "screenshots"
_CONSOLE = "/ai/admin/console"
_PEOPLE = 2_000
_SIZES = {"wide": (1440, 900), "narrow": (360, 780)}
console = Console(stderr=True, highlight=False)
_PROVIDER = {
    "OIDC_ISSUER": "https://id.example.com",
    "OIDC_AUDIENCE": "ai-admin",
    "OIDC_JWKS_URL": "https://id.example.com/keys",
    "OIDC_CLIENT_ID": "console",
    "OIDC_AUTHORIZATION_URL": "https://id.example.com/authorize",
    "OIDC_TOKEN_URL": "https://id.example.com/token",
    "PUBLIC_URL": "https://ai.example.com",
}
Scheme = Literal["light", "dark"]
_SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def _fill(api: httpx.Client) -> str:
    """Somebody to look at, with keys, a credential and a history; their id."""
    ada = {"tag": "ada.lovelace", "email": "ada@example.com", "name": "Ada Lovelace", "models": ["gpt-5*"]}
    user = api.post(USERS, json={**ada, "attributes": {"team": "research", "level": 3}}).raise_for_status().json()
    here = f"{USERS}/{user['id']}"
    for name, days in (("Notebook", 12), ("CI of search", 200)):
        ends = (datetime.now(timezone.utc) + timedelta(days=days)).isoformat()
        api.post(f"{here}/keys", json={"name": name, "expiresAt": ends}).raise_for_status()
    api.put(f"{here}/secrets/openai", json={"provider": "openai", "value": "sk-not-a-real-one"}).raise_for_status()
    api.put(here, json={"role": "auditor", "models": ["gpt-5*", "claude-*"]}).raise_for_status()
    api.put(here, json={"name": "Augusta Ada King, Countess of Lovelace"}).raise_for_status()
    return str(user["id"])


def _pages(user: str) -> dict[str, str]:
    """The address of each page by the name of its picture."""
    return {
        "overview": "/overview",
        "users": "/users",
        "search": "/users?q=nguyen&status=active&sort=name",
        "user": f"/users/{user}",
        "versions": f"/users/{user}/secrets/openai/versions",
        "new-user": "/users/new",
        "import": "/users/import",
        "audit": "/audit",
        "account": "/account",
        "nobody": "/users?q=nobodyhasthisname",
    }


@contextmanager
def _chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def _new_page(browser: Browser, size: tuple[int, int], scheme: Scheme, locale: str = "en") -> Page:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        reduced_motion="reduce",
        locale=locale,
        timezone_id="Europe/Berlin",
    )
    return context.new_page()


def _shoot_sign_in(browser: Browser, address: str, size: tuple[int, int], scheme: Scheme, how: str) -> None:
    """The sign-in page of a server that knows a provider."""
    page = _new_page(browser, size, scheme)
    page.goto(f"{address}{_CONSOLE}/sign-in")
    page.screenshot(path=FOLDER / f"sign-in-provider-{how}.png")
    page.context.close()


def _shoot(
    browser: Browser, address: str, pages: dict[str, str], size: tuple[int, int], scheme: Scheme, **more: str
) -> None:
    """The sign-in page, and after that all others, each as `<page>-<how>.png`."""
    how = more.get("how", "")
    page = _new_page(browser, size, scheme, more.get("locale", "en"))
    page.goto(f"{address}{_CONSOLE}/sign-in")
    page.screenshot(path=FOLDER / f"sign-in-{how}.png")
    page.fill("#key", OWNER_KEY)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "sign-in" not in url)
    for name, path in pages.items():
        page.goto(f"{address}{_CONSOLE}{path}", wait_until="networkidle")
        page.screenshot(path=FOLDER / f"{name}-{how}.png")
        console.print(f"{name}-{how}")
    page.context.close()


def _with_provider(settings: Settings, folder: Path) -> Settings:
    """The same directory, for a server that offers the sign-in with a provider; nobody goes there for a picture."""
    shutil.copytree(settings.root, folder)
    return load_settings(write_mount(folder, {}, _PROVIDER))


def main() -> None:
    """Make all of them anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="ai-admin-") as name,
        directory(Path(name), LOG_LEVEL="ERROR") as settings,
        serving(settings, Path(name), workers=1) as api,
        serving(_with_provider(settings, Path(name) / "provider"), Path(name) / "provider", workers=1) as other,
        _chromium() as browser,
    ):
        demo.fill(settings, _PEOPLE, console)
        address, pages = str(api.base_url).rstrip("/"), _pages(_fill(api))
        for shape, size in _SIZES.items():
            for scheme in _SCHEMES:
                _shoot(browser, address, pages, size, scheme, how=f"{shape}-{scheme}")
                _shoot_sign_in(browser, str(other.base_url).rstrip("/"), size, scheme, f"{shape}-{scheme}")
        some = {name: pages[name] for name in ("overview", "users", "user")}
        _shoot(browser, address, some, (2560, 1440), "light", how="widest")
        _shoot(browser, address, some, _SIZES["wide"], "light", how="vietnamese", locale="vi")


if __name__ == "__main__":
    main()
