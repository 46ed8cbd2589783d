"""Files of users in the console: looked at, confirmed, brought in; and what the list shows, taken out."""

import re

import httpx
import psycopg
import pytest

from tests.integration.test_console import CONSOLE, Browser, browser, key_of, made, owner

__all__ = ["browser", "owner"]
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_SEALED = re.compile(r'name="file" value="([0-9a-f]+)"')
ROWS = b"tag,email,name\nada,ada@example.com,Ada\nno tag!,bob@example.com,<b>Bob</b>\n"
# A function has none of these pages.
pytestmark = [pytest.mark.in_process, pytest.mark.routing]


def upload(by: Browser, content: bytes, name: str = "users.csv", **form: str) -> httpx.Response:
    """A file sent through the form, as a browser without scripts does."""
    token = _TOKEN.search(by.get("/account").text)
    assert token
    files = {"file": (name, content)}
    return by.http.post(f"{CONSOLE}/users/import", data={"csrf_token": token[1], **form}, files=files)


def sealed(page: httpx.Response) -> str:
    """The file that a page asks about."""
    found = _SEALED.search(page.text)
    assert found, page.text
    return found[1]


@pytest.fixture
def second(browser: Browser) -> Browser:
    """An administrator at another browser."""
    own = browser.another()
    assert own.sign_in(key_of(browser, "admin")).status_code == 303
    return own


def test_a_file_is_looked_at_first_and_then_brought_in(owner: Browser, sql: psycopg.Connection) -> None:
    """The first step changes nothing and says what the second does; done twice, that finds nothing left to do."""
    checked = upload(owner, ROWS)
    assert checked.status_code == 200
    assert sql.execute("SELECT count(*) FROM users").fetchone() == (1,)
    assert "Line 3" in checked.text
    assert "1 to 63 of a-z" in checked.text
    assert "<b>Bob" not in checked.text
    done = owner.post("/users/import/apply", {"file": sealed(checked)})
    assert "1 user created or changed" in done.text
    assert sql.execute("SELECT name FROM users WHERE tag = 'ada'").fetchone() == ("Ada",)
    again = owner.post("/users/import/apply", {"file": sealed(checked)})
    assert "0 users created or changed" in again.text
    assert not _SEALED.search(upload(owner, ROWS).text)
    assert sql.execute("SELECT count(*) FROM audit_events WHERE action = 'users:create'").fetchone() == (1,)


def test_console_import_of_file_in_cp1252_keeps_names(owner: Browser, sql: psycopg.Connection) -> None:
    """A spreadsheet's file came in with broken names, or not at all."""
    rows = "tag,email,name\nada,ada@example.com,M\u00fcller\n".encode("cp1252")
    assert "looks like cp1252" in upload(owner, rows).text
    owner.post("/users/import/apply", {"file": sealed(upload(owner, rows, encoding="cp1252"))})
    assert sql.execute("SELECT name FROM users WHERE tag = 'ada'").fetchone() == ("M\u00fcller",)
    broken = upload(owner, b"tag,name\na,\x81\n", encoding="cp1252")
    assert broken.status_code == 400
    assert "no text in cp1252" in broken.text


def test_only_who_had_it_checked_imports_it(owner: Browser, second: Browser, sql: psycopg.Connection) -> None:
    """A page that somebody else was given, or that nobody was, brings nothing in."""
    file = sealed(upload(owner, ROWS))
    for text in (file, "", "00", file[:-2] + ("00" if file[-2:] != "00" else "11")):
        assert second.post("/users/import/apply", {"file": text}).status_code == 400
    assert sql.execute("SELECT count(*) FROM users WHERE tag = 'ada'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("content", "name", "form", "told"),
    [
        (b"{}", "users.txt", {}, "Say what kind of file this is."),
        (b"tag,colour\n", "USERS.CSV", {}, "no column"),
        (b'{"users": [', "realm.json", {"format": "keycloak"}, "no JSON"),
    ],
)
def test_what_is_no_file_is_said_beside_the_field(
    owner: Browser, content: bytes, name: str, form: dict[str, str], told: str
) -> None:
    """In the form, where another one can be chosen."""
    answer = upload(owner, content, name, **form)
    assert answer.status_code == 400
    assert told in answer.text
    assert 'type="file"' in answer.text


def test_no_file_is_asked_for(owner: Browser) -> None:
    """A form that was sent without one."""
    answer = upload(owner, b"", name="")
    assert answer.status_code == 400
    assert "Choose a file." in answer.text


@pytest.mark.config(MAX_BODY_BYTES="65536")
def test_a_file_that_is_too_large_for_a_page_is_said_to_be(owner: Browser) -> None:
    """A page, and no riddle about forms that are too old."""
    answer = upload(owner, b"tag\n" + b"x" * 65_536)
    assert answer.status_code == 413
    assert "text/html" in answer.headers["Content-Type"]


def test_files_are_for_who_may(owner: Browser, second: Browser) -> None:
    """An auditor takes out and brings nothing in, a member does neither; nobody does without the form's token."""
    auditor, member = (owner.another() for _ in range(2))
    auditor.sign_in(key_of(owner, "auditor"))
    member.sign_in(key_of(owner, "member"))
    assert [by.get("/users/import").status_code for by in (owner, second, auditor, member)] == [200, 200, 403, 403]
    assert [by.get("/users/export").status_code for by in (owner, second, auditor, member)] == [200, 200, 200, 403]
    assert f"{CONSOLE}/users/import" not in auditor.get("/users").text
    assert upload(auditor, ROWS).status_code == 403
    forged = owner.http.post(f"{CONSOLE}/users/import", files={"file": ("users.csv", ROWS)})
    assert forged.status_code == 400
    assert not _SEALED.search(forged.text)


def test_the_list_is_exported_with_its_filters(owner: Browser) -> None:
    """The button keeps what is in force, and leaves out how the list is shown."""
    made(owner, tag="ada", role="admin")
    made(owner, tag="bob")
    page = owner.get("/users?role=admin&sort=name&size=25&density=compact&createdAt%5Bgte%5D=2020-01-01").text
    found = re.search(rf'href="{CONSOLE}(/users/export[^"]*format=csv)"', page)
    assert found
    assert "sort" not in found[1]
    answer = owner.get(found[1].replace("&amp;", "&"))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="users.csv"'
    assert [line.split(",")[1] for line in answer.text.splitlines()] == ["tag", "ada"]
