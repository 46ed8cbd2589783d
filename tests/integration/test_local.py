"""`script/server`: one command from nothing to a served directory, and cleanly back."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest
from typer.testing import CliRunner

from ai_admin.cli import app as cli
from ai_admin.config import Settings
from tests.conftest import ROOT

USERS = "/ai/admin/users"
ADDRESS = re.compile(r"http://\S+:\d+")


class LocalServer:
    """`script/server` as a child process, without the part that installs packages."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.error: IO[str]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ai_admin.local", "--root", str(root), "--port", "0", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT / "apps"), "NO_COLOR": "1", "COLUMNS": "400"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        self.error = self.process.stderr

    def wait_for_address(self) -> str:
        """Read what the server says until it names its address."""
        said = ""
        for line in self.error:
            said += line
            if "is ready at" in line:
                match = ADDRESS.search(line)
                assert match
                return match[0]
        raise AssertionError(f"the server ended without an address:\n{said}")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send the signal and wait; the exit code and the rest of what it said."""
        self.process.send_signal(with_signal)
        said = self.error.read()
        return self.process.wait(60), said


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clone's folder as far as the local server reads it."""
    (tmp_path / ".fission").mkdir()
    shutil.copy(ROOT / ".fission" / "local-deployment.json", tmp_path / ".fission")
    return tmp_path


Start = Callable[..., LocalServer]


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Starts servers, and ends those that a failed test leaves."""
    started: list[LocalServer] = []

    def start(*arguments: str) -> LocalServer:
        started.append(LocalServer(root, *arguments))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()
        server.error.close()


def _owner(root: Path) -> dict[str, str]:
    """The header of the first owner, whose key nobody else may read."""
    file = root / ".local" / "owner.key"
    assert file.stat().st_mode & 0o777 == 0o600
    return {"Authorization": f"Bearer {file.read_text().strip()}"}


def _postmaster(root: Path) -> Path:
    return root / ".local" / "data" / "postgres" / "postmaster.pid"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serves_stops_and_keeps_the_data(start: Start, root: Path, ending: signal.Signals) -> None:
    """From nothing to a first request; each signal stops server and database; the data is there again."""
    server = start("--workers", "2", "--demo", "50")
    address = server.wait_for_address()
    assert httpx.get(f"{address}/readyz").json()["status"] == "ready"
    owner = _owner(root)
    everyone = {"status": ["active", "suspended", "deleted"]}
    assert httpx.get(address + USERS, params=everyone, headers=owner).json()["total"] == 50
    created = httpx.post(address + USERS, json={"tag": "ada.l", "email": "ada@example.org"}, headers=owner)
    assert created.status_code == 201
    assert "ai_admin_http_requests_total" in httpx.get(f"{address}/metrics").text
    server.stop(ending)
    assert not _postmaster(root).exists(), "PostgreSQL was not stopped"
    assert not (root / ".local" / "address").exists()

    again = start()
    address = again.wait_for_address()
    assert (root / ".local" / "address").read_text().split() == [
        address,
        str(root / ".local" / "owner.key"),
        str(root / ".local" / "data" / "mount"),
    ]
    banner = [again.error.readline() for _ in range(3)]
    assert f"{address}/ai/admin/console" in banner[0]
    assert "script/ai-admin" in banner[1]
    assert ".local/owner.key" in banner[2]
    assert _owner(root) == owner
    assert (root / ".local" / "data" / "audit-seal.key").stat().st_mode & 0o777 == 0o600
    verify = ("audit", "verify", "--root", str(root / ".local" / "data" / "mount"))
    assert CliRunner().invoke(cli, verify).exit_code == 0
    assert httpx.get(address + created.headers["Location"], headers=owner).json() == created.json()


def test_a_second_instance_on_the_same_data_is_refused(start: Start) -> None:
    """Two servers on one cluster would damage it; the second says who has it and what to do."""
    first = start()
    address = first.wait_for_address()
    second = start()
    said = second.error.read()
    assert second.process.wait(30) == 1
    assert f"in use by process {first.process.pid}" in said
    assert "--data" in said
    assert httpx.get(f"{address}/readyz").status_code == 200


def test_a_killed_server_leaves_nothing_that_stops_the_next(start: Start, root: Path) -> None:
    """After SIGKILL a PostgreSQL is left running; the next start stops it and recovers every acknowledged write."""
    server = start()
    address = server.wait_for_address()
    created = httpx.post(address + USERS, json={"tag": "bot", "kind": "service"}, headers=_owner(root))
    server.stop(signal.SIGKILL)
    again = start()
    address = again.wait_for_address()
    assert httpx.get(address + created.headers["Location"], headers=_owner(root)).json() == created.json()


def test_a_taken_port_is_told_before_anything_starts(start: Start, root: Path) -> None:
    """The message names the port and the option, and no database was started for nothing."""
    server = start()
    port = server.wait_for_address().rsplit(":", 1)[1]
    other = LocalServer(root, "--data", str(root / "other"), "--port", port)
    said = other.error.read()
    assert other.process.wait(30) == 1
    other.error.close()
    assert f"port {port}" in said
    assert "--port" in said
    assert not (root / "other" / "postgres").exists()


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ("{", "local-deployment.json"),
        ('{"stage": "local", "surprise": 1}', "surprise"),
        (json.dumps({"stage": "local", "config": {"POOL_SIZE": "many"}}), "POOL_SIZE"),
        (json.dumps({"stage": "local", "secret": {"PG_HOST": "127.0.0.1", "PG_PORT": "1"}}), "127.0.0.1"),
    ],
)
def test_a_wrong_profile_is_told(start: Start, root: Path, profile: str, told: str) -> None:
    """Whatever is wrong with the profile, the message names it; no traceback."""
    (root / ".fission" / "local-deployment.json").write_text(profile)
    server = start()
    said = server.error.read()
    assert server.process.wait(30) == 1
    assert told in said
    assert "Traceback" not in said


def test_a_database_in_the_profile_is_used_and_none_started(start: Start, root: Path, settings: Settings) -> None:
    """With PG_HOST set, the embedded PostgreSQL stays away; the profile's ConfigMap is in force too."""
    secret = {
        "PG_HOST": settings.secret.pg_host,
        "PG_DATABASE": settings.secret.pg_database,
        "PG_USER": settings.secret.pg_user,
    }
    profile = {"stage": "local", "secret": secret, "config": {"ALLOWED_ORIGINS": "https://a.example", "POOL_SIZE": 3}}
    (root / ".fission" / "local-deployment.json").write_text(json.dumps(profile))
    server = start()
    address = server.wait_for_address()
    answer = httpx.get(f"{address}/readyz", headers={"Origin": "https://a.example"})
    assert answer.json()["status"] == "ready"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert (root / ".local/data/mount/configs/local/fission-ai-work-config/POOL_SIZE").read_text() == "3"
    assert not (root / ".local" / "data" / "postgres").exists()
