"""Bodies, queries and forms with many faults: validation stops at a hundred, and small models take small bodies."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import httpx
import pytest
from flask import Flask
from pydantic import ValidationError

from ai_admin.http import validation
from ai_admin.http.validation import MOST_DETAILS
from ai_admin.operations import FORM, LARGEST, operation_of
from tests.conftest import assert_problem, calling
from tests.integration.test_bad_input import JSON, USERS
from tests.integration.test_console import Browser, browser, made, owner

__all__ = ["browser", "owner"]

pytestmark = pytest.mark.in_process
ME = "/ai/me/keys"
# Members of a model may each have a fault or several beside those that are unknown.
_MOST_BUILT = 2 * MOST_DETAILS
_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def built() -> Iterator[list[int]]:
    """How many faults Pydantic has built, each time that it found some."""
    numbers: list[int] = []

    def details_of(error: ValidationError, place: str) -> Any:
        numbers.append(error.error_count())
        return original(error, place)

    original = validation.details_of
    with mock.patch.object(validation, "details_of", details_of):
        yield numbers


def assert_few(response: httpx.Response, built: list[int]) -> None:
    """The request is refused with at most a hundred faults and a line on the others, and no more were built."""
    assert_problem(response, 400, "VALIDATION_ERROR")
    details = response.json()["details"]
    assert 0 < len(details) <= MOST_DETAILS + 1
    assert max(built, default=0) <= _MOST_BUILT


@pytest.mark.parametrize("number", [99, 100, 101, 5000])
@pytest.mark.parametrize("path", [USERS, ME])
def test_body_with_unknown_members_names_the_first_hundred(
    api: httpx.Client, built: list[int], path: str, number: int
) -> None:
    """104,000 unknown members took a second of CPU, and one member's eight connections slowed everybody down."""
    unknown = {f"x{index}": 1 for index in range(number)}
    known = {"tag": "x", "kind": "service"} if path == USERS else {"name": "k"}
    answer = api.post(path, json=known | unknown if number % 2 else unknown | known)
    assert_few(answer, built)
    details = answer.json()["details"]
    assert [detail["loc"] for detail in details[:100]] == [["body", f"x{index}"] for index in range(min(number, 100))]
    assert {detail["type"] for detail in details[:100]} == {"extra_forbidden"}
    more = [detail["msg"] for detail in details[100:]]
    assert more == ([f"{number - 100} more faults are not listed"] if number > 100 else [])


@pytest.mark.parametrize(
    "body",
    [{"models": [1] * 15_000}, {"models": ["a b"] * 9_000}, {"scopes": ["x"] * 9_000}, {"scopes": [None] * 9_000}],
)
def test_body_with_a_long_list_of_faults_builds_few(api: httpx.Client, built: list[int], body: dict[str, Any]) -> None:
    """The faults of a list's items count as well: a list is given up where it is too long."""
    assert_few(api.post(ME, json={"name": "k"} | body), built)


@pytest.mark.parametrize(
    "query",
    ["&".join(f"x{n}=1" for n in range(999)), "&".join(["size=1"] * 999), "&".join(f"id={n}" for n in range(999)),
     "&".join(f"attributes[x{n}]=%00" for n in range(999)), "&".join(["attributes[a]=1"] * 999),
     "&".join(f"role=r{n}&kind=k{n}&status=s{n}" for n in range(333))],
)  # fmt: skip
def test_query_with_many_faults_builds_few(api: httpx.Client, built: list[int], query: str) -> None:
    """Parameters that are unknown, repeated or wrong, by the thousand."""
    answer = api.get(f"{USERS}?{query}")
    assert_few(answer, built)
    form = api.post("/ai/introspect", content=query, headers={"Content-Type": FORM})
    assert_few(form, built)


def test_form_with_many_faults_builds_few(owner: Browser, built: list[int]) -> None:
    """The console puts the lines of a field into a list, which stops as that of a body does."""
    lines = "\n".join(["a b"] * 20_000)
    answer = owner.post("/users/new", {"tag": "x", "kind": "service", "models": lines})
    assert answer.status_code == 400
    assert max(built) <= _MOST_BUILT
    assert owner.post(f"/users/{made(owner, tag='y')['id']}/keys", {"name": "k", "models": lines}).status_code == 400
    assert max(built) <= _MOST_BUILT


def test_record_of_a_file_with_many_faults_builds_few(server_app: Flask, built: list[int]) -> None:
    """A line of a file may have a megabyte, and is validated as a request for its user would be."""
    many = ",".join(f'"x{index}": 1' for index in range(50_000))
    with calling(server_app) as api:
        answer = api.post(
            f"{USERS}/import",
            content=f'{{"tag": "x", "kind": "service", {many}}}\n',
            headers={"Content-Type": "application/x-ndjson"},
        )
    assert answer.json()["rejected"] == 1
    assert len(answer.json()["rejects"][0]["details"]) == MOST_DETAILS + 1
    assert max(built, default=0) <= _MOST_BUILT


def test_every_operation_takes_no_more_than_its_model_needs(server_app: Flask) -> None:
    """A key's body has at most 64 KiB; each operation says its bound in the OpenAPI document, and keeps to it."""
    seen = {}
    with calling(server_app) as api:
        document = api.get("/ai/admin/openapi.json").json()
        for rule in server_app.url_map.iter_rules():
            operation = operation_of(server_app, rule.endpoint)
            if operation is None or operation.body is None:
                continue
            (method,) = (rule.methods or set()) & {"POST", "PUT"}
            names = {f"<{name}>": "openai" if name == "Name" else _ID for name in rule.arguments}
            path = rule.rule
            for name, value in names.items():
                path = path.replace(name, value)
            headers = {"Content-Type": operation.body_type}
            smaller = api.request(method, path, content=b"{".ljust(operation.largest), headers=headers)
            assert smaller.status_code == 400, path
            larger = api.request(method, path, content=b"{".ljust(operation.largest + 1), headers=headers)
            assert_problem(larger, 413, "PAYLOAD_TOO_LARGE")
            assert str(operation.largest) in larger.json()["detail"]
            described = document["paths"][rule.rule.replace("<", "{").replace(">", "}")][method.lower()]
            assert f"At most {operation.largest:,} bytes." in described["requestBody"]["description"]
            seen[path] = operation.largest
    assert max(seen.values()) < 1 << 20 < LARGEST
    assert max(size for path, size in seen.items() if "/keys" in path) == 64 * 1024


def test_body_of_a_user_with_everything_at_its_largest_is_taken(api: httpx.Client) -> None:
    """Attributes of 16 KiB and a hundred models fit, also where each character is escaped."""
    models = [f"{index:03}{'m' * 125}" for index in range(100)]
    text = "x" * (16 * 1024 - len('{"a":""}'))
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in text)
    names = ", ".join('"' + "".join(f"\\u{ord(letter):04x}" for letter in model) + '"' for model in models)
    body = f'{{"tag": "x", "kind": "service", "attributes": {{"a": "{escaped}"}}, "models": [{names}]}}'
    answer = api.post(USERS, content=body, headers=JSON)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["models"], answer.json()["attributes"]) == (models, {"a": text})
    models_of_key = f'{{"name": "k", "models": [{", ".join(f"{chr(34)}{model}{chr(34)}" for model in models)}]}}'
    assert api.post(ME, content=models_of_key, headers=JSON).status_code == 201


def test_body_of_a_secret_at_its_largest_is_taken(api: httpx.Client) -> None:
    """A value of 64 KiB fits, also where each character is escaped."""
    user = api.post(USERS, json={"tag": "x", "kind": "service"}).json()
    value = "\\u0061" * (64 * 1024)
    body = f'{{"provider": "openai", "value": "{value}"}}'
    answer = api.put(f"{USERS}/{user['id']}/secrets/openai", content=body, headers=JSON)
    assert answer.status_code == 201, answer.text
