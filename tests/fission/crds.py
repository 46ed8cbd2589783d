"""Validates Fission's resources as the API server of Kubernetes does: against the CRDs' schemas and their CEL rules."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import celpy
import jsonschema
import yaml
from celpy.adapter import json_to_cel

from tests.conftest import ROOT
from tests.fission.stored import in_usual_form

# Fission's own files (Apache-2.0) lie beside the project where CI runs, and nowhere on a user's machine.
FOLDER = ROOT.parent / "shared" / "fission" / "crds"


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    schemas = {}
    for file in FOLDER.glob("*.yaml"):
        definition = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["spec"]
        schemas[definition["names"]["kind"]] = definition["versions"][0]["schema"]["openAPIV3Schema"]
    return schemas


def kinds() -> set[str]:
    """The kinds there is a CRD for."""
    return set(_schemas())


def schema(kind: str) -> dict[str, Any]:
    """The schema of a kind."""
    return _schemas()[kind]


def stored(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource as the cluster keeps it: in its usual form, with the defaults of its CRD, if it is at hand."""
    kept = in_usual_form(resource)
    if kept["kind"] in kinds():
        _set_defaults(kept, schema(kept["kind"]))
    return kept


def _set_defaults(value: Any, schema: dict[str, Any]) -> None:
    for item in value if isinstance(value, list) else ():
        _set_defaults(item, schema.get("items", {}))
    if isinstance(value, dict):
        for name, member in schema.get("properties", {}).items():
            if "default" in member:
                value.setdefault(name, deepcopy(member["default"]))
            if name in value:
                _set_defaults(value[name], member)


def faults(resource: dict[str, Any]) -> list[str]:
    """What the API server would refuse, or silently drop, in a resource."""
    of_kind = schema(resource["kind"])
    validator = jsonschema.Draft202012Validator(of_kind)
    found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource)]
    found += _unknown(resource, of_kind, "$")
    return found + list(_broken_rules(resource, of_kind, "$"))


def _unknown(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    """Members that the schema does not name: Kubernetes drops them without a word."""
    if isinstance(value, list):
        return [fault for item in value for fault in _unknown(item, schema.get("items", {}), f"{path}[]")]
    if not isinstance(value, dict) or "properties" not in schema or path == "$.metadata":
        return []
    members = schema["properties"]
    return [f"{path}.{name}: unknown member" for name in value if name not in members] + [
        fault
        for name, item in value.items()
        if name in members
        for fault in _unknown(item, members[name], f"{path}.{name}")
    ]


def _broken_rules(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        # A rule with oldSelf is about changes; there is nothing older here.
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{path}: {rule.get('message', rule['rule'])}"
    if isinstance(value, list):
        for item in value:
            yield from _broken_rules(item, schema.get("items", {}), f"{path}[]")
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _broken_rules(item, schema.get("properties", {}).get(name, {}), f"{path}.{name}")


@cache
def _program(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def _holds(rule: str, value: Any) -> bool:
    return bool(_program(rule).evaluate({"self": json_to_cel(value)}))
