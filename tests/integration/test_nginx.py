"""`examples/nginx.conf` in a real nginx: a gateway that asks AI Admin about each request."""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import ROOT
from tests.integration.test_access import bearer, key_of, user_of
from tests.serving import HANGS, USERS, free_port, own_database, serving

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not on this machine")
MINI = "/models/gpt-5-mini/v1/chat/completions"


class Model(BaseHTTPRequestHandler):
    """Stands for a model server: answers with the headers that reached it."""

    def do_POST(self) -> None:
        """Read the body, and tell what came."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = json.dumps({"headers": dict(self.headers.items()), "body": body.decode(), "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def admin(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the server, as its owner."""
    folder = tmp_path_factory.mktemp("nginx")
    with own_database(postgres, folder, CREDENTIAL_CACHE_S="0") as settings, serving(settings, folder) as client:
        yield client


@pytest.fixture(scope="module")
def gateway(admin: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of nginx with the example's configuration, but for the addresses."""
    folder = tmp_path_factory.mktemp("gateway")
    models = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=models.serve_forever, daemon=True).start()
    port = free_port()
    example = (ROOT / "examples" / "nginx.conf").read_text(encoding="utf-8")
    for address, here in (("8080", admin.base_url.port), ("9000", models.server_port), ("8090", port)):
        assert example.count(f"127.0.0.1:{address}") == 1
        example = example.replace(f"127.0.0.1:{address}", f"127.0.0.1:{here}")
    temporary = "".join(
        f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"pid {folder / 'pid'};\nerror_log {folder / 'error.log'};\ndaemon off;\nmaster_process off;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{example}\n}}\n"
    )
    assert NGINX
    with subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]) as process:
        try:
            _wait_for(port, process)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANGS, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            models.shutdown()
            models.server_close()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + HANGS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("nginx does not listen")


@pytest.fixture(scope="module")
def caller(admin: httpx.Client) -> dict[str, str]:
    """The header of a user who may call some models; the id stands beside it."""
    user = user_of(admin, "caller", models=["gpt-5*"])
    return {**bearer(key_of(admin, user)["key"]), "X-Expected": user}


def test_a_request_passes_as_its_caller(gateway: httpx.Client, caller: dict[str, str]) -> None:
    """The model server learns who calls, from AI Admin and not from the caller, and never sees the key."""
    forged = {"X-AI-User": "somebody", "X-AI-Tag": "somebody", "X-AI-Kind": "human"}
    answer = gateway.post(MINI, headers=caller | forged, content=b"hello")
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert (seen["path"], seen["body"]) == (MINI, "hello")
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["x-ai-user"] == caller["X-Expected"]
    assert (headers["x-ai-tag"], headers["x-ai-kind"]) == ("caller", "service")
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/claude/v1/chat", 403),
        ("/models/gpt-4/v1/chat", 403),
        ("/models/claude&model=gpt-5/v1/chat", 404),
        ("/models/claude%26model=gpt-5/v1/chat", 404),
        ("/models/claude%2F..%2Fgpt-5/v1/chat", 404),
        ("/models/gpt-5/../claude/v1/chat", 404),
        ("/models/gpt-5/..%2fclaude/v1/chat", 404),
        ("/models/claude/%2e%2e/gpt-5/v1/chat", 404),
        ("/models//claude/v1/chat", 404),
        ("/x/../models/claude/v1/chat", 404),
        ("/_authorize", 404),
        ("/ai/admin/users", 404),
    ],
)
def test_what_the_caller_may_not(gateway: httpx.Client, caller: dict[str, str], path: str, status: int) -> None:
    """Another model is not to be had, by whatever spelling, and nothing of AI Admin is reached through the gateway."""
    # The path as it stands here: httpx would shorten it.
    connection = HTTPConnection("127.0.0.1", gateway.base_url.port, timeout=HANGS)
    with closing(connection):
        connection.request("POST", path, b"hello", caller)
        assert connection.getresponse().status == status


@pytest.mark.parametrize("credential", [{}, {"Authorization": "Bearer nothing"}, {"Authorization": "Basic eDp5"}])
def test_nobody_passes_without_a_credential(gateway: httpx.Client, credential: dict[str, str]) -> None:
    """The caller is told how to sign in."""
    answer = gateway.post(MINI, headers=credential, content=b"hello")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_suspended_user_is_out(gateway: httpx.Client, admin: httpx.Client) -> None:
    """What an administrator decides reaches the gateway."""
    user = user_of(admin, "leaving", models=["*"])
    header = bearer(key_of(admin, user)["key"])
    assert gateway.post(MINI, headers=header).status_code == 200
    admin.put(f"{USERS}/{user}", json={"status": "suspended"}).raise_for_status()
    assert gateway.post(MINI, headers=header).status_code == 401
