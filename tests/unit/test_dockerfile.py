"""`Dockerfile` and `.dockerignore` as far as can be checked without a container engine; hadolint does the rest."""

import re

from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def _copied() -> set[str]:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return {source for sources in copies for source in sources.split()}


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    """A renamed lock breaks the build; a rendered Secret that is sent to the engine may end in an image."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == _copied()
    assert all((ROOT / source).exists() for source in _copied())


def test_the_image_runs_without_privileges() -> None:
    """Kubernetes' `runAsNonRoot` needs a number to see that the user is not root."""
    users = re.findall(r"^USER (.+)$", DOCKERFILE.rsplit("FROM", 1)[1], re.MULTILINE)
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)
