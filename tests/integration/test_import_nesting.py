"""Imports of users with values in values: what is too deep for a program costs its own record alone."""

import io
import json

import psycopg
import pytest

from ai_admin.access.actors import service
from ai_admin.config import Settings
from ai_admin.transfer.documents import DEEPEST_DOCUMENT
from ai_admin.transfer.exporting import export_users
from ai_admin.transfer.importing import Summary, import_users
from ai_admin.transfer.tables import FileInvalid
from ai_admin.users.schemas import DEEPEST_ATTRIBUTES, UserFilter

BY = service("import")
# A user of each format whose one value has a place.
USERS = {
    "ndjson": '{"tag": "%s", "kind": "service", "attributes": %s}',
    "keycloak": '{"username": "%s", "serviceAccountClientId": "x", "attributes": %s}',
    "litellm": '{"user_id": "%s", "metadata": %s}',
    "csv": "%s,service,%s",
}


def nested(depth: int) -> str:
    """An object in objects, so many in all."""
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


def file_of(form: str, *depths: int) -> io.BytesIO:
    """A file with a user for each depth."""
    values = [nested(depth) for depth in depths]
    if form == "csv":
        values = ['"' + value.replace('"', '""') + '"' for value in values]
    users = [USERS[form] % (f"u{depth}", value) for depth, value in zip(depths, values, strict=True)]
    if form in {"keycloak", "litellm"}:
        return io.BytesIO(f"[{','.join(users)}]".encode())
    return io.BytesIO("\n".join(["tag,kind,attributes"] * (form == "csv") + users).encode())


@pytest.mark.parametrize("form", list(USERS))
def test_what_is_nested_too_deeply_costs_its_own_record(settings: Settings, sql: psycopg.Connection, form: str) -> None:
    """It neither ends the import nor takes those beside it along."""
    deepest = DEEPEST_DOCUMENT - 5 if form in {"keycloak", "litellm"} else 100_000
    file = file_of(form, 1, DEEPEST_ATTRIBUTES + 1, 260, 2_000, deepest, 2)
    outcome = import_users(settings, BY, file, form)
    first = 3 if form == "csv" else 2
    told = [(reject.line, reject.problem["errorCode"]) for reject in outcome.rejects(settings)]
    assert told == [(line, "VALIDATION_ERROR") for line in range(first, first + 4)]
    assert sql.execute("SELECT tag FROM users WHERE tag LIKE 'u_' ORDER BY tag").fetchall() == [("u1",), ("u2",)]


@pytest.mark.parametrize("form", ["keycloak", "litellm"])
def test_a_document_that_is_a_well_is_refused_whole(settings: Settings, sql: psycopg.Connection, form: str) -> None:
    """The parser would take the square of its depth: hours for a megabyte. Nobody comes in before that is known."""
    with pytest.raises(FileInvalid, match="nested deeper"):
        import_users(settings, BY, file_of(form, 1, 1_000_000), form)
    assert sql.execute("SELECT count(*) FROM users WHERE tag = 'u1'").fetchone() == (0,)


@pytest.mark.parametrize("form", list(USERS))
def test_what_is_nested_deeply_goes_in_and_out(settings: Settings, form: str) -> None:
    """As deep as the API takes it, and no deeper: an export of it could not be imported otherwise."""
    file = file_of(form, DEEPEST_ATTRIBUTES)
    assert import_users(settings, BY, file, form).summary == Summary(records=1, created=1)
    whole = io.BytesIO(b"".join(export_users(settings, BY, UserFilter(), "ndjson")))
    assert import_users(settings, BY, whole, "ndjson").summary == Summary(records=2, unchanged=2)


@pytest.mark.parametrize(
    ("form", "members"),
    [
        ("keycloak", ["firstName", "username", "id", "email"]),
        ("litellm", ["user_id", "user_alias", "models", "user_role"]),
        ("openai", ["id", "name", "email", "role", "user"]),
    ],
)
def test_a_name_that_is_nested_deeply_costs_its_own_record(settings: Settings, form: str, members: list[str]) -> None:
    """Writing it as a text would exhaust the stack."""
    who = json.dumps({"username": "bob", "user_id": "bob", "email": "bob@example.com"})
    deep = "[" * 4_000 + "]" * 4_000
    users = ['{"' + member + '": ' + deep + "}" for member in members]
    file = "[" + ",".join([*users, who]) + "]"
    outcome = import_users(settings, BY, io.BytesIO(file.encode()), form)
    assert [reject.line for reject in outcome.rejects(settings)] == list(range(1, len(members) + 1))
    assert outcome.summary == Summary(records=len(members) + 1, created=1, rejected=len(members))
