"""The usual form of Fission's resources, which a cluster gives them.

`fission spec apply` compares what it reads with what the cluster has, member by member. It changes what differs at
every apply, and a function or package that is changed gets new pods.
"""

from copy import deepcopy
from fractions import Fraction
from typing import Any

Document = dict[str, Any]


def in_usual_form(resource: Document) -> Document:
    """Return a resource with methods sorted, amounts in their usual form, and the default that is known to matter.

    Seen in Fission 1.27 with Kubernetes 1.36. `crds.stored` sets all other defaults as well.
    """
    kept = deepcopy(resource)
    spec = kept.get("spec", {})
    if kept["kind"] == "TimeTrigger":
        spec.setdefault("subpath", "/")
    if "methods" in spec:
        spec["methods"] = sorted(spec["methods"])
    for amounts in spec.get("resources", {}).values():
        amounts.update({name: _amount(text) for name, text in amounts.items()})
    return kept


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
