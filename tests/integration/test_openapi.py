"""The OpenAPI document: that it is valid, complete and true, and that its page needs nothing from elsewhere."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from flask import Flask
from jsonschema.validators import Draft202012Validator

from ai_admin import __version__, openapi
from ai_admin.errors import ErrorCode, error_classes
from ai_admin.reference import ASSETS
from tests.conftest import AS_OWNER

DOCUMENT = "/ai/admin/openapi.json"
DOCS = "/ai/admin/docs"
USERS = "/ai/admin/users"
USER = "/ai/admin/users/{UserID}"
NOBODY = "/ai/admin/users/01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def client(server_app: Flask) -> Iterator[httpx.Client]:
    """An HTTP client of that application."""
    with httpx.Client(
        transport=httpx.WSGITransport(app=server_app), base_url="http://ai-admin.test", headers=AS_OWNER
    ) as client:
        yield client


@pytest.fixture
def document(client: httpx.Client) -> Any:
    """The document as callers get it."""
    response = client.get(DOCUMENT)
    assert response.headers["Content-Type"] == "application/json"
    return response.json()


def test_document_is_valid(server_app: Flask, document: Any) -> None:
    """It follows the schema of OpenAPI 3.1.0, and every schema in it follows JSON Schema 2020-12."""
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == __version__
    schemathesis.openapi.from_wsgi(DOCUMENT, server_app).validate()
    for schema in _schemas(document):
        Draft202012Validator.check_schema(schema)


def test_references_lead_somewhere(document: Any) -> None:
    """No `$ref` dangles, and no component is there for nothing."""
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    references |= {
        f"#/components/securitySchemes/{name}"
        for path in document["paths"].values()
        for operation in path.values()
        for requirement in operation.get("security", ())
        for name in requirement
    }
    components = {f"#/components/{kind}/{name}" for kind, members in document["components"].items() for name in members}
    assert references == components


def test_document_has_every_route_and_no_other(server_app: Flask, document: Any) -> None:
    """A route cannot be added, moved or removed without the document; pages of the console are for people."""
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in server_app.url_map.iter_rules()
        if not rule.rule.startswith("/ai/admin/console")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, item in document["paths"].items() for method in item} == routes


def test_every_operation_is_described(document: Any) -> None:
    """Ids are unique, texts are there, tags are declared, and the parameters of a path are those of its template."""
    operations = [(path, operation) for path, item in document["paths"].items() for operation in item.values()]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for path, operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        in_path = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))


def test_every_error_code_is_in_the_document(document: Any) -> None:
    """Each code has an example of its own; the one that belongs to no operation stands in the introduction."""
    examples = {
        name: example["value"]
        for response in _responses(document)
        for media_type in response.get("content", {}).values()
        for name, example in media_type.get("examples", {}).items()
    }
    of_no_operation = {ErrorCode.METHOD_NOT_ALLOWED.value}
    assert set(examples) == {code.value for code in ErrorCode} - of_no_operation
    for code in of_no_operation:
        assert f"`{code}`" in document["info"]["description"]
    problem = _validator(document, {"$ref": "#/components/schemas/Problem"})
    for name, example in examples.items():
        problem.validate(example)
        assert example["errorCode"] == name


def test_examples_of_bodies_are_valid(document: Any) -> None:
    """What a reader copies works."""
    bodies = [
        media_type
        for item in document["paths"].values()
        for operation in item.values()
        for media_type in operation.get("requestBody", {}).get("content", {}).values()
    ]
    assert bodies
    for body in bodies:
        assert body["examples"]
        for example in body["examples"].values():
            _validator(document, body["schema"]).validate(example["value"])


def test_answers_are_as_described(client: httpx.Client, document: Any) -> None:
    """Bodies and headers of real answers, good and bad, follow their schemas."""
    ada = {"tag": "ada", "email": "ada@example.com"}
    created = client.post(USERS, json=ada)
    _assert_described(document, USERS, created)
    here = created.headers["Location"]
    for path, response in [
        (USERS, client.get(USERS)),
        (USERS, client.get(USERS, params={"count": "none", "size": "1"})),
        (USERS, client.get(USERS, params={"colour": "red"})),
        (USERS, client.post(USERS, json=ada)),
        (USERS, client.post(USERS, content=b"{")),
        (USER, client.get(here)),
        (USER, client.get(here, headers={"If-None-Match": "*"})),
        (USER, client.put(here, json={"name": "Ada"}, headers={"If-Match": '"9"'})),
        (USER, client.put(here, json={"name": "Ada"})),
        (USER, client.delete(here)),
        (USER, client.get(NOBODY)),
        ("/healthz", client.get("/healthz")),
        ("/readyz", client.get("/readyz")),
        ("/metrics", client.get("/metrics")),
        (DOCS, client.get(DOCS)),
    ]:
        _assert_described(document, path, response)


def test_a_route_without_description_is_refused(server_app: Flask) -> None:
    """Whoever adds a route is told to describe it."""
    server_app.add_url_rule("/secret", "secret", lambda: "")
    with pytest.raises(openapi.UndescribedRoute, match="secret"):
        openapi.document(server_app)


def test_document_and_page_are_revalidated(client: httpx.Client) -> None:
    """A browser keeps what has not changed: a 304 with the same entity tag (RFC 9110, 15.4.5)."""
    for path in (DOCUMENT, DOCS, f"{DOCS}/swagger-ui-bundle.js"):
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert first.headers["Cache-Control"] == "no-cache"
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])


def test_page_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    """The page works without internet, and its policy keeps scripts of others and scripts in the page out."""
    response = client.get(DOCS)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    addresses = _Links(response.text).addresses
    assert not [address for address in addresses if re.match(r"[a-z]+:(?!,)|//", address)]
    assert {f"docs/{name}" for name in ASSETS} <= addresses


@pytest.mark.parametrize("name", ASSETS)
def test_files_of_the_page_load_nothing_from_elsewhere(client: httpx.Client, name: str) -> None:
    """A file has the type it is used as, and neither imports nor fetches from another host."""
    response = client.get(f"{DOCS}/{name}")
    assert response.headers["Content-Type"] == f"{ASSETS[name].media_type}; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"""(url\(|@import|fetch\(|import\()\s*["']?(https?:)?//""", response.text)


def test_page_has_an_entry_for_the_type_of_every_problem(client: httpx.Client) -> None:
    """A problem's `type`, such as /ai/admin/docs#DUPLICATE_TAG, leads to its explanation."""
    links = _Links(client.get(DOCS).text)
    assert {error.code.value for error in error_classes()} <= links.ids
    path, _, fragment = client.get(NOBODY).json()["type"].partition("#")
    assert (path, fragment) == (DOCS, "USER_NOT_FOUND")


@pytest.mark.parametrize(
    "name", ["page.html", "..%2f..%2fapp.py", "%2e%2e/app.py", "..%5capp.py", "/etc/passwd", "init.js/", "INIT.JS"]
)
def test_only_the_named_files_are_served(client: httpx.Client, name: str) -> None:
    """No name from a request becomes a path."""
    assert client.get(f"{DOCS}/{name}").status_code == 404


class _Links(HTMLParser):
    """The addresses and the ids in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Collect."""
        for name, value in attrs:
            if value and name in ("src", "href", "action"):
                self.addresses.add(value)
            if value and name == "id":
                self.ids.add(value)


def _responses(document: Any) -> Iterator[Any]:
    for item in document["paths"].values():
        for operation in item.values():
            yield from operation["responses"].values()


def _schemas(document: Any) -> Iterator[Any]:
    """Every schema of the document: of components, parameters, bodies and headers."""
    pending = [document]
    yield from document["components"]["schemas"].values()
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get("schema"), dict):
                yield value["schema"]
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _validator(document: Any, schema: Any) -> Draft202012Validator:
    whole = {**schema, "components": document["components"]}
    return Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _assert_described(document: Any, path: str, response: httpx.Response) -> None:
    """The answer has a status, media type, body and headers that the document gives its operation."""
    operation = document["paths"][path][response.request.method.lower()]
    described = operation["responses"][str(response.status_code)]
    for name, reference_ in described["headers"].items():
        header = document["components"]["headers"][reference_["$ref"].rpartition("/")[2]]
        assert name in response.headers or not header["required"], name
        if name in response.headers:
            _validator(document, header["schema"]).validate(response.headers[name])
    if "content" not in described:
        assert response.content == b""
        return
    media_type = response.headers["Content-Type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    body = response.json() if media_type.endswith("json") else response.text
    try:
        _validator(document, schema).validate(body)
    except jsonschema.ValidationError as error:
        pytest.fail(f"{response.request.method} {path}: {error.message}")
