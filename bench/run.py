"""The whole benchmark: fill directories, start servers, load them, and write the report.

    script/bench                  everything, into docs/benchmarks.md (about an hour, 30 GB)
    script/bench --only rates     one section
    script/bench --short          small directories and short loads; nothing is written, wrong answers fail

Sections: rates, workers, scale, deep, at-once, idle, soak. Needs wrk (Debian: wrk). Directories are kept under
`--data`, so that the next run finds them. A run that is stopped keeps what the sections before have written.
"""

import argparse
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness import directories, report, sections, workers
from rich.console import Console

_ROOT = Path(__file__).parent.parent
_PAGE = 9_000
_console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Plan:
    """How large and how long: users, seconds, rounds, connections."""

    sizes: tuple[int, ...]
    rates_at: int
    deep_at: int
    deep_page: int
    rounds: int
    seconds: float
    scale_rounds: int
    at_once: int
    idle: int
    soak_s: float
    soak_a_second: float


FULL = Plan((10_000, 1_000_000, 10_000_000), 1_000_000, 100_000, _PAGE, 3, 5, 40, 500, 5_000, 1_200, 60)
SHORT = Plan((1_000, 5_000), 5_000, 5_000, 400, 1, 1, 1, 100, 200, 5, 20)
SECTIONS = ("rates", "workers", "scale", "deep", "at-once", "idle", "soak")


class Run:
    """One run over the directories of a plan; each section gives its errors, and writes what it found."""

    def __init__(self, plan: Plan, folder: Path, docs: Path | None) -> None:
        """`docs` holds benchmarks.md; nothing is written where it is None."""
        self._plan = plan
        self._folder = folder
        self._docs = docs
        self.errors: list[str] = []

    def section(self, name: str) -> None:
        """Measure one section."""
        _console.rule(name)
        getattr(self, f"_{name.replace('-', '_')}")()

    def _with(self, *sizes: int) -> Any:
        return directories.filled(self._folder, sizes, _console)

    def _publish(self, name: str, text: str, found: Any, errors: int) -> None:
        print(f"\n{text}\n", flush=True)
        if errors:
            self.errors.append(f"{name}: {errors} answers were wrong or did not come")
        if self._docs:
            report.put(self._docs / "benchmarks.md", name, f"{report.machine()}.\n\n{text}")
            report.write_json(self._docs / "benchmarks" / f"{name}.json", {name: found})

    def _picture(self, name: str) -> Path:
        return (self._docs or self._folder) / "benchmarks" / f"{name}.svg"

    def _rates(self) -> None:
        plan = self._plan
        with self._with(plan.rates_at) as (directory,):
            self.errors += sections.wrong_answers(directory)
            found = sections.rates(directory, self._folder, plan.rounds, plan.seconds, _console)
        head = ["request", "a second", "of the empty handler", "of pgbench", "of the plain way"]
        head += ["CPU ms: server", "database", "at load, a second", "p50 ms", "p95", "p99", "server MiB", "errors"]
        text = report.table(head, [_row(each) for each in found])
        labels = [each.name for each in found]
        report.bars(
            self._picture("rates"),
            f"Answers a second, one worker, {plan.rates_at:,} users",
            labels,
            {
                "AI Admin": [round(each.a_second) for each in found],
                "the plain way": [round(each.plain or 0) for each in found],
            },
        )
        self._publish("rates", text, [asdict(each) for each in found], sum(each.errors for each in found))

    def _workers(self) -> None:
        plan = self._plan
        with self._with(plan.rates_at) as (directory,):
            found = workers.measured(directory, plan.rounds, plan.seconds, _console)
        text = report.table(workers.HEAD, [each.row() for each in found])
        self._publish("workers", text, [asdict(each) for each in found], sum(each.errors for each in found))

    def _scale(self) -> None:
        with self._with(*self._plan.sizes) as found:
            scaled = sections.scaled(found, self._plan.scale_rounds, _console)
        sizes = [f"{size:,}" for size in self._plan.sizes]
        head = ["request", *(f"p95 ms, {size} users" for size in sizes), "ratio of the last to the first"]
        rows = [[f"`{each.name}`", *(f"{ms:.1f}" for ms in each.p95_ms), f"{each.ratio:.1f}"] for each in scaled]
        within = sum(each.ratio <= 1.5 for each in scaled)
        text = f"{within} of {len(scaled)} requests stay within 1.5 times.\n\n{report.table(head, rows)}"
        bars = {f"{sizes[at]} users": [round(each.p95_ms[at], 1) for each in scaled] for at in (0, len(sizes) - 1)}
        report.bars(self._picture("scale"), "p95 in milliseconds", [each.name for each in scaled], bars)
        self._publish("scale", text, [asdict(each) for each in scaled], 0)

    def _deep(self) -> None:
        plan = self._plan
        with self._with(plan.deep_at) as (directory,):
            found = sections.deep(directory, plan.deep_page, 10, plan.seconds)
        rows = [
            [name, f"{ours:,.0f}", f"{plain:,.1f}", f"{ours / plain:,.0f}"]
            for name, ours, plain in (
                ("first page", found.first_ours, found.first_plain),
                (f"page {found.page:,}", found.ours, found.plain),
            )
        ]
        head = [f"{found.users:,} users, pages of {found.size}", "AI Admin, a second", "the plain way", "ratio"]
        text = report.table(head, rows)
        self._publish("deep", text, asdict(found), found.errors)

    def _at_once(self) -> None:
        with self._with(self._plan.rates_at) as (directory,):
            found = [sections.at_once(directory, self._plan.at_once, workers) for workers in (1, 2)]
        self._crowd("at-once", ["one worker", "two workers"], found)

    def _idle(self) -> None:
        with self._with(self._plan.rates_at) as (directory,):
            found = [sections.idle(directory, self._plan.idle, self._plan.seconds * 2)]
        self._crowd("idle", ["one worker"], found)

    def _crowd(self, name: str, titles: list[str], found: list[sections.Crowd]) -> None:
        head = [
            "server",
            "connections",
            "right answers",
            "wrong or none",
            "p50 ms",
            "p95",
            "p99",
            "MiB before",
            "MiB after",
        ]
        rows = [
            [title, f"{each.connections:,}", f"{each.right:,}", each.wrong]
            + [f"{ms:,.1f}" for ms in each.percentiles_ms.values()]
            + [f"{each.mib_before:.0f}", f"{each.mib_after:.0f}"]
            for title, each in zip(titles, found, strict=True)
        ]
        self._publish(
            name, report.table(head, rows), [asdict(each) for each in found], sum(each.wrong for each in found)
        )

    def _soak(self) -> None:
        plan = self._plan
        with self._with(plan.rates_at) as (directory,):
            found = sections.soak(directory, self._folder, plan.soak_a_second, plan.soak_s, _console)
        tenth = max(1, len(found.server_mib) // 10)
        rows = [
            [
                name,
                *(f"{sum(part) / len(part):.0f}" for part in (values[:tenth], values[-tenth:])),
                f"{max(values):.0f}",
            ]
            for name, values in (
                ("server, MiB", found.server_mib),
                ("database, MiB", found.database_mib),
                ("connections to the database", [float(number) for number in found.connections]),
            )
        ]
        percentiles = ", ".join(f"p{percent} {ms:.1f} ms" for percent, ms in found.percentiles_ms.items())
        text = (
            f"{found.seconds / 60:.0f} minutes of the mix at {found.a_second:.0f} requests a second, two workers: "
            f"{found.requests:,} requests, {found.errors} errors; {percentiles}.\n\n"
            + report.table(["", "first tenth of the time", "last tenth", "at most"], rows)
        )
        report.lines(
            self._picture("soak"),
            "Memory over the soak, MiB",
            [f"{index * found.every / 60:.0f} min" for index in range(len(found.server_mib))],
            {"server": found.server_mib, "database": found.database_mib},
        )
        self._publish("soak", text, asdict(found), found.errors)


def _row(each: sections.Figures) -> list[str]:
    def ratio(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:,.0f}"

    return [
        each.name,
        f"{each.a_second:,.0f}",
        f"{each.of_floor:.2f}",
        ratio(each.of_pgbench),
        ratio(each.of_plain),
        f"{each.server_cpu_ms:.2f}",
        f"{each.database_cpu_ms:.2f}",
        f"{each.arrivals_a_second:,.0f}",
        *(f"{ms:.1f}" for ms in each.percentiles_ms.values()),
        f"{each.server_mib:.0f}",
        str(each.errors),
    ]


def main() -> int:
    """Run what was asked for; 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="small and quick, for correctness")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="these sections")
    parser.add_argument("--data", type=Path, help="folder of the directories, below .local if not given")
    parser.add_argument("--rounds", type=int, help="times that each request is measured, in rates and scale")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is missing: apt-get install wrk")
    folder = options.data or _ROOT / ".local" / ("bench-short" if options.short else "bench")
    plan = SHORT if options.short else FULL
    if options.rounds:
        plan = replace(plan, rounds=options.rounds, scale_rounds=options.rounds)
    run = Run(plan, folder, None if options.short else _ROOT / "docs")
    for name in options.only:
        run.section(name)
    for error in run.errors:
        _console.print(f"[red]wrong:[/] {error}")
    return int(bool(run.errors))


if __name__ == "__main__":
    sys.exit(main())
