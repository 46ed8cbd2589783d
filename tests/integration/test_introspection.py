"""What gateways learn about a credential: whether it is good, whose it is, and whether it may call a model."""

from datetime import datetime, timedelta, timezone

import httpx
import psycopg
import pytest

from ai_admin.access.tokens import make_key
from tests.conftest import OWNER_ID, OWNER_KEY, assert_problem
from tests.integration.test_access import bearer, key_of, uncached, user_of

INTROSPECT = "/ai/introspect"
AUTHORIZE = "/ai/authorize"


@pytest.fixture
def gateway(api: httpx.Client) -> dict[str, str]:
    """The header of a gateway: a member whose key may introspect, and nothing else."""
    return bearer(key_of(api, user_of(api, "gateway"), scopes=["tokens:introspect"])["key"])


def test_a_good_key_is_described(api: httpx.Client, gateway: dict[str, str]) -> None:
    """RFC 7662, 2.2, with what a gateway needs to route and to charge."""
    user = user_of(api, "caller", models=["gpt-5*", "claude-*"])
    end = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    key = key_of(api, user, models=["gpt-*"], expiresAt=end.isoformat())["key"]
    answer = api.post(INTROSPECT, data={"token": key, "token_type_hint": "access_token"}, headers=gateway)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {
        "active": True,
        "sub": user,
        "scope": "",
        "token_type": "Bearer",
        "tag": "caller",
        "kind": "service",
        "models": ["gpt-5*", "claude-*"],
        "exp": int(end.timestamp()),
        "keyModels": ["gpt-*"],
    }


@pytest.mark.parametrize(
    ("models", "key_models", "model", "allowed"),
    [
        (["gpt-5*"], None, "gpt-5-mini", True),
        (["gpt-5*"], None, "gpt-5", True),
        (["gpt-5*"], None, "gpt-4", False),
        (["gpt-5*"], None, "my-gpt-5", False),
        ([], None, "gpt-5", False),
        (["*"], None, "anything/at:all", True),
        (["a.c"], None, "abc", False),
        (["a*c*e"], None, "abcde", True),
        (["a*c*e"], None, "ace/", False),
        (["gpt-*"], ["*-mini"], "gpt-5-mini", True),
        (["gpt-*"], ["*-mini"], "gpt-5", False),
        (["gpt-*"], [], "gpt-5", False),
        (["GPT-5"], None, "gpt-5", False),
    ],
)
def test_a_model_is_allowed_by_user_and_key(
    api: httpx.Client,
    gateway: dict[str, str],
    models: list[str],
    key_models: list[str] | None,
    model: str,
    allowed: bool,
) -> None:
    """`*` stands for any characters and all else for itself; user and key must both allow the model."""
    key = key_of(api, user_of(api, "caller", models=models), models=key_models)["key"]
    answer = api.post(INTROSPECT, data={"token": key, "model": model}, headers=gateway)
    assert answer.json()["modelAllowed"] is allowed
    subrequest = api.get(AUTHORIZE, params={"model": model}, headers=bearer(key))
    assert subrequest.status_code == (204 if allowed else 403)


@uncached
def test_what_is_not_good_is_inactive_and_nothing_else(
    api: httpx.Client, sql: psycopg.Connection, gateway: dict[str, str]
) -> None:
    """RFC 7662, 2.2: no reason is given, which would tell what exists."""
    user = user_of(api, "caller")
    key = key_of(api, user)["key"]
    for token in (make_key(), "x", f"{key} ", key[:-1], "a.b.c", f"Bearer {key}"):
        answer = api.post(INTROSPECT, data={"token": token}, headers=gateway)
        assert (answer.status_code, answer.json()) == (200, {"active": False})
    sql.execute("UPDATE users SET status = 'suspended' WHERE id = %s", [user])
    assert api.post(INTROSPECT, data={"token": key}, headers=gateway).json() == {"active": False}
    assert_problem(api.get(AUTHORIZE, headers=bearer(key)), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("", "application/x-www-form-urlencoded", 400),
        ("token=a&token=b", "application/x-www-form-urlencoded", 400),
        ("token=a&surprise=b", "application/x-www-form-urlencoded", 400),
        ("token=a&model=", "application/x-www-form-urlencoded", 400),
        ("token=%ff", "application/x-www-form-urlencoded", 400),
        ('{"token": "a"}', "application/json", 415),
        ("token=a", "", 415),
    ],
)
def test_questions_that_cannot_be_read(api: httpx.Client, body: str, content_type: str, status: int) -> None:
    """A clear error, as everywhere."""
    answer = api.post(INTROSPECT, content=body, headers={"Content-Type": content_type})
    assert_problem(answer, status, "VALIDATION_ERROR" if status == 400 else "UNSUPPORTED_MEDIA_TYPE")


def test_a_subrequest_says_who_calls(api: httpx.Client) -> None:
    """nginx hands the headers on to what is behind it."""
    answer = api.get(AUTHORIZE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (answer.headers["X-AI-User"], answer.headers["X-AI-Tag"]) == (str(OWNER_ID), "zz-owner")
    assert answer.headers["X-AI-Kind"] == "service"


def test_only_who_may_introspect_learns_about_others(api: httpx.Client, gateway: dict[str, str]) -> None:
    """A member's key tells nothing of another key, and a gateway's opens nothing else."""
    member = bearer(key_of(api, user_of(api, "member"))["key"])
    assert_problem(api.post(INTROSPECT, data={"token": OWNER_KEY}, headers=member), 403, "FORBIDDEN")
    assert_problem(api.get("/ai/admin/users", headers=gateway), 403, "FORBIDDEN")
    human = api.post("/ai/admin/users", json={"tag": "h", "email": "h@example.com"}).json()["id"]
    body = {"name": "x", "scopes": ["tokens:introspect"]}
    assert_problem(api.post(f"/ai/admin/users/{human}/keys", json=body), 400, "VALIDATION_ERROR")
