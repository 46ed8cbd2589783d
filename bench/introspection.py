"""What introspection costs: requests a second against empty handlers, with a million keys in the directory.

    PYTHONPATH=apps python bench/introspection.py --keys 1000000

starts a PostgreSQL of its own, fills in the keys, and sends requests with wrk (Debian: wrk) in turns to

- a bare Flask application with one empty view, under the same server: the floor;
- an empty public route of the application, with all that it does around a view;
- `POST /ai/introspect` and `GET /ai/authorize` about a thousand of the keys, as a gateway's callers repeat themselves;
- `POST /ai/introspect` about any of them, so that next to every request is the first of its key and asks the database.
"""

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import mount
from flask import Blueprint, Flask, Response
from rich.console import Console

from ai_admin import migrate
from ai_admin.access.bootstrap import make_owner
from ai_admin.access.tokens import digest, make_key
from ai_admin.app import create_app
from ai_admin.asgi import AsgiApplication
from ai_admin.config import ROOT_VARIABLE, Settings, load_settings
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.operations import describe

NAME = "bench"
IN_USE = 1_000
KEYS_A_USER = 10
CONNECTIONS = 16
_console = Console(stderr=True, highlight=False)
_PROGRAM = """
import sys
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels
Granian(sys.argv[1], address="127.0.0.1", port=int(sys.argv[2]), interface=Interfaces.ASGINL, websockets=False,
        workers=1, factory=True, log_level=LogLevels.error).serve()
"""
_LUA = """
local tokens = {}
for line in io.lines("%(tokens)s") do tokens[#tokens + 1] = line end
math.randomseed(os.time())
function request()
  local token = tokens[math.random(#tokens)]
  if "%(method)s" == "POST" then
    return wrk.format("POST", "%(path)s", {["Authorization"] = "Bearer %(gateway)s",
      ["Content-Type"] = "application/x-www-form-urlencoded"}, "token=" .. token .. "&model=gpt-5-mini")
  end
  return wrk.format("GET", "%(path)s", {["Authorization"] = "Bearer " .. token})
end
"""

empty = Blueprint("empty", __name__)


@empty.get("/empty")
@describe("Nothing", "public", answers={204: None})
def nothing() -> Response:
    """Answer without a body."""
    return Response(status=204)


def create_worker() -> AsgiApplication:
    """The application with the empty route."""
    return _under_server(create_app(load_settings(), (empty,)))


def create_bare() -> AsgiApplication:
    """One empty view and nothing else."""
    app = Flask("bare")
    app.get("/empty")(lambda: Response(status=204))
    return _under_server(app)


def _under_server(app: Flask) -> AsgiApplication:
    return AsgiApplication(app, threads=16, max_body_bytes=2**20, body_timeout_s=15)


def _fill(postgres: EmbeddedPostgres, number: int) -> list[str]:
    """Make users with ten keys each; all of the keys."""
    keys = [make_key() for _ in range(number)]
    with postgres.connect(NAME) as connection:
        connection.execute(
            "INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words) "
            "SELECT gen_random_uuid(), 'caller-' || n, 'Caller', 'caller', 'service', 'member', 'active', '{gpt-5*}', "
            "'{}', to_tsvector('simple', 'caller') FROM generate_series(1, %s) AS n",
            [max(1, number // KEYS_A_USER)],
        )
        users = [row[0] for row in connection.execute("SELECT id FROM users WHERE name = 'Caller'")]
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY api_keys (id, user_id, digest, name, last_four) FROM STDIN") as copy,
        ):
            for index, key in enumerate(keys):
                copy.write_row((uuid4(), users[index % len(users)], digest(key), "bench", key[-4:]))
        connection.execute("VACUUM ANALYZE")
    return keys


@contextmanager
def _serving(factory: str, settings: Settings) -> Iterator[int]:
    """The port of a server with one worker."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{here}:{here.parent / 'apps'}",
        ROOT_VARIABLE: str(settings.root),
    }
    server = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, f"introspection:{factory}", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _rate(port: int, script: Path, seconds: int) -> float:
    """Answers a second. Raises where one is an error: a figure of refusals would say nothing."""
    said = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    found = re.search(r"Requests/sec: +([0-9.]+)", said)
    assert found, said
    return float(found[1])


def main() -> None:
    """Print a table of the cases, each with its median rate and its ratios to the two empty handlers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="for each case in each round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ai-admin-bench-") as folder:
        root = Path(folder)
        postgres = EmbeddedPostgres(root)
        postgres.start(_console.print)
        try:
            settings = mount.settings(root / "mount", postgres, NAME, {"RATE_PER_SECOND": "1000000"})
            postgres.ensure_database(NAME, settings.secret.pg_user)
            migrate.upgrade(settings.secret)
            gateway = make_owner(settings, "gateway")
            _console.print(f"Making {options.keys:,} keys")
            keys = _fill(postgres, options.keys)
            scripts = {}
            for name, method, path, known in (
                ("bare", "GET", "/empty", keys[:1]),
                ("empty", "GET", "/empty", keys[:1]),
                ("introspect, keys in use", "POST", "/ai/introspect", keys[:IN_USE]),
                ("authorize, keys in use", "GET", "/ai/authorize?model=gpt-5-mini", keys[:IN_USE]),
                ("introspect, any key", "POST", "/ai/introspect", keys),
            ):
                tokens = root / f"{name}.tokens"
                tokens.write_text("\n".join(known))
                scripts[name] = root / f"{name}.lua"
                scripts[name].write_text(_LUA % {"tokens": tokens, "method": method, "path": path, "gateway": gateway})
            rates: dict[str, list[float]] = {name: [] for name in scripts}
            with _serving("create_bare", settings) as bare, _serving("create_worker", settings) as whole:
                for round_ in range(options.rounds + 1):
                    for name, script in scripts.items():
                        rate = _rate(bare if name == "bare" else whole, script, options.seconds)
                        # The first round warms up.
                        if round_:
                            rates[name].append(rate)
                            _console.print(f"{round_}: {name}: {rate:,.0f} a second")
        finally:
            postgres.stop()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print("| request | a second | of the bare view | of the empty route |\n|---|---:|---:|---:|")
    for name, rate in medians.items():
        print(f"| {name} | {rate:,.0f} | {rate / medians['bare']:.2f} | {rate / medians['empty']:.2f} |")


if __name__ == "__main__":
    main()
