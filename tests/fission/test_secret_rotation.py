"""A Secret that the kubelet swaps under a running process, as in the container image: its next connection has it.

A pod of Fission keeps the files of its start; test_roll.py shows what a changed Secret does there.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from ai_admin import migrate
from ai_admin.config import SECRET_NAME, load_settings
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import ROLE, add_owner, database_secret, write_mount
from tests.mounts import mounted
from tests.serving import HANGS, USERS

CLIENTS = 4


def put(folder: Path, generation: int, values: dict[str, str]) -> None:
    """Lay a Secret into its folder, or change it, as the kubelet does (pkg/volume/util/atomic_writer.go).

    Each key is a link into `..data`, itself a link to a folder of the generation, and that one is replaced at once.
    """
    data = folder / f"..generation_{generation}"
    data.mkdir(parents=True)
    for key, value in values.items():
        (data / key).write_text(value)
        if not (folder / key).is_symlink():
            (folder / key).symlink_to(f"..data/{key}")
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").rename(folder / "..data")


@contextmanager
def demanding_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that asks every role but its superuser for a password."""
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    try:
        postgres.ensure_database("ai_admin", ROLE)
        rules = folder / "postgres" / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        with postgres.connect("postgres") as sql:
            sql.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + HANGS
        while accepts(postgres, ""):
            assert time.monotonic() < deadline, "PostgreSQL still asks for no password"
        yield postgres
    finally:
        postgres.stop()


def accepts(postgres: EmbeddedPostgres, password: str) -> bool:
    """Whether PostgreSQL lets the role in with this password."""
    try:
        psycopg.connect(
            host=str(postgres.socket_folder), dbname="ai_admin", user=ROLE, password=password or None
        ).close()
    except psycopg.OperationalError:
        return False
    return True


@dataclass
class Load:
    """Clients that read and write until told to stop; their answers, each with when it was asked for and when given."""

    api: httpx.Client
    answers: list[tuple[float, float, httpx.Response]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, client: int) -> None:
        """One client."""
        for number in itertools.count():
            if self.over.is_set():
                return
            began = time.monotonic()
            if number % 2:
                response = self.api.get(USERS, params={"count": "none"})
            else:
                response = self.api.post(USERS, json={"tag": f"user-{client}-{number}", "kind": "service"})
            with self.changed:
                self.answers.append((began, time.monotonic(), response))
                self.changed.notify_all()

    def wait_for(self, number: int) -> None:
        """Until so many requests have been answered that were sent after this call."""
        now = time.monotonic()
        with self.changed:
            assert self.changed.wait_for(
                lambda: sum(began > now for began, _, _ in self.answers) >= number, timeout=HANGS * 2
            )


def sessions(sql: psycopg.Connection) -> set[int]:
    """The sessions of the role."""
    return {pid for (pid,) in sql.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [ROLE])}


def test_a_rotated_password_serves_the_next_connection(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A rotation needs no restart, and fails no request but one whose own session the database ends."""
    mount = pytestconfig.getoption("--mount")
    with demanding_postgres(tmp_path / "pg") as postgres, postgres.connect("postgres") as sql:
        secret = {**database_secret(postgres, "ai_admin"), "PG_PASSWORD": "first"}
        folder = tmp_path / "mount" / "secrets" / "default" / SECRET_NAME
        put(folder, 1, secret)
        sql.execute(f"ALTER ROLE {ROLE} PASSWORD 'first'")
        settings = load_settings(write_mount(tmp_path / "mount", {}, {"LOG_LEVEL": "ERROR"}))
        migrate.upgrade(settings.secret)
        with postgres.connect("ai_admin") as connection:
            add_owner(connection)
        function = "function" if mount == "application" else mount
        with mounted(settings, pytestconfig, function) as api, ThreadPoolExecutor(CLIENTS) as pool:
            load = Load(api)
            running = [pool.submit(load.run, client) for client in range(CLIENTS)]
            try:
                load.wait_for(100)
                before = sessions(sql)
                sql.execute(f"ALTER ROLE {ROLE} PASSWORD 'second'")
                put(folder, 2, {**secret, "PG_PASSWORD": "second"})
                # The sessions of before live on; nobody has noticed anything.
                load.wait_for(100)
                began = time.monotonic()
                for pid in before:
                    sql.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
                ended = time.monotonic()
                load.wait_for(100)
                after = sessions(sql)
            finally:
                load.over.set()
            for future in running:
                future.result(HANGS)
        assert not accepts(postgres, "first")
        assert accepts(postgres, "second")
        assert before
        assert after
        assert not before & after
        failed = [answer for answer in load.answers if answer[2].status_code not in {200, 201}]
        assert all(asked < ended and given > began for asked, given, _ in failed), failed
        assert all(response.status_code == 503 for _, _, response in failed), failed
        assert len(failed) <= CLIENTS
