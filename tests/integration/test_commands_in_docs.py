"""Every command in the documents is run, by a test that is named here, or stands in a short list with the reason."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from nacl.signing import SigningKey

from ai_admin.audit.sealing import seal_waiting
from ai_admin.cli import app
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.database import Database
from ai_admin.rendering import SECRET_KEYS
from ai_admin.transfer.importing import import_users
from tests.conftest import ROOT, write_mount
from tests.integration import test_backup, test_docs
from tests.integration.test_docs import blocks, command_in, commands_of
from tests.integration.test_export import BY
from tests.integration.test_import import ndjson, person
from tests.keyrings import entry, text_of

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# What no test can run here, by how a line begins, and why.
NOT_RUN = {
    "script/test\n": "is what runs this",
    "kubectl ": "needs a cluster",
    "fission ": "needs a cluster",
    "docker ": "needs a container engine",
    "script/test-fission-environment ": "needs a clone of Fission's environments; test_package.py and --mount function",
    "PYTHONPATH=apps:. .local/python3.*/bin/python bench/faults.py": "takes hours; tests/faults does the same briefly",
    "PYTHONPATH=apps:. .local/python3.*/bin/python bench/transfer.py": "takes long; test_import.py kills one too",
    "cd apps/ai_admin/console && pybabel ": "writes into the sources; test_console.py compares the catalogues",
}
SEED = b"seal" * 8


def test_the_audit_log_runs(settings: Settings, database: Database, tmp_path: Path) -> None:
    """Who follows docs/audit.md has verified the log, against a checkpoint too, and checked a proof of an event."""
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    verify, with_checkpoint, prove, shown = blocks(text)
    write_mount(settings.root, {"AUDIT_SEAL_KEY": "c2VhbHNlYWxzZWFsc2VhbHNlYWxzZWFsc2VhbHNlYWw="}, {})
    import_users(settings, BY, ndjson(person("ada"), person("bob")), "ndjson")
    [seal] = seal_waiting(database, SigningKey(SEED))
    environment = python_in(tmp_path) | {ROOT_VARIABLE: str(settings.root)}

    def said(block: str) -> str:
        block = block.replace("examples/", f"{ROOT}/examples/")
        done = subprocess.run(["sh", "-ec", block], cwd=tmp_path, env=environment, capture_output=True, check=True)
        return done.stdout.decode()

    checkpoint = said(verify).split()[-1]
    assert re.fullmatch(r"1:[0-9a-f]{64}", checkpoint)
    assert checkpoint in said(with_checkpoint.replace("3902:5c1f…", checkpoint))
    event: UUID = seal.ids[0]
    assert "OK" in said(prove.replace("01890a5d-ac96-774b-bcce-b302099a8057", str(event)))
    [proof] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "proof.json").write_text(proof)
    assert "OK" in said(shown)


def python_in(folder: Path) -> dict[str, str]:
    """An environment whose `ai-admin` and Python are those of the tests."""
    for name in ("python", "python3"):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (folder / name).chmod(0o755)
    return command_in(folder)


def test_the_deployment_runs(tmp_path: Path) -> None:
    """As far as it needs no cluster: stages are compared and rendered with the Secret of a folder; keys are made."""
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    lines = [line for block in blocks(text) for line in commands(block)]
    environment = python_in(tmp_path) | {"HOME": str(tmp_path)}
    secrets = tmp_path / "secrets" / "staging"
    secrets.mkdir(parents=True)
    run = [line for line in lines if not is_excused(line)]
    key = subprocess.run(["sh", "-ec", run.pop()], env=environment, capture_output=True, check=True).stdout.decode()
    given = {"PG_HOST": "db.example.com", "CURSOR_KEY": key, "VAULT_KEYS": text_of(entry("a", b"k" * 32, "primary"))}
    for name, value in given.items():
        assert name in SECRET_KEYS
        (secrets / name).write_text(value)
    diff, render = (line.replace(".local", str(tmp_path)) for line in run)
    done = subprocess.run(["sh", "-c", diff], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (done.returncode, b"+++ production" in done.stdout) == (1, True), done.stderr
    subprocess.run(["sh", "-ec", render], cwd=ROOT, env=environment, capture_output=True, check=True)
    # Where the two commands that need a cluster look.
    for line in lines:
        for folder in re.findall(r"\.local/(\S+)", line if is_excused(line) else ""):
            assert (tmp_path / folder).is_dir()


def commands(block: str) -> list[str]:
    """The commands of a block, those over several lines as one."""
    return [f"{line}\n" for line in block.replace("\\\n", "").splitlines()]


def is_excused(command: str) -> bool:
    """Whether a command stands in the list."""
    return command.startswith(tuple(NOT_RUN))


# Each takes all blocks of its document, so that one more is run, or fails.
RUN: dict[str, Callable[..., None]] = {
    "README.md": test_docs.test_the_readme_runs,
    "quickstart.md": test_docs.test_the_quick_start_runs,
    "transfer.md": test_docs.test_moving_users_runs,
    "cli.md": test_docs.test_the_command_line_runs,
    "operations.md": test_backup.test_with_its_ring_everything_is_back,
    "audit.md": test_the_audit_log_runs,
    "deployment.md": test_the_deployment_runs,
}


def test_every_command_is_run_or_excused() -> None:
    """A command that nobody runs is one that will not work when it is needed."""
    with_commands = {
        document.name
        for document in DOCUMENTS
        for block in blocks(document.read_text(encoding="utf-8"))
        if not all(map(is_excused, commands(block)))
    }
    assert with_commands == set(RUN)
    assert "\n".join(blocks(test_docs.OPERATIONS)) == test_backup.COMMANDS


def test_every_excuse_is_needed() -> None:
    """One for a command that is gone would hide the next."""
    texts = (document.read_text(encoding="utf-8") for document in DOCUMENTS)
    lines = [line for text in texts for block in blocks(text) for line in commands(block)]
    assert [begin for begin in NOT_RUN if not any(line.startswith(begin) for line in lines)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_stand_in_blocks(document: Path) -> None:
    """Where a test looks for them: not indented, and not in a block that is said to be of nothing."""
    text = re.sub(r"```\w+\n.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = text.partition("<!-- reference -->")[0]
    names = "ai-admin (?!audit seal v1)|script/|python|docker|kubectl|fission |curl|pg_"
    assert re.findall(rf"^(?:    |```\n)\s*(?:\w+=\S+ )*((?:{names}).*)", text, re.MULTILINE) == []


def examples() -> list[tuple[Any, list[str]]]:
    """The commands with the arguments of each of their examples, as `--help` and docs/cli.md have them."""
    found = []
    for words, command in commands_of(typer.main.get_command(app)):
        for example in re.findall(r"Example: (.+)", command.help or ""):
            piece = next(piece for piece in example.split(" | ") if piece.startswith("ai-admin "))
            _, *given = shlex.split(re.split(r" [<>] ", piece)[0])
            assert tuple(given[: len(words)]) == words
            found.append((command, given[len(words) :]))
    return found


def test_an_example_is_one_of_its_command() -> None:
    """What `--help` teaches the command takes: its options are there, and the values are of their kinds."""
    assert len(examples()) > 40
    for command, given in examples():
        command.make_context("ai-admin", given).close()
