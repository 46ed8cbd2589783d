"""Lists of other systems whose members are not what the format says: the record is refused, and nothing guessed."""

import io
import json
from typing import Any

import pytest

from ai_admin.transfer.formats import FORMATS, read_litellm


@pytest.mark.parametrize("models", ["gpt*", "", {"*": {}}, {}, 0, False, True])
def test_models_that_are_no_list_are_nobodys(models: object) -> None:
    """The letters of "gpt*" have an asterisk among them, which is all models; so is what stands for no list at all."""
    file = json.dumps({"users": [{"user_id": "ada", "models": models}, {"user_id": "bob", "models": ["gpt*"]}]})
    first, second = (record.members for record in read_litellm(io.BytesIO(file.encode())))
    assert first == "A member is of another type than this format has it"
    assert isinstance(second, dict)
    assert second["models"] == ["gpt*"]


@pytest.mark.parametrize(
    ("form", "members"),
    [
        ("keycloak", {"enabled": "false"}),
        ("keycloak", {"firstName": ["Ada"]}),
        ("keycloak", {"attributes": [["team", "x"]]}),
        ("keycloak", {"attributes": "team"}),
        ("litellm", {"metadata": "team"}),
        ("litellm", {"user_role": ["proxy_admin"]}),
        ("openai", {"is_service_account": "no"}),
        ("openai", {"user": {"banned": "no"}}),
    ],
)
def test_a_member_of_another_type_is_not_guessed_at(form: str, members: dict[str, Any]) -> None:
    """A text that says false is true to a program: whoever is disabled so would come in active."""
    user = {"username": "ada", "user_id": "ada", "email": "ada@example.com"}
    file = json.dumps([user | members, user]).encode()
    first, second = (record.members for record in FORMATS[form].read(io.BytesIO(file)))
    assert first == "A member is of another type than this format has it"
    assert isinstance(second, dict)
