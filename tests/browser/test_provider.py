"""The console entered by way of the organisation's provider, which is another site: what a browser makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, expect
from tests.browser.conftest import CONSOLE, Visit, visiting
from tests.identity_provider import ISSUER
from tests.identity_provider import serving as providing
from tests.openid_provider import OpenIdProvider
from tests.serving import free_port, own_database, serving

from ai_admin.embedded import EmbeddedPostgres

pytestmark = pytest.mark.in_process


@dataclass
class Guest:
    """A browser at a console that knows a provider, the provider, and the database."""

    visit: Visit
    provider: OpenIdProvider
    sql: psycopg.Connection

    def bind(self, user: str) -> None:
        """Bind the provider's subject to a user, as an operator does."""
        self.sql.execute("INSERT INTO identities (issuer, subject, user_id) VALUES (%s, 'ada', %s)", [ISSUER, user])

    def go_on(self) -> None:
        """From the sign-in page to the provider, and back from it."""
        self.visit.page.get_by_role("link", name="Sign in with your organisation").click()
        self.visit.page.get_by_role("button", name="Go on as Ada").click()


@pytest.fixture
def guest(chromium: Browser, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Guest]:
    """The console is on an address of the loopback, and the provider on its name: two sites to a browser."""
    port = free_port()
    with providing(OpenIdProvider()) as provider:
        provider.origin = f"http://localhost:{provider.server_port}"
        values = provider.settings(f"http://127.0.0.1:{port}")
        with (
            own_database(postgres, tmp_path, **values) as settings,
            serving(settings, tmp_path, workers=1, port=port) as api,
            visiting(chromium, api, others=frozenset({f"localhost:{provider.server_port}"})) as visit,
            postgres.connect(settings.secret.pg_database) as sql,
        ):
            yield Guest(visit, provider, sql)


def test_the_whole_way_through_another_site(guest: Guest) -> None:
    """The session's Strict cookie is sent although another site has led here, and the page that was wanted is shown."""
    visit, page = guest.visit, guest.visit.page
    user = visit.user("ada", role="admin")
    guest.bind(user)
    visit.open("/users?q=ada")
    visit.look("sign-in-provider")
    guest.go_on()
    page.wait_for_url(f"**{CONSOLE}/users?q=ada")
    expect(page.get_by_role("heading", level=1)).to_have_text("Users")
    expect(page.locator(".whoami")).to_contain_text("ada")
    (cookie,) = (one for one in page.context.cookies() if one["name"] == "aia_session")
    assert (cookie["sameSite"], cookie["httpOnly"]) == ("Strict", True)
    page.go_back()
    assert "sign-in/callback" not in page.url
    guest.sql.execute("DELETE FROM identities")
    visit.open("/users")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_the_page_in_between(guest: Guest) -> None:
    """Where the browser is told not to follow, a link leads on; and axe finds nothing."""
    visit, page = guest.visit, guest.visit.page
    guest.bind(visit.user("ada", role="admin"))
    visit.open("/sign-in")
    # An answer without a page leaves the browser where it is.
    page.route(f"**{CONSOLE}", lambda route: route.fulfill(status=204))
    guest.go_on()
    expect(page.get_by_role("heading", level=1)).to_have_text("Signed in")
    visit.look("signed-in")
    page.unroute(f"**{CONSOLE}")
    page.get_by_role("link", name="Go on").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_whom_the_provider_knows_and_the_directory_does_not(guest: Guest) -> None:
    """The reason stands on the sign-in page, and a key still signs in."""
    visit, page = guest.visit, guest.visit.page
    visit.open("/sign-in")
    guest.go_on()
    expect(page.get_by_role("alert")).to_contain_text("no active user here is bound to you")
    visit.look("sign-in-refused")
    visit.sign_in()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
