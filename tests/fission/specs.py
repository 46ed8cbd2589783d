"""Reads `specs/`: what `fission spec apply` would create."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent.parent.parent / "specs"


@dataclass(frozen=True)
class Trigger:
    """An HTTPTrigger: its name, path, methods, and the function it calls."""

    name: str
    path: str
    methods: tuple[str, ...]
    function: str


@cache
def resources() -> list[dict[str, Any]]:
    """Every document of every file."""
    return [
        document
        for file in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]


def of_kind(kind: str) -> list[dict[str, Any]]:
    """The resources of a kind."""
    return [resource for resource in resources() if resource["kind"] == kind]


def functions() -> dict[str, str]:
    """The entry of each function, `module.main`, by its name."""
    return {
        function["metadata"]["name"]: function["spec"]["package"]["functionName"] for function in of_kind("Function")
    }


def triggers() -> list[Trigger]:
    """All HTTPTriggers."""
    return [
        Trigger(
            name=trigger["metadata"]["name"],
            path=trigger["spec"]["relativeurl"],
            methods=tuple(trigger["spec"]["methods"]),
            function=trigger["spec"]["functionref"]["name"],
        )
        for trigger in of_kind("HTTPTrigger")
    ]
