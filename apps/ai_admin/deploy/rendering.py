"""What is deployed for a stage: `specs/` with the values of its profile, the sources, and the two manifests.

Fission reads every YAML file below the folder that `fission spec apply --specdir` names, so the manifests of Secret and
ConfigMap, which are for `kubectl apply`, lie beside it, and so does the archive of the sources: `OUT/specs/`,
`OUT/manifests/`, `OUT/ai-work.zip`. The folder needs nothing else of the project.
"""

import base64
import difflib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import yaml
from pydantic import ValidationError

from ai_admin.config import SecretSettings
from ai_admin.deploy import archive
from ai_admin.deploy.profiles import STAGES, FunctionSettings, Profile, Stage, profile_path, read_profile

SECRET_KEYS = {field.alias or name: field for name, field in SecretSettings.model_fields.items()}
_APPS = Path("apps")
_SPECS = Path("specs")
_MANIFESTS = Path("manifests")
_SECRET = _MANIFESTS / "secret.yaml"
# Marks a folder as ours to replace.
_MARK = Path("RENDERED")
# Names the files that `fission spec apply --specignore` leaves out until the package is built. Fission looks for it
# among the specs, of which it reads the YAML files alone.
FUNCTIONS_LATER = "functions-later.ignore"
_FIRST = {"DeploymentConfig", "Environment", "ArchiveUploadSpec", "Package"}
# Folders of the project that nothing is rendered into: Fission would read it, or pack it with the functions.
_SOURCES = ("apps", "specs", ".fission")

Document = dict[str, Any]
Files = dict[Path, str]


class DeployError(Exception):
    """A stage cannot be rendered; the message says why and what to do."""


def read_stage(project: Path, stage: str) -> Profile:
    """The profile of a stage. Raises `DeployError`, and `ConfigError` where the profile is wrong."""
    if stage not in STAGES:
        raise DeployError(f"there is no stage {stage!r}; the stages are {', '.join(STAGES)}")
    path = project / profile_path(stage)
    profile = read_profile(path)
    if profile.stage != stage:
        raise DeployError(f"{path} is of stage {profile.stage!r}; in this file it must be {stage!r}")
    return profile


def render(project: Path, profile: Profile, secret: Mapping[str, str] | None = None) -> Files:
    """Every file of a stage by its path under OUT; no manifest of the Secret where `secret` is None."""
    sources = sorted((project / _SPECS).glob("*.yaml"))
    if not sources:
        raise DeployError(f"{project / _SPECS} holds no specs; run this in the project's folder, or name it: --project")
    documents = {
        _SPECS / source.name: [_of_stage(document, profile, source) for document in _documents(source)]
        for source in sources
    }
    _refuse_unknown_functions(profile, documents.values())
    files = {path: _yaml(*own) for path, own in documents.items()}
    later = [path.name for path, own in documents.items() if not any(each["kind"] in _FIRST for each in own)]
    files[_SPECS / FUNCTIONS_LATER] = "".join(f"{name}\n" for name in later)
    files[_MANIFESTS / "configmap.yaml"] = _yaml(
        {**_manifest("ConfigMap", profile.config_map_name, profile), "data": profile.config_map()}
    )
    if secret is not None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in sorted(secret.items())}
        files[_SECRET] = _yaml({**_manifest("Secret", profile.secret_name, profile), "type": "Opaque", "data": data})
    return files


def check_secret(values: Mapping[str, str]) -> None:
    """Raise a `DeployError` that names each key that is unknown, missing or wrong, and shows no value."""
    faults = [
        f"{key}: there is no such key; the keys are {', '.join(SECRET_KEYS)}" for key in values.keys() - SECRET_KEYS
    ]
    try:
        SecretSettings.model_validate(dict(values))
    except ValidationError as error:
        absent = "is missing; give it by --secret-file, --secrets-dir or --prompt"
        faults += [
            f"{fault['loc'][0]}: {absent if fault['type'] == 'missing' else fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
    if faults:
        raise DeployError("the Secret is not what the functions need\n  " + "\n  ".join(sorted(faults)))


def pack(project: Path) -> bytes:
    """The archive of the project's functions. Raises `DeployError`."""
    sources = project / _APPS
    if not (sources / "build.sh").is_file():
        raise DeployError(f"{sources} holds no build.sh; run this in the project's folder, or name it: --project")
    try:
        return archive.pack(sources)
    except OSError as error:
        raise DeployError(f"{error.filename} cannot be read: {error.strerror}") from None


def write(files: Files, packed: bytes, stage: Stage, project: Path, out: Path) -> None:
    """Write all files into the folder `out`, in place of an earlier rendering, or none. Raises `DeployError`."""
    out = out.resolve()
    _refuse_foreign(out, project.resolve())
    mark = f"Stage {stage}, made by `ai-admin deploy render`, which replaces this folder at the next rendering.\n"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            fresh = Path(scratch) / "fresh"
            fresh.mkdir(mode=0o700)
            for path, text in {**files, _MARK: mark}.items():
                (fresh / path).parent.mkdir(exist_ok=True)
                _write_new(fresh / path, text.encode(), 0o600 if path == _SECRET else 0o644)
            _write_new(fresh / archive.NAME, packed, 0o644)
            _replace(out, fresh, Path(scratch) / "former")
    except OSError as error:
        raise DeployError(f"{out} cannot be written: {error.strerror}") from None


def update(files: Files, packed: bytes, out: Path) -> list[str]:
    """Bring a rendering up to date file by file, and return the names of those that differ. Raises `DeployError`.

    `fission spec apply --watch` keeps the folders that it saw when it started, and looks away from names with `.#`.
    """
    contents = {path: text.encode() for path, text in files.items()} | {Path(archive.NAME): packed}
    changed = []
    try:
        for path, content in contents.items():
            if not (out / path).exists() or (out / path).read_bytes() != content:
                scratch = out / path.parent / f".#{path.name}"
                scratch.unlink(missing_ok=True)
                _write_new(scratch, content, 0o600 if path == _SECRET else 0o644)
                scratch.replace(out / path)
                changed.append(path.name)
        for gone in [path for path in (out / _SPECS).glob("*.yaml") if _SPECS / path.name not in contents]:
            gone.unlink()
            changed.append(gone.name)
    except OSError as error:
        raise DeployError(f"{out} cannot be written: {error.strerror}") from None
    return changed


def difference(project: Path, one: Profile, other: Profile) -> str:
    """What differs between two stages as a unified diff, empty where nothing does; the Secret is no part of it."""
    before, after = render(project, one), render(project, other)
    return "".join(
        line
        for path in sorted(before.keys() | after.keys())
        for line in difflib.unified_diff(
            before.get(path, "").splitlines(keepends=True),
            after.get(path, "").splitlines(keepends=True),
            f"{one.stage}/{path}",
            f"{other.stage}/{path}",
        )
    )


def _documents(source: Path) -> list[Document]:
    try:
        documents = list(yaml.safe_load_all(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DeployError(f"{source} cannot be read: {error}") from None
    documents = [document for document in documents if document is not None]
    if not all(isinstance(document, dict) and "kind" in document for document in documents):
        raise DeployError(f"{source} holds a document that is no resource with a kind")
    return documents


def _yaml(*documents: Document) -> str:
    text: str = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
    return text


def _manifest(kind: str, name: str, profile: Profile) -> Document:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": profile.namespace}}


def _refuse_unknown_functions(profile: Profile, files: Iterable[list[Document]]) -> None:
    known = {document["metadata"]["name"] for file in files for document in file if document["kind"] == "Function"}
    if unknown := sorted(profile.functions.keys() - known):
        raise DeployError(
            f"{profile_path(profile.stage)}: no function in specs/ is named {', '.join(unknown)}; "
            f"there are {', '.join(sorted(known))}"
        )


def _of_stage(document: Document, profile: Profile, source: Path) -> Document:
    """A resource with the stage's values; the document that it is made of is changed."""
    try:
        if "metadata" in document:
            document["metadata"]["namespace"] = profile.namespace
        edit = _EDITS.get(document["kind"])
        if edit:
            edit(document, profile)
    except KeyError as error:
        raise DeployError(f"{source}: a {document['kind']} lacks {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise DeployError(f"{source}: a {document['kind']} holds what it should not: {error}") from None
    return document


def _edit_deployment(document: Document, profile: Profile) -> None:
    # By this id Fission finds, in all namespaces of a cluster, what an earlier `apply` has made and what to delete of
    # it. With one id for all, applying a stage would delete the others.
    document["name"] = f"{document['name']}-{profile.stage}"
    document["uid"] = str(uuid5(UUID(document["uid"]), profile.stage))


def _edit_archive(document: Document, _: Profile) -> None:
    # Fission takes a single zip as it is, and looks for it in the folder above the specs.
    document["include"] = [archive.NAME]


def _edit_package(document: Document, profile: Profile) -> None:
    document["spec"]["environment"]["namespace"] = profile.namespace


def _edit_environment(document: Document, profile: Profile) -> None:
    spec = document["spec"]
    spec["runtime"]["image"] = profile.environment.runtime_image
    spec["builder"]["image"] = profile.environment.builder_image
    spec["resources"] = profile.every_function.resources.model_dump()


def _edit_function(document: Document, profile: Profile) -> None:
    spec: Document = document["spec"]
    settings: FunctionSettings = profile.settings_of(document["metadata"]["name"])
    spec["environment"]["namespace"] = profile.namespace
    spec["package"]["packageref"]["namespace"] = profile.namespace
    spec["InvokeStrategy"]["ExecutionStrategy"].update(
        MinScale=settings.min_scale,
        MaxScale=settings.max_scale,
        SpecializationTimeout=settings.specialization_timeout,
    )
    spec["functionTimeout"] = settings.function_timeout
    spec["requestsPerPod"] = settings.requests_per_pod
    spec["resources"] = settings.resources.model_dump()
    spec["secrets"] = [{"name": profile.secret_name, "namespace": profile.namespace}]
    spec["configmaps"] = [{"name": profile.config_map_name, "namespace": profile.namespace}]


_EDITS = {
    "DeploymentConfig": _edit_deployment,
    "ArchiveUploadSpec": _edit_archive,
    "Package": _edit_package,
    "Environment": _edit_environment,
    "Function": _edit_function,
}


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _refuse_foreign(out: Path, project: Path) -> None:
    if any(out.is_relative_to(project / folder) for folder in _SOURCES):
        raise DeployError(f"{out} is among the project's sources; render elsewhere, such as .local/deploy/STAGE")
    if out.exists() and not (out / _MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DeployError(f"{out} holds something that `ai-admin deploy render` has not made; name another folder")


def _replace(out: Path, fresh: Path, former: Path) -> None:
    """Put `fresh` in the place of `out`; what stood there is moved to `former`, and back where that fails."""
    if out.exists():
        out.rename(former)
    try:
        fresh.rename(out)
    except OSError:
        if former.exists():
            former.rename(out)
        raise
