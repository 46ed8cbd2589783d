"""The life of a user through the API."""

import json

import httpx
import psycopg
import pytest

from tests.conftest import OWNER_ID, assert_problem

USERS = "/ai/admin/users"
ADA = {"tag": "ada", "email": "ada@example.com", "name": "Ada Lovelace"}


def test_create_answers_with_the_user(api: httpx.Client) -> None:
    """A created user has every member of the contract, a Location that leads to it, and version 1."""
    response = api.post(USERS, json=ADA)
    assert response.status_code == 201
    user = response.json()
    assert set(user) == {
        "id", "tag", "email", "name", "kind", "role", "status", "models", "attributes",
        "createdAt", "updatedAt", "deletedAt", "version",
    }  # fmt: skip
    assert user | ADA == user
    assert (user["kind"], user["role"], user["status"]) == ("human", "member", "active")
    assert (user["models"], user["attributes"], user["deletedAt"], user["version"]) == ([], {}, None, 1)
    assert user["id"][14] == "7", "ids are UUIDv7"
    assert user["createdAt"].endswith("Z")
    assert response.headers["ETag"] == '"1"'
    assert api.get(response.headers["Location"]).json() == user


def test_tag_is_stored_in_lower_case_and_name_defaults_to_it(api: httpx.Client) -> None:
    """A tag in capitals is the same handle; a user without a name is shown by the tag."""
    user = api.post(USERS, json={"tag": "Nightly.Eval", "kind": "service"}).json()
    assert (user["tag"], user["name"], user["email"]) == ("nightly.eval", "nightly.eval", None)


@pytest.mark.parametrize("email", [{}, {"email": None}])
def test_a_human_needs_an_email(api: httpx.Client, email: dict[str, None]) -> None:
    """Neither creating nor changing can leave a human without an email address."""
    response = api.post(USERS, json={"tag": "ada", **email})
    assert_problem(response, 400, "VALIDATION_ERROR")
    assert response.json()["details"][0]["loc"] == ["body", "email"]


def test_the_database_itself_refuses_a_human_without_email(sql: psycopg.Connection) -> None:
    """What writes beside the service meets the same rule."""
    with pytest.raises(psycopg.errors.CheckViolation, match="users_email_of_human"):
        sql.execute(
            "INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words)"
            " VALUES (gen_random_uuid(), 'a', 'a', 'a', 'human', 'member', 'active', '{}', '{}', '')"
        )


def test_duplicates_are_conflicts(api: httpx.Client) -> None:
    """A taken tag and a taken email answer 409 with their own codes, whatever their case."""
    api.post(USERS, json=ADA)
    assert_problem(api.post(USERS, json=ADA | {"tag": "ADA", "email": "b@example.com"}), 409, "DUPLICATE_TAG")
    assert_problem(api.post(USERS, json=ADA | {"tag": "b", "email": "ADA@Example.com"}), 409, "DUPLICATE_EMAIL")
    assert api.get(USERS, params={"role": "member"}).json()["total"] == 1


def test_put_changes_what_is_sent_and_nothing_else(api: httpx.Client) -> None:
    """keycloak #19691: PUT wiped the attributes that were not sent."""
    user = api.post(USERS, json=ADA | {"attributes": {"team": "x"}, "models": ["gpt-5*"]}).json()
    response = api.put(f"{USERS}/{user['id']}", json={"name": "Ada King"})
    changed = response.json()
    assert response.headers["ETag"] == '"2"'
    assert changed == user | {"name": "Ada King", "version": 2, "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] > user["updatedAt"]


@pytest.mark.parametrize("body", [{}, {"name": "Ada Lovelace"}, {"tag": "ADA", "attributes": {}}])
def test_put_that_changes_nothing_leaves_the_version(api: httpx.Client, body: dict[str, object]) -> None:
    """A repeated PUT is no change: same version, same times."""
    user = api.post(USERS, json=ADA).json()
    assert api.put(f"{USERS}/{user['id']}", json=body).json() == user


def test_put_tells_true_from_one(api: httpx.Client) -> None:
    """Python holds True to equal 1; JSON does not, and such a change must not be lost."""
    user = api.post(USERS, json=ADA | {"attributes": {"flag": 1}}).json()
    changed = api.put(f"{USERS}/{user['id']}", json={"attributes": {"flag": True}}).json()
    assert changed["attributes"] == {"flag": True}
    assert changed["version"] == 2


def test_null_clears_what_may_be_empty(api: httpx.Client) -> None:
    """The email of a service may go; the email of a human and every other member may not."""
    service = api.post(USERS, json={"tag": "bot", "kind": "service", "email": "bot@example.com"}).json()
    path = f"{USERS}/{service['id']}"
    assert api.put(path, json={"email": None}).json()["email"] is None
    for member in ("tag", "name", "kind", "role", "status", "models", "attributes"):
        assert_problem(api.put(path, json={member: None}), 400, "VALIDATION_ERROR")
    assert_problem(api.put(path, json={"kind": "human"}), 400, "VALIDATION_ERROR")
    assert api.get(path).json()["version"] == 2


def test_suspension_is_an_ordinary_change(api: httpx.Client) -> None:
    """litellm #15979: there was no way to suspend a user."""
    user = api.post(USERS, json=ADA).json()
    suspended = api.put(f"{USERS}/{user['id']}", json={"status": "suspended"}).json()
    assert (suspended["status"], suspended["version"]) == ("suspended", 2)
    assert api.get(USERS, params={"status": "suspended"}).json()["total"] == 1


def test_delete_marks_and_put_brings_back(api: httpx.Client) -> None:
    """litellm #9900, open-webui #24501: deletion destroyed data. Here it is a mark that can be taken off."""
    user = api.post(USERS, json=ADA).json()
    path = f"{USERS}/{user['id']}"
    response = api.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert_problem(api.delete(path), 404, "USER_NOT_FOUND")
    deleted = api.get(path).json()
    assert (deleted["status"], deleted["version"]) == ("deleted", 2)
    assert deleted["deletedAt"]
    assert api.get(USERS, params={"role": "member"}).json()["total"] == 0
    assert api.get(USERS, params={"status": "deleted"}).json()["total"] == 1
    assert_problem(api.put(path, json={"name": "X"}), 400, "VALIDATION_ERROR")
    back = api.put(path, json={"status": "active"}).json()
    assert (back["status"], back["deletedAt"], back["version"]) == ("active", None, 3)


def test_status_deleted_cannot_be_set_by_hand(api: httpx.Client) -> None:
    """Deleting has one way, which sets the time and takes away access."""
    user = api.post(USERS, json=ADA).json()
    assert_problem(api.put(f"{USERS}/{user['id']}", json={"status": "deleted"}), 400, "VALIDATION_ERROR")
    assert_problem(api.post(USERS, json=ADA | {"status": "deleted"}), 400, "VALIDATION_ERROR")


def test_a_deleted_user_frees_tag_and_email_until_brought_back(api: httpx.Client) -> None:
    """Tag and email are unique among users that are not deleted; bringing back meets a conflict, never two."""
    first = api.post(USERS, json=ADA).json()
    api.delete(f"{USERS}/{first['id']}")
    second = api.post(USERS, json=ADA).json()
    assert_problem(api.put(f"{USERS}/{first['id']}", json={"status": "active"}), 409, "DUPLICATE_TAG")
    api.delete(f"{USERS}/{second['id']}")
    assert api.put(f"{USERS}/{first['id']}", json={"status": "active"}).status_code == 200


def test_purge_leaves_nothing_of_the_person(api: httpx.Client, sql: psycopg.Connection) -> None:
    """litellm #25710, supabase #1948: a purge is explicit and complete, kept answers included."""
    response = api.post(USERS, json=ADA, headers={"Idempotency-Key": "k"})
    path = response.headers["Location"]
    assert api.delete(path, params={"purge": "true"}).status_code == 204
    assert_problem(api.get(path), 404, "USER_NOT_FOUND")
    assert_problem(api.delete(path, params={"purge": "true"}), 404, "USER_NOT_FOUND")
    assert sql.execute("SELECT id FROM users").fetchall() == [(OWNER_ID,)]
    assert sql.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (0,)


def test_create_retried_after_purge_is_refused(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A retry that was still on its way does not bring an erased person back, whatever body it has.

    What is kept for that tells nothing: not even a reader of the database who guesses the key finds it.
    """
    headers = {"Idempotency-Key": "create-ada"}
    path = api.post(USERS, json=ADA, headers=headers).headers["Location"]
    kept = sql.execute("SELECT key_digest, request_digest FROM idempotency_keys").fetchone()
    assert kept
    assert api.delete(path, params={"purge": "true"}).status_code == 204
    for body in (ADA, ADA | {"tag": "ada2"}):
        refused = api.post(USERS, json=body, headers=headers)
        assert_problem(refused, 409, "IDEMPOTENT_ANSWER_ERASED")
    assert sql.execute("SELECT id FROM users").fetchall() == [(OWNER_ID,)]
    assert not set(kept) & set(sql.execute("SELECT digest FROM erased_answers").fetchall()[0])
    assert api.post(USERS, json=ADA, headers={"Idempotency-Key": "another"}).status_code == 201


def test_create_retried_after_deletion_gets_the_first_answer(api: httpx.Client) -> None:
    """A user who is only marked deleted is still there, so the retry creates no second one."""
    headers = {"Idempotency-Key": "k"}
    first = api.post(USERS, json=ADA, headers=headers)
    assert api.delete(first.headers["Location"]).status_code == 204
    assert api.post(USERS, json=ADA, headers=headers).content == first.content


def test_idempotency_key_of_an_erased_user_expires(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A day after its request the key can be used again, and its digest is gone."""
    headers = {"Idempotency-Key": "k"}
    path = api.post(USERS, json=ADA, headers=headers).headers["Location"]
    api.delete(path, params={"purge": "true"})
    assert sql.execute("SELECT expires_at > now() + interval '23 hours' FROM erased_answers").fetchall() == [(True,)]
    sql.execute("UPDATE erased_answers SET expires_at = now() - interval '1 second'")
    assert api.post(USERS, json=ADA, headers=headers).status_code == 201
    assert sql.execute("SELECT count(*) FROM erased_answers").fetchone() == (0,)


def test_a_deleted_user_can_be_purged(api: httpx.Client) -> None:
    """The mark is no protection against erasure on request."""
    path = api.post(USERS, json=ADA).headers["Location"]
    api.delete(path)
    assert api.delete(path, params={"purge": "true"}).status_code == 204


def test_conditional_get(api: httpx.Client) -> None:
    """RFC 9110, 13.1.2: If-None-Match compares weakly and answers 304 with the ETag and no body."""
    path = api.post(USERS, json=ADA).headers["Location"]
    for header in ('"1"', 'W/"1"', '"7", "1"', "*"):
        response = api.get(path, headers={"If-None-Match": header})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", '"1"')
    assert api.get(path, headers={"If-None-Match": '"2"'}).status_code == 200


def test_conditional_change(api: httpx.Client) -> None:
    """RFC 9110, 13.1.1: If-Match lets one version be changed or deleted, and `*` any that exists."""
    path = api.post(USERS, json=ADA).headers["Location"]
    assert_problem(api.put(path, json={"name": "X"}, headers={"If-Match": '"2"'}), 412, "VERSION_MISMATCH")
    assert_problem(api.delete(path, headers={"If-Match": '"2"'}), 412, "VERSION_MISMATCH")
    assert api.put(path, json={"name": "X"}, headers={"If-Match": '"9", "1"'}).status_code == 200
    assert api.put(path, json={"name": "Y"}, headers={"If-Match": "*"}).status_code == 200
    assert api.delete(path, headers={"If-Match": '"3"'}).status_code == 204


def test_idempotency_key_replays_the_first_answer(api: httpx.Client) -> None:
    """The retry gets the same bytes, also after the user has changed since, and is marked as a replay."""
    first = api.post(USERS, json=ADA, headers={"Idempotency-Key": "k"})
    api.put(first.headers["Location"], json={"name": "Changed"})
    again = api.post(USERS, json=ADA, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (again.headers["Location"], again.headers["ETag"]) == (first.headers["Location"], '"1"')
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers


def test_idempotency_key_with_another_body(api: httpx.Client) -> None:
    """A key that is used for something else is a mistake of the caller, told as 422."""
    api.post(USERS, json=ADA, headers={"Idempotency-Key": "k"})
    response = api.post(USERS, json=ADA | {"tag": "b"}, headers={"Idempotency-Key": "k"})
    assert_problem(response, 422, "IDEMPOTENCY_KEY_REUSED")


def test_a_failed_request_keeps_no_idempotency_key(api: httpx.Client) -> None:
    """What failed changed nothing, so its key may be used again, with a mended body."""
    api.post(USERS, json=ADA)
    headers = {"Idempotency-Key": "k"}
    assert_problem(api.post(USERS, json=ADA, headers=headers), 409, "DUPLICATE_TAG")
    mended = ADA | {"tag": "ada2", "email": "ada2@example.com"}
    assert api.post(USERS, json=mended, headers=headers).status_code == 201


def test_idempotency_keys_expire(api: httpx.Client, sql: psycopg.Connection) -> None:
    """After 24 hours a key is forgotten: it can be used for something else, and its row goes."""
    api.post(USERS, json=ADA, headers={"Idempotency-Key": "k"})
    sql.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'")
    other = {"tag": "b", "kind": "service"}
    assert api.post(USERS, json=other, headers={"Idempotency-Key": "other"}).status_code == 201
    assert sql.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (1,)
    assert api.post(USERS, json=other | {"tag": "c"}, headers={"Idempotency-Key": "k"}).status_code == 201


def test_request_id_is_taken_from_the_router_or_made(api: httpx.Client) -> None:
    """An id that the router would take is in header and body, once; any other is replaced."""
    path = f"{USERS}/00000000-0000-0000-0000-000000000000"
    for good in ("abc-1", 'a"b', "x" * 192):
        answer = api.get(path, headers={"X-Fission-Request-ID": good})
        assert answer.headers.get_list("X-Fission-Request-ID") == [good] == [answer.json()["requestId"]]
    for bad in ("a b", "x" * 193, ""):
        [made] = api.get(USERS, headers={"X-Fission-Request-ID": bad}).headers.get_list("X-Fission-Request-ID")
        assert len(made) == 36


def test_preflight(api: httpx.Client) -> None:
    """OPTIONS answers 204 with the CORS headers and Allow on every route."""
    for path in (USERS, f"{USERS}/01890a5d-ac96-774b-bcce-b302099a8057"):
        response = api.options(path, headers={"Origin": "https://app.example"})
        assert response.status_code == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "PUT" in response.headers["Access-Control-Allow-Methods"]
        assert "GET" in response.headers["Allow"]


def test_the_order_of_members_is_no_difference(api: httpx.Client) -> None:
    """A client whose maps have no order sends the same request in other words: a replay, not 422."""
    headers = {"Idempotency-Key": "k"}
    first = api.post(USERS, json=ADA | {"attributes": {"a": 1, "b": 2}}, headers=headers)
    again = api.post(USERS, json={"attributes": {"b": 2, "a": 1}} | ADA, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)


@pytest.mark.parametrize("number", ["1e16", "-0.0", "1e22", "1.10", "5e-324", "1e300", '[1e16, {"x": -0.0}]'])
def test_numbers_that_jsonb_writes_otherwise_are_no_change(api: httpx.Client, number: str) -> None:
    """The same PUT again leaves the version, however PostgreSQL writes the number."""
    path = api.post(USERS, json=ADA).headers["Location"]
    body = f'{{"attributes": {{"a": {number}}}}}'
    versions = [
        api.put(path, content=body, headers={"Content-Type": "application/json"}).json()["version"] for _ in range(3)
    ]
    assert versions == [2, 2, 2]


def versions_of(api: httpx.Client, path: str, *values: str) -> list[int]:
    """Set an attribute to each of these JSON texts in turn; return the user's version after each."""
    headers = {"Content-Type": "application/json"}
    bodies = [f'{{"attributes": {{"x": {value}}}}}' for value in values]
    return [api.put(path, content=body, headers=headers).json()["version"] for body in bodies]


@pytest.mark.parametrize(
    ("before", "after"),
    [("0", "false"), ("false", "0"), ("1", "true"), ("true", "1.0"), ('{"a": [1]}', '{"a": [true]}'), ('""', "null")],
)
def test_change_between_values_python_holds_equal_has_version_and_event(
    api: httpx.Client, before: str, after: str
) -> None:
    """`{"isAdmin": 0}` becoming `{"isAdmin": false}` was a new version whose event did not say what changed."""
    path = api.post(USERS, json=ADA).headers["Location"]
    versions = versions_of(api, path, before, after, after)
    assert versions == [2, 3, 3]
    log = api.get("/ai/admin/audit", params={"action": "users:update", "target": path.rpartition("/")[2]}).json()
    changes = [event["changes"]["attributes"] for event in log["data"]]
    assert [json.dumps(change["after"]["x"]) for change in changes] == [
        json.dumps(json.loads(value)) for value in (after, before)
    ]


@pytest.mark.parametrize(("before", "after"), [("1", "1.0"), ("1.2345678901234568e18", "1234567890123456800")])
def test_change_to_the_same_json_number_makes_neither_version_nor_event(
    api: httpx.Client, before: str, after: str
) -> None:
    """A client that writes a number in another way would fill the history with changes of nothing."""
    path = api.post(USERS, json=ADA).headers["Location"]
    versions = versions_of(api, path, before, after, before)
    assert versions == [2, 2, 2]
    log = api.get("/ai/admin/audit", params={"action": "users:update"}).json()["data"]
    assert len(log) == 1
