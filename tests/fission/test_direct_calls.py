"""What calls a function inside the cluster, past the router, gets to that function's routes and to no other."""

import os
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from werkzeug.test import TestResponse as Answer

from ai_admin import fission
from ai_admin.config import ROOT_VARIABLE, Settings
from tests.conftest import AS_OWNER, OWNER_ID, ROOT
from tests.fission import double, specs

Call = Callable[..., Answer]


@pytest.fixture
def call(settings: Settings) -> Iterator[Call]:
    """Calls a function of `specs/` as an owner, with the headers that are given."""
    with mock.patch.dict(os.environ, {ROOT_VARIABLE: str(settings.root)}):
        fission.application.cache_clear()
        functions = {name: double.load(ROOT / "apps", main) for name, main in specs.functions().items()}
        application = fission.application()

    def called(name: str, method: str = "GET", **headers: str) -> Answer:
        given = AS_OWNER | {f"X-Fission-{key.replace('_', '-')}": value for key, value in headers.items()}
        return double.environment(functions[name]).test_client().open("/", method=method, headers=given)

    yield called
    application.extensions["ai_admin"].database.close()


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
