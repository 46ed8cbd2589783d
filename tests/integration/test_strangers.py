"""Requests of strangers cost little: nothing of theirs is parsed before they are known, and what is parsed is bounded.

Work is counted in calls of functions, Python's and C's, while the application answers: a number that does not depend on
the machine, and that grows with every field, cookie or language that is parsed.
"""

import io
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Response

from ai_admin.http import heads
from ai_admin.operations import FORM, UPLOAD, operation_of
from tests.conftest import AS_OWNER, OWNER_KEY

pytestmark = pytest.mark.in_process
CONSOLE = "/ai/admin/console"
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
# Calls by which a flood may cost more than an ordinary request: an error page in place of an answer.
_MORE_CALLS = 8_000
_MEGABYTE = 1 << 20
_PUBLIC_FORMS = ("/sign-in", "/sign-out", "/language")
# Each is as long as the server lets it be, and cheap to send.
_FLOODS: dict[str, dict[str, str]] = {
    "parameters": {"QUERY_STRING": "a&" * 150_000},
    "one parameter": {"QUERY_STRING": "next=" + "%41" * 100_000},
    "percent signs": {"QUERY_STRING": "next=" + "%" * 65_000},
    "percent signs in names": {"QUERY_STRING": "&".join(["%" * 64] * 999)},
    "cookies": {"HTTP_COOKIE": "a=b; " * 80_000},
    "one cookie": {"HTTP_COOKIE": "aia_form=" + "x" * 400_000},
    "languages": {"HTTP_ACCEPT_LANGUAGE": "a," * 200_000},
    "languages that are read": {"HTTP_ACCEPT_LANGUAGE": "a," * (heads.LONGEST_HEADER // 2)},
    "entity tags": {"HTTP_IF_NONE_MATCH": '"a",' * 100_000},
    "a token": {"HTTP_AUTHORIZATION": "Bearer " + "A" * 400_000},
    "a token in three parts": {"HTTP_AUTHORIZATION": f"Bearer {'A' * 8000}.{'B' * 8000}.C"},
    "proxies": {"HTTP_X_FORWARDED_FOR": "1.1.1.1," * 50_000},
    "media types": {"CONTENT_TYPE": "a;" + "b=c;" * 100_000},
    "a path": {"PATH_INFO": CONSOLE + "/a" * 200_000},
}


class Meter:
    """A WSGI application that counts the calls of functions which the one in it makes."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self.calls = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (PEP 3333) as the application in it does."""
        self.calls = 0
        sys.setprofile(self._count)
        try:
            return [b"".join(self._app(environ, start_response))]
        finally:
            sys.setprofile(None)

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            self.calls += 1


@pytest.fixture
def meter(server_app: Flask) -> Meter:
    """The calls of the last request to the server's application."""
    meter = Meter(server_app.wsgi_app)
    server_app.wsgi_app = meter  # type: ignore[method-assign]
    return meter


def body_of(length: int) -> io.BytesIO:
    """A form of fields of two bytes."""
    return io.BytesIO(b"a&" * (length // 2))


def bearer_client(app: Flask) -> FlaskClient:
    """A client with the owner's key that sends cookies as they are written."""
    client = app.test_client(use_cookies=False)
    client.environ_base["HTTP_AUTHORIZATION"] = AS_OWNER["Authorization"]
    return client


def post(client: FlaskClient, path: str, body: io.BytesIO, media_type: str = FORM) -> Response:
    """A form of any kind at a page of the console."""
    length = str(len(body.getbuffer()))
    return client.post(CONSOLE + path, input_stream=body, content_type=media_type, headers={"Content-Length": length})


@pytest.mark.parametrize("path", _PUBLIC_FORMS)
def test_form_without_its_cookie_is_refused_unread(server_app: Flask, path: str) -> None:
    """A stranger's form of 149,000 fields would cost half a second of CPU; now not one byte of it is read."""
    body = body_of(16_000)
    with mock.patch.object(FormDataParser, "parse", autospec=True, side_effect=FormDataParser.parse) as parse:
        answer = post(server_app.test_client(), path, body)
    assert answer.status_code == 400
    assert body.tell() == 0
    assert not parse.called


@pytest.mark.parametrize("path", _PUBLIC_FORMS)
def test_form_with_a_cookie_is_bounded_for_a_stranger(server_app: Flask, meter: Meter, path: str) -> None:
    """The cookie is free for the asking: with it a public form still has few fields, and is small."""
    client = server_app.test_client()
    client.get(f"{CONSOLE}/sign-in")
    ordinary = meter.calls
    with mock.patch.object(FormDataParser, "parse", autospec=True, side_effect=FormDataParser.parse) as parse:
        for body, status in ((body_of(_MEGABYTE), 413), (body_of(16_000), 400)):
            assert post(client, path, body).status_code == status
            assert meter.calls < ordinary + _MORE_CALLS
        for media_type in (f"{UPLOAD}; boundary=x", "text/plain", "application/json", f"{FORM}; {'a=b;' * 100}"):
            assert post(client, path, body_of(100), media_type).status_code == 415
    assert not parse.called


def test_form_without_a_session_is_refused_unread(server_app: Flask) -> None:
    """Every other form of the console asks for the session first, whatever cookie of a form the browser has."""
    client = server_app.test_client()
    client.get(f"{CONSOLE}/sign-in")
    for path in ("/users/new", "/users/bulk", "/users/import", "/audit/verify"):
        body = body_of(16_000)
        assert post(client, path, body).status_code == 303
        assert body.tell() == 0


def test_form_of_a_session_has_a_bound_of_its_fields(server_app: Flask, meter: Meter) -> None:
    """A member's session does not parse what a stranger's cookie may not: thousands of fields, or of heads."""
    client = server_app.test_client()
    token = _TOKEN.search(client.get(f"{CONSOLE}/sign-in").get_data(as_text=True))
    assert token
    form = {"csrf_token": token[1], "key": OWNER_KEY}
    assert client.post(f"{CONSOLE}/sign-in", data=form).status_code == 303
    # The template of an error's page is compiled once.
    client.post(f"{CONSOLE}/users/new")
    client.post(f"{CONSOLE}/users/new")
    ordinary = meter.calls
    head = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    long_head = b"--x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n\r\n--x--"
    multipart = f"{UPLOAD}; boundary=x"
    floods = [("/users/bulk", body_of(200_000), FORM), ("/users/import", io.BytesIO(head * 20_000), multipart)]
    floods += [("/users/import", io.BytesIO(long_head), multipart)]
    for path, body, media_type in floods:
        assert post(client, path, body, media_type).status_code == 400
        assert meter.calls < ordinary + _MORE_CALLS


@pytest.mark.parametrize("flood", _FLOODS)
def test_head_of_a_stranger_is_bounded(server_app: Flask, meter: Meter, flood: str) -> None:
    """Whatever parses a part of the head, on any route and for any method, does it within a bound."""
    client = server_app.test_client(use_cookies=False)
    # The template of an error's page is compiled once.
    client.get(f"{CONSOLE}/sign-in?a" + "&a" * heads.MOST_PARAMETERS)
    for rule in server_app.url_map.iter_rules():
        operation = operation_of(server_app, rule.endpoint)
        assert operation
        path = re.sub(r"<[^>]*>", "01890a5d-ac96-774b-bcce-b302099a8057", rule.rule)
        for method in sorted((rule.methods or set()) & {"GET", "POST", "PUT", "DELETE"}):
            client.open(path, method=method)
            client.open(path, method=method)
            ordinary = meter.calls
            answer = client.open(path, method=method, environ_overrides=_FLOODS[flood])
            assert meter.calls < ordinary + _MORE_CALLS, f"{method} {path}: {meter.calls} calls, and {ordinary}"
            assert answer.status_code < 500 or answer.status_code == 503, f"{method} {path}"
            assert len(answer.data) < 100_000 or answer.status_code == 200


def test_head_that_is_too_long_is_refused_with_what_is_too_long(server_app: Flask) -> None:
    """A caller learns which part of its request to make shorter, in the form of every other error."""
    client = bearer_client(server_app)
    cookie = client.get("/ai/me", environ_overrides={"HTTP_COOKIE": "a=b; " * 10_000})
    assert (cookie.status_code, (cookie.json or {})["errorCode"]) == (400, "BAD_REQUEST")
    assert (cookie.json or {})["detail"] == "The header Cookie is longer than 16384 bytes."
    query = client.get("/ai/me", query_string="a=b&" * 1001)
    assert (query.status_code, (query.json or {})["errorCode"]) == (400, "VALIDATION_ERROR")
    assert client.get("/ai/" + "a" * 9000).status_code == 404


def test_head_at_its_bounds_is_taken(server_app: Flask) -> None:
    """A query of 700 values, a long cookie of another application and a hundred languages are no attack."""
    client = bearer_client(server_app)
    query = "&".join(f"tag=t{number}&email=e{number}&name=n{number}" for number in range(100))
    environ = {"HTTP_COOKIE": f"other={'x' * 16_000}", "HTTP_ACCEPT_LANGUAGE": ",".join(["vi"] * 100)}
    assert client.get("/ai/admin/users", query_string=query, environ_overrides=environ).status_code == 200
    assert b'lang="vi"' in client.get(f"{CONSOLE}/sign-in", environ_overrides=environ).data


def test_address_too_long_for_a_form_leads_to_the_first_page(server_app: Flask) -> None:
    """A page with a very long address still has forms that can be sent: those for the language and for signing in."""
    client = server_app.test_client()
    asked = client.get(f"{CONSOLE}/users?q={'a' * 5000}")
    page = client.get(asked.headers["Location"])
    assert len(asked.headers["Location"]) < 1000
    assert page.status_code == 200
