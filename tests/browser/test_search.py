"""Search as one types: the list follows, and nothing else moves."""

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect
from tests.browser.conftest import CONSOLE, Visit, visiting

pytestmark = pytest.mark.in_process
_TAGS = ("ada", "adele", "bob")


@pytest.fixture
def page(visit: Visit) -> Page:
    """The list of four, the owner among them, with a filter and an order in its address."""
    for tag in _TAGS:
        visit.user(tag, attributes={"team": "vision"})
    visit.sign_in()
    visit.open("/users?sort=tag&attributes[team]=vision")
    return visit.page


def rows(page: Page, *tags: str) -> None:
    """Wait for the list to have these users, in this order."""
    expect(page.locator("tr[data-row] .who a")).to_have_text(list(tags))


def test_the_list_follows_what_is_typed(visit: Visit, page: Page) -> None:
    """Address, chips and count with it; focus and caret stay where they are, and the count is said."""
    box = page.get_by_label("Search users")
    page.keyboard.press("/")
    page.keyboard.type("ad")
    rows(page, "ada", "adele")
    expect(page.get_by_role("status")).to_have_text("2 users match")
    expect(page.locator("#count")).to_have_text("2")
    expect(page.locator(".chip")).to_contain_text(["ad", "vision"])
    assert page.url.endswith(f"{CONSOLE}/users?q=ad&sort=tag&attributes%5Bteam%5D=vision")
    visit.look("typed")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    page.keyboard.type("b")
    expect(box).to_have_value("bd")
    expect(page.get_by_role("heading", level=2)).to_have_text("No user matches")
    page.keyboard.press("Delete")
    rows(page, "bob")
    expect(box).to_be_focused()
    assert box.evaluate("box => box.selectionStart") == 1
    expect(page.get_by_role("status")).to_have_text("1 user matches")
    page.reload()
    rows(page, "bob")
    page.get_by_role("link", name="Remove the filter Search").click()
    rows(page, *_TAGS)


def test_what_came_with_the_list_works(page: Page) -> None:
    """Choosing, times and the keys, of rows that were not there when the page was loaded."""
    page.get_by_label("Search users").fill("ade")
    rows(page, "adele")
    expect(page.locator("tr[data-row] time")).not_to_contain_text("UTC")
    page.get_by_label("Search users").blur()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator(".bulk output")).to_have_text("1")
    page.get_by_role("button", name="Suspend").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Suspend 1 user?")
    page.get_by_role("link", name="Cancel").click()
    rows(page, "adele")


def test_an_earlier_answer_does_not_come_late(page: Page) -> None:
    """Who types on is shown what they have typed, in whatever order the answers come."""
    held: list[Route] = []
    given_up: list[Request] = []

    # Playwright marks what it is given, which it cannot with a method of a list.
    def hold(route: Route) -> None:
        held.append(route)

    def give_up(asked: Request) -> None:
        given_up.append(asked)

    page.on("requestfailed", give_up)
    page.route(lambda url: "?q=b&" in url, hold)
    box = page.get_by_label("Search users")
    with page.expect_request(lambda asked: "?q=b&" in asked.url):
        box.fill("b")
    expect(page.locator("#list")).to_have_attribute("aria-busy", "true")
    box.fill("ad")
    rows(page, "ada", "adele")
    assert ["?q=b&" in asked.url for asked in given_up] == [True]
    assert len(held) == 1


def test_a_search_that_fails_is_told(page: Page) -> None:
    """What is shown stays, and the next letter asks anew."""
    page.route(lambda url: "?q=b&" in url, lambda route: route.fulfill(status=429))
    box = page.get_by_label("Search users")
    box.fill("b")
    expect(page.get_by_role("status")).to_have_text("The search did not work. Press Enter to try again.")
    rows(page, *_TAGS)
    box.fill("bo")
    rows(page, "bob")
    expect(page.get_by_role("status")).to_have_text("1 user matches")


def test_whose_session_is_over_is_asked_to_sign_in(page: Page) -> None:
    """And is led to what they have typed."""
    page.context.clear_cookies()
    page.get_by_label("Search users").fill("ade")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_without_scripts(visit: Visit, chromium: Browser) -> None:
    """Enter searches, and the filters that have no field stay."""
    for tag in _TAGS:
        visit.user(tag, attributes={"team": "vision"})
    visit.user("adam")
    with visiting(chromium, visit.api, scripts=False) as plain:
        plain.sign_in()
        plain.open("/users?tag[prefix]=a&attributes[team]=vision&sort=tag")
        plain.page.get_by_label("Search users").fill("adel")
        plain.page.keyboard.press("Enter")
        rows(plain.page, "adele")
        plain.page.get_by_label("Search users").fill("a")
        plain.page.keyboard.press("Enter")
        rows(plain.page, "ada", "adele")
    visit.sign_in()
