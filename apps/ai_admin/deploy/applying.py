"""A rendered stage brought to a cluster: checks first, then the package, then the functions once it is built.

Pods that start while their package is built wait for it until they are given up, so the order saves minutes.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.rows import dict_row

from ai_admin.config import SecretSettings
from ai_admin.database import SCHEMA_VERSION, connection_arguments, schema_version
from ai_admin.deploy import secret_order, verifying
from ai_admin.deploy.profiles import Profile
from ai_admin.deploy.rendering import FUNCTIONS_LATER, DeployError, check_secret
from ai_admin.deploy.tools import CommandFailed, Tools, last_line

_KINDS = ("environments", "functions", "httptriggers", "packages", "timetriggers")
# The oldest with `--specignore` and the webhooks that this was written for.
_OLDEST_FISSION = (1, 20)
_PACKAGE = "ai-work"
_CONNECT_S = 3
_PAUSE_S = 2.0
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


class NotDone(DeployError):
    """The cluster was changed, and what was to come of it did not: a build failed, a function does not answer."""


@dataclass(frozen=True)
class Deployment:
    """A stage that is rendered in a folder, on its way to the cluster of kubectl's context."""

    profile: Profile
    folder: Path
    secret: Mapping[str, str] | None
    tools: Tools
    say: Callable[[str], None]
    patience: float
    in_any_order: bool = False

    def check(self) -> None:
        """Raise `DeployError` for the first thing that is missing; changes nothing."""
        self.tools.require()
        self._check_versions()
        self._check_kinds()
        self._check_namespace()
        self._check_secret()

    def apply_settings(self) -> None:
        """Apply ConfigMap and Secret."""
        self.tools.change("kubectl", "apply", "--filename", str(self.folder / "manifests"))

    def apply_package(self) -> None:
        """Apply environment and package."""
        self.tools.change("fission", "spec", "apply", *self._specs(), "--specignore", FUNCTIONS_LATER)

    def apply_functions(self) -> None:
        """Apply all else: functions and triggers."""
        self.tools.change("fission", "spec", "apply", *self._specs())

    def await_build(self) -> None:
        """Show the builder's log as it comes; return when the package is built. Raises `NotDone`."""
        command = ("kubectl", "get", f"packages.fission.io/{_PACKAGE}", *self._namespace(), "--output=json")
        self.tools.show(f"+ {' '.join(command)}")
        if self.tools.is_dry_run:
            return
        environment = _environment(self.folder)
        log = _BuildLog(self.tools, self.profile.namespace, environment)
        deadline = time.monotonic() + self.patience
        while True:
            status = _object(self.tools.quietly(*command)).get("status", {})
            built = status.get("buildstatus", "")
            self._show(log.more())
            if built in {"succeeded", "none"}:
                return
            if built == "failed":
                said = str(status.get("buildlog", ""))
                if not log.seen:
                    self._show(said.splitlines())
                raise NotDone(
                    f"the build of the package failed: {last_line(said)}. The functions are as they were. "
                    "Mend it and run this again; where nothing of ours is wrong: fission package rebuild --name "
                    f"{_PACKAGE} --namespace {self.profile.namespace}"
                )
            if time.monotonic() > deadline:
                raise NotDone(
                    f"the package is not built after {self.patience:g} seconds (status {built or 'none yet'}); "
                    f"see the builder: kubectl get pods --all-namespaces --selector envName={environment}"
                )
            time.sleep(_PAUSE_S)

    def await_answers(self, url: str, routes: Mapping[str, list[verifying.Route]]) -> None:
        """Return when each function that has a route answers as this version. Raises `NotDone`."""
        if self.tools.is_dry_run:
            self.say(f"then asks every route of {len(routes)} functions at {url}")
            return
        deadline = time.monotonic() + self.patience
        waiting = dict(routes)
        with verifying.client(url) as client:
            while True:
                faults = {}
                for name in list(waiting):
                    try:
                        report = verifying.ask(client, name, waiting[name])
                    except verifying.Unreachable as error:
                        faults[name] = f"{url} cannot be reached: {error}"
                        break
                    if report.fault:
                        faults[name] = report.fault
                        continue
                    del waiting[name]
                    self.say(f"{name} {report.state}" + (f", {report.milliseconds:g} ms" if report.routes else ""))
                if not faults:
                    return
                if time.monotonic() > deadline:
                    told = "\n       ".join(f"{name}: {fault}" for name, fault in faults.items())
                    raise NotDone(f"not every function answers after {self.patience:g} seconds\n       {told}")
                time.sleep(_PAUSE_S)

    def _specs(self) -> tuple[str, str]:
        return "--specdir", str(self.folder / "specs")

    def _namespace(self) -> tuple[str, str]:
        return "--namespace", self.profile.namespace

    def _show(self, lines: list[str]) -> None:
        for line in lines:
            self.tools.show(f"  {line}")

    def _check_versions(self) -> None:
        try:
            versions = _object(self.tools.read("kubectl", "version", "--output=json"))
        except CommandFailed as error:
            raise DeployError(
                f"kubectl reaches no cluster: {last_line(error.said)}. Choose one with KUBECONFIG or "
                "`kubectl config use-context`"
            ) from None
        server = versions.get("serverVersion", {}).get("gitVersion", "unknown")
        version = _fission_version(self.tools.read("fission", "version"))
        if not version or version < _OLDEST_FISSION:
            wanted = ".".join(map(str, _OLDEST_FISSION))
            shown = ".".join(map(str, version)) or "of no version that it tells"
            raise DeployError(f"the `fission` on the PATH is {shown}; install {wanted} or newer")
        self.say(f"Kubernetes {server}, fission {'.'.join(map(str, version))}")

    def _check_kinds(self) -> None:
        wanted = {f"{kind}.fission.io" for kind in _KINDS}
        kinds = set(self.tools.read("kubectl", "api-resources", "--api-group=fission.io", "--output=name").split())
        if wanted - kinds:
            raise DeployError(
                f"the cluster lacks Fission's {', '.join(sorted(wanted - kinds))}; install Fission there: "
                "https://fission.io/docs/installation/"
            )

    def _check_namespace(self) -> None:
        name = self.profile.namespace
        try:
            self.tools.read("kubectl", "get", "namespace", name, "--output=name")
        except CommandFailed as error:
            if "NotFound" not in error.said:
                raise
            raise DeployError(
                f"there is no namespace {name}: run `kubectl create namespace {name}`, and let Fission watch it "
                "(additionalFissionNamespaces of its chart)"
            ) from None

    def _check_secret(self) -> None:
        name = self.profile.secret_name
        present: dict[str, str] | None = None
        try:
            found = _object(self.tools.read("kubectl", "get", "secret", name, *self._namespace(), "--output=json"))
            present = {key: _decoded(key, value) for key, value in found.get("data", {}).items()}
        except CommandFailed as error:
            if "NotFound" not in error.said:
                raise
        if self.secret is None and present is None:
            raise DeployError(
                f"the namespace {self.profile.namespace} has no Secret {name}; give its values by --secrets-dir, "
                "--secret-file or --prompt"
            )
        values = present if self.secret is None else self.secret
        assert values is not None, "one of the two is there"
        check_secret(values)
        if self.secret is not None and present is not None:
            for note in secret_order.notes(present, self.secret):
                self.say(f"note: {note}")
            faults = secret_order.faults(present, self.secret)
            if faults and not self.in_any_order:
                raise DeployError(
                    "pods with the old and the new Secret answer side by side for a while, and this change breaks "
                    "some of their answers (--any-order applies it all the same)\n  " + "\n  ".join(faults)
                )
        self._check_database(values)

    def _check_database(self, values: Mapping[str, str]) -> None:
        settings = SecretSettings.model_validate(dict(values))
        place = f"{settings.pg_database} at {settings.pg_host}:{settings.pg_port}"
        try:
            arguments = connection_arguments(settings, _CONNECT_S)
            with psycopg.connect(**arguments, autocommit=True, row_factory=dict_row) as connection:
                present = schema_version(connection)
        except psycopg.Error as error:
            told = last_line(error.diag.message_primary or str(error))
            self.say(f"note: the database {place} is not checked, because it cannot be reached from here: {told}")
            self.say(f"      its schema must be {SCHEMA_VERSION}; `ai-admin migrate` brings it there")
            return
        if present != SCHEMA_VERSION:
            raise DeployError(
                f"the schema of {place} is {present or 'empty'}, and this version needs {SCHEMA_VERSION}: run "
                "`ai-admin migrate` with the same Secret first"
            )


class _BuildLog:
    """The log of the environment's builder, of which each line is given once."""

    def __init__(self, tools: Tools, namespace: str, environment: str) -> None:
        self._command = (
            *(
                "kubectl",
                "logs",
                "--namespace",
                namespace,
                "--selector",
                f"envName={environment}",
                "--container",
                "builder",
            ),
            *("--tail", "-1", "--since-time", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())),
        )
        self._tools = tools
        self.seen = 0

    def more(self) -> list[str]:
        """The lines that have come since; none where there is no builder yet, or it lives in another namespace."""
        try:
            lines = self._tools.quietly(*self._command).splitlines()
        except CommandFailed:
            return []
        new = lines[self.seen :]
        self.seen = max(self.seen, len(lines))
        return new


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Every resource of a folder of specs. Raises `DeployError`."""
    try:
        for file in sorted(folder.glob("*.yaml")):
            yield from filter(None, yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DeployError(f"{folder} cannot be read: {error}") from None


def _fission_version(told: str) -> tuple[int, ...]:
    """The version of the command itself, and not that of the server; empty where it tells none."""
    try:
        found = _VERSION.match(str(yaml.safe_load(told)["client"]["fission/core"]["Version"]))
    except (yaml.YAMLError, KeyError, TypeError):
        return ()
    return tuple(map(int, found.groups())) if found else ()


def _environment(folder: Path) -> str:
    return next(str(each["metadata"]["name"]) for each in documents(folder / "specs") if each["kind"] == "Environment")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DeployError("kubectl printed no JSON object where it was asked for one; is it another program?")
    return found


def _decoded(key: str, value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode().rstrip("\r\n")
    except ValueError:
        raise DeployError(f"{key} of the Secret in the cluster is no text") from None
