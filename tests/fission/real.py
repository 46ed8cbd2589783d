"""The real environment of Fission (python/server.py of fission/environments) as processes, and the way to them.

It listens on all interfaces of the machine: `script/test-fission-environment` gives it a network of its own.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx

from ai_admin.config import ROOT_VARIABLE
from tests.fission.specs import functions

# Nothing here is a promise of speed: what takes this long, in seconds, hangs.
_HANGS = 30
# RFC 9110, 7.6.1: what concerns one connection alone.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Image:
    """What a pod is made of: server.py, a Python with the image's packages, and the package that build.sh makes.

    `WSGI_FRAMEWORK` is inherited: bjoern where it is not set, or GEVENT.
    """

    server: Path
    python: Path
    package: Path

    @contextmanager
    def pod(self, root: Path, folder: Path) -> Iterator["Pod"]:
        """A process that is not specialised yet; Secret and ConfigMap are under `root`, its own files in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            ROOT_VARIABLE: str(root),
            "RUNTIME_PORT": str(port),
            "USERFUNCVOL": str(folder),
        }
        log = folder / "pod.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.python, self.server], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            yield Pod(port, process, log, self.package)
        finally:
            # Under bjoern server.py goes on after SIGTERM, whatever the function.
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Pod:
    """A running environment: a WSGI application that sends each request on, as the router's reverse proxy does."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    package: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def specialise(self, function: str) -> None:
        """Load `module.main` of the package, as Fission's fetcher asks for it."""
        self.wait_until_it_listens()
        load = {"filepath": str(self.package), "functionName": function}
        response = httpx.post(f"{self.address}/v2/specialize", json=load, timeout=_HANGS, trust_env=False)
        if response.status_code != 200:
            raise RuntimeError(f"{function} was not loaded:\n{self.log.read_text()}")

    def wait_until_it_listens(self) -> None:
        """Wait for the process to take connections."""
        deadline = time.monotonic() + _HANGS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=_HANGS).close()
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The environment did not start:\n{self.log.read_text()}") from None
                time.sleep(0.02)
            else:
                return

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Forward a request to path `/`."""
        query = environ.get("QUERY_STRING", "")
        body = environ["wsgi.input"].read()
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=_HANGS)) as connection:
            url = f"/?{query}" if query else "/"
            connection.putrequest(environ["REQUEST_METHOD"], url, skip_host=True, skip_accept_encoding=True)
            for name, value in _headers(environ):
                connection.putheader(name, value)
            if body or environ.get("CONTENT_LENGTH"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
        start_response(f"{answer.status} {answer.reason}", kept)
        return [content]


def _headers(environ: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The request's headers, from the names that PEP 3333 gives them."""
    if environ.get("CONTENT_TYPE"):
        yield "Content-Type", environ["CONTENT_TYPE"]
    for name, value in environ.items():
        if name.startswith("HTTP_") and name.removeprefix("HTTP_").lower().replace("_", "-") not in _HOP_BY_HOP:
            yield name.removeprefix("HTTP_").replace("_", "-"), value


@contextmanager
def specialised(image: Image, root: Path, folder: Path) -> Iterator[dict[str, Pod]]:
    """A pod for each function in `specs/`, by the functions' names."""
    with ExitStack() as stack:
        pods = {name: stack.enter_context(image.pod(root, folder / name)) for name in functions()}
        for name, function in functions().items():
            pods[name].specialise(function)
        yield pods


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
