"""`ai-admin deploy apply` and `verify` with stand-ins of kubectl and fission, and the double of Fission's router."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
import yaml
from typer.testing import CliRunner, Result
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from ai_admin import __version__, fission
from ai_admin.cli import app
from ai_admin.config import ROOT_VARIABLE, Settings
from ai_admin.console.views import console
from ai_admin.deploy import applying, verifying
from ai_admin.embedded import EmbeddedPostgres
from tests.conftest import ROOT, database_secret
from tests.fission import double, specs
from tests.fission.cluster import Cluster
from tests.keyrings import entry, text_of
from tests.serving import HANGS

NAMESPACE = "ai-admin-dev"
USERS = "ai-admin-filter-create-user"
ONE_USER = "ai-admin-update-delete-user"


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


@dataclass
class Router:
    """Fission's router over HTTP: it knows the triggers of the cluster, and answers as a test asks for."""

    cluster: Cluster
    functions: double.Router
    url: str = ""
    # An answer in place of a function's, by the beginning of its path.
    instead: dict[str, Response] = field(default_factory=dict)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        for path, response in self.instead.items():
            if environ["PATH_INFO"].startswith(path):
                return response(environ, start_response)
        if not self.cluster.objects("HTTPTrigger"):
            return Response("404 page not found", 404)(environ, start_response)
        return self.functions(environ, start_response)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """An empty cluster with Fission, and the tools on the PATH."""
    made = Cluster.make(tmp_path / "cluster", NAMESPACE)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(applying, "_PAUSE_S", 0.0)
    return made


@pytest.fixture
def values(settings: Settings, postgres: EmbeddedPostgres) -> dict[str, str]:
    """The Secret's values, which lead to a migrated database."""
    return database_secret(postgres, settings.secret.pg_database)


@pytest.fixture
def secrets(tmp_path: Path, values: dict[str, str]) -> Path:
    """A folder with a file for each value."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for key, value in values.items():
        (folder / key).write_text(value)
    return folder


@pytest.fixture
def router(settings: Settings, cluster: Cluster) -> Iterator[Router]:
    """The router in front of all functions."""
    with mock.patch.dict(os.environ, {ROOT_VARIABLE: str(settings.root)}):
        fission.application.cache_clear()
        made = Router(cluster, double.Router(double.specialised(ROOT / "apps")))
        apps = fission.application(), fission.application(console)
    server = make_server("127.0.0.1", 0, made, request_handler=_Silent)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with closing(apps[0].extensions["ai_admin"].database), closing(apps[1].extensions["ai_admin"].database):
        yield made
        server.shutdown()
        thread.join(HANGS)
        server.server_close()


def deploy(*arguments: str | Path) -> Result:
    """Run `ai-admin deploy`."""
    return CliRunner().invoke(app, ["deploy", *map(str, arguments)])


def told(result: Result) -> str:
    """What the command said, on one line."""
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is deployed, which nobody works on meanwhile."""
    folder = tmp_path_factory.mktemp("project")
    for name in (".fission", "specs", "apps"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def apply(tmp_path: Path, project: Path) -> Any:
    """Deploys stage dev, rendered into a folder of the test."""
    return lambda *more: deploy("apply", "dev", "--project", project, "--out", tmp_path / "out", *more)


def changing(cluster: Cluster) -> list[str]:
    """The commands that have changed the cluster, without their folders."""
    folder = f"{cluster.folder.parent}/out/"
    return [each.replace(folder, "") for each in cluster.commands() if " apply " in each]


def test_apply_deploys_the_package_before_the_functions(
    apply: Any, cluster: Cluster, router: Router, secrets: Path
) -> None:
    """Pods that start before the package is built keep everybody waiting for two minutes."""
    result = apply("--url", router.url, "--secrets-dir", secrets)
    assert result.exit_code == 0, result.output
    assert changing(cluster) == [
        "kubectl apply --filename manifests",
        "fission spec apply --specdir specs --specignore functions-later.ignore",
        "fission spec apply --specdir specs",
    ]
    commands = cluster.commands()
    last_look = max(n for n, each in enumerate(commands) if "packages.fission.io/ai-work" in each)
    assert last_look < commands.index(f"fission spec apply --specdir {cluster.folder.parent}/out/specs")
    assert set(cluster.objects("Function")) == set(specs.functions())
    # The build's log came as it was written, each line once.
    assert result.output.count("Collecting psycopg") == result.output.count("Successfully installed") == 1
    assert all(f"{name} answers" in told(result) for name in {trigger.function for trigger in specs.triggers()})
    assert "ai-admin-seal-audit not asked" in told(result)
    for secret in secrets.iterdir():
        assert len(secret.read_text()) < 12 or secret.read_text() not in result.output


def test_apply_a_second_time_changes_nothing(apply: Any, cluster: Cluster, router: Router, secrets: Path) -> None:
    """A deployment from CI at every commit must not build the package again and replace every pod."""
    assert apply("--url", router.url, "--secrets-dir", secrets).exit_code == 0
    before = cluster.read()["objects"]
    result = apply("--url", router.url)
    assert result.exit_code == 0, result.output
    assert result.output.count("Everything up to date.") == 2
    assert result.output.count("archive://ai-work exists, not uploading") == 2
    assert cluster.read()["objects"] == before


def test_apply_dry_run_shows_each_command_and_changes_nothing(
    apply: Any, cluster: Cluster, secrets: Path, tmp_path: Path
) -> None:
    """An operator, and a pull request, see what would be done."""
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets, "--dry-run")
    assert result.exit_code == 0, result.output
    assert changing(cluster) == []
    assert cluster.objects("Secret") == {}
    shown = [line.removeprefix("+ ") for line in result.output.splitlines() if line.startswith("+ ")]
    assert [each.replace(f"{tmp_path}/out/", "") for each in shown] == [
        "kubectl version --output=json",
        "fission version",
        "kubectl api-resources --api-group=fission.io --output=name",
        f"kubectl get namespace {NAMESPACE} --output=name",
        f"kubectl get secret fission-ai-work-env --namespace {NAMESPACE} --output=json",
        "kubectl apply --filename manifests",
        "fission spec apply --specdir specs --specignore functions-later.ignore",
        f"kubectl get packages.fission.io/ai-work --namespace {NAMESPACE} --output=json",
        "fission spec apply --specdir specs",
    ]


NOT_FOUND = "Error from server (NotFound): "
FORBIDDEN = 'Error from server (Forbidden): secrets is forbidden: User "ci" cannot get resource "secrets"'


@pytest.mark.parametrize(
    ("command", "said", "expected"),
    [
        (
            "kubectl version",
            "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
            "kubectl reaches no cluster: The connection to the server localhost:8080 was refused",
        ),
        ("kubectl version", "error: You must be logged in to the server (Unauthorized)", "(Unauthorized). Choose one"),
        ("fission version", "panic: no kubeconfig", "`fission version` failed: panic: no kubeconfig"),
        ("kubectl api-resources", "error: unable to retrieve", "failed: error: unable to retrieve"),
        ("kubectl get namespace", f"{NOT_FOUND}namespaces", f"run `kubectl create namespace {NAMESPACE}`, and let"),
        ("kubectl get namespace", FORBIDDEN, "Forbidden"),
        ("kubectl get secret", FORBIDDEN, 'User "ci" cannot get resource "secrets"'),
    ],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["apply", "dry-run"])
def test_apply_stops_before_any_change_where_a_check_fails(
    apply: Any, cluster: Cluster, secrets: Path, command: str, said: str, expected: str, more: tuple[str, ...]
) -> None:
    """Half a deployment is worse than none: what is missing is said, with what to do, and nothing has changed."""
    cluster.fail(command, said)
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets, *more)
    assert (result.exit_code, changing(cluster)) == (2, [])
    assert expected in told(result)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            {"kinds": ["functions", "packages"]},
            "lacks Fission's environments.fission.io, httptriggers.fission.io, time",
        ),
        ({"fission": "v1.14.1"}, "the `fission` on the PATH is 1.14; install 1.20 or newer"),
        ({"fission": ""}, "of no version that it tells"),
        ({"namespaces": []}, f"there is no namespace {NAMESPACE}"),
    ],
)
def test_apply_stops_where_the_cluster_lacks_something(
    apply: Any, cluster: Cluster, secrets: Path, state: dict[str, Any], expected: str
) -> None:
    """A cluster without Fission, with an old tool, or without the namespace gets no half of a deployment."""
    cluster.write(**state)
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets)
    assert (result.exit_code, changing(cluster)) == (2, [])
    assert expected in told(result)


@pytest.mark.parametrize("tool", ["kubectl", "fission"])
def test_apply_without_a_tool_says_where_to_get_it(
    apply: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """The first thing that an operator, or a runner of CI, lacks."""
    (cluster.folder / "bin" / tool).unlink()
    monkeypatch.setenv("PATH", str(cluster.folder / "bin"))
    result = apply("--url", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert f"{tool} is not on the PATH; install it: https://" in told(result)


def test_apply_without_an_address_says_how_to_get_one(apply: Any, cluster: Cluster) -> None:
    """Whether the functions answer cannot be known without it."""
    result = apply()
    assert (result.exit_code, cluster.commands()) == (2, [])
    assert "kubectl --namespace fission port-forward service/router" in told(result)


def test_apply_without_a_secret_anywhere_is_refused(apply: Any, cluster: Cluster) -> None:
    """Functions without settings start, and answer 500."""
    result = apply("--url", "http://127.0.0.1:9")
    assert (result.exit_code, changing(cluster)) == (2, [])
    assert f"the namespace {NAMESPACE} has no Secret fission-ai-work-env; give its values by --secrets-dir" in told(
        result
    )


def test_apply_checks_the_keys_of_the_clusters_secret(apply: Any, cluster: Cluster, values: dict[str, str]) -> None:
    """A key that was forgotten long ago is found before pods are replaced; no value is shown."""
    cluster.put_secret({key: value for key, value in values.items() if key != "CURSOR_KEY"} | {"PG_PORT": "seen-port"})
    result = apply("--url", "http://127.0.0.1:9")
    assert (result.exit_code, changing(cluster)) == (2, [])
    assert "CURSOR_KEY: is missing" in told(result)
    assert "PG_PORT: Input should be a valid integer" in told(result)
    assert "seen-port" not in result.output


def test_apply_refuses_a_database_with_another_schema(
    apply: Any, cluster: Cluster, secrets: Path, sql: psycopg.Connection
) -> None:
    """New functions would refuse every change until somebody migrates."""
    sql.execute("UPDATE alembic_version SET version_num = '0001'")
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets)
    assert (result.exit_code, changing(cluster)) == (2, [])
    assert "is 0001, and this version needs" in told(result)
    assert "run `ai-admin migrate` with the same Secret first" in told(result)


@pytest.mark.usefixtures("cluster")
def test_apply_goes_on_where_the_database_cannot_be_reached(apply: Any, secrets: Path) -> None:
    """A database inside the cluster is not reached from a laptop; what was not checked is said."""
    (secrets / "PG_HOST").write_text("/nowhere")
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "is not checked, because it cannot be reached from here" in told(result)


def test_apply_refuses_a_ring_that_old_pods_cannot_follow(
    apply: Any, cluster: Cluster, router: Router, secrets: Path, values: dict[str, str]
) -> None:
    """Requests would fail while pods with both rings answer; after a leak, that is what is wanted."""
    cluster.put_secret(values)
    (secrets / "VAULT_KEYS").write_text(text_of(entry("new", b"new." * 8, "primary"), entry("test", b"test" * 8)))
    result = apply("--url", router.url, "--secrets-dir", secrets)
    assert (result.exit_code, changing(cluster)) == (2, [])
    assert "VAULT_KEYS: old pods cannot open what new seals. Apply a ring with new active" in told(result)
    assert apply("--url", router.url, "--secrets-dir", secrets, "--any-order").exit_code == 0


def test_apply_ends_with_a_failed_build(apply: Any, cluster: Cluster, secrets: Path) -> None:
    """The functions stay as they were, and the log's last line says why."""
    cluster.write(builds=["failed"])
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets)
    assert result.exit_code == 1
    assert len(changing(cluster)) == 2
    assert "the build of the package failed: error: no matching distribution found for pydantic-core" in told(result)
    assert "fission package rebuild --name ai-work" in told(result)


def test_apply_gives_up_a_build_that_does_not_end(apply: Any, cluster: Cluster, secrets: Path) -> None:
    """A builder without a pod would keep CI waiting for ever."""
    cluster.write(builds=["running"])
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets, "--timeout", "1")
    assert (result.exit_code, len(changing(cluster))) == (1, 2)
    assert "the package is not built after 1 seconds (status" in told(result)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("kubectl apply", "error validating data: unknown field"),
        ("fission spec apply", 'Error: admission webhook "vhttptrigger.fission.io" denied the request'),
    ],
)
def test_apply_ends_where_a_change_is_refused(
    apply: Any, cluster: Cluster, secrets: Path, command: str, said: str
) -> None:
    """What the API server says is passed on, under the command that met it."""
    cluster.fail(command, said)
    result = apply("--url", "http://127.0.0.1:9", "--secrets-dir", secrets)
    assert result.exit_code == 2
    assert said in told(result)


def test_apply_names_the_functions_that_do_not_answer(apply: Any, router: Router, secrets: Path) -> None:
    """A function that does not start is named, with what the router says of it."""
    assert apply("--url", router.url, "--secrets-dir", secrets).exit_code == 0
    router.instead["/ai/introspect"] = Response("<h1>Internal Server Error</h1>", 500, mimetype="text/html")
    result = apply("--url", router.url, "--timeout", "1")
    assert result.exit_code == 1
    assert "ai-admin-introspect: OPTIONS /ai/introspect: 500, the function does not start or fails" in told(result)
    assert f"{ONE_USER} answers" in told(result)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")
def test_apply_interrupted_says_what_has_changed(cluster: Cluster, secrets: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a build leaves no riddle: it says how far it came, and that it can be run again."""
    cluster.write(builds=["running"])
    arguments = ["--url", "http://127.0.0.1:9", "--secrets-dir", str(secrets), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "ai_admin", "deploy", "apply", "dev", "--project", str(ROOT), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "apps")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    with process, process.stderr:
        said = ""
        for line in process.stderr:
            said += line
            if "packages.fission.io" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert "interrupted; the package may be built in the cluster; the functions are as they were" in said
    assert "Traceback" not in said


@pytest.fixture
def deployed(cluster: Cluster, router: Router) -> Router:
    """The router of a cluster in which all is deployed."""
    cluster.write(objects={"HTTPTrigger/all": {}})
    return router


def verify(router: Router, *more: str) -> Result:
    """Run `ai-admin deploy verify`."""
    return deploy("verify", "--url", router.url, "--project", ROOT, *more)


def test_verify_reports_each_function(deployed: Router) -> None:
    """After a deployment it is seen in one glance that every function answers, as which version, and how fast."""
    result = verify(deployed, "--json")
    assert result.exit_code == 0, result.output
    reports = {report["function"]: report for report in map(json.loads, result.stdout.splitlines())}
    assert set(reports) == set(specs.functions())
    timer = reports.pop("ai-admin-seal-audit")
    assert (timer["state"], timer["routes"]) == ("not asked", 0)
    assert sum(report["routes"] for report in reports.values()) == len(specs.triggers())
    for name, report in reports.items():
        assert (report["state"], report["fault"]) == ("answers", "")
        assert report["milliseconds"] > 0
        assert report["version"] == ("" if name == "ai-admin-console" else __version__)
    assert "ai-admin-introspect" in verify(deployed).stdout


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, "404 page not found", "404, the router has no such route"),
        (405, "", "405, the route lacks this method"),
        (500, "<h1>Internal Server Error</h1>", "500, the function does not start or fails"),
        (502, "error sending request to function", "502, the router reaches no pod"),
        (503, "", "503, no pod of the function is ready yet"),
        (504, "", "504, the function did not answer in time"),
        (200, "<form>Sign in to continue</form>", "200, something else answers at this address"),
        (204, "", "204, something else answers at this address"),
        (403, "denied by the mesh", "403, something else answers at this address"),
    ],
)
def test_verify_says_what_a_function_answers_wrongly(deployed: Router, status: int, body: str, expected: str) -> None:
    """Each way in which a function is not reached has its own advice; the others are still reported."""
    deployed.instead["/ai/introspect"] = Response(body, status, mimetype="text/html")
    result = verify(deployed)
    assert result.exit_code == 1
    assert f"1 of {len(specs.functions())} functions fail: ai-admin-introspect" in told(result)
    assert expected in verify(deployed, "--json").stdout


def test_verify_finds_pods_of_another_version(deployed: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old pods that still answer are not taken for the new ones."""
    monkeypatch.setattr(verifying, "__version__", "99.0.0")
    result = verify(deployed, "--json")
    assert result.exit_code == 1
    assert f"answers as version {__version__}, not 99.0.0" in result.stdout


@pytest.mark.config(POOL_TIMEOUT_MS="500")
def test_verify_finds_a_database_that_is_away(deployed: Router, sql: psycopg.Connection) -> None:
    """Functions that answer without a database are of no use; it is asked by a key that nobody has."""
    sql.execute("ALTER ROLE ai_admin CONNECTION LIMIT 0")
    sql.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'ai_admin'")
    try:
        result = verify(deployed, "--json")
    finally:
        sql.execute("ALTER ROLE ai_admin CONNECTION LIMIT -1")
    assert result.exit_code == 1
    [report] = [each for each in map(json.loads, result.stdout.splitlines()) if each["state"] == "fails"]
    assert report["function"] == "ai-admin-me"
    assert "503 DATABASE_UNAVAILABLE" in report["fault"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 cannot be reached"),
        ("router", "--url router"),
        ("ftp://127.0.0.1", "--url ftp://127.0.0.1"),
    ],
)
def test_verify_where_nothing_answers_exits_with_2(url: str, expected: str) -> None:
    """No answer at all is trouble of the way there, and not of a function."""
    result = deploy("verify", "--url", url, "--project", ROOT)
    assert result.exit_code == 2
    assert expected in told(result)


@pytest.mark.usefixtures("cluster")
def test_the_workflow_gives_the_commands_that_there_are(apply: Any, secrets: Path) -> None:
    """A copied workflow fails for a reason of the cluster, and not because an option has another name."""
    workflow = yaml.safe_load((ROOT / "examples" / "deploy.yaml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["deploy"]["steps"]
    assert all(step["name"] for step in steps)
    lines = [line for step in steps for line in step.get("run", "").splitlines() if "deploy apply" in line]
    for line in lines:
        _, group, command, stage, *options = shlex.split(line.replace("$STAGE", "dev"))
        assert (group, command, stage) == ("deploy", "apply", "dev")
        given = [option.replace("$AI_ADMIN_URL", "http://127.0.0.1:9") for option in options]
        result = apply(*given, "--secrets-dir", secrets, "--timeout", "1")
        # The commands are understood; without a router, the one that changes things waits in vain for answers.
        assert result.exit_code == (0 if "--dry-run" in options else 1), result.output
    assert len(lines) == 2
    [check] = [line for step in steps for line in step.get("run", "").splitlines() if "deploy verify" in line]
    assert (
        deploy(*shlex.split(check.replace("$AI_ADMIN_URL", "http://127.0.0.1:9"))[2:], "--project", ROOT).exit_code == 2
    )
