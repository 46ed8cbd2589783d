"""Stand-ins for `kubectl` and `fission`, run as programs of the PATH, and the cluster that they share in a file.

They take the commands that `ai-admin deploy apply` gives and answer as the real tools do (Kubernetes 1.36, Fission
1.27). They keep resources in their usual form, and fail in the ways that a test asks for.
"""

import base64
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from tests.fission.stored import in_usual_form

_VARIABLE = "STAND_IN_CLUSTER"
_KINDS = ("environments", "functions", "httptriggers", "packages", "timetriggers", "kuberneteswatchtriggers")
_BUILD = ["Collecting psycopg==3.3.9", "Successfully installed psycopg-3.3.9"]


@dataclass(frozen=True)
class Cluster:
    """The cluster of a test: a folder with what is in it, what fails, and each command that was given."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, namespace: str) -> "Cluster":
        """An empty cluster with Fission and one namespace, and both tools in `folder/bin`."""
        cluster = cls(folder)
        (folder / "bin").mkdir(parents=True)
        for name in ("kubectl", "fission"):
            tool = folder / "bin" / name
            root = Path(__file__).parent.parent.parent
            tool.write_text(
                f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
                f"from tests.fission.cluster import main\nmain({name!r})\n"
            )
            tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        cluster.write(namespaces=[namespace], objects={}, fails={}, builds=["succeeded"], status=[], archive="")
        return cluster

    def environment(self) -> dict[str, str]:
        """The variables with which the tools are found and find the cluster."""
        return {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", _VARIABLE: str(self.folder)}

    def read(self) -> dict[str, Any]:
        """All that is known."""
        found: dict[str, Any] = json.loads((self.folder / "cluster.json").read_text())
        return found

    def write(self, **changes: object) -> None:
        """Change what is known."""
        path = self.folder / "cluster.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **changes}))

    def fail(self, command: str, said: str) -> None:
        """Let every command that begins like this fail, with these words on standard error."""
        self.write(fails={**self.read()["fails"], command: said})

    def commands(self) -> list[str]:
        """Each command that was given, in order."""
        log = self.folder / "commands"
        return log.read_text().splitlines() if log.exists() else []

    def objects(self, kind: str) -> dict[str, Any]:
        """The resources of a kind, by name."""
        named = self.read()["objects"]
        return {name.partition("/")[2]: each for name, each in named.items() if name.startswith(f"{kind}/")}

    def put_secret(self, values: dict[str, str]) -> None:
        """Put the Secret there."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        secret = {"kind": "Secret", "metadata": {"name": "fission-ai-work-env"}, "data": data}
        self.write(objects={**self.read()["objects"], "Secret/fission-ai-work-env": secret})


def main(tool: str) -> None:
    """Be the tool: do what the command line says."""
    cluster = Cluster(Path(os.environ[_VARIABLE]))
    arguments = sys.argv[1:]
    command = " ".join([tool, *arguments])
    with (cluster.folder / "commands").open("a") as log:
        log.write(f"{command}\n")
    for start, said in cluster.read()["fails"].items():
        if command.startswith(start):
            sys.exit(said)
    for start, handle in _HANDLERS.items():
        if command.startswith(start):
            return handle(cluster, arguments)
    sys.exit(f"error: unknown command {command}")


def _kubectl_version(_: Cluster, __: list[str]) -> None:
    print(json.dumps({"clientVersion": {}, "serverVersion": {"gitVersion": "v1.36.0"}}))


def _fission_version(cluster: Cluster, _: list[str]) -> None:
    version = cluster.read().get("fission", "v1.27.0")
    print(f"client:\n  fission/core:\n    Version: {version}\nserver:\n  fission/core:\n    Version: v1.27.0")


def _api_resources(cluster: Cluster, _: list[str]) -> None:
    print("\n".join(f"{kind}.fission.io" for kind in cluster.read().get("kinds", _KINDS)))


def _namespace(cluster: Cluster, arguments: list[str]) -> None:
    name = arguments[2]
    if name not in cluster.read()["namespaces"]:
        sys.exit(f'Error from server (NotFound): namespaces "{name}" not found')
    print(f"namespace/{name}")


def _secret(cluster: Cluster, arguments: list[str]) -> None:
    found = cluster.objects("Secret").get(arguments[2])
    if found is None:
        sys.exit(f'Error from server (NotFound): secrets "{arguments[2]}" not found')
    print(json.dumps(found))


def _logs(cluster: Cluster, _: list[str]) -> None:
    # One line more each time, as a build goes on.
    shown = cluster.read().get("shown", 0) + 1
    cluster.write(shown=shown)
    print("\n".join(_BUILD[:shown]))


def _package(cluster: Cluster, _: list[str]) -> None:
    status = cluster.read()["status"]
    built = status[0] if status else ""
    cluster.write(status=status[1:] or status)
    log = "\n".join([*_BUILD, "error: no matching distribution found for pydantic-core"])
    told = {"buildstatus": built, "buildlog": log if built == "failed" else ""}
    print(json.dumps({"kind": "Package", "status": told if built else {}}))


def _apply(cluster: Cluster, arguments: list[str]) -> None:
    objects = cluster.read()["objects"]
    for file in sorted(Path(arguments[2]).glob("*.yaml")):
        for document in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader):
            name = f"{document['kind']}/{document['metadata']['name']}"
            print(f"{name.lower()} {'unchanged' if objects.get(name) == document else 'configured'}")
            objects[name] = document
    cluster.write(objects=objects)


def _apply_specs(cluster: Cluster, arguments: list[str]) -> None:
    _, _, _, folder_name, *more = arguments
    folder = Path(folder_name)
    ignored = (folder / more[1]).read_text().split() if more[:1] == ["--specignore"] else []
    documents = [
        document
        for file in sorted(folder.glob("*.yaml"))
        if not any(fnmatch(file.name, pattern) for pattern in ignored)
        for document in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
    ]
    [archive] = [document for document in documents if document["kind"] == "ArchiveUploadSpec"]
    [packed] = archive["include"]
    checksum = hashlib.sha256((folder.parent / packed).read_bytes()).hexdigest()
    is_new = checksum != cluster.read()["archive"]
    print(
        f"{'uploading archive' if is_new else 'archive'} archive://ai-work{'' if is_new else ' exists, not uploading'}"
    )
    objects, changed = cluster.read()["objects"], []
    for document in documents:
        if "metadata" not in document:
            continue
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "Package":
            document["spec"]["source"]["checksum"] = checksum
        # What is read is compared with what is kept, which has the usual form.
        if objects.get(name) != document:
            changed.append(name)
            objects[name] = in_usual_form(document)
    cluster.write(objects=objects, archive=checksum)
    if "Package/ai-work" in changed:
        cluster.write(status=["", "running", *cluster.read()["builds"]], shown=0)
    print("\n".join(f"1 resource changed: {name}" for name in changed) or "Everything up to date.")


_HANDLERS: dict[str, Callable[[Cluster, list[str]], None]] = {
    "kubectl version": _kubectl_version,
    "fission version": _fission_version,
    "kubectl api-resources": _api_resources,
    "kubectl get namespace": _namespace,
    "kubectl get secret": _secret,
    "kubectl get packages.fission.io/ai-work": _package,
    "kubectl logs": _logs,
    "kubectl apply --filename": _apply,
    "fission spec apply --specdir": _apply_specs,
}
