"""Rates and bounds of what a person leaves behind: events of changes, and sessions of the console."""

from collections.abc import Iterator
from unittest import mock

import httpx
import psycopg
import pytest

from tests.conftest import assert_problem
from tests.integration.test_access import bearer, key_of, user_of
from tests.integration.test_bad_input import USERS
from tests.integration.test_console import Browser, browser, services_of
from tests.integration.test_console import key_of as key_of_role
from tests.serving import together

__all__ = ["browser"]

pytestmark = pytest.mark.in_process
ME = "/ai/me"
KEYS = "/ai/me/keys"


@pytest.fixture
def still() -> Iterator[mock.Mock]:
    """A clock that stands, so that no bucket fills while a test runs; its value can be set."""
    with mock.patch("ai_admin.access.rates.time") as clock:
        clock.monotonic.return_value = 1000.0
        yield clock.monotonic


def test_member_who_renames_a_key_in_a_loop_is_told_to_wait(
    api: httpx.Client, still: mock.Mock, sql: psycopg.Connection
) -> None:
    """One member renamed a key 548 times in five seconds, and each left an event that is kept forever."""
    member = bearer(key_of(api, user_of(api, "member"))["key"])
    other = bearer(key_of(api, user_of(api, "other"))["key"])
    (key,) = api.get(KEYS, headers=member).json()["data"]
    answers = [
        api.put(f"{KEYS}/{key['id']}", json={"name": f"n{number}"}, headers=member) for number in range(200)
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200] * 60 + [429] * 140
    assert_problem(answers[-1], 429, "RATE_LIMITED")
    assert answers[-1].headers["Retry-After"] == "2"
    events = sql.execute("SELECT count(*) FROM audit_events WHERE action = 'keys:update'").fetchone()
    assert events == (60,)
    # Another key of the same user has no rate of its own; reading goes on, and so do the others.
    assert api.post(KEYS, json={"name": "k"}, headers=member).status_code == 429
    assert api.get(ME, headers=member).status_code == 200
    assert api.post(KEYS, json={"name": "k"}, headers=other).status_code == 201
    still.return_value += 2
    assert api.put(f"{KEYS}/{key['id']}", json={"name": "later"}, headers=member).status_code == 200


@pytest.mark.usefixtures("still")
def test_bodies_that_are_refused_count_as_changes(api: httpx.Client) -> None:
    """A flood of unknown members is work too, whether or not something is changed."""
    member = bearer(key_of(api, user_of(api, "member"))["key"])
    answers = [api.post(KEYS, json={"x": 1}, headers=member).status_code for _ in range(70)]
    assert answers == [400] * 60 + [429] * 10


@pytest.mark.usefixtures("still")
@pytest.mark.config(WRITES_PER_SECOND="5")
def test_changes_with_a_scope_have_a_rate_that_reads_do_not_share(api: httpx.Client) -> None:
    """An administrator's loop that went wrong writes so many events a second and no more."""
    owners = key_of(api, user_of(api, "gateway"))["key"]
    made = [api.post(USERS, json={"tag": f"x{number}", "kind": "service"}).status_code for number in range(12)]
    # The user and the key above were changes too.
    assert made == [201] * 8 + [429] * 4
    refused = api.post(USERS, json={"tag": "y", "kind": "service"})
    assert refused.headers["Retry-After"] == "1"
    assert api.get(USERS).status_code == 200
    # What a gateway asks by POST changes nothing, and has the rate of reads.
    for _ in range(20):
        assert api.post("/ai/introspect", data={"token": owners}).json()["active"]


def test_automation_that_creates_hundreds_of_users_is_not_limited(api: httpx.Client) -> None:
    """A provisioning tool sends one request after another, as fast as they are answered."""
    made = [api.post(USERS, json={"tag": f"x{number}", "kind": "service"}).status_code for number in range(350)]
    assert set(made) == {201}


def test_user_who_signs_in_in_a_loop_is_told_to_wait(browser: Browser, still: mock.Mock) -> None:
    """One member signed in 619 times in five seconds, and each left a session."""
    key, other = key_of_role(browser, "member"), key_of_role(browser, "auditor")
    answers = [browser.another().sign_in(key) for _ in range(25)]
    assert [answer.status_code for answer in answers] == [303] * 20 + [429] * 5
    assert answers[-1].headers["Retry-After"] == "6"
    assert "text/html" in answers[-1].headers["Content-Type"]
    assert browser.another().sign_in(other).status_code == 303
    still.return_value += 6
    assert browser.another().sign_in(key).status_code == 303


@pytest.mark.config(SESSIONS_PER_USER="3")
def test_new_session_beyond_the_bound_ends_the_oldest(browser: Browser) -> None:
    """A user has a few browsers, and not hundreds of tokens that each open the console."""
    owner = browser.another()
    owner.sign_in()
    key = key_of_role(browser, "auditor")
    browsers = [browser.another() for _ in range(5)]
    for one in browsers:
        assert one.sign_in(key).status_code == 303
    assert [one.get("/account").status_code for one in browsers] == [303, 303, 200, 200, 200]
    assert owner.get("/account").status_code == 200


@pytest.mark.config(SESSIONS_PER_USER="3", POOL_SIZE="8")
def test_sessions_that_begin_at_once_keep_the_bound(browser: Browser) -> None:
    """Each of two transactions would otherwise not see the session of the other."""
    key = key_of_role(browser, "member")
    answers = together(8, lambda _: browser.another().sign_in(key).status_code)
    assert answers == [303] * 8
    with services_of(browser).database.connection() as connection:
        rows = connection.execute("SELECT count(*) AS number FROM console_sessions").fetchall()
    assert rows == [{"number": 3}]
