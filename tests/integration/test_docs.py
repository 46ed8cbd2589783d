"""The documents say what the code does; long/test_commands_in_docs.py runs their commands."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
import yaml
from typer.testing import CliRunner

from ai_admin.cli import app
from ai_admin.config import ConfigSettings, SecretSettings, Settings
from ai_admin.errors import ErrorCode, error_classes
from tests.conftest import ROOT
from tests.serving import serving

README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
CLI = ROOT / "docs" / "cli.md"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_every_error_code_has_its_row() -> None:
    """The table of codes is the enumeration: none missing, none invented, statuses and texts as in the code."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (.+) \|$", API, re.MULTILINE)
    assert rows == [
        (error.code.value, str(error.status), " ".join((error.__doc__ or "").split())) for error in error_classes()
    ]
    assert {row[0] for row in rows} == {code.value for code in ErrorCode}


def test_every_setting_has_its_row() -> None:
    """A setting that is not listed cannot be found; one that is listed and gone misleads."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (Secret|ConfigMap) \| .+ \| (.+) \|$", OPERATIONS, re.MULTILINE)
    declared = [
        (field.alias, kind, field.description)
        for kind, model in (("Secret", SecretSettings), ("ConfigMap", ConfigSettings))
        for field in model.model_fields.values()
    ]
    assert rows == declared


def blocks(text: str) -> list[str]:
    """The shell commands of a document, block by block."""
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def test_monitoring_watches_what_there_is(settings: Settings, tmp_path: Path) -> None:
    """A panel or an alert on a metric that does not exist is silent forever."""
    with serving(settings, tmp_path, workers=1) as api:
        api.get("/healthz")
        present = set(re.findall(r"^(ai_admin_\w+)", api.get("/metrics").text, re.MULTILINE))
    folder = ROOT / "examples" / "monitoring"
    board = orjson.loads((folder / "dashboard.json").read_bytes())
    rules = yaml.safe_load((folder / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [rule["expr"] for rule in rules]
    watched = {name for query in queries for name in re.findall(r"ai_admin_\w+", query)}
    assert watched
    assert watched <= present
    assert all(rule["annotations"]["action"] for rule in rules)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_links_lead_somewhere() -> None:
    """Relative links in the documents name files that exist."""
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def commands_of(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, with its words."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in sorted(command.commands.items()):
        yield from commands_of(below, *path, name)


def cli_reference() -> str:
    """All commands in Markdown: what each does, its arguments and options."""
    lines = []
    for words, command in commands_of(typer.main.get_command(app)):
        context = command.make_context(" ".join(("ai-admin", *words)), [], resilient_parsing=True)
        about, *examples = re.split(r"\n+Example: ", inspect.cleandoc(command.help or ""))
        lines += [f"### {context.info_name}", "", *about.splitlines(), ""]
        lines += ["```", *(example.strip() for example in examples), "```", ""]
        shown = [parameter for parameter in command.params if "--help" not in parameter.opts]
        if shown:
            lines += ["| | |", "|---|---|", *(_row(parameter) for parameter in shown), ""]
    return "\n".join(lines)


def _row(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    opts = [*parameter.opts, *parameter.secondary_opts]
    names = [parameter.metavar or parameter.name.upper()] if is_argument else opts
    return f"| `{', '.join(names)}` | {parameter.help} |"


def _parts_of_cli() -> tuple[str, str, str]:
    before, begin, rest = CLI.read_text(encoding="utf-8").partition("<!-- reference -->\n")
    written, end, after = rest.partition("<!-- end of reference -->")
    return before + begin, written, end + after


def write_cli_reference() -> None:
    """Bring docs/cli.md to what the code says."""
    before, _, after = _parts_of_cli()
    CLI.write_text(f"{before}\n{cli_reference()}\n{after}", encoding="utf-8")


def test_the_reference_of_commands_is_that_of_the_code() -> None:
    """A command or option that is not documented is one that nobody finds; script/cli-reference writes them down."""
    assert _parts_of_cli()[1].strip() == cli_reference().strip()


def test_every_command_has_help_with_an_example() -> None:
    """`--help` teaches; a command without it is one that nobody finds."""
    runner = CliRunner()
    found = list(commands_of(typer.main.get_command(app)))
    assert len(found) > 30
    for words, command in found:
        result = runner.invoke(app, [*words, "--help"])
        assert result.exit_code == 0
        assert "Example: ai-admin " + " ".join(words) in " ".join(result.output.split())
        assert all(parameter.help for parameter in command.params), words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_complete_in_a_shell(shell: str) -> None:
    """What `--install-completion` installs, and what it asks for at the tabulator."""
    words = {
        "COMP_WORDS": "ai-admin us",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "ai-admin us",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }

    def said(asked: str) -> str:
        environment = {**words, "_AI_ADMIN_COMPLETE": f"{asked}_{shell}"}
        return CliRunner().invoke(app, prog_name="ai-admin", env=environment).stdout

    assert "_AI_ADMIN_COMPLETE" in said("source")
    assert "users" in said("complete")
    assert "vault" not in said("complete")


def test_names_in_code_comments_exist() -> None:
    """Modules that the architecture page names are there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z_]+\.py)`", text):
        assert list((ROOT / "apps").rglob(name)) or list((ROOT / "tests").rglob(name)) or name == "scale.py", name
