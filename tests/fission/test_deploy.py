"""`ai-admin deploy`: what is rendered of each stage, against the application, Fission's CRDs and the settings."""

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from ai_admin.cli import app
from ai_admin.config import CONFIG_NAME, SECRET_NAME, ConfigSettings, load_settings
from ai_admin.deploy import archive
from ai_admin.deploy.archive import pack
from ai_admin.deploy.profiles import SCHEMA, STAGES, profile_path, schema_text
from ai_admin.deploy.rendering import FUNCTIONS_LATER, SECRET_KEYS
from tests.conftest import ROOT, write_mount
from tests.fission import crds, specs
from tests.fission.test_specs import needs_crds
from tests.keyrings import entry, text_of

# Values that are seen wherever they leak to.
SECRET = {
    "PG_HOST": "seen-host",
    "PG_USER": "seen-user",
    "PG_PASSWORD": "seen-password",
    "CURSOR_KEY": base64.b64encode(b"seen" * 7 + b"curs").decode(),
    "VAULT_KEYS": text_of(entry("seen", b"seen" * 8, "primary")),
}
Document = dict[str, Any]
stages = pytest.mark.parametrize("stage", STAGES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is rendered from, to be broken."""
    folder = tmp_path / "project"
    for name in (".fission", "specs", "apps"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder with a file for each key of the Secret, as editors write them: with a final line break."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for key, value in SECRET.items():
        (folder / key).write_text(f"{value}\n")
    return folder


def deploy(*arguments: str | Path, typed: str | None = None) -> Result:
    """Run `ai-admin deploy`."""
    return CliRunner().invoke(app, ["deploy", *map(str, arguments)], input=typed)


def rendered(out: Path, stage: str, *arguments: str | Path, project: Path = ROOT) -> Result:
    """Render a stage, which must work; what the command said."""
    result = deploy("render", stage, "--out", out, "--project", project, *arguments)
    assert result.exit_code == 0, result.output
    return result


def documents(folder: Path) -> list[Document]:
    """Every document below a folder."""
    return [
        document
        for file in sorted(folder.rglob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]


def of_kind(kind: str, folder: Path) -> list[Document]:
    """The documents of a kind below a folder."""
    return [document for document in documents(folder) if document["kind"] == kind]


def texts(folder: Path) -> dict[str, str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_text("latin-1") for path in folder.rglob("*") if path.is_file()}


def edit(path: Path, change: Callable[[Document], None]) -> None:
    """Change a profile."""
    profile = json.loads(path.read_text())
    change(profile)
    path.write_text(json.dumps(profile))


@stages
@needs_crds
def test_rendered_resources_pass_fissions_crds(tmp_path: Path, stage: str) -> None:
    """What the API server would refuse is found before anyone applies it."""
    rendered(tmp_path / "out", stage, "--without-secret")
    checked = [document for document in documents(tmp_path / "out" / "specs") if document["kind"] in crds.kinds()]
    assert len(checked) == len(specs.functions()) + len(specs.triggers()) + len(specs.of_kind("TimeTrigger")) + 2
    assert [fault for document in checked for fault in crds.faults(document)] == []


@stages
def test_a_stage_has_the_functions_and_routes_of_specs(tmp_path: Path, stage: str) -> None:
    """A stage changes values alone: no function, trigger, path, method, reference or order is lost or changed."""
    rendered(tmp_path / "out", stage, "--without-secret")
    folder = tmp_path / "out" / "specs"

    def shape(resources: list[Document]) -> list[object]:
        return [
            (resource["kind"], resource.get("metadata", {}).get("name"), _references(resource))
            for resource in resources
            if resource["kind"] != "DeploymentConfig"
        ]

    assert shape(documents(folder)) == shape(specs.resources())
    for made, source in zip(of_kind("Function", folder), specs.of_kind("Function"), strict=True):
        assert [member for member in made["spec"] if member in source["spec"]] == list(source["spec"])
    files = {file.name for file in folder.iterdir()} - {FUNCTIONS_LATER}
    assert files == {file.name for file in specs.FOLDER.iterdir()}


def test_what_waits_for_the_build_is_functions_and_triggers(tmp_path: Path) -> None:
    """Environment and package are applied alone first: pods that start before the package is built wait for minutes."""
    rendered(tmp_path / "out", "dev", "--without-secret")
    folder = tmp_path / "out" / "specs"
    later = (folder / FUNCTIONS_LATER).read_text().splitlines()
    kinds = {name: {each["kind"] for each in yaml.safe_load_all((folder / name).read_text())} for name in later}
    assert set().union(*kinds.values()) == {"Function", "HTTPTrigger", "TimeTrigger"}
    first = {
        each["kind"]
        for file in folder.glob("*.yaml")
        if file.name not in later
        for each in [yaml.safe_load(file.read_text().partition("---")[0])]
    }
    assert {"DeploymentConfig", "Environment", "ArchiveUploadSpec"} == first


def _references(resource: Document) -> object:
    spec = resource.get("spec", resource)
    members = ("relativeurl", "methods", "functionref", "source")
    return (
        {name: spec.get(name) for name in members},
        spec.get("environment", {}).get("name"),
        spec.get("package", {}).get("packageref", {}).get("name"),
        spec.get("package", {}).get("functionName"),
    )


@stages
def test_everything_of_a_stage_is_in_its_namespace(tmp_path: Path, secrets: Path, stage: str) -> None:
    """Fission refuses a package of another namespace, and a function finds no Secret there."""
    out = tmp_path / "out"
    rendered(out, stage, "--secrets-dir", secrets)
    found: set[str] = set()

    def collect(value: object) -> None:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):  # type: ignore[arg-type]
            if name == "namespace":
                found.add(item)
            elif isinstance(item, (dict, list)):
                collect(item)

    collect(documents(out))
    assert found == {json.loads((ROOT / profile_path(stage)).read_text())["namespace"]}  # type: ignore[arg-type]


@stages
def test_functions_keep_the_settings_of_the_seed(tmp_path: Path, stage: str) -> None:
    """newdeploy, one pod, 300 seconds, 500 requests a pod, and the Secret and ConfigMap by their names."""
    rendered(tmp_path / "out", stage, "--without-secret")
    for function in of_kind("Function", tmp_path / "out"):
        spec = function["spec"]
        execution = spec["InvokeStrategy"]["ExecutionStrategy"]
        assert (execution["ExecutorType"], execution["MinScale"], execution["MaxScale"]) == ("newdeploy", 1, 1)
        assert (spec["functionTimeout"], spec["requestsPerPod"]) == (300, 500)
        assert [secret["name"] for secret in spec["secrets"]] == [SECRET_NAME]
        assert [config["name"] for config in spec["configmaps"]] == [CONFIG_NAME]


@stages
def test_the_manifests_hold_what_the_settings_read(tmp_path: Path, secrets: Path, stage: str) -> None:
    """Mounted as Kubernetes does it, Secret and ConfigMap are settings that the functions start with."""
    out = tmp_path / "out"
    rendered(out, stage, "--secrets-dir", secrets)
    [secret], [config] = of_kind("Secret", out), of_kind("ConfigMap", out)
    assert (secret["metadata"]["name"], config["metadata"]["name"]) == (SECRET_NAME, CONFIG_NAME)
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert values == SECRET
    settings = load_settings(write_mount(tmp_path / "mount", values, config["data"]))
    profile = json.loads((ROOT / profile_path(stage)).read_text())  # type: ignore[arg-type]
    assert settings.config == ConfigSettings.model_validate(profile["config"])


def test_fission_reads_no_manifest(tmp_path: Path, secrets: Path) -> None:
    """`fission spec apply` reads all below its folder; a Secret there would be reported as an unknown kind."""
    rendered(tmp_path / "out", "staging", "--secrets-dir", secrets)
    assert {document["kind"] for document in documents(tmp_path / "out" / "specs")} <= {
        *(resource["kind"] for resource in specs.resources())
    }


def test_a_rendered_folder_holds_the_sources(tmp_path: Path) -> None:
    """Fission takes a single zip as it is, from the folder above the specs: without it there is nothing to build."""
    rendered(tmp_path / "out", "dev", "--without-secret")
    [spec] = of_kind("ArchiveUploadSpec", tmp_path / "out")
    assert "rootdir" not in spec
    [name] = spec["include"]
    with ZipFile(tmp_path / "out" / name) as packed:
        assert {"ai_admin/app.py", "build.sh", "requirements.txt", "filter_insert.py"} <= set(packed.namelist())
        assert packed.read("build.sh") == (ROOT / "apps" / "build.sh").read_bytes()
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in packed.infolist()}
    assert {name: mode for name, mode in modes.items() if mode != 0o644} == {"build.sh": 0o755}


@stages
def test_rendered_resources_are_in_the_form_that_the_cluster_keeps(tmp_path: Path, stage: str) -> None:
    """A second apply with nothing changed would change a resource that is written otherwise, and replace pods."""
    rendered(tmp_path / "out", stage, "--without-secret")
    resources = [document for document in documents(tmp_path / "out" / "specs") if "metadata" in document]
    assert resources
    assert resources == [crds.stored(resource) for resource in resources]


def test_amounts_of_a_profile_are_rendered_as_the_cluster_keeps_them(tmp_path: Path, project: Path) -> None:
    """`0.5` processors and `1024Mi` are kept as `500m` and `1Gi`: every apply would replace the pods."""
    amounts = {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"cpu": "2000m", "memory": "1536Mi"}}
    edit(project / profile_path("dev"), lambda profile: profile["everyFunction"].update(resources=amounts))
    rendered(tmp_path / "out", "dev", "--without-secret", project=project)
    functions = of_kind("Function", tmp_path / "out")
    assert functions == [crds.stored(function) for function in functions]
    assert functions[0]["spec"]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}


def test_the_archive_depends_on_the_sources_alone(project: Path) -> None:
    """Another clone, with other times, modes and leftovers, makes the same archive; a changed source another one."""
    before = pack(ROOT / "apps")
    copy = project / "apps"
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    for leftover in ("__pycache__/x.pyc", ".hidden", "ai_admin/.#app.py", "ai_admin/app.py~"):
        (copy / leftover).parent.mkdir(exist_ok=True)
        (copy / leftover).write_bytes(b"left over")
    assert pack(copy) == before
    (copy / "me.py").write_bytes((copy / "me.py").read_bytes() + b"\n")
    assert pack(copy) != before


def test_the_archive_is_the_same_on_other_pythons() -> None:
    """A stage that two machines pack would be built again at each change of hands."""
    here = hashlib.sha256(pack(ROOT / "apps")).hexdigest()
    code = "import hashlib, sys; from pathlib import Path; from archive import pack; "
    code += "print(hashlib.sha256(pack(Path(sys.argv[1]))).hexdigest(), '%d.%d' % sys.version_info[:2])"
    module = str(Path(archive.__file__).parent)
    tried = set()
    for version in ("3.10", "3.11", "3.12", "3.13"):
        try:
            ran = subprocess.run(
                [f"python{version}", "-c", code, ROOT / "apps"],
                env={**os.environ, "PYTHONPATH": module, "PYENV_VERSION": version, "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        made, of = ran.stdout.split()
        assert made == here
        tried.add(of)
    if len(tried) < 2:
        pytest.skip("this machine has no two of Python 3.10 to 3.13")


def test_stages_are_different_deployments_to_fission(tmp_path: Path) -> None:
    """Fission deletes what carries a deployment's id and is not in its folder: with one id stages delete each other."""
    ids = set()
    for stage in STAGES:
        rendered(tmp_path / stage, stage, "--without-secret")
        ids |= {config["uid"] for config in of_kind("DeploymentConfig", tmp_path / stage)}
    assert len(ids | {config["uid"] for config in specs.of_kind("DeploymentConfig")}) == len(STAGES) + 1


def test_secrets_reach_the_manifest_of_the_secret_alone(tmp_path: Path, secrets: Path) -> None:
    """A value in a ConfigMap, on the terminal or in a readable file is a value that has leaked."""
    out = tmp_path / "out"
    result = rendered(out, "production", "--secrets-dir", secrets)
    encoded = [base64.b64encode(value.encode()).decode() for value in SECRET.values()]
    told = [*SECRET.values(), *encoded]
    holders = {name for name, text in texts(out).items() if any(value in text for value in told)}
    assert holders == {"manifests/secret.yaml"}
    assert not any(value in result.output for value in told)
    assert stat.S_IMODE((out / "manifests" / "secret.yaml").stat().st_mode) == 0o600
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path, secrets: Path) -> None:
    """A rendered folder can be kept under version control: it changes with what it is made of alone."""
    rendered(tmp_path / "one", "staging", "--secrets-dir", secrets)
    before = texts(tmp_path / "one")
    rendered(tmp_path / "one", "staging", "--secrets-dir", secrets)
    rendered(tmp_path / "two", "staging", "--secrets-dir", secrets)
    assert before == texts(tmp_path / "one") == texts(tmp_path / "two")


def test_rendering_again_leaves_nothing_of_before(tmp_path: Path, secrets: Path) -> None:
    """A Secret that is no longer wanted, or a function that is gone, must not be applied from an old rendering."""
    out = tmp_path / "out"
    rendered(out, "staging", "--secrets-dir", secrets)
    rendered(out, "dev", "--without-secret")
    assert of_kind("Secret", out) == []
    assert {document["metadata"]["namespace"] for document in of_kind("Function", out)} == {"ai-admin-dev"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_single_functions_and_their_scale(tmp_path: Path, project: Path) -> None:
    """One function may have more pods and memory than the others; what is not said of it is as for every function."""
    name = "ai-admin-filter-create-user"
    more = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}

    def change(profile: Document) -> None:
        profile["functions"] = {name: {"maxScale": 4, "resources": more}}
        profile["everyFunction"]["minScale"] = 0

    edit(project / profile_path("dev"), change)
    rendered(tmp_path / "out", "dev", "--without-secret", project=project)
    of = {function["metadata"]["name"]: function["spec"] for function in of_kind("Function", tmp_path / "out")}
    scales = {
        name: tuple(spec["InvokeStrategy"]["ExecutionStrategy"][end] for end in ("MinScale", "MaxScale"))
        for name, spec in of.items()
    }
    assert scales == {**dict.fromkeys(specs.functions(), (0, 1)), name: (0, 4)}
    assert of[name]["resources"] == more
    assert of["ai-admin-update-delete-user"]["resources"]["limits"]["memory"] == "256Mi"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"secret": {"PG_PASSWORD": "seen-password"}}, "only the local profile may hold values of the Secret"),
        ({"secret": {}}, "only the local profile"),
        ({"config": {}}, "config.ALLOWED_ORIGINS: * is for local and dev"),
        ({"config": {"ALLOWED_ORIGINS": "https://a.example *"}}, "config.ALLOWED_ORIGINS"),
        ({"config": {"ALLOWED_ORIGINS": "https://a.example/"}}, "is no origin"),
        ({"config": {"ALLOWED_ORIGINS": "https://a.example", "POOL_SIZ": 2}}, "config.POOL_SIZ: Extra inputs"),
        ({"config": {"ALLOWED_ORIGINS": "https://a.example", "POOL_SIZE": 0}}, "config.POOL_SIZE: Input should be"),
        ({"environment": {}}, "an image without tag or digest"),
        ({"environment": {"runtimeImage": "host:5000/a", "builderImage": "a:1"}}, "an image without tag or digest"),
        ({"environment": {"runtimeImage": "a:latest", "builderImage": "a:1"}}, "an image without tag or digest"),
        ({"namespace": "Not_A_Name"}, "namespace: String should match"),
        ({"secretName": "another"}, "secretName: String should match"),
        ({"everyFunction": {"minScale": 2}}, "everyFunction: minScale is above maxScale"),
        ({"functions": {"ai-admin-filter-create-user": {"minScale": 2}}}, "minScale is above maxScale"),
        ({"functions": {"gone": {}}}, "no function in specs/ is named gone"),
        (
            {"everyFunction": {"resources": {"requests": {"cpu": "2", "memory": "64Mi"}}}},
            "requests are above limits",
        ),
        (
            {"everyFunction": {"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}}},
            "requests are above limits",
        ),
        ({"stage": "test"}, "is of stage 'test'"),
        ({"stage": "stagging"}, "stage: Input should be"),
        ({"surprise": 1}, "surprise: Extra inputs"),
    ],
)
def test_a_wrong_profile_is_told_and_nothing_written(
    tmp_path: Path, project: Path, change: Document, told: str
) -> None:
    """What is wrong with a profile is named before anything is made of it."""
    edit(project / profile_path("staging"), lambda profile: profile.update(change))
    result = deploy("render", "staging", "--out", tmp_path / "out", "--project", project, "--without-secret")
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert "seen-password" not in result.output
    assert isinstance(result.exception, SystemExit)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "there is no stage 'nowhere'; the stages are local, dev, test, staging, production"),
        (["staging"], "PG_HOST: is missing; give it by --secret-file"),
        (["staging", "--secret-file", "seen-password"], "--secret-file takes KEY=PATH"),
        (["staging", "--secret-file", "PG_HOTS=seen-password"], "--secret-file takes KEY=PATH"),
        (["staging", "--secret-file", "PG_HOST=absent"], "the file of PG_HOST: No such file"),
        (["staging", "--secrets-dir", "absent"], "absent: No such file"),
        (["staging", "--project", "absent"], "staging-deployment.json: No such file"),
    ],
)
def test_wrong_arguments_are_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    """The message says what is wrong and how to say it right, and does not repeat what may be a secret."""
    result = deploy("render", "--out", tmp_path / "out", "--project", ROOT, *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert "seen-password" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("CURSOR_KEY", "c2Vlbi1wYXNzd29yZA==", "CURSOR_KEY: Value error, must be 32 bytes"),
        ("CURSOR_KEY", "seen-password", "CURSOR_KEY: Value error, must be base64"),
        ("PG_PORT", "seen-password", "PG_PORT: Input should be a valid integer"),
        ("PG_HOST", "", "PG_HOST: String should have at least 1 character"),
        ("PG_HOTS", "seen-password", "PG_HOTS: there is no such key"),
    ],
)
def test_a_wrong_secret_is_refused(tmp_path: Path, secrets: Path, key: str, value: str, told: str) -> None:
    """A key that the functions would not start with is found here, and an earlier rendering stays as it was."""
    out = tmp_path / "out"
    rendered(out, "staging", "--secrets-dir", secrets)
    before = texts(out)
    (secrets / key).write_text(value)
    result = deploy("render", "staging", "--out", out, "--project", ROOT, "--secrets-dir", secrets)
    assert result.exit_code == 2
    assert told in result.output
    assert not value or value not in result.output
    assert texts(out) == before


def test_secrets_from_single_files_and_prompts(tmp_path: Path, secrets: Path) -> None:
    """A file goes before the folder; what no file gives is asked for without showing it, and may be left empty."""
    (secrets / "PG_PASSWORD").unlink()
    other = tmp_path / "host"
    other.write_text("other-host\r\n")
    asked = [key for key in SECRET_KEYS if key not in SECRET or key == "PG_PASSWORD"]
    typed = "".join("typed-password\n" if key == "PG_PASSWORD" else "\n" for key in asked)
    sources = ("--secrets-dir", secrets, "--secret-file", f"PG_HOST={other}", "--prompt")
    result = deploy("render", "test", "--out", tmp_path / "out", "--project", ROOT, *sources, typed=typed)
    assert result.exit_code == 0, result.output
    assert all(f"{key} (" in result.output for key in asked)
    assert "typed-password" not in result.output
    [secret] = of_kind("Secret", tmp_path / "out")
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert values == {**SECRET, "PG_HOST": "other-host", "PG_PASSWORD": "typed-password"}


@pytest.mark.parametrize("place", ["apps/out", "specs", ".fission/out"])
def test_nothing_is_rendered_into_the_sources(project: Path, secrets: Path, place: str) -> None:
    """In `apps/` the Secret would be packed with the functions, in `specs/` applied with every stage."""
    before = texts(project)
    result = deploy("render", "dev", "--out", project / place, "--project", project, "--secrets-dir", secrets)
    assert result.exit_code == 2
    assert "is among the project's sources" in result.output
    assert texts(project) == before


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    """A mistyped --out must not cost anyone their files."""
    (tmp_path / "theirs").write_text("precious")
    for out in (tmp_path, tmp_path / "theirs"):
        result = deploy("render", "dev", "--out", out, "--project", ROOT, "--without-secret")
        assert result.exit_code == 2
        assert "has not made" in result.output
    assert texts(tmp_path) == {"theirs": "precious"}


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    """Whoever made the folder beforehand is served too."""
    (tmp_path / "out").mkdir()
    rendered(tmp_path / "out", "dev", "--without-secret")
    assert of_kind("Function", tmp_path / "out")


def test_diff_shows_what_differs_and_no_secret(project: Path) -> None:
    """A change between stages is seen before it is deployed; the exit code tells scripts, as diff's does."""
    same = deploy("diff", "staging", "staging", "--project", project)
    assert (same.exit_code, same.output) == (0, "")
    edit(project / profile_path("local"), lambda profile: profile["secret"].update(PG_PASSWORD="seen-password"))
    result = deploy("diff", "local", "production", "--project", project)
    assert result.exit_code == 1
    assert "--- local/manifests/configmap.yaml\n+++ production/manifests/configmap.yaml\n" in result.output
    assert "\n-  ALLOWED_ORIGINS: '*'\n+  ALLOWED_ORIGINS: https://ai-admin.example.com\n" in result.output
    assert "\n-    image: ghcr.io/fission/python-env-3.10\n" in result.output
    assert "seen-password" not in result.output
    trouble = deploy("diff", "local", "nowhere", "--project", project)
    assert trouble.exit_code == 2
    assert "there is no stage" in trouble.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: [", "cannot be read"),
        ("kind: Function\nmetadata: {name: a}\n", "specs/zz.yaml: a Function lacks 'spec'"),
        ("kind: Function\nspec: {}\n", "specs/zz.yaml: a Function lacks 'metadata'"),
        ("kind: Function\nspec:\nmetadata: {name: a}\n", "specs/zz.yaml: a Function holds what it should not"),
        ("kind: DeploymentConfig\nname: a\nuid: b\n", "specs/zz.yaml: a DeploymentConfig holds what it should not"),
        ("just text\n", "specs/zz.yaml holds a document that is no resource"),
    ],
)
def test_broken_specs_are_told(tmp_path: Path, project: Path, text: str, told: str) -> None:
    """A spec that cannot be rendered is named, without a traceback."""
    (project / "specs" / "zz.yaml").write_text(text)
    result = deploy("render", "dev", "--out", tmp_path / "out", "--project", project, "--without-secret")
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert isinstance(result.exception, SystemExit)


def test_the_schema_for_editors_is_that_of_the_model() -> None:
    """An editor that follows an old schema marks right profiles wrong; mend with `ai-admin deploy schema`."""
    assert (ROOT / SCHEMA).read_text(encoding="utf-8") == schema_text() == deploy("schema").output


@stages
def test_profiles_name_the_schema_and_follow_it(stage: str) -> None:
    """Editors help with every profile, and know as the model does that values of the Secret are local."""
    path = ROOT / profile_path(stage)  # type: ignore[arg-type]
    profile = json.loads(path.read_text())
    schema = json.loads((path.parent / profile["$schema"]).read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(profile))
    assert validator.is_valid({**profile, "secret": {"PG_HOST": ""}}) == (stage == "local")
    assert not validator.is_valid({**profile, "config": {"POOL_SIZ": 1}})
