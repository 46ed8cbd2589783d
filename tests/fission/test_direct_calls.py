"""What calls a function inside the cluster, past the router, gets to that function's routes and to no other."""

import os
from collections.abc import Callable, Iterator
from itertools import product
from unittest import mock

import pytest
from werkzeug.test import TestResponse as Answer

from ai_admin import fission
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.console.views import console
from tests.conftest import AS_OWNER, OWNER_ID, ROOT
from tests.fission import double, specs

Call = Callable[..., Answer]
# None is a page's path, though each looks like one, or is a route of the API.
_NOWHERE = (
    "/",
    "/sign-in",
    "/ai/me",
    "/ai/admin/users",
    f"/ai/admin/users/{OWNER_ID}",
    "/ai/admin/consoles",
    "/ai/admin/console/",
    "/ai/admin/console/../users",
    "/ai/admin/console/..//users",
    "/ai/admin/console/%2e%2e/users",
    "/ai/admin/console/..%2Fusers",
    "/ai/admin/console//sign-in",
    "/ai/admin/console%2F/sign-in",
    "/ai/admin/console/./sign-in",
    "/ai/admin/console/files/../sign-in",
    "/ai/admin/console/files/..%2f..%2fviews%2fpages.py",
    "/ai/admin/console;/sign-in",
    "/ai/admin/console\\sign-in",
    "/ai/admin/console/sign-in/",
    "/ai/admin/Console/sign-in",
)


@pytest.fixture
def call(settings: Settings) -> Iterator[Call]:
    """Calls a function of `specs/` as an owner, with the headers that are given."""
    with mock.patch.dict(os.environ, {ROOT_VARIABLE: str(settings.root)}):
        fission.application.cache_clear()
        functions = {name: double.load(ROOT / "apps", main) for name, main in specs.functions().items()}
        application = fission.application()

    def called(name: str, method: str = "GET", path: str = "/", **headers: str) -> Answer:
        given = AS_OWNER | {f"X-Fission-{key.replace('_', '-')}": value for key, value in headers.items()}
        environment = double.environment(functions[name], every_path=True)
        return environment.test_client().open(path, method=method, headers=given)

    yield called
    for app in (application, fission.application(console)):
        app.extensions["ai_admin"].database.close()


def test_a_direct_call_is_answered(call: Call) -> None:
    """So that what follows is refused for its slashes, and for nothing else."""
    assert call("ai-admin-update-delete-user", Params_UserID=str(OWNER_ID)).status_code == 200
    assert call("ai-admin-api-keys", Params_UserID=str(OWNER_ID)).status_code == 200


@pytest.mark.parametrize(
    "parameter", [f"{OWNER_ID}/keys", f"/{OWNER_ID}", f"{OWNER_ID}/", "/", "../audit", f"{OWNER_ID}/secrets/x/reveal"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_slash_in_a_parameter_leads_nowhere(call: Call, method: str, parameter: str) -> None:
    """A network policy that lets somebody call one function must not let them call another through it."""
    answer = call("ai-admin-update-delete-user", method, Params_UserID=parameter)
    assert (answer.status_code, answer.json and answer.json["errorCode"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("address", ["http://[x", "http://[::1", "//[", "\x7f", "http://x:y/ai"])
def test_an_address_that_is_none_counts_as_absent(call: Call, address: str) -> None:
    """No page of HTML with a 500, but the answer for the parameters alone."""
    answer = call("ai-admin-api-keys", Params_UserID=str(OWNER_ID), Full_Url=address)
    assert answer.status_code == 200
    assert answer.json
    assert len(answer.json["data"]) == 1


def test_the_console_is_called_by_its_address(call: Call) -> None:
    """In the header or, where the environment takes every path, in the path, before which the header does not count."""
    page = "/ai/admin/console/sign-in"
    for answer in (
        call("ai-admin-console", Full_Url=page),
        call("ai-admin-console", path=page),
        call("ai-admin-console", path=page, Full_Url="/ai/admin/users", Params_UserID="x"),
    ):
        assert (answer.status_code, answer.mimetype) == (200, "text/html")


@pytest.mark.parametrize("way", ["path", "Full_Url"])
def test_the_console_leads_nowhere_else(call: Call, way: str) -> None:
    """Neither to the API, which answers an owner's key, nor to a page by another spelling of its path, or to a file.

    What lies below the console and is no page is the console's to tell, to whoever has signed in.
    """
    for method, path in product(("GET", "POST", "DELETE"), _NOWHERE):
        answer = call("ai-admin-console", method, Params_UserID=str(OWNER_ID), **{way: path})
        to_sign_in = answer.headers.get("Location", "").startswith("/ai/admin/console/sign-in?")
        assert answer.status_code in {404, 405} or to_sign_in, (method, path)


@pytest.mark.parametrize("address", ["", "http://[x", "//[", "\x7f", "http://x:y/ai", "%", "%2Fai%2Fme", "?/ai/me"])
def test_an_address_that_is_none_leads_nowhere(call: Call, address: str) -> None:
    """No page of HTML with a 500."""
    answer = call("ai-admin-console", Full_Url=address)
    assert (answer.status_code, answer.json and answer.json["errorCode"]) == (404, "NOT_FOUND")


def test_no_other_function_has_the_console(call: Call) -> None:
    """Whoever may call another function by itself gets no page from it, whatever path or address they name."""
    path = "/ai/admin/console/sign-in"
    for name in specs.functions().keys() - {"ai-admin-console"}:
        assert b"<html" not in call(name, path=path, Full_Url=path).data, name
