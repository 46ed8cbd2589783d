"""The console in a browser with a million users, against the same with a thousand: list, search and page turn.

    PYTHONPATH=apps:bench:. .local/python3.*/bin/python bench/browser.py [--data FOLDER] [--rounds 15]

Chromium opens each page in turn at a server for each directory; what counts is the time from going there to the last
byte, and to the first contentful paint (Paint Timing, W3C). Medians, and the ratio of the two directories.
"""

import argparse
import shutil
import statistics
from contextlib import ExitStack
from pathlib import Path

from harness import directories, report
from harness.processes import product
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

SIZES = (1_000, 1_000_000)
_ROOT = Path(__file__).parent.parent
_CONSOLE = "/ai/admin/console"
_STEPS = ("the list", "a search", "a rare search", "a filter", "the next page", "the overview")
_TIMES = """() => {
  const page = performance.getEntriesByType("navigation")[0];
  const drawn = performance.getEntriesByName("first-contentful-paint")[0];
  return drawn ? [page.responseEnd - page.startTime, drawn.startTime] : null;
}"""
Sample = tuple[float, float]


def sign_in(page: Page, address: str, key: str) -> None:
    """Exchange the key for a session."""
    page.goto(f"{address}{_CONSOLE}/sign-in")
    page.fill("#key", key)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "sign-in" not in url)


def visit(page: Page, address: str) -> dict[str, Sample]:
    """Milliseconds to the last byte and to the first paint of each step."""
    taken: dict[str, Sample] = {}

    def note(name: str, path: str) -> None:
        page.goto(f"{address}{_CONSOLE}{path}", wait_until="load")
        # The page's own policy forbids what wait_for_function does.
        while (times := page.evaluate(_TIMES)) is None:
            page.wait_for_timeout(5)
        taken[name] = (times[0], times[1])

    note("a search", "/users?q=maria")
    note("a rare search", "/users?q=77")
    note("a filter", "/users?status=suspended&role=admin")
    note("the overview", "/overview")
    note("the list", "/users")
    following = page.get_attribute("a[rel=next]", "href")
    assert following, "there are more users than a page shows"
    note("the next page", following.removeprefix(_CONSOLE))
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=_ROOT / ".local" / "bench")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    path = shutil.which("chromium")
    if path is None:
        parser.error("chromium is missing: apt-get install chromium")
    console = Console(stderr=True, highlight=False)
    samples: dict[str, list[list[Sample]]] = {name: [[] for _ in SIZES] for name in _STEPS}
    with ExitStack() as stack:
        found = stack.enter_context(directories.filled(options.data, SIZES, console))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        stack.callback(browser.close)
        pages = []
        for directory in found:
            server = stack.enter_context(product(directory.settings))
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            sign_in(page, f"http://127.0.0.1:{server.port}", directory.key)
            pages.append((page, f"http://127.0.0.1:{server.port}"))
        for number in range(options.rounds + 1):
            console.print(f"[bold]==>[/] Round {number} of {options.rounds}")
            for at, (page, address) in enumerate(pages):
                for name, taken in visit(page, address).items():
                    # The first round only warms up.
                    if number:
                        samples[name][at].append(taken)
    rows = []
    for name, by_size in samples.items():
        medians = [[statistics.median(each[part] for each in taken) for taken in by_size] for part in (0, 1)]
        rows.append([name, *(f"{ms:.0f}" for pair in medians for ms in pair), *(f"{b / a:.1f}" for a, b in medians)])
    small, large = (f"{size:,}" for size in SIZES)
    head = ["page", f"answered, {small} users, ms", f"{large}", f"drawn, {small}", f"{large}", "ratio", "ratio, drawn"]
    print(f"{report.machine()}.\n\n{report.table(head, rows)}")


if __name__ == "__main__":
    main()
