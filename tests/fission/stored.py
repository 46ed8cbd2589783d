"""The form in which a cluster keeps Fission's resources.

`fission spec apply` compares what it reads with what the cluster has, member by member. It changes what differs at
every apply, and a function or package that is changed gets new pods.
"""

from copy import deepcopy
from fractions import Fraction
from typing import Any

from tests.fission import crds

Document = dict[str, Any]


def stored(resource: Document) -> Document:
    """Return a resource as the cluster keeps it: defaults of its CRD set, methods sorted, amounts in their usual form.

    Seen in Fission 1.27 with Kubernetes 1.36. Without the CRDs at hand, the one default that is known to matter is set.
    """
    kept = deepcopy(resource)
    spec = kept.get("spec", {})
    if kept["kind"] == "TimeTrigger":
        spec.setdefault("subpath", "/")
    if kept["kind"] in crds.kinds():
        _set_defaults(kept, crds.schema(kept["kind"]))
    if "methods" in spec:
        spec["methods"] = sorted(spec["methods"])
    for amounts in spec.get("resources", {}).values():
        amounts.update({name: _amount(text) for name, text in amounts.items()})
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


def _amount(text: str) -> str:
    """Return an amount in the form that Kubernetes gives it (apimachinery, resource.Quantity)."""
    binary = ("Ki", "Mi", "Gi", "Ti")
    if text.endswith(binary):
        number, unit = int(text[:-2]), binary.index(text[-2:])
        while number % 1024 == 0 and unit < len(binary) - 1:
            number, unit = number // 1024, unit + 1
        return f"{number}{binary[unit]}"
    thousandths = Fraction(text[:-1]) if text.endswith("m") else Fraction(text) * 1000
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
