"""One worker beside two: what the second brings where the database needs a core too, and the shares of both floors.

The floor of the web has as many workers; pgbench, in C, needs but one thread.
"""

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from harness import yardsticks
from harness.directories import Directory
from harness.generators import CONNECTIONS, closed_loop
from harness.processes import Server, other, product
from harness.workloads import Workload, floor, workloads

_COUNTS = (1, 2)
_ASKED = ("list, first page", "get one", "create")


@dataclass
class Figures:
    """Of one workload on so many workers: answers a second, and the shares of the floors; medians over the rounds."""

    name: str
    workers: int
    rates: list[float] = field(default_factory=list)
    of_floor: list[float] = field(default_factory=list)
    of_pgbench: list[float] = field(default_factory=list)
    errors: int = 0

    def row(self) -> list[str]:
        """For a table."""
        shares = (statistics.median(self.of_floor), statistics.median(self.of_pgbench))
        rate = statistics.median(self.rates)
        return [self.name, str(self.workers), f"{rate:,.0f}", *(f"{share:.2f}" for share in shares), str(self.errors)]


HEAD = ["request", "workers", "a second", "of the empty handler", "of pgbench", "errors"]


def measured(directory: Directory, rounds: int, seconds: float, console: Console) -> list[Figures]:
    """Each workload on each number of workers in turn, beside its yardsticks, in the same minute."""
    asked = [work for work in workloads(directory) if work.name in _ASKED]
    scripts = {
        work.name: yardsticks.statements(directory.settings, work.statements) for work in asked if work.statements
    }
    found = {(work.name, workers): Figures(work.name, workers) for work in asked for workers in _COUNTS}
    with _servers(directory) as servers:
        for round_ in range(1, rounds + 1):
            for work in asked:
                console.print(f"[bold]==>[/] Workers, round {round_} of {rounds}: {work.name}")
                pgbench = yardsticks.rate(directory.settings, scripts[work.name], seconds, CONNECTIONS)
                for workers, (ours, bare) in servers.items():
                    _measure(found[work.name, workers], work, ours, bare, pgbench, seconds)
                if work.creates:
                    directory.forget_created()
    return list(found.values())


def _measure(kept: Figures, work: Workload, ours: Server, bare: Server, pgbench: float, seconds: float) -> None:
    zero = closed_loop(bare.port, floor().requests, max(1, seconds / 2))
    rate = closed_loop(ours.port, work.requests, seconds)
    kept.rates.append(rate.a_second)
    kept.of_floor.append(rate.a_second / zero.a_second)
    kept.of_pgbench.append(rate.a_second / pgbench)
    kept.errors += rate.errors


@contextmanager
def _servers(directory: Directory) -> Iterator[dict[int, tuple[Server, Server]]]:
    """For each number of workers the product and the empty handler."""
    with ExitStack() as stack:
        yield {
            workers: (
                stack.enter_context(product(directory.settings, workers)),
                stack.enter_context(other("harness.bare:create", directory.settings, workers)),
            )
            for workers in _COUNTS
        }
