"""Two load generators, for two questions.

How many answers a second: wrk (Debian), which sends the next request on a connection once the last one is answered.
Nothing that we know costs less; but a slow answer also keeps requests from being sent, so that its latencies leave
out what callers would have waited ("coordinated omission", G. Tene).

How long callers wait: `arrivals`, an open loop. Requests arrive at random moments that are drawn beforehand
(a Poisson process), whether or not those before are answered, and each latency counts from the moment at which its
request was due, as wrk2 does. aiohttp sends them; how much that adds is measured on the empty handler.
"""

import asyncio
import random
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path

import aiohttp

from harness.requests import DIGITS, NUMBER, Request

CONNECTIONS = 16
# A request that takes this long, in seconds, hangs.
_HANGS = 60
# Numbers that one loop has for itself: two that used the same would create the same user.
_MOST_SENT = 1_000_000
_SEPARATOR = "\x1e"
_LUA = """
local requests = {}
local file = io.open("%(requests)s", "rb")
for request in string.gmatch(file:read("*a"), "[^%(separator)s]+") do requests[#requests + 1] = request end
local sent = 0
local number = %(first)d
function request()
  sent = sent %% #requests + 1
  number = number + 1
  if %(numbered)s then return (requests[sent]:gsub("%(mark)s", string.format("%%0%(digits)dd", number))) end
  return requests[sent]
end
"""
_numbers = count(int(time.time()) * 10)


@dataclass(frozen=True)
class Rate:
    """What a closed loop got: answers a second, and how many were no success or did not come."""

    a_second: float
    errors: int


@dataclass
class Latencies:
    """Seconds from when each request was due to the end of its answer, sorted, and what was no right answer."""

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    asked_a_second: float = 0

    def percentile(self, percent: float) -> float:
        """The smallest latency that so many percent of the requests do not exceed (nearest rank)."""
        rank = max(0, -(-len(self.seconds) * percent // 100) - 1)
        return self.seconds[int(rank)]


def closed_loop(port: int, requests: Sequence[Request], seconds: float, connections: int = CONNECTIONS) -> Rate:
    """Send the requests in turn, over and over, on so many connections."""
    with tempfile.TemporaryDirectory(prefix="ai-admin-wrk-") as folder:
        kept = Path(folder, "requests")
        kept.write_text(_SEPARATOR.join(request.raw for request in requests), newline="")
        script = Path(folder, "load.lua")
        script.write_text(
            _LUA
            % {
                "requests": kept,
                "separator": "\\30",
                "first": next(_numbers) * _MOST_SENT % 10 ** (DIGITS - 1),
                "mark": NUMBER,
                "digits": DIGITS,
                "numbered": str(any(NUMBER in request.raw for request in requests)).lower(),
            }
        )
        options = [f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", f"{_HANGS}s", "-s", str(script)]
        command = ["wrk", "-t1", *options, f"http://127.0.0.1:{port}"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec: +([0-9.]+)", said)
    if rate is None:
        raise RuntimeError(f"wrk said:\n{said}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    errors = [*(refused.groups() if refused else ()), *(failed.groups() if failed else ())]
    return Rate(float(rate[1]), sum(map(int, errors)))


def arrivals(port: int, requests: Sequence[Request], a_second: float, seconds: float) -> Latencies:
    """Requests that arrive at random, so many a second on average; the same moments for the same arguments."""
    return asyncio.run(_arrivals(port, requests, a_second, seconds))


async def _arrivals(port: int, requests: Sequence[Request], a_second: float, seconds: float) -> Latencies:
    rng = random.Random(1815)
    found = Latencies(asked_a_second=a_second)
    waiting = set()
    # As many connections as there are requests under way: an open loop has no say in that.
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{port}",
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(_HANGS),
        skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding"],
    ) as session:
        due = begin = time.perf_counter()
        for request in cycle(requests):
            due += rng.expovariate(a_second)
            if due - begin > seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.ensure_future(_one(session, request.numbered(next(_numbers) % 10**DIGITS), due, found))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
    found.seconds.sort()
    return found


async def _one(session: aiohttp.ClientSession, request: Request, due: float, found: Latencies) -> None:
    try:
        async with session.request(
            request.method, request.target, headers=request.headers, data=request.body or None
        ) as answer:
            await answer.read()
        if answer.status != request.status:
            found.errors[str(answer.status)] += 1
    except (aiohttp.ClientError, TimeoutError, asyncio.TimeoutError) as error:
        found.errors[type(error).__name__] += 1
    found.seconds.append(time.perf_counter() - due)
