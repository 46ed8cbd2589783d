"""Many at once, on a real server over real connections: who wins, what is kept, and what a failing database does."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest

from ai_admin import migrate
from ai_admin.app import create_app
from ai_admin.config import Settings, load_settings
from ai_admin.database import SCHEMA_VERSION, Database
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.health import health
from tests.conftest import ROLE, add_owner, assert_problem, calling, database_secret, write_mount
from tests.serving import HANGS, OFTEN, USERS, own_database, serving, together


@pytest.fixture(scope="module")
def server(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with two processes, shared by tests that use tags of their own."""
    folder = tmp_path_factory.mktemp("server")
    with own_database(postgres, folder, LOG_LEVEL="WARNING", **OFTEN) as settings, serving(settings, folder) as client:
        yield client


def created(client: httpx.Client, tag: str, **members: object) -> dict[str, Any]:
    """A new user."""
    response = client.post(USERS, json={"tag": tag, "kind": "service", **members})
    assert response.status_code == 201, response.text
    user: dict[str, Any] = response.json()
    return user


def statuses(responses: list[httpx.Response]) -> dict[int, int]:
    """How many answers had which status."""
    return dict(Counter(response.status_code for response in responses))


# Who wins


def test_fifty_creators_of_one_tag(server: httpx.Client) -> None:
    """litellm #18411, #6189: a check before the insert lets two at once pass. A constraint decides: one is created."""
    responses = together(
        50, lambda number: server.post(USERS, json={"tag": "Contested", "email": f"c{number}@example.com"})
    )
    assert statuses(responses) == {201: 1, 409: 49}
    for response in responses:
        if response.status_code == 409:
            assert_problem(response, 409, "DUPLICATE_TAG")
    assert server.get(USERS, params={"email[prefix]": "c"}).json()["total"] == 1


def test_fifty_creators_of_one_email(server: httpx.Client) -> None:
    """litellm #6189: there was no unique constraint on email. The same address in any case belongs to one."""
    addresses = ("same@example.com", "SAME@example.com", "Same@Example.Com")
    responses = together(
        50, lambda number: server.post(USERS, json={"tag": f"same-{number}", "email": addresses[number % 3]})
    )
    assert statuses(responses) == {201: 1, 409: 49}
    for response in responses:
        if response.status_code == 409:
            assert_problem(response, 409, "DUPLICATE_EMAIL")


def test_a_tag_that_many_want_by_a_change_or_a_return(server: httpx.Client) -> None:
    """Renaming, bringing back and creating compete for one tag: one has it in the end, the others a 409."""
    deleted = [created(server, "wanted")["id"] for _ in range(1)]
    server.delete(f"{USERS}/{deleted[0]}")
    renamed = [created(server, f"wanting-{number}")["id"] for number in range(9)]

    def compete(number: int) -> httpx.Response:
        if number == 0:
            return server.put(f"{USERS}/{deleted[0]}", json={"status": "active"})
        if number < 10:
            return server.put(f"{USERS}/{renamed[number - 1]}", json={"tag": "wanted"})
        return server.post(USERS, json={"tag": "wanted", "kind": "service"})

    results = statuses(together(20, compete))
    assert results.pop(409) == 19
    assert set(results) <= {200, 201}
    assert server.get(USERS, params={"tag": "wanted"}).json()["total"] == 1


def test_two_hundred_changes_from_twenty_clients(server: httpx.Client) -> None:
    """keycloak #11588: concurrent changes failed. Here they follow one another: version counts each of them."""
    path = f"{USERS}/{created(server, 'busy')['id']}"

    def change(client: int) -> list[int]:
        answers = [server.put(path, json={"name": f"{client}-{round_}"}) for round_ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 10
        return [answer.json()["version"] for answer in answers]

    versions = together(20, change)
    assert sorted(version for seen in versions for version in seen) == list(range(2, 202))
    assert all(seen == sorted(seen) for seen in versions)
    assert server.get(path).json()["version"] == 201


def test_changes_that_build_on_what_was_read_lose_nothing(server: httpx.Client) -> None:
    """Twenty clients count in one record with If-Match, each its own member: every count is there afterwards."""
    path = f"{USERS}/{created(server, 'counted')['id']}"

    def count(client: int) -> int:
        won = 0
        while won < 5:
            read = server.get(path)
            attributes = read.json()["attributes"]
            attributes[f"client{client}"] = attributes.get(f"client{client}", 0) + 1
            answer = server.put(path, json={"attributes": attributes}, headers={"If-Match": read.headers["ETag"]})
            assert answer.status_code in {200, 412}, answer.text
            won += answer.status_code == 200
        return won

    assert together(20, count) == [5] * 20
    user = server.get(path).json()
    assert user["attributes"] == {f"client{client}": 5 for client in range(20)}
    assert user["version"] == 101


def test_if_match_lets_one_of_twenty_win_each_round(server: httpx.Client) -> None:
    """Of those who saw the same version exactly one changes it; the others learn that it is gone."""
    path = f"{USERS}/{created(server, 'rounds')['id']}"
    for version in range(1, 9):
        headers = {"If-Match": f'"{version}"'}

        def change(client: int, headers: dict[str, str] = headers) -> httpx.Response:
            return server.put(path, json={"attributes": {"by": [client, headers]}}, headers=headers)

        responses = together(20, change)
        assert statuses(responses) == {200: 1, 412: 19}
        (winner,) = [response.json() for response in responses if response.status_code == 200]
        assert server.get(path).json() == winner
        assert winner["version"] == version + 1


@pytest.mark.parametrize("query", ["", "?purge=true"])
def test_one_of_twenty_deletes(server: httpx.Client, query: str) -> None:
    """keycloak #19358: deleting what another deletes failed. One deletes, the others find nobody."""
    path = f"{USERS}/{created(server, f'doomed-{len(query)}')['id']}"
    responses = together(20, lambda _: server.delete(path + query))
    assert statuses(responses) == {204: 1, 404: 19}


def test_one_idempotency_key_sent_fifty_times_at_once(server: httpx.Client) -> None:
    """One user comes of it; each answer is that user's, or says that the first is still at work."""
    body = {"tag": "once", "email": "once@example.com"}
    headers = {"Idempotency-Key": "fifty-at-once"}
    responses = together(50, lambda _: server.post(USERS, json=body, headers=headers))
    made = [response for response in responses if response.status_code == 201]
    assert len({response.content for response in made}) == 1
    assert sum("Idempotent-Replayed" not in response.headers for response in made) == 1
    for response in responses:
        if response.status_code != 201:
            assert_problem(response, 409, "IDEMPOTENCY_KEY_IN_USE")
            assert int(response.headers["Retry-After"]) > 0
    again = server.post(USERS, json=body, headers=headers)
    assert (again.status_code, again.content) == (201, made[0].content)
    assert server.get(USERS, params={"tag": "once"}).json()["total"] == 1


def test_one_idempotency_key_with_many_bodies_at_once(server: httpx.Client) -> None:
    """Different requests under one key: one is done, and none of the others is taken for it."""
    headers = {"Idempotency-Key": "many-bodies"}
    responses = together(
        20, lambda number: server.post(USERS, json={"tag": f"body-{number}", "kind": "service"}, headers=headers)
    )
    assert set(statuses(responses)) <= {201, 409, 422}
    assert statuses(responses)[201] == 1
    assert server.get(USERS, params={"tag[prefix]": "body-"}).json()["total"] == 1


def test_change_delete_and_purge_of_one_user_at_once(server: httpx.Client) -> None:
    """keycloak #11588, #19358, wso2 #26148: concurrent changes, deletes and duplicates answered 500."""
    for number in range(12):
        user = created(server, f"fought-over-{number}")
        path = f"{USERS}/{user['id']}"

        def fight(client: int, path: str = path) -> httpx.Response:
            match client % 4:
                case 0:
                    return server.put(path, json={"name": f"name {client}"})
                case 1:
                    return server.delete(path)
                case 2:
                    return server.put(path, json={"status": "active", "attributes": {"by": client}})
            return server.delete(f"{path}?purge=true") if client == 11 else server.get(path)

        responses = together(16, fight)
        for client, response in enumerate(responses):
            # 400: a change of a deleted user that sends no status.
            allowed = ({200, 400, 404}, {204, 404}, {200, 404}, {200, 204, 404})[client % 4]
            assert response.status_code in allowed, response.text
            if response.status_code >= 400:
                assert response.headers["Content-Type"] == "application/problem+json"
        assert responses[11].status_code == 204
        assert_problem(server.get(path), 404, "USER_NOT_FOUND")


def test_what_one_process_commits_every_process_shows(server: httpx.Client) -> None:
    """zitadel #9770, #7543: created users were missing from the search. Whoever answers next has them."""
    for number in range(20):
        user = created(server, f"fresh-{number}", name=f"Fresh{number}")
        for answer in together(4, lambda _, number=number: server.get(USERS, params={"q": f"fresh{number}"})):  # type: ignore[misc]
            assert [found["id"] for found in answer.json()["data"]] == [user["id"]]


# Pages while rows come and go


@pytest.mark.parametrize("sort", ["-createdAt", "createdAt", "tag", "-tag", "name", "-updatedAt", "email"])
def test_paging_by_cursor_while_rows_come_and_go(server: httpx.Client, sort: str) -> None:
    """litellm #15762: no row that was there throughout is missed or shown twice, in any order."""
    label = f"page{sort.replace('-', 'd').lower()}"
    stay = {created(server, f"{label}-{number:03}-stay", name=f"N{number % 7}")["id"] for number in range(60)}
    over = threading.Event()
    rounds = 0

    def churn(thread: int) -> int:
        number = 0
        while not over.is_set():
            number += 1
            tag = f"{label}-{number * 7 % 60:03}-{thread}-{number}"
            user = created(server, tag, name=f"N{number % 7}")
            query = "?purge=true" if number % 2 else ""
            assert server.delete(f"{USERS}/{user['id']}{query}").status_code == 204
        return number

    with ThreadPoolExecutor(3) as pool:
        churning = [pool.submit(churn, thread) for thread in range(3)]
        try:
            # Once through with small pages, and again until the others have done something meanwhile.
            while rounds < 2:
                found: list[str] = []
                query = {"tag[prefix]": label, "sort": sort, "size": "9", "count": "none"}
                while True:
                    page = server.get(USERS, params=query).json()
                    found += [user["id"] for user in page["data"]]
                    if page["nextCursor"] is None:
                        break
                    query["cursor"] = page["nextCursor"]
                assert len(found) == len(set(found))
                assert stay <= set(found)
                rounds += 1
        finally:
            over.set()
        assert all(future.result(HANGS) > 0 for future in churning)


# A database that is in the way, away, or not yet ready


def assert_given_up(request: Callable[[], httpx.Response]) -> None:
    """The request ends by itself with 503, while what it waits for is still held."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(request)
        _, hanging = wait([waiting], HANGS)
        assert not hanging, "the request hangs"
        response = waiting.result()
    assert_problem(response, 503, "DATABASE_UNAVAILABLE")
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.config(LOCK_TIMEOUT_MS="150", STATEMENT_TIMEOUT_MS="60000")
def test_a_row_that_another_session_holds(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A change waits for a locked row no longer than LOCK_TIMEOUT_MS; reading does not wait at all."""
    path = f"{USERS}/{created(api, 'held')['id']}"
    with sql.transaction():
        sql.execute("SELECT FROM users FOR UPDATE")
        assert_given_up(lambda: api.put(path, json={"name": "X"}))
        assert_given_up(lambda: api.put(path, json={}))
        assert_given_up(lambda: api.delete(path))
        assert_given_up(lambda: api.delete(f"{path}?purge=true"))
        assert api.get(path).status_code == 200
        assert api.get(USERS).json()["total"] == 2
    assert api.put(path, json={"name": "X"}).json()["version"] == 2


@pytest.mark.config(LOCK_TIMEOUT_MS="150", STATEMENT_TIMEOUT_MS="60000")
def test_a_tag_that_another_session_is_about_to_take(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A creator waits for the other's commit no longer than LOCK_TIMEOUT_MS, and is told to come back."""
    user = created(api, "first")
    with sql.transaction():
        sql.execute("UPDATE users SET tag = 'second' WHERE id = %s", [user["id"]])
        assert_given_up(lambda: api.post(USERS, json={"tag": "second", "kind": "service"}))
    assert_problem(api.post(USERS, json={"tag": "second", "kind": "service"}), 409, "DUPLICATE_TAG")


@pytest.mark.config(LOCK_TIMEOUT_MS="60000", STATEMENT_TIMEOUT_MS="150")
def test_a_table_that_another_session_holds(api: httpx.Client, sql: psycopg.Connection) -> None:
    """Whatever a statement waits for, it ends at STATEMENT_TIMEOUT_MS: 503, not a hang."""
    path = f"{USERS}/{created(api, 'held')['id']}"
    with sql.transaction():
        sql.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        assert_given_up(lambda: api.get(USERS))
        assert_given_up(lambda: api.get(path))
        assert_given_up(lambda: api.post(USERS, json={"tag": "x", "kind": "service"}))
        assert_given_up(lambda: api.put(path, json={"name": "X"}))
        assert_given_up(lambda: api.delete(path))
    assert api.get(USERS).json()["total"] == 2


@pytest.mark.config(POOL_SIZE="1", STATEMENT_TIMEOUT_MS="150", CREDENTIAL_CACHE_S="0")
def test_a_database_that_falls_silent(api: httpx.Client, sql: psycopg.Connection) -> None:
    """It keeps the connection open and never answers, as a frozen machine does: its own timeouts tell nobody."""
    assert api.get(USERS).status_code == 200
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ai-admin' AND datname = current_database()"
    backends = [pid for (pid,) in sql.execute(query).fetchall()]
    assert backends
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert_given_up(lambda: api.get(USERS))
        # By another connection, which is not silent.
        assert api.post(USERS, json={"tag": "x", "kind": "service"}).status_code == 201
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.config(POOL_SIZE="1", POOL_TIMEOUT_MS="150")
def test_all_connections_are_taken(settings: Settings) -> None:
    """Who gets no connection within POOL_TIMEOUT_MS is told so, and the next one does."""
    app = create_app(settings)
    database: Database = app.extensions["ai_admin"].database
    with calling(app) as api:
        with database.connection():
            assert_given_up(lambda: api.get(USERS))
        assert api.get(USERS).status_code == 200


def test_a_database_that_only_reads(api: httpx.Client, sql: psycopg.Connection, settings: Settings) -> None:
    """While a failover makes a standby the primary it refuses writes: 503 and come back, not an internal error."""
    name = settings.secret.pg_database
    path = f"{USERS}/{created(api, 'x')['id']}"
    sql.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    assert end_connections(sql)
    for response in (api.post(USERS, json={"tag": "y", "kind": "service"}), api.put(path, json={"name": "X"})):
        assert_problem(response, 503, "DATABASE_READ_ONLY")
    assert api.get(path).json()["version"] == 1


def end_connections(sql: psycopg.Connection) -> int:
    """End the service's sessions in this database, as a restart or an administrator does; returns their number."""
    own = "application_name = 'ai-admin' AND datname = current_database()"
    return len(sql.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {own}").fetchall())


def test_connections_that_the_server_has_closed(api: httpx.Client, sql: psycopg.Connection) -> None:
    """A pooled connection that is dead is replaced before a request meets it: no request pays for a restart."""
    path = f"{USERS}/{created(api, 'x')['id']}"
    for version in (2, 3, 4):
        assert end_connections(sql)
        assert api.put(path, json={"name": f"Version {version}"}).json()["version"] == version


@pytest.mark.parametrize(
    "statement",
    ["UPDATE alembic_version SET version_num = '0000'", "DELETE FROM alembic_version", "DROP TABLE alembic_version"],
)
def test_a_schema_of_another_version(settings: Settings, sql: psycopg.Connection, statement: str) -> None:
    """A service that is newer than its database changes nothing in it, and says what it waits for."""
    app = create_app(settings)
    app.register_blueprint(health)
    with calling(app) as api:
        sql.execute(statement)
        absent = f"{USERS}/01890a5d-ac96-774b-bcce-b302099a8057"
        for response in (
            api.post(USERS, json={"tag": "x", "kind": "service"}),
            api.put(absent, json={"name": "X"}),
            api.delete(absent),
            api.delete(f"{absent}?purge=true"),
            api.get("/readyz"),
        ):
            assert_problem(response, 503, "SCHEMA_OUTDATED")
            assert int(response.headers["Retry-After"]) > 0
        assert api.get("/healthz").status_code == 200
        assert sql.execute("SELECT count(*) FROM users").fetchone() == (1,)
        # Migrated while the service runs: it notices by itself.
        sql.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num text)")
        sql.execute("GRANT SELECT ON alembic_version TO ai_admin")
        sql.execute("DELETE FROM alembic_version")
        sql.execute("INSERT INTO alembic_version VALUES (%s)", [SCHEMA_VERSION])
        assert api.get("/readyz").status_code == 200
        assert created(api, "x")["version"] == 1


@dataclass
class Load:
    """Clients that create users without a pause and note what they were told."""

    client: httpx.Client
    over: threading.Event = field(default_factory=threading.Event)
    acknowledged: list[str] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def run(self, thread: int) -> None:
        """Create one user after another."""
        number = 0
        while not self.over.is_set():
            number += 1
            tag = f"load-{thread}-{number}"
            response = self.client.post(USERS, json={"tag": tag, "kind": "service"})
            with self.changed:
                if response.status_code == 201:
                    self.acknowledged.append(tag)
                else:
                    self.refused.append(response)
                self.changed.notify_all()

    def wait_for(self, *, acknowledged: int = 0, refused: int = 0) -> None:
        """Wait until that many more were acknowledged and refused."""
        with self.changed:
            until_acknowledged = len(self.acknowledged) + acknowledged
            until_refused = len(self.refused) + refused
            assert self.changed.wait_for(
                lambda: len(self.acknowledged) >= until_acknowledged and len(self.refused) >= until_refused,
                timeout=HANGS * 2,
            ), f"{len(self.acknowledged)} acknowledged, {len(self.refused)} refused"


def test_the_database_stops_and_starts_under_load(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No hang, no HTML, no lost write: 503 problems while it is away, and work goes on when it is back."""
    folder = tmp_path_factory.mktemp("outage")
    postgres = EmbeddedPostgres(folder / "pg")
    config = {"POOL_TIMEOUT_MS": "500", "CONNECT_TIMEOUT_S": "2", "LOG_LEVEL": "ERROR"}
    postgres.start()
    try:
        postgres.ensure_database("ai_admin", ROLE)
        mount = write_mount(folder / "mount", database_secret(postgres, "ai_admin"), config)
        migrate.upgrade(load_settings(mount).secret)
        with postgres.connect("ai_admin") as connection:
            add_owner(connection)
        with serving(load_settings(mount), folder) as client, ThreadPoolExecutor(8) as pool:
            load = Load(client)
            running = [pool.submit(load.run, thread) for thread in range(8)]
            try:
                load.wait_for(acknowledged=50)
                postgres.stop()
                load.wait_for(refused=30)
                for path in (USERS, f"{USERS}/01890a5d-ac96-774b-bcce-b302099a8057", "/readyz"):
                    assert_problem(client.get(path), 503, "DATABASE_UNAVAILABLE")
                assert client.get("/healthz").status_code == 200
                postgres.start()
                # The socket may be in another folder now; a connection is made with what the files say.
                write_mount(mount, database_secret(postgres, "ai_admin"), config)
                load.wait_for(acknowledged=50)
                assert client.get("/readyz").status_code == 200
            finally:
                load.over.set()
            for future in running:
                future.result(HANGS)
            for response in load.refused:
                assert_problem(response, 503, "DATABASE_UNAVAILABLE")
                assert int(response.headers["Retry-After"]) > 0
            with postgres.connect("ai_admin") as sql:
                stored = {tag for (tag,) in sql.execute("SELECT tag FROM users")}
            assert set(load.acknowledged) <= stored
            assert len(set(load.acknowledged)) == len(load.acknowledged)
    finally:
        postgres.stop()
