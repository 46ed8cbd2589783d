"""Rotation of the vault's keys: `ai-admin vault`, while clients write, killed, and with rows that do not open."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from typer.testing import CliRunner, Result

from ai_admin.cli import app
from ai_admin.config import SECRET_NAME, Settings
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.vault import commands
from ai_admin.vault.ciphertext import Context, VaultError, key_id_of
from ai_admin.vault.keyring import KeyRing
from ai_admin.vault.registry import SEALED_COLUMNS, SealedColumn, connect
from ai_admin.vault.ring_file import read_ring
from ai_admin.vault.rotation import Rotation
from tests.conftest import OWNER_ID, ROOT
from tests.keyrings import entry, ring_of, text_of
from tests.mounts import mounted
from tests.serving import HANGS, USERS, own_database

FIRST, SECOND = entry("first", b"1" * 32), entry("second", b"2" * 32)
PRIMARY, RETIRED = {"state": "primary"}, {"state": "retired"}
BEFORE, AFTER = (FIRST | PRIMARY, SECOND), (FIRST, SECOND | PRIMARY)
SECRETS, ANSWERS, *_ = SEALED_COLUMNS
_counter = itertools.count(1)


@pytest.fixture
def settings(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Settings]:
    """An empty directory of this test alone, whatever the mount: its ring changes."""
    with own_database(postgres, tmp_path) as settings:
        put_ring(settings, *AFTER)
        yield settings


def ring_path(settings: Settings) -> Path:
    """The mounted ring."""
    return settings.root / "secrets" / "default" / SECRET_NAME / "VAULT_KEYS"


def put_ring(settings: Settings, *entries: dict[str, str]) -> None:
    """Change the mounted ring at once."""
    scratch = settings.root / "ring"
    scratch.write_text(text_of(*entries))
    scratch.replace(ring_path(settings))


def place(key: UUID) -> Context:
    """Where a credential that `insert` makes stands."""
    return SECRETS.place(key, (OWNER_ID, f"name-{key.int >> 64}", "provider"))


def old_place(key: UUID) -> Context:
    """The same as version 0.1.0 had it."""
    return Context("user_secrets", "value", str(key))


def insert(sql: psycopg.Connection[Any], ring: KeyRing, value: bytes, *, old: bool = False) -> UUID:
    """A credential with this value; `old` as version 0.1.0 sealed it."""
    number = next(_counter)
    key = UUID(int=number * 2**64 + random.getrandbits(64))
    sql.execute(
        "INSERT INTO user_secrets (id, user_id, name, version, provider, value, last_four) "
        "VALUES (%s, %s, %s, 1, 'provider', %s, 'four')",
        [key, OWNER_ID, f"name-{number}", ring.seal(value, (old_place if old else place)(key))],
    )
    return key


def fill(sql: psycopg.Connection[Any], ring: KeyRing, number: int, *, old: bool = False) -> dict[UUID, bytes]:
    """So many credentials, by id."""
    with sql.transaction():
        return {insert(sql, ring, value, old=old): value for value in (b"canary %d" % each for each in range(number))}


def opened(sql: psycopg.Connection[Any], ring: KeyRing, column: SealedColumn = SECRETS) -> dict[Any, bytes]:
    """Every value of a column. Raises `VaultError` where one does not open."""
    rows = sql.execute(f"SELECT {column.primary_key}, {column.column} FROM {column.table}").fetchall()
    return {key: ring.open(sealed, place(key) if column is SECRETS else column.place(key)) for key, sealed in rows}


def under(sql: psycopg.Connection[Any], key_id: str) -> int:
    """How many credentials a key has sealed."""
    row = sql.execute("SELECT count(*) FROM user_secrets WHERE vault_key_id(value) = %s", [key_id]).fetchone()
    assert row
    return int(row[0])


def vault(settings: Settings | None, *arguments: object) -> Result:
    """`ai-admin vault`, run to its end; the output in one line."""
    root = ["--root", str(settings.root)] if settings else []
    return CliRunner().invoke(app, ["vault", *map(str, arguments), *root], env={"COLUMNS": "300"})


@contextmanager
def rotating(settings: Settings, **options: Any) -> Iterator[Rotation]:
    """A rotation by the ring with both keys, unless another is given, and with nobody waiting for a clock."""
    with closing(connect(settings.secret)) as connection:
        ring = options.pop("ring", lambda: ring_of(*AFTER))
        yield Rotation(connection, ring, **{"pause": lambda _: None, **options})


def unregistered(sql: psycopg.Connection[Any]) -> set[str]:
    """Columns that are said to hold, or do hold, ciphertexts of the vault, and are not registered."""
    said = sql.execute(
        """
        SELECT attrelid::regclass || '.' || attname
        FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid AND relkind IN ('r', 'p')
        WHERE relnamespace = 'public'::regnamespace
          AND col_description(attrelid, attnum) LIKE '%sealed for its place%'
        """
    ).fetchall()
    names = {str(name) for (name,) in said}
    columns = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    for table, column in sql.execute(f"{columns} AND data_type = 'bytea'").fetchall():
        for (value,) in sql.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL").fetchall():
            try:
                key_id_of(value)
            except VaultError:
                continue
            names.add(f"{table}.{column}")
    return names - {str(column) for column in SEALED_COLUMNS}


def test_every_sealed_column_is_registered(
    settings: Settings, sql: psycopg.Connection, pytestconfig: pytest.Config
) -> None:
    """litellm PR #17952: a table was left on the old key. Retire that, and what the column holds is lost."""
    with mounted(settings, pytestconfig) as api:
        assert api.post(USERS, json={"tag": "a", "kind": "service"}, headers={"Idempotency-Key": "k"}).is_success
    fill(sql, ring_of(*AFTER), 1)
    assert unregistered(sql) == set()
    sql.execute("CREATE TABLE said (a bytea); COMMENT ON COLUMN said.a IS 'sealed for its place: the vault'")
    sql.execute("CREATE TABLE unsaid AS SELECT value FROM user_secrets")
    assert unregistered(sql) == {"said.a", "unsaid.value"}


@pytest.mark.parametrize("column", SEALED_COLUMNS, ids=str)
def test_every_registered_column_has_an_index_by_key(sql: psycopg.Connection, column: SealedColumn) -> None:
    """Without it, each batch reads the whole table. In the locale's order, an upgrade of the system corrupts it."""
    definitions = sql.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", [column.table]).fetchall()
    wanted = f'USING btree (vault_key_id({column.column}) COLLATE "C", {column.primary_key})'
    assert [definition for (definition,) in definitions if definition.endswith(wanted)]


def test_nothing_reads_the_whole_table(settings: Settings, sql: psycopg.Connection) -> None:
    """Status and batches go by the index on the key, also where the statistics are those of before the rotation."""
    ring = ring_of(*BEFORE)
    example = ring.seal(b"value", place(UUID(int=1)))
    sql.execute(
        """
        INSERT INTO user_secrets (id, user_id, name, version, provider, value, last_four)
        SELECT gen_random_uuid(), %s, 'n' || number, 1, 'p', %s, 'four' FROM generate_series(1, 20000) AS number
        """,
        [OWNER_ID, example],
    )
    sql.execute("ANALYZE user_secrets")
    resealed = ring_of(*AFTER).seal(b"value", place(UUID(int=1)))
    sql.execute("UPDATE user_secrets SET value = %s WHERE name <> 'n10000'", [resealed])
    values = {"key_id": "first", "after": SECRETS.below, "rows": 500}
    with closing(connect(settings.secret)) as connection:
        for query in ("keys", "count", "count_unbound", "unbound_batch", "batch"):
            explain = "EXPLAIN (COSTS OFF) " + SECRETS.query(query).as_string(connection)
            plan = "\n".join(row["QUERY PLAN"] for row in connection.execute(explain, values))
            assert ("user_secrets_unbound" if "unbound" in query else "user_secrets_vault_key") in plan, plan
            assert "Seq Scan" not in plan, plan
    # Each entry that the index gives is a row of the batch: of the last plan, the batch's.
    assert "Filter" not in plan, plan


class Writers:
    """Threads that write credentials through a ring as fast as they can, and know what must be there."""

    def __init__(self, settings: Settings, ring: KeyRing, present: dict[UUID, bytes]) -> None:
        """`ring` may be replaced while they run; each thread replaces rows of its own, and inserts others."""
        self.ring, self.settings = ring, settings
        self.expected = dict(present)
        self.written = 0
        self.over = threading.Event()

    def run(self, mine: list[UUID]) -> None:
        """One thread."""
        settings = self.settings.secret
        with psycopg.connect(
            host=settings.pg_host, dbname=settings.pg_database, user=settings.pg_user, autocommit=True
        ) as sql:
            for number in itertools.count():
                if self.over.is_set():
                    return
                value = b"written %d %d" % (number, threading.get_ident())
                if number % 2:
                    key = random.choice(mine)
                    sealed = self.ring.seal(value, place(key))
                    sql.execute("UPDATE user_secrets SET value = %s WHERE id = %s", [sealed, key])
                else:
                    key = insert(sql, self.ring, value)
                self.expected[key] = value
                self.written += 1


def test_nothing_is_lost_while_clients_write(
    settings: Settings, sql: psycopg.Connection, pytestconfig: pytest.Config
) -> None:
    """litellm #12448, vault #2245: the key could not be changed. Here it is, in full service, and the old one goes."""
    put_ring(settings, *BEFORE)
    answers: dict[str, bytes] = {}

    def post(api: Any, key: str) -> None:
        response = api.post(USERS, json={"tag": key, "kind": "service"}, headers={"Idempotency-Key": key})
        assert response.status_code == 201, response.text
        assert answers.setdefault(key, response.content) == response.content

    with mounted(settings, pytestconfig) as api:
        for number in range(30):
            post(api, f"before-{number}")
    present = fill(sql, ring_of(*BEFORE), 3_000)
    put_ring(settings, *AFTER)
    writers = Writers(settings, ring_of(*BEFORE), present)
    over = threading.Event()

    def client(api: Any, name: int) -> None:
        for number in itertools.count():
            if over.is_set():
                return
            post(api, f"client-{name}-{number}")
            # Each repeats every second one: the same key at the same moment from both is a conflict, rightly.
            post(api, random.choice(list(answers)[name::2]))

    ids = list(present)
    with mounted(settings, pytestconfig) as api, ThreadPoolExecutor(4) as pool, rotating(settings, batch=50) as run:
        running = [pool.submit(writers.run, ids[part::2]) for part in range(2)]
        running += [pool.submit(client, api, name) for name in range(2)]
        try:
            # Rotation follows processes of an older ring for as long as there are any.
            for _ in run.run():
                if run.resealed > 2_000:
                    writers.ring = ring_of(*AFTER)
        finally:
            writers.over.set()
            over.set()
        for each in running:
            each.result(HANGS)
    assert run.unopened == {}
    assert writers.written
    assert len(answers) > 30
    with rotating(settings) as last:
        # What was in the writers' hands when they got the new ring.
        list(last.run())
    alone = ring_of(SECOND | PRIMARY)
    assert opened(sql, alone) == writers.expected
    assert len(opened(sql, alone, ANSWERS)) == len(answers)
    put_ring(settings, SECOND | PRIMARY)
    with mounted(settings, pytestconfig) as api:
        for key in answers:
            post(api, key)


@contextmanager
def process(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`ai-admin vault rotate` as a process, ended at the end."""
    running = subprocess.Popen(
        [sys.executable, "-m", "ai_admin", "vault", "rotate", "--root", str(settings.root), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "apps"), "NO_COLOR": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def wait_until(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    """Look until it holds, for as long as the process runs."""
    while not condition():
        assert running.poll() is None, running.communicate()
        time.sleep(0.002)


def test_killed_and_started_again(settings: Settings, sql: psycopg.Connection) -> None:
    """A machine that dies in the middle costs the time until somebody starts the rotation again."""
    present = fill(sql, ring_of(*BEFORE), 2_000)
    for _ in range(5):
        done = under(sql, "second")
        with process(settings, "--batch", "20", "--rate", "1000") as running:
            wait_until(lambda done=done: under(sql, "second") > done, running)  # type: ignore[misc]
            time.sleep(random.random() / 50)
            running.send_signal(signal.SIGKILL)
            assert running.wait(HANGS) == -signal.SIGKILL
        assert done < under(sql, "second") < 2_000
        assert opened(sql, ring_of(*AFTER)) == present
    assert vault(settings, "rotate").exit_code == 0
    assert opened(sql, ring_of(SECOND | PRIMARY)) == present


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_after_the_batch(settings: Settings, sql: psycopg.Connection, number: signal.Signals) -> None:
    """Ctrl-C, or the end of a Kubernetes job, leaves whole batches and says that there is more to do."""
    present = fill(sql, ring_of(*BEFORE), 200)
    with process(settings, "--batch", "10", "--rate", "10") as running:
        wait_until(lambda: under(sql, "second") > 0, running)
        running.send_signal(number)
        _, told = running.communicate(timeout=HANGS)
    assert running.returncode == 1
    done = under(sql, "second")
    assert 0 < done < 200
    assert done % 10 == 0
    assert f"stopped, {200 - done} rows left" in told
    assert "Traceback" not in told
    assert opened(sql, ring_of(*AFTER)) == present


def test_a_dry_run_changes_nothing(settings: Settings, sql: psycopg.Connection) -> None:
    """One may look first."""
    fill(sql, ring_of(*BEFORE), 3)
    fill(sql, ring_of(*AFTER), 2)
    rows = sql.execute("SELECT ctid, xmin, value FROM user_secrets ORDER BY id").fetchall()
    result = vault(settings, "rotate", "--dry-run")
    assert (result.exit_code, result.output) == (0, "3 rows to seal anew under second; nothing is changed\n")
    assert sql.execute("SELECT ctid, xmin, value FROM user_secrets ORDER BY id").fetchall() == rows


def test_rows_that_do_not_open_are_named_and_left(settings: Settings, sql: psycopg.Connection) -> None:
    """One damaged row holds up nothing, and is found without reading anybody's credential."""
    present = fill(sql, ring_of(*BEFORE), 20)
    damaged, *_ = present
    sql.execute("UPDATE user_secrets SET value = set_byte(value, 40, get_byte(value, 40) # 1) WHERE id = %s", [damaged])
    [lost] = fill(sql, ring_of(entry("lost", b"3" * 32, "primary")), 1)
    [old] = fill(sql, ring_of(entry("old", b"4" * 32, "primary")), 1)
    put_ring(settings, *AFTER, entry("old", b"4" * 32, "retired"))
    result = vault(settings, "rotate", "--batch", 7)
    assert result.exit_code == 1
    assert "19 rows sealed anew under second" in result.output
    assert f"user_secrets.value id={damaged} is left: it is damaged, or of another place" in result.output
    assert f"user_secrets.value id={lost} is left: its key lost is missing in the ring" in result.output
    assert f"user_secrets.value id={old} is left: its key old is retired" in result.output
    assert "3 rows cannot be opened" in result.output
    assert "canary" not in result.output
    assert under(sql, "second") == 19
    put_ring(settings, *AFTER, entry("old", b"4" * 32), entry("lost", b"3" * 32))
    again = vault(settings, "rotate")
    assert "2 rows sealed anew" in again.output
    assert "1 row cannot be opened" in again.output


def test_a_change_in_between_is_kept(settings: Settings, sql: psycopg.Connection) -> None:
    """A credential that is replaced between the reading and the writing of a batch is not put back."""
    key, *others = fill(sql, ring_of(*BEFORE), 3)
    asked = itertools.count()

    def ring() -> KeyRing:
        # It is asked for when the rows are read and not yet written.
        if next(asked) == 0:
            for each, sealing in ((key, BEFORE), (others[0], AFTER)):
                sealed = ring_of(*sealing).seal(b"replaced", place(each))
                sql.execute("UPDATE user_secrets SET value = %s WHERE id = %s", [sealed, each])
            sql.execute("DELETE FROM user_secrets WHERE id = %s", [others[1]])
        return ring_of(*AFTER)

    with rotating(settings, ring=ring) as rotation:
        assert sum(rotation.run()) == 1
    assert rotation.missed == 3
    assert opened(sql, ring_of(SECOND | PRIMARY)) == {key: b"replaced", others[0]: b"replaced"}


def test_a_locked_row_holds_up_nothing(settings: Settings, sql: psycopg.Connection, postgres: EmbeddedPostgres) -> None:
    """Rotation waits for no request, so none fails by a deadlock with it; the row's turn comes later."""
    present = fill(sql, ring_of(*BEFORE), 5)
    locked = next(iter(present))
    pauses: list[float] = []
    with postgres.connect(settings.secret.pg_database) as other:
        other.autocommit = False
        other.execute("SELECT 1 FROM user_secrets WHERE id = %s FOR UPDATE", [locked])
        with rotating(settings, pause=pauses.append) as rotation:
            assert sum(rotation.run()) == 4
        assert under(sql, "second") == 4
        assert rotation.missed == len(pauses) > 5

        def release(_: float) -> None:
            other.rollback()

        with rotating(settings, pause=release) as rotation:
            assert sum(rotation.run()) == 1
    assert opened(sql, ring_of(SECOND | PRIMARY)) == present


def test_a_ring_that_changes_meanwhile(settings: Settings, sql: psycopg.Connection) -> None:
    """A promotion during a rotation does not leave rows under the key that was primary for a while."""
    present = fill(sql, ring_of(*BEFORE), 40)
    third = entry("third", b"3" * 32)
    asked = itertools.count()

    def ring() -> KeyRing:
        return ring_of(*AFTER, third) if next(asked) < 2 else ring_of(FIRST, SECOND, third | PRIMARY)

    with rotating(settings, ring=ring, batch=10) as rotation:
        list(rotation.run())
    assert rotation.resealed == 60
    assert opened(sql, ring_of(third | PRIMARY)) == present


def test_no_more_rows_a_second_than_asked_for(settings: Settings, sql: psycopg.Connection) -> None:
    """A rotation can be so slow that nobody notices it."""
    fill(sql, ring_of(*BEFORE), 100)
    now = 0.0
    slept: list[float] = []

    def clock() -> float:
        # Each look at the clock is 0.1 seconds after the one before.
        nonlocal now
        now += 0.1
        return now

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    with rotating(settings, rate=20, batch=500, clock=clock, pause=pause) as rotation:
        for _ in rotation.run():
            assert rotation.resealed <= 20 * now
    # Five batches of a second each, in which 0.1 seconds have passed; then the pause before the second pass.
    assert slept == pytest.approx([0.9] * 5 + [1.0])


def test_status_counts_rows_by_key(settings: Settings, sql: psycopg.Connection) -> None:
    """Operators see what each key has sealed, and that a rotation is finished."""
    fill(sql, ring_of(*BEFORE), 3)
    fill(sql, ring_of(*AFTER), 2)
    shown = vault(settings, "status")
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.output.splitlines()]
    assert lines == [
        ["key", "state", "user_secrets.value", "idempotency_keys.body"],
        ["first", "active", "3", "0"],
        ["second", "primary", "2", "0"],
    ]
    assert json.loads(vault(settings, "status", "--json").stdout)["keys"][0] == {
        "id": "first",
        "state": "active",
        "rows": {"user_secrets.value": 3, "idempotency_keys.body": 0},
    }


def unbound(sql: psycopg.Connection[Any]) -> int:
    """How many credentials are of the format of version 0.1.0."""
    row = sql.execute("SELECT count(*) FROM user_secrets WHERE get_byte(value, 0) = 1").fetchone()
    assert row
    return int(row[0])


def test_values_of_an_earlier_version_are_bound_by_a_rotation(settings: Settings, sql: psycopg.Connection) -> None:
    """After one `vault rotate` no credential opens in another row, whichever key it was under; status counts them."""
    present = fill(sql, ring_of(*BEFORE), 3, old=True) | fill(sql, ring_of(*AFTER), 4, old=True)
    present |= fill(sql, ring_of(*AFTER), 2)
    untouched = {value for (value,) in sql.execute("SELECT value FROM user_secrets WHERE get_byte(value, 0) = 2")}
    assert opened(sql, ring_of(*AFTER)) == present
    told = "7 rows of user_secrets.value not bound yet to user_id, name, provider; ai-admin vault rotate binds them"
    assert told in vault(settings, "status").stdout
    assert json.loads(vault(settings, "status", "--json").stdout)["unbound"] == {"user_secrets.value": 7}
    assert "7 rows to seal anew under second" in vault(settings, "rotate", "--dry-run").output
    assert unbound(sql) == 7
    result = vault(settings, "rotate", "--batch", 2)
    assert (result.exit_code, "7 rows sealed anew under second" in result.output) == (0, True), result.output
    assert unbound(sql) == 0
    assert opened(sql, ring_of(SECOND | PRIMARY)) == present
    assert untouched < {value for (value,) in sql.execute("SELECT value FROM user_secrets")}
    assert "not bound" not in vault(settings, "status").stdout
    assert vault(settings, "rotate", "--dry-run").output.startswith("0 rows")


def test_an_unbound_value_that_does_not_open_is_named_and_left(settings: Settings, sql: psycopg.Connection) -> None:
    """A damaged row of the primary key ends the rotation with a word, and does not keep it going for ever."""
    damaged, *_ = fill(sql, ring_of(*AFTER), 3, old=True)
    sql.execute("UPDATE user_secrets SET value = set_byte(value, 40, get_byte(value, 40) # 1) WHERE id = %s", [damaged])
    result = vault(settings, "rotate")
    assert (result.exit_code, "2 rows sealed anew under second" in result.output) == (1, True), result.output
    assert f"user_secrets.value id={damaged} is left: it is damaged" in result.output
    assert unbound(sql) == 1


def test_a_promotion_while_values_are_bound_leaves_nothing_behind(settings: Settings, sql: psycopg.Connection) -> None:
    """Rows that were bound under the former primary key go on to the new one."""
    present = fill(sql, ring_of(*AFTER), 40, old=True)
    third = entry("third", b"3" * 32)
    asked = itertools.count()

    def ring() -> KeyRing:
        return ring_of(*AFTER, third) if next(asked) < 4 else ring_of(FIRST, SECOND, third | PRIMARY)

    with rotating(settings, ring=ring, batch=10) as rotation:
        list(rotation.run())
    assert rotation.unopened == {}
    assert unbound(sql) == 0
    assert opened(sql, ring_of(third | PRIMARY)) == present


@pytest.mark.parametrize(("first", "told"), [((), "missing"), ((FIRST | RETIRED,), "retired")])
def test_status_tells_of_rows_that_do_not_open(
    settings: Settings, sql: psycopg.Connection, first: tuple[dict[str, str], ...], told: str
) -> None:
    """A key that went too early is noticed before a gateway asks for the credential."""
    fill(sql, ring_of(*BEFORE), 3)
    put_ring(settings, *first, SECOND | PRIMARY)
    for option in ([], ["--json"]):
        result = vault(settings, "status", *option)
        assert result.exit_code == 1
        assert f"3 rows need the key first, which is {told}" in result.stderr
    states = {key["id"]: key["state"] for key in json.loads(result.stdout)["keys"]}
    assert states == {"first": told, "second": "primary"}


def test_a_key_comes_and_another_goes(settings: Settings, sql: psycopg.Connection, tmp_path: Path) -> None:
    """The whole way by the commands of the documentation; no step shows a key, none comes before its time."""
    file = tmp_path / "ring.json"
    file.write_text(text_of(FIRST | PRIMARY))
    file.chmod(0o644)
    put_ring(settings, FIRST | PRIMARY)
    present = fill(sql, ring_of(FIRST | PRIMARY), 5)
    outputs = []

    def run(exit_code: int, told: str, *arguments: object, root: Settings | None = settings) -> None:
        result = vault(root, *arguments)
        assert (result.exit_code, told in result.output) == (exit_code, True), result.output
        outputs.append(result.output)

    def deploy() -> None:
        put_ring(settings, *json.loads(file.read_text())["keys"])

    run(0, "added as active", "add-key", "next", "--file", file, root=None)
    assert file.stat().st_mode & 0o777 == 0o600
    run(2, "the ring has a key next", "add-key", "next", "--file", file, root=None)
    run(2, "must be 1 to 32", "add-key", "Next!", "--file", file, root=None)
    run(1, "the mounted ring does not open with next; deploy", "promote", "next", "--file", file)
    deploy()
    run(2, "the ring has no key other", "promote", "other", "--file", file, root=None)
    run(0, "next is primary", "promote", "next", "--file", file, root=None)
    run(2, "next is primary; a key is promoted", "promote", "next", "--file", file, root=None)
    run(2, "next is primary; promote another", "retire", "next", "--file", file)
    run(1, "primary in the mounted ring", "retire", "first", "--file", file)
    deploy()
    run(1, "5 rows need the key first; run ai-admin vault rotate", "retire", "first", "--file", file)
    assert {key.id: key.state for key in read_ring(file).keys} == {"first": "active", "next": "primary"}
    run(0, "5 rows sealed anew under next", "rotate")
    run(0, "no row needs it", "retire", "first", "--file", file)
    run(2, "first is retired; a key is promoted", "promote", "first", "--file", file, root=None)
    deploy()
    run(0, "retired", "status")
    assert opened(sql, read_ring(file)) == present
    assert {path.name for path in tmp_path.iterdir()} == {"ring.json", "mount"}
    for key in json.loads(file.read_text())["keys"]:
        assert not any(key["key"] in output for output in outputs)


def test_a_key_is_kept_while_a_transaction_may_seal_with_it(
    settings: Settings, tmp_path: Path, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that began under the old ring, and is not committed, is counted by nobody yet."""
    file = tmp_path / "ring.json"
    file.write_text(text_of(*AFTER))
    retire = ("retire", "first", "--file", file)
    monkeypatch.setattr(commands, "_PATIENCE", 0.3)
    with postgres.connect(settings.secret.pg_database) as late:
        with late.transaction():
            # As a request does: the lock on the user comes first, then the value is sealed.
            late.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [OWNER_ID])
            result = vault(settings, *retire)
            assert f"PostgreSQL's processes {late.info.backend_pid})" in result.output
            insert(late, ring_of(*BEFORE), b"late")
            assert vault(settings, *retire).exit_code == 1
            monkeypatch.setattr(commands, "_PATIENCE", 60.0)
            with ThreadPoolExecutor(1) as other:
                waiting = other.submit(vault, settings, *retire)
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=0.5)
                late.execute("COMMIT")
                late.execute("BEGIN")
                # Who begins now seals with the new key.
                late.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [OWNER_ID])
                result = waiting.result(timeout=60)
        assert (result.exit_code, "1 row need the key first" in result.output) == (1, True), result.output
        assert vault(settings, "rotate").exit_code == 0
        with late.transaction():
            # Who only reads, as pg_dump does, holds up nothing.
            late.execute("SELECT FROM user_secrets")
            assert vault(settings, *retire).exit_code == 0
    assert [key.state for key in read_ring(file).keys] == ["retired", "primary"]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (None, "2 rows need the key second, missing in the file"),
        (SECOND | RETIRED, "2 rows need the key second, retired in the file"),
        (SECOND | {"key": entry("x", b"3" * 32)["key"]}, "second: another key had this id"),
    ],
)
def test_a_key_is_retired_in_the_deployed_ring_alone(
    settings: Settings, sql: psycopg.Connection, tmp_path: Path, second: dict[str, str] | None, told: str
) -> None:
    """An old copy of the file, deployed, would open nothing."""
    file = tmp_path / "ring.json"
    fill(sql, ring_of(*AFTER), 2)
    text = text_of(*(each for each in (FIRST, second, entry("zero", b"0" * 32) | PRIMARY) if each))
    file.write_text(text)
    result = vault(settings, "retire", "first", "--file", file)
    code = 2 if "another key" in told else 1
    assert (result.exit_code, told in result.output) == (code, True), result.output
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("text", "told"), [(None, "cannot be read: No such file"), (b"\xff", "write it as"), (b"{}", "keys is missing")]
)
def test_a_file_that_holds_no_ring(tmp_path: Path, text: bytes | None, told: str) -> None:
    """A slip of the path makes no new ring, which would lock everybody out."""
    file = tmp_path / "ring.json"
    if text is not None:
        file.write_bytes(text)
    result = vault(None, "add-key", "next", "--file", file)
    assert result.exit_code == 2
    assert told in result.output
    assert (file.read_bytes() if file.exists() else None) == text


def test_without_a_database(settings: Settings) -> None:
    """No traceback where the database is away or not migrated, and nothing is retired on a guess."""
    file = ring_path(settings)
    ring = file.read_text()
    (file.parent / "PG_HOST").write_text(str(settings.root))
    for arguments in (["status"], ["rotate"], ["retire", "first", "--file", file]):
        result = vault(settings, *arguments)
        assert result.exit_code == 2
        assert "error: " in result.output
        assert isinstance(result.exception, SystemExit)
    assert file.read_text() == ring
