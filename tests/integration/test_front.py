"""What somebody meets who types the address alone, pastes an id, or sends a body in a form of its own."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from flask import Flask

from tests.conftest import OWNER_ID, assert_problem, calling
from tests.serving import USERS

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def server(server_app: Flask) -> Iterator[httpx.Client]:
    """A client of the application with all that a server adds to it."""
    with calling(server_app) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/ai/admin"])
def test_bare_address_leads_on(server: httpx.Client, path: str) -> None:
    """A person got a raw JSON 404 at the address that they were given."""
    led = server.get(path, headers={**BROWSER, "Authorization": ""})
    assert (led.status_code, led.headers["Location"]) == (303, "/ai/admin/console")
    links = server.get(path, headers={"Authorization": ""}).json()
    assert links["documentation"] == "/ai/admin/docs"
    for link in links.values():
        assert server.get(link).status_code in {200, 303}, link


def test_favicon_is_there(server: httpx.Client) -> None:
    """Browsers ask for it on every page, and each request was a 404 in the log."""
    icon = server.get("/favicon.ico", headers={"Authorization": ""})
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")


def test_id_in_the_search_finds_the_user(api: httpx.Client) -> None:
    """An id that was pasted from a log found nobody (zitadel #12290); a tag that looks like an id is found too."""
    ada = api.post(USERS, json={"tag": "ada", "kind": "service"}).json()
    like = str(uuid4())
    other = api.post(USERS, json={"tag": like, "kind": "service"}).json()
    for pasted in (ada["id"], ada["id"].upper(), f" {ada['id']} "):
        assert [user["id"] for user in api.get(USERS, params={"q": pasted}).json()["data"]] == [ada["id"]]
    assert api.get(USERS, params={"q": like}).json()["data"][0]["id"] == other["id"]
    nobody = api.get(USERS, params={"q": str(uuid4())}).json()
    assert (nobody["data"], nobody["total"]) == ([], 0)


@pytest.mark.parametrize("name", ["email", "email[prefix]"])
def test_plus_in_an_address_says_how_to_write_it(api: httpx.Client, name: str) -> None:
    """`?email=ada+test@example.com` asks for a blank, and answered an empty list (keycloak #29415)."""
    answer = api.get(f"{USERS}?{name}=ada+test@example.com")
    assert_problem(answer, 400, "VALIDATION_ERROR")
    assert "write a + as %2B" in answer.json()["details"][0]["msg"]
    assert api.get(USERS, params={name: "ada+test@example.com"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Content-Encoding": "gzip"}, "without Content-Encoding"),
        ({"Content-Encoding": "br, gzip"}, "without Content-Encoding"),
        ({"Content-Type": "application/json; charset=iso-8859-1"}, "must be UTF-8"),
        ({"Content-Type": 'application/json;charset="UTF-16"'}, "must be UTF-8"),
    ],
)
def test_body_in_another_coding_is_refused_by_name(api: httpx.Client, headers: dict[str, str], told: str) -> None:
    """A compressed body, or one in Latin-1, was a fault of its JSON at some column."""
    body = b'{"tag": "ada", "kind": "service"}'
    answer = api.post(USERS, content=body, headers={"Content-Type": "application/json", **headers})
    assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
def test_body_that_says_utf8_is_taken(api: httpx.Client, charset: str) -> None:
    """Many clients name the charset, though JSON has one alone (RFC 8259, 8.1)."""
    headers = {"Content-Type": f"application/json; charset={charset}", "Content-Encoding": "identity"}
    assert api.post(USERS, content=b'{"tag": "ada", "kind": "service"}', headers=headers).status_code == 201


def test_file_in_another_coding_is_refused_by_name(server: httpx.Client) -> None:
    """The same for an import: a gzip file is not taken for a strange CSV file."""
    headers = {"Content-Type": "text/csv", "Content-Encoding": "gzip"}
    answer = server.post(f"{USERS}/import", content=b"\x1f\x8b", headers=headers)
    assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert server.get(f"{USERS}/{OWNER_ID}").status_code == 200
