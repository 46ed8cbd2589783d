"""Lists of other systems as they come: page by page, as a bare list, with a mark in front, with less than all."""

import io
import json
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_admin.transfer import documents
from ai_admin.transfer.formats import FORMATS, Record
from ai_admin.transfer.tables import FileInvalid


def records(form: str, *documents: Any, mark: bytes = b"") -> list[Record]:
    """What an import reads, after it has looked whether the file is whole."""
    file = io.BytesIO(mark + b"\n".join(json.dumps(document).encode() for document in documents))
    require_whole = FORMATS[form].require_whole
    assert require_whole
    require_whole(file)
    file.seek(0)
    return list(FORMATS[form].read(file))


def keycloak(*names: str) -> list[dict[str, Any]]:
    """Users as Keycloak represents them."""
    return [{"id": f"k-{name}", "username": name, "email": f"{name}@example.com", "enabled": True} for name in names]


def tags(read: list[Record]) -> list[str]:
    """The tags of users that were read."""
    return [record.members["tag"] for record in read if isinstance(record.members, dict)]


def test_a_realm_in_files_of_fifty_users() -> None:
    """`kc.sh export --dir` writes realm-users-0.json and so on: put together, they are one file."""
    first, second = {"realm": "acme", "users": keycloak("ada", "bob")}, {"realm": "acme", "users": keycloak("eve")}
    read = records("keycloak", first, second)
    assert tags(read) == ["ada", "bob", "eve"]
    assert [record.line for record in read] == [1, 2, 3]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"  \n"])
def test_a_bare_list(mark: bytes) -> None:
    """The Admin REST API of Keycloak answers a list; PowerShell puts a byte order mark before what it saves."""
    assert tags(records("keycloak", keycloak("ada", "bob"), keycloak("eve"), mark=mark)) == ["ada", "bob", "eve"]
    assert tags(records("keycloak", {"users": keycloak("ada")}, mark=mark)) == ["ada"]


def test_document_user_with_repeated_member_is_refused_alone() -> None:
    """A reader of the first `email` and a reader of the last one see two people."""
    file = b'{"users": [{"username": "ada"}, {"username": "eve", "username": "bob", "a": 1},'
    file += b' {"username": "zoe", "attributes": {"x": {"y": 1, "y": 2}}}, {"username": "amy"}]}'
    read = list(FORMATS["keycloak"].read(io.BytesIO(file)))
    assert tags(read) == ["ada", "amy"]
    told = [record.members for record in read if isinstance(record.members, str)]
    assert told == ["The member 'username' occurs twice", "The member 'y' occurs twice"]


@pytest.mark.parametrize("file", [b'{"users": [], "users": [{"username": "ada"}]}', b'{"a": 1, "users": [], "a": 2}'])
def test_document_with_repeated_member_is_refused(file: bytes) -> None:
    """Two lists of users in one object: another reader would import one of them."""
    require_whole = FORMATS["keycloak"].require_whole
    assert require_whole
    with pytest.raises(FileInvalid, match="of the document occurs twice"):
        require_whole(io.BytesIO(file))


NUMBERS = {
    "9223372036854775807": True, "-9223372036854775807": True, "9223372036854775808": False, "1e308": True,
    "9" * 30: False, "9" * 5000: False, "9" * 200_000: False, "1e400": False, "-1E+0400": False,
    "1" * 400 + ".5": False,
    "0." + "3" * 300: True, "1e-400": True, "1." + "0" * 100 + "e999": False,
}  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:20])
@pytest.mark.parametrize("part", [documents._PART, 7])
def test_document_number_out_of_range_costs_its_record(monkeypatch: pytest.MonkeyPatch, number: str, part: int) -> None:
    """The parser gave the whole file up, with users before and behind."""
    monkeypatch.setattr(documents, "_PART", part)
    users = [{"username": "ada"}, {"username": f'eve-{number[:9]}\\"{number}', "x": 1}, {"username": "amy"}]
    file = json.dumps({"users": users}).replace('"x": 1', f'"x": [{number}, -1]').encode()
    read = list(FORMATS["keycloak"].read(io.BytesIO(file)))
    assert len(read) == 3
    assert isinstance(read[1].members, dict) is NUMBERS[number]
    if not NUMBERS[number]:
        assert read[1].members == "A number must fit in 64 bits; write a larger one as a string"
    assert [isinstance(record.members, dict) for record in (read[0], read[2])] == [True, True]


def test_document_that_is_not_utf_8_is_refused() -> None:
    """Half a letter in a name ended the import in a fault of ours."""
    require_whole = FORMATS["keycloak"].require_whole
    assert require_whole
    with pytest.raises(FileInvalid, match="is not UTF-8 after 1 users"):
        require_whole(io.BytesIO(b'[{"username": "ada"}, {"\xed\xa0\x80": 1}]'))


_TEXTS = st.text(alphabet='0123456789.eE+-"\\ ax', max_size=30)


@given(
    st.recursive(
        st.none() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
        max_leaves=30,
    ),
    st.integers(1, 40),
)
def test_document_numbers_in_range_and_texts_stay(value: Any, part: int) -> None:
    """What is put in the place of a number must not be put into a text, wherever parts of the file end."""

    def fits(inner: Any) -> Any:
        if isinstance(inner, int) and abs(inner) >= 2**63:
            return documents._OUT_OF_RANGE
        if isinstance(inner, list):
            return [fits(each) for each in inner]
        return {name: fits(each) for name, each in inner.items()} if isinstance(inner, dict) else inner

    file = io.BytesIO(json.dumps(value).encode())
    with mock.patch.object(documents, "_PART", part):
        assert json.loads(b"".join(documents._with_short_numbers(file))) == fits(value)


def page(number: int, *names: str) -> dict[str, Any]:
    """A page of LiteLLM's list of three users."""
    users = [{"user_id": name, "user_email": f"{name}@example.com", "models": []} for name in names]
    return {"users": users, "total": 3, "page": number, "page_size": 2, "total_pages": 2}


def test_a_page_of_litellm_is_not_taken_for_the_list() -> None:
    """Its list has 25 users a page unless asked otherwise: whoever saved one is told what is missing."""
    assert tags(records("litellm", page(1, "ada", "bob"), page(2, "eve"))) == ["ada", "bob", "eve"]
    with pytest.raises(FileInvalid, match="2 of 3 users; get all pages"):
        records("litellm", page(1, "ada", "bob"))
    assert tags(records("litellm", {"users": page(1, "ada")["users"]})) == ["ada"]


def openai(has_more: bool, *users: dict[str, Any]) -> dict[str, Any]:
    """A page of OpenAI's list."""
    return {"object": "list", "data": list(users), "first_id": "a", "last_id": "b", "has_more": has_more}


ADA = {"object": "organization.user", "id": "user-1", "name": "Ada", "email": "ada@example.com", "role": "owner"}


def test_a_page_of_openai_is_not_taken_for_the_list() -> None:
    """Its list has 20 users a page unless asked otherwise; pages may stand in any order."""
    bob = ADA | {"id": "user-2", "email": "bob@example.com", "role": "reader"}
    assert len(records("openai", openai(False, bob), openai(True, ADA))) == 2
    with pytest.raises(FileInvalid, match="goes on after its 1 users"):
        records("openai", openai(True, ADA))


def test_users_of_openai_that_are_no_people() -> None:
    """A service account has no address and administers nothing; facts about a person may stand in `user`."""
    account = {"object": "organization.user", "id": "user-3", "name": "CI runner", "email": None, "role": "owner",
               "is_service_account": True}  # fmt: skip
    person = {"object": "user", "id": "u", "email": "eve@example.com", "name": "Eve", "banned": True}
    nested = {"object": "organization.user", "id": "user-4", "role": "reader", "user": person}
    first, second = (record.members for record in records("openai", openai(False, account, nested)))
    assert first == {
        "tag": "ci-runner", "name": "CI runner", "kind": "service", "role": "member",
        "attributes": {"openaiId": "user-3"},
    }  # fmt: skip
    assert isinstance(second, dict)
    assert (second["tag"], second["email"], second["name"], second["status"]) == (
        "eve-example.com", "eve@example.com", "Eve", "suspended",
    )  # fmt: skip


@pytest.mark.parametrize("form", ["keycloak", "litellm", "openai"])
def test_what_is_no_list_is_refused(form: str) -> None:
    """Before its first user is taken."""
    files = ((b"", "no JSON"), (b"{}", "no users"), (b'[{"username": ', "no JSON"), (b"tag,name", "no JSON"))
    for content, told in files:
        with pytest.raises(FileInvalid, match=told):
            FORMATS[form].require_whole(io.BytesIO(content))  # type: ignore[misc]


def test_a_member_of_another_type_is_of_its_own_user() -> None:
    """The others are read, and the fault is told without its value."""
    users = [{"username": "ada", "attributes": ["secret"]}, "bob", *keycloak("eve")]
    first, second, third = records("keycloak", {"users": users})
    assert (first.members, second.members) == ("A member is of another type than this format has it", "Not an object")
    assert tags([third]) == ["eve"]
