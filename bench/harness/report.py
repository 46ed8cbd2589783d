"""What was measured, as Markdown tables, pictures and JSON."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil
import pygal
from pygal.style import Style

from ai_admin import __version__

_STYLE = Style(
    background="#ffffff",
    plot_background="#ffffff",
    foreground="#1f2328",
    foreground_strong="#1f2328",
    foreground_subtle="#59636e",
    colors=("#1f6feb", "#bf8700", "#8c959f"),
    font_family="system-ui, sans-serif",
    label_font_size=13,
    major_label_font_size=13,
    value_font_size=11,
    legend_font_size=13,
    title_font_size=16,
)


def machine() -> str:
    """A sentence on where this ran."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, AI Admin {__version__}"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; all columns but the first hold figures."""
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def bars(path: Path, title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """A picture of bars, the first label on top."""
    height = 120 + 20 * len(labels) * (1 + len(series))
    chart = pygal.HorizontalBar(_config(title, height, len(series) > 1))
    chart.x_labels = list(reversed(labels))
    for name, values in series.items():
        chart.add(name, list(reversed(values)))
    _write(chart, path)


def lines(path: Path, title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """A picture of values over time."""
    config = _config(title, 320, legend=True)
    chart = pygal.Line(config, show_dots=False, x_labels_major_count=6, show_minor_x_labels=False)
    chart.x_labels = list(labels)
    for name, values in series.items():
        chart.add(name, list(values))
    _write(chart, path)


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """All figures, and where they come from."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps({"machine": machine(), **found}, option=options))


def put(document: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a section. Raises ValueError where the document has none."""
    whole = document.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{document} has no section {name}")
    document.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")


def _config(title: str, height: int, legend: bool) -> pygal.Config:
    return pygal.Config(
        title=title,
        style=_STYLE,
        width=900,
        height=height,
        show_legend=legend,
        legend_at_bottom=True,
        print_values=False,
        # No script from elsewhere.
        js=[],
    )


def _write(chart: Any, path: Path) -> None:
    # Pictures in documents run no scripts; pygal's would do nothing but show what the table says.
    svg = re.sub(r"<script.*?</script>", "", chart.render(is_unicode=True), flags=re.DOTALL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg, encoding="utf-8")
