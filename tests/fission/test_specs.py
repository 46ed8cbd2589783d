"""`specs/`: what `fission spec apply` would create, against the application, the seed's settings and Fission's CRDs."""

import ast
from typing import Any

import pytest
from flask import Flask

from ai_admin.app import create_app
from ai_admin.config import CONFIG_NAME, SECRET_NAME, Settings
from ai_admin.console.views import console
from tests.conftest import ROOT
from tests.fission import crds
from tests.fission.specs import FOLDER, functions, of_kind, resources, triggers

KINDS = {"Environment", "Package", "Function", "HTTPTrigger", "TimeTrigger"}
CONSOLE = "ai-admin-console"
needs_crds = pytest.mark.skipif(not crds.FOLDER.exists(), reason="Fission's CRDs are not on this machine")


def _routes(app: Flask) -> set[tuple[str, str]]:
    return {
        (rule.rule.replace("<", "{").replace(">", "}"), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }


def test_triggers_are_the_routes(settings: Settings) -> None:
    """A route without a trigger is unreachable on Fission; a trigger without a route answers 404."""
    of_api = [trigger for trigger in triggers() if trigger.function != CONSOLE]
    triggered = {(trigger.path, method) for trigger in of_api for method in trigger.methods}
    assert triggered == _routes(create_app(settings))


def test_the_console_is_all_that_is_below_its_address(settings: Settings) -> None:
    """Each page and form is reached, by GET and POST alone."""
    exact, below = [trigger for trigger in triggers() if trigger.function == CONSOLE]
    assert exact.methods == below.methods == ("GET", "POST")
    assert below.path == f"{exact.path}/{{Path:.+}}"
    pages = _routes(create_app(settings, (console,))) - _routes(create_app(settings))
    assert all(f"{path}/".startswith(f"{exact.path}/") for path, _ in pages)
    assert {method for _, method in pages} - {"HEAD", "OPTIONS"} == {"GET", "POST"}


def test_every_function_is_triggered() -> None:
    """A function that nothing calls is forgotten; one that a timer calls has no way in from outside."""
    by_time = {trigger["spec"]["functionref"]["name"] for trigger in of_kind("TimeTrigger")}
    by_request = {trigger.function for trigger in triggers()}
    assert by_time | by_request == set(functions())
    assert not by_time & by_request


def test_functions_have_the_names_and_entries_of_the_seed() -> None:
    """Names, module and entry are the contract with whoever deployed the first version; the others follow suit."""
    seed = {"ai-admin-filter-create-user": "filter_insert.main", "ai-admin-update-delete-user": "update_delete.main"}
    others = {name: f"{name.removeprefix('ai-admin-').replace('-', '_')}.main" for name in functions()}
    assert functions() == others | seed


@pytest.mark.parametrize("function", of_kind("Function"), ids=lambda function: function["metadata"]["name"])
def test_functions_have_the_settings_of_the_seed(function: dict[str, Any]) -> None:
    """newdeploy, one pod, 300 seconds, 500 requests a pod, and the mounted Secret and ConfigMap."""
    spec = function["spec"]
    execution = spec["InvokeStrategy"]["ExecutionStrategy"]
    assert (execution["ExecutorType"], execution["MinScale"], execution["MaxScale"]) == ("newdeploy", 1, 1)
    assert (spec["functionTimeout"], spec["requestsPerPod"]) == (300, 500)
    assert [secret["name"] for secret in spec["secrets"]] == [SECRET_NAME]
    assert [config["name"] for config in spec["configmaps"]] == [CONFIG_NAME]
    assert "env" not in spec
    assert "envFrom" not in spec


def test_entries_exist_and_take_nothing() -> None:
    """Fission calls `main()` without arguments."""
    for entry in functions().values():
        module, name = entry.split(".")
        tree = ast.parse((ROOT / "apps" / f"{module}.py").read_text(encoding="utf-8"))
        main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        assert not main.args.args


def test_every_reference_leads_to_a_resource() -> None:
    """Environment, package, archive and functions that are referred to are in the folder."""
    names = {(resource["kind"], resource["metadata"]["name"]) for resource in resources() if "metadata" in resource}
    archives = {resource["name"] for resource in of_kind("ArchiveUploadSpec")}
    for package in of_kind("Package"):
        assert ("Environment", package["spec"]["environment"]["name"]) in names
        assert package["spec"]["source"]["url"].removeprefix("archive://") in archives
    for function in of_kind("Function"):
        assert ("Environment", function["spec"]["environment"]["name"]) in names
        assert ("Package", function["spec"]["package"]["packageref"]["name"]) in names
    for trigger in triggers():
        assert ("Function", trigger.function) in names


def test_one_file_a_function_with_its_triggers() -> None:
    """A reader finds a function's whole deployment in one place."""
    for file in FOLDER.glob("fn-*.yaml"):
        assert file.read_text(encoding="utf-8").count("kind: Function\n") == 1


@pytest.mark.parametrize(
    "resource",
    [resource for resource in resources() if resource["kind"] in KINDS],
    ids=lambda resource: f"{resource['kind']}-{resource['metadata']['name']}",
)
def test_a_resource_is_in_the_form_that_the_cluster_keeps(resource: dict[str, Any]) -> None:
    """A second `fission spec apply` with nothing changed would change this one, and replace pods."""
    assert resource == crds.stored(resource)


def test_the_stored_form_shows_what_is_written_otherwise() -> None:
    """Unsorted methods, a missing default and an unusual amount are found: the test above can fail."""
    [timer] = of_kind("TimeTrigger")
    without_subpath = {name: value for name, value in timer["spec"].items() if name != "subpath"}
    assert crds.stored({**timer, "spec": without_subpath}) == timer
    trigger = of_kind("HTTPTrigger")[0]
    unsorted = list(reversed(trigger["spec"]["methods"]))
    assert crds.stored({**trigger, "spec": {**trigger["spec"], "methods": unsorted}}) == trigger
    limits = {"cpu": "1000m", "memory": "1024Mi"}
    resource = {"kind": "Environment", "spec": {"resources": {"limits": limits}, "version": 3}}
    assert crds.stored(resource)["spec"]["resources"] == {"limits": {"cpu": "1", "memory": "1Gi"}}


@needs_crds
@pytest.mark.parametrize(
    "resource",
    [resource for resource in resources() if resource["kind"] in KINDS],
    ids=lambda resource: f"{resource['kind']}-{resource['metadata']['name']}",
)
def test_resources_pass_fissions_crds(resource: dict[str, Any]) -> None:
    """Schema, unknown members and CEL rules, as the API server checks them."""
    assert crds.faults(resource) == []


@needs_crds
def test_the_validation_finds_faults() -> None:
    """Wrong types, unknown members and broken rules are found: the test above can fail."""
    trigger = of_kind("HTTPTrigger")[0]
    wrong = {**trigger, "spec": {**trigger["spec"], "relativeurl": "no-slash", "metods": ["GET"], "methods": "GET"}}
    found = " ".join(crds.faults(wrong))
    assert "must start with '/'" in found
    assert "unknown member" in found
    assert "is not of type 'array'" in found
