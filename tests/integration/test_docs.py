"""The documents say what the code does; their commands run."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
import yaml
from typer.testing import CliRunner

from ai_admin.cli import app
from ai_admin.config import ROOT_VARIABLE, ConfigSettings, SecretSettings, Settings
from ai_admin.errors import ErrorCode, error_classes
from ai_admin.transfer.formats import FORMATS
from tests.conftest import OWNER_KEY, ROOT
from tests.integration.test_local import LocalServer
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


def test_the_readme_runs(tmp_path: Path) -> None:
    """A newcomer copies the commands one by one: the server starts, and the requests answer."""
    start, *requests, test = blocks(README)
    command, *arguments = shlex.split(start)
    assert command == "script/server"
    assert test.strip() == "script/test"
    server = LocalServer(ROOT, "--data", str(tmp_path / "data"), *arguments)
    try:
        address = server.wait_for_address()
        answers = [
            subprocess.run(
                ["sh", "-ec", at_home(request, address, tmp_path)], cwd=tmp_path, capture_output=True, check=True
            ).stdout.decode()
            for request in requests
        ]
    finally:
        server.stop()
        server.error.close()
    assert '"tag":"ada"' in answers[0]
    assert '"total"' in answers[1]
    assert "Ada Lovelace" in answers[1]
    assert "2 records: 2 created" in answers[2]
    assert "Grace Hopper" in answers[2]


def at_home(script: str, address: str, folder: Path) -> str:
    """What a newcomer types in the clone, for a server that has its data in this folder and another address."""
    named = (
        f"export AI_ADMIN_URL={address} AI_ADMIN_ROOT={folder}/data/mount AI_ADMIN_KEY_FILE={folder}/data/owner.key\n"
    )
    script = script.replace("http://127.0.0.1:8080", address).replace("$PWD", str(ROOT))
    return named + script.replace(".local", f"{folder}/data").replace("script/ai-admin", f"{ROOT}/script/ai-admin")


def blocks(text: str) -> list[str]:
    """The shell commands of a document, block by block."""
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def test_the_quick_start_runs(tmp_path: Path) -> None:
    """Who follows docs/quickstart.md has their users in, a key for one, a credential, and a gateway's answer."""
    start, *rest = blocks((ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8"))
    assert start.strip() == "script/server"
    server = LocalServer(ROOT, "--data", str(tmp_path / "data"))
    try:
        address = server.wait_for_address()
        script = at_home("".join(rest), address, tmp_path)
        said = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    finally:
        server.stop()
        server.error.close()
    assert "3 records (dry run): 3 created" in said
    assert "3 records: 3 created" in said
    assert "Grace Hopper" in said
    assert "the key of the provider" in said
    assert '"active":true' in said


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


def test_moving_users_runs(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows docs/transfer.md from its first line has imported and exported users at its last."""
    text = (ROOT / "docs" / "transfer.md").read_text(encoding="utf-8")
    [table] = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (tmp_path / "users.csv").write_text(table)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(settings.root))
    *local, over_http = blocks(text)
    # The benchmark is too long for a test.
    commands = [line for block in local for line in block.splitlines() if line.startswith("ai-admin ")]
    results = [CliRunner().invoke(app, shlex.split(command)[1:]) for command in commands]
    assert [result.exit_code for result in results] == [0] * 6
    assert results[0].stdout == "2 records (dry run): 2 created, 0 changed, 0 unchanged, 0 rejected\n"
    assert '"unchanged": 2' in results[2].stdout
    assert '"tag":"ada"' in results[4].stdout
    assert results[5].stdout == "3 records: 0 created, 0 changed, 3 unchanged, 0 rejected\n"
    assert all(f"`{name}`" in text for name in FORMATS)
    (tmp_path / "key").write_text(f"{OWNER_KEY}\n")
    with serving(settings, tmp_path, workers=1) as api:
        script = over_http.replace("http://127.0.0.1:8080", str(api.base_url).rstrip("/"))
        said = subprocess.run(["sh", "-ec", script], capture_output=True, check=True).stdout.decode()
    assert said.count('"records":2,"created":0,"changed":0,"unchanged":2') == 2
    assert (tmp_path / "members.csv").read_text().splitlines()[1].split(",")[1] == "ada"


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


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    """In bash itself, by what is installed; also for who has the command from a clone, as `python -m ai_admin`."""
    environment = command_in(tmp_path)
    asked = environment | {"_AI_ADMIN_COMPLETE": "source_bash"}
    installed = subprocess.run(["ai-admin"], env=asked, capture_output=True, check=True).stdout.decode()
    script = f"""{installed}
    for line in "us" "users rest" "users list --lim" "users create x --role aud"; do
        COMP_WORDS=(ai-admin $line); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _ai_admin_completion ai-admin; echo "${{COMPREPLY[@]}}"
    done
    """
    said = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, check=True).stdout.decode()
    assert said.split() == ["users", "restore", "--limit", "auditor"]


def command_in(folder: Path) -> dict[str, str]:
    """An environment whose `ai-admin` is the one of this clone."""
    (folder / "ai-admin").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ai_admin "$@"\n')
    (folder / "ai-admin").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "apps")}


def test_the_command_line_runs(settings: Settings, tmp_path: Path) -> None:
    """Who follows docs/cli.md has made a user, a key and a credential."""
    [script] = blocks(CLI.read_text(encoding="utf-8"))
    (tmp_path / "owner.key").write_text(f"{OWNER_KEY}\n")
    (tmp_path / "provider.key").write_text("sk-x\n")
    environment = command_in(tmp_path)
    with serving(settings, tmp_path, workers=1) as api:
        script = script.replace("http://127.0.0.1:8080", str(api.base_url).rstrip("/"))
        said = subprocess.run(
            ["sh", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, check=True
        ).stdout.decode()
        key = (tmp_path / "search.key").read_text().strip()
        # Whose it is has been suspended.
        assert api.get("/ai/me", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    assert '"status":"suspended"' in said
    assert "secrets:set" in said


def test_names_in_code_comments_exist() -> None:
    """Modules that the architecture page names are there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z_]+\.py)`", text):
        assert list((ROOT / "apps").rglob(name)) or list((ROOT / "tests").rglob(name)) or name == "scale.py", name
