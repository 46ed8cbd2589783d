"""Every command in the documents is run, by a test that is named here, or stands in a short list with the reason."""

import os
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
from typer.testing import CliRunner

from ai_admin.audit.sealing import seal_waiting
from ai_admin.cli import app
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.database import Database
from ai_admin.deploy.rendering import SECRET_KEYS
from ai_admin.transfer.formats import FORMATS
from ai_admin.transfer.importing import import_users
from tests.conftest import OWNER_KEY, ROOT, write_mount
from tests.integration import test_backup
from tests.integration.test_docs import CLI, OPERATIONS, README, blocks, commands_of
from tests.integration.test_export import BY
from tests.integration.test_import import ndjson, person
from tests.integration.test_local import LocalServer
from tests.keyrings import entry, text_of
from tests.serving import serving

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# What no test can run here, by how a line begins, and why.
NOT_RUN = {
    "script/test\n": "is what runs this",
    "kubectl ": "needs a cluster",
    "fission ": "needs a cluster",
    "cd .local/deploy/dev && fission ": "needs a cluster",
    "ai-admin deploy apply ": "needs a cluster; tests/fission/test_apply.py has stand-ins",
    "ai-admin deploy verify ": "needs a cluster; tests/fission/test_apply.py has stand-ins",
    "docker ": "needs a container engine",
    "script/test-fission-environment ": "needs a clone of Fission's environments; test_package.py and --mount function",
    "PYTHONPATH=apps:. .local/python3.*/bin/python bench/faults.py": "takes hours; tests/faults does the same briefly",
    "PYTHONPATH=apps:. .local/python3.*/bin/python bench/transfer.py": "takes long; test_import.py kills one too",
    "cd apps/ai_admin/console && pybabel ": "writes into the sources; test_console.py compares the catalogues",
}
SEED = b"seal" * 8


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


def command_in(folder: Path) -> dict[str, str]:
    """An environment whose `ai-admin` is the one of this clone."""
    (folder / "ai-admin").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ai_admin "$@"\n')
    (folder / "ai-admin").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "apps")}


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
    given = {"PG_HOST": "db.example.com", "CURSOR_KEY": key, "VAULT_KEYS": text_of(entry("a", b"ring" * 8, "primary"))}
    for name, value in given.items():
        assert name in SECRET_KEYS
        (secrets / name).write_text(value)
    follow, diff, render = (line.replace(".local", str(tmp_path)) for line in run)
    # test_watch.py has it go on.
    subprocess.run(
        ["sh", "-ec", follow.replace(" --follow", "")], cwd=ROOT, env=environment, capture_output=True, check=True
    )
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
    "README.md": test_the_readme_runs,
    "quickstart.md": test_the_quick_start_runs,
    "transfer.md": test_moving_users_runs,
    "cli.md": test_the_command_line_runs,
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
    assert "\n".join(blocks(OPERATIONS)) == test_backup.COMMANDS


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
