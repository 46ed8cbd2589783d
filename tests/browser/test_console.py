"""The console as people meet it: in a browser, with a pointer or with keys alone."""

import re

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visit
from tests.conftest import OWNER_ID

USERS = "/ai/admin/users"
# Opens what is folded away, and says whether there is any; and what of it is not within the window.
_OPEN_ALL = "[...document.querySelectorAll('details')].map(each => each.open = true).length"
_OUTSIDE = """[...document.querySelectorAll('details[open] > *')].filter(each => {
  const { left, right } = each.getBoundingClientRect();
  return left < 0 || right > innerWidth;
}).map(each => each.textContent.trim())"""
pytestmark = pytest.mark.in_process


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_each_page_is_usable_by_everybody(visit: Visit, width: int, request: pytest.FixtureRequest) -> None:
    """WCAG 2.2 AA by axe on each page, light and dark, narrow and wide; no page is wider than its window."""
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    name = f"{request.node.callspec.params['visit']}-{width}"
    visit.open("/sign-in")
    visit.look(f"{name}-sign-in")
    visit.sign_in()
    user = visit.user("ada", name="Ada Lovelace", models=["gpt-5*"], attributes={"team": "research"})
    visit.user("rtl", name="محمد علي", status="suspended")
    visit.api.put(f"{USERS}/{user}", json={"role": "admin"})
    visit.api.post(f"{USERS}/{user}/keys", json={"name": "CI"})
    visit.api.put(f"{USERS}/{user}/secrets/openai", json={"provider": "openai", "value": "sk-1234567890abcdef"})
    pages = {
        "overview": "/overview",
        "users": "/users",
        "filtered": "/users?q=ada&role=admin",
        "nobody": "/users?q=nobody",
        "user": f"/users/{user}",
        "versions": f"/users/{user}/secrets/openai/versions",
        "new": "/users/new",
        "audit": "/audit",
        "account": "/account",
        "error": "/users?rolle=x",
    }
    for what, path in pages.items():
        visit.open(path)
        visit.look(f"{name}-{what}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, what
        if page.evaluate(_OPEN_ALL):
            assert page.evaluate(_OUTSIDE) == [], what
            visit.look(f"{name}-{what}-opened")


def test_find_create_and_edit_with_a_conflict(visit: Visit) -> None:
    """From an empty list to a user whom somebody else changes at the same time."""
    page = visit.page
    visit.sign_in()
    visit.open("/users")
    page.get_by_role("link", name="New user").click()
    page.get_by_label("Tag").fill("ada")
    page.get_by_label("Email").fill("ada@example.com")
    page.get_by_label("Name").fill("Ada")
    page.get_by_role("button", name="Create the user").click()
    expect(page.get_by_role("status")).to_have_text("The user is created.")
    user = page.url.rpartition("/")[2].partition("?")[0]
    visit.api.put(f"{USERS}/{user}", json={"name": "Theirs"})
    page.get_by_label("Name").first.fill("Ours")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".choice")).to_contain_text("Theirs")
    visit.look("conflict")
    page.get_by_role("button", name="Overwrite with mine").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Ours")
    visit.open("/users")
    page.get_by_label("Search users").fill("our")
    page.keyboard.press("Enter")
    expect(page.locator("tr[data-row]")).to_have_count(1)


def test_several_at_once_and_back(visit: Visit) -> None:
    """Chosen, asked about, done, undone."""
    page = visit.page
    for number in range(3):
        visit.user(f"user-{number}")
    visit.sign_in()
    visit.open("/users?q=user")
    expect(page.locator(".bulk")).to_be_hidden()
    page.get_by_label("Choose all on this page").check()
    page.get_by_role("button", name="Suspend").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Suspend 3 users?")
    visit.look("bulk")
    page.get_by_role("button", name="Suspend").click()
    visit.look("bulk-done")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status")).to_contain_text("3 users as before")


def test_a_key_is_shown_once_and_a_credential_to_who_says_why(visit: Visit) -> None:
    """Neither is on the page when it is loaded again."""
    page = visit.page
    user = visit.user("ada")
    visit.api.put(f"{USERS}/{user}/secrets/openai", json={"provider": "openai", "value": "sk-1234567890abcdef"})
    visit.sign_in()
    visit.open(f"/users/{user}")
    page.get_by_label("What it is for").fill("CI")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#new-key")).to_have_text(re.compile(r"aia_\w{49}"))
    visit.look("key")
    page.get_by_role("link", name="Done").click()
    expect(page.locator("#new-key")).to_have_count(0)
    page.locator("summary", has_text="Reveal").click()
    page.get_by_label("Why? The audit log keeps it.").fill("ticket 4711")
    page.get_by_role("button", name="Reveal it").click()
    expect(page.locator("#revealed")).to_have_text("sk-1234567890abcdef")
    visit.look("revealed")
    page.get_by_role("link", name="Hide it").click()
    expect(page.locator("body")).not_to_contain_text("sk-1234567890abcdef")
    expect(page.locator(".timeline")).to_contain_text("ticket 4711")


def test_with_keys_alone(visit: Visit) -> None:
    """Search, move, choose, open, and the list of keys; a key that is typed into a field does nothing else."""
    page = visit.page
    for number in range(3):
        visit.user(f"user-{number}")
    visit.sign_in()
    visit.open("/users?sort=tag&q=user")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_label("Search users")).to_be_focused()
    page.keyboard.type("jk")
    expect(page.get_by_label("Search users")).to_have_value("jkuser")
    expect(page.locator("tr[data-row]")).to_have_count(0)
    page.get_by_label("Search users").fill("user")
    expect(page.locator("tr[data-row]")).to_have_count(3)
    expect(page.locator("tr.here")).to_have_count(0)
    page.get_by_label("Search users").blur()
    for key in "jjjk":
        page.keyboard.press(key)
    expect(page.locator("tr.here")).to_contain_text("user-1")
    page.keyboard.press("x")
    expect(page.locator("tr.here input")).to_be_checked()
    page.locator("tr.here a").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("user-1")


def test_signing_out_ends_it(visit: Visit) -> None:
    """Back leads to the form."""
    visit.sign_in()
    visit.open(f"/users/{OWNER_ID}")
    visit.page.get_by_role("button", name="Sign out").click()
    visit.open("/users")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_bring_a_file_in_and_take_the_list_out(visit: Visit) -> None:
    """A file is looked at, confirmed, and found in the list, which is downloaded as it is filtered."""
    page = visit.page
    visit.sign_in()
    visit.open("/users")
    page.get_by_role("link", name="Import").click()
    rows = b"tag,email,name\nada,ada@example.com,Ada\nno tag!,bob@example.com,Bob\n"
    page.get_by_label("File", exact=True).set_input_files({"name": "users.csv", "mimeType": "text/csv", "buffer": rows})
    visit.look("import")
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_role("heading", name="1 row is refused")).to_be_visible()
    visit.look("import-report")
    page.get_by_role("button", name="Import 1").click()
    expect(page.get_by_role("status")).to_have_text("1 user created or changed")
    visit.open("/users?q=ada")
    page.get_by_text("Export").click()
    with page.expect_download() as taken:
        page.get_by_role("link", name="CSV", exact=True).click()
    assert taken.value.suggested_filename == "users.csv"
    assert [line.split(",")[1] for line in taken.value.path().read_text().splitlines()] == ["tag", "ada"]
