"""Functions in Fission's own environment: cold starts and rates beside an empty function's, and 500 requests at once.

    script/test-fission-environment PATH_TO/environments/python/server.py --bench

A cold start is measured in a fresh process each time, from the request to specialise to the first 200, in turn for
each package: wall time, and CPU time of the environment's process; its import is the request to specialise alone. The
package without bytecode is what build.sh made before it compiled. Rates are those of one pod of each function, in turn
with the empty function's, on a directory of 10,000 users; they go into docs/benchmarks.md. The burst goes to one
function; every answer is compared with what it must be. Needs wrk (Debian: wrk).
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path

import httpx
import orjson
from harness import report
from harness.generators import closed_loop
from harness.requests import NUMBER, Request, get, send
from rich.console import Console
from tests.conftest import AS_OWNER, OWNER_KEY, ROOT
from tests.fission.real import Image, Pod
from tests.serving import directory, together

from ai_admin import demo
from ai_admin.config import Settings

AT_ONCE = 500
USERS = 10_000
SECONDS = 4
JSON = {"Content-Type": "application/json"}
_TICK = os.sysconf("SC_CLK_TCK")
_HANGS = 120


@dataclass
class Start:
    """A package and function to start, and how long each start took: wall and CPU, in milliseconds."""

    name: str
    image: Image
    function: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pid: int) -> dict[str, int]:
    """Resident memory of a process now and at most, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if "kB" in value}
    return {"now": found["VmRSS"] // 1024, "at most": found["VmHWM"] // 1024}


def start(one: Start, settings: Settings, folder: Path) -> None:
    """One cold start."""
    with one.image.pod(settings.root, folder) as pod:
        pod.wait_until_it_listens()
        wall, cpu = time.perf_counter(), cpu_seconds(pod.process.pid)
        pod.specialise(one.function)
        one.loading.append((cpu_seconds(pod.process.pid) - cpu) * 1000)
        response = httpx.get(f"{pod.address}/?count=none", headers=AS_OWNER, timeout=_HANGS, trust_env=False)
        one.wall.append((time.perf_counter() - wall) * 1000)
        one.cpu.append((cpu_seconds(pod.process.pid) - cpu) * 1000)
        if response.status_code != 200:
            raise SystemExit(f"{one.name}: {response.status_code} {response.text}")


def empty(folder: Path) -> Path:
    """A package of one function that does nothing."""
    package = folder / "empty"
    package.mkdir()
    (package / "empty.py").write_text('def main():\n    return ""\n')
    return package


def cold_starts(image: Image, nothing: Image, settings: Settings, folder: Path, rounds: int) -> list[Start]:
    """Starts in turn; each package is as a new pod finds it, with no bytecode but its own."""
    bare = shutil.copytree(image.package, folder / "bare", ignore=shutil.ignore_patterns("__pycache__"))
    starts = [
        Start("empty function", nothing, "empty.main"),
        Start("filter_insert", image, "filter_insert.main"),
        Start("filter_insert without bytecode", replace(image, package=bare), "filter_insert.main"),
    ]
    for number in range(rounds):
        for one in starts:
            start(one, settings, folder / f"{one.name}-{number}")
            for cache in bare.rglob("__pycache__"):
                shutil.rmtree(cache)
    return starts


def rates(image: Image, nothing: Image, settings: Settings, folder: Path, rounds: int) -> list[list[str]]:
    """Rows of the table of rates: medians, and medians of the ratio to the empty function, measured beside each."""
    demo.fill(settings, USERS, Console(stderr=True))
    page = "/?size=20"
    with ExitStack() as stack:
        bare = stack.enter_context(nothing.pod(settings.root, folder / "floor"))
        bare.specialise("empty.main")
        pods = {}
        for function in ("filter_insert", "update_delete", "introspect"):
            pods[function] = stack.enter_context(image.pod(settings.root, folder / f"rates-{function}"))
            pods[function].specialise(f"{function}.main")
        listed = httpx.get(f"{pods['filter_insert'].address}{page}", headers=AS_OWNER, trust_env=False).json()["data"]
        one = [
            Request("GET", "/", {**AS_OWNER, "X-Fission-Params-UserID": user["id"]})
            for user in listed
            if user["status"] == "active"
        ]
        form = {**AS_OWNER, "Content-Type": "application/x-www-form-urlencoded"}
        body = {"tag": f"bench-{NUMBER}", "kind": "service"}
        workloads = {
            "list, first page": ("filter_insert", [get(page, OWNER_KEY)]),
            "get one": ("update_delete", one),
            "introspect": ("introspect", [Request("POST", "/", form, f"token={OWNER_KEY}&model=gpt-5-mini")]),
            "create": ("filter_insert", [send("POST", "/", OWNER_KEY, body, 201)]),
        }
        found: dict[str, list[tuple[float, float, float, int]]] = {name: [] for name in workloads}
        for _ in range(rounds):
            for name, (function, requests) in workloads.items():
                floor = closed_loop(bare.port, [Request("GET", "/", {})], SECONDS)
                pid = pods[function].process.pid
                cpu = cpu_seconds(pid)
                rate = closed_loop(pods[function].port, requests, SECONDS)
                milliseconds = (cpu_seconds(pid) - cpu) / max(1, rate.a_second * SECONDS) * 1000
                found[name].append((rate.a_second, rate.a_second / floor.a_second, milliseconds, rate.errors))
    rows = []
    for name, taken in found.items():
        a_second, of_floor, milliseconds, _ = map(statistics.median, zip(*taken, strict=True))
        errors = sum(each[3] for each in taken)
        rows.append([name, f"{a_second:,.0f}", f"{of_floor:.2f}", f"{milliseconds:.2f}", str(errors)])
    return rows


def ask(pod: Pod, number: int) -> str | None:
    """Create a user or find one, by number. Returns what is wrong with the answer; raises `OSError` for none."""
    with closing(HTTPConnection("127.0.0.1", pod.port, timeout=_HANGS)) as connection:
        tag = f"user-{number}"
        if number % 2:
            connection.request("GET", f"/?tag={tag}&count=none", headers=AS_OWNER)
        else:
            tag = f"burst-{time.monotonic_ns()}-{number}"
            connection.request("POST", "/", orjson.dumps({"tag": tag, "kind": "service"}), JSON | AS_OWNER)
        response = connection.getresponse()
        body = orjson.loads(response.read())
    found = [user["tag"] for user in body["data"]] if response.status == 200 else [body.get("tag")]
    expected = 200 if number % 2 else 201
    return None if (response.status, found) == (expected, [tag]) else f"{tag}: {response.status} {body}"


def outcome(pod: Pod, number: int) -> str:
    """`right`, `unanswered` where the connection was reset, or what was wrong."""
    try:
        return ask(pod, number) or "right"
    except OSError:
        return "unanswered"


def burst(image: Image, settings: Settings, folder: Path, rounds: int) -> Iterator[str]:
    """Rows of the burst's table."""
    with image.pod(settings.root, folder / "burst") as pod:
        pod.specialise("filter_insert.main")
        for number in range(1, AT_ONCE, 2):
            body = {"tag": f"user-{number}", "kind": "service"}
            httpx.post(f"{pod.address}/", json=body, headers=AS_OWNER, trust_env=False).raise_for_status()
        for count in range(1, rounds + 1):
            before, began = memory(pod.process.pid), time.perf_counter()
            found = Counter(together(AT_ONCE, lambda number: outcome(pod, number)))
            took, after = time.perf_counter() - began, memory(pod.process.pid)
            wrong = sorted(set(found) - {"right", "unanswered"})
            cells = (count, found["right"], len(wrong), found["unanswered"], before["now"], after["now"])
            yield f"| {' | '.join(map(str, cells))} | {after['at most']} | {took:.1f} |"
            if wrong:
                raise SystemExit("\n".join(wrong[:5]))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", type=Path)
    parser.add_argument("python", type=Path)
    parser.add_argument("package", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    image = Image(options.server, options.python, options.package)
    environment = os.environ.get("WSGI_FRAMEWORK") or "bjoern"
    with (
        tempfile.TemporaryDirectory(prefix="ai-admin-") as name,
        directory(Path(name), LOG_LEVEL="ERROR", RATE_PER_SECOND="1000000", WRITES_PER_SECOND="1000000") as settings,
    ):
        nothing = replace(image, package=empty(Path(name)))
        starts = cold_starts(image, nothing, settings, Path(name), options.rounds)
        print(f"Environment: {environment}; medians of {options.rounds} cold starts\n")
        print("| from specialise to the first 200 | wall ms | CPU ms | of it the import | CPU, of the row below |")
        print("|---|---|---|---|---|")
        for one, below in zip(starts, [*starts[1:], None], strict=True):
            wall, cpu = statistics.median(one.wall), statistics.median(one.cpu)
            ratio = f"{cpu / statistics.median(below.cpu):.2f}" if below else ""
            print(f"| {one.name} | {wall:.0f} | {cpu:.0f} | {statistics.median(one.loading):.0f} | {ratio} |")
        head = [f"one pod of each function, {environment}", "a second", "of the empty function", "CPU ms", "errors"]
        text = report.table(head, rates(image, nothing, settings, Path(name), 3))
        print(f"\n{text}", flush=True)
        if environment == "bjoern":
            report.put(ROOT / "docs" / "benchmarks.md", "functions", f"{report.machine()}.\n\n{text}")
        print("\n| burst | right | wrong | unanswered | MiB before | MiB after | MiB at most | seconds |")
        print("|---|---|---|---|---|---|---|---|")
        for row in burst(image, settings, Path(name), 3):
            print(row)


if __name__ == "__main__":
    main()
