"""The table of roles in docs/security.md is the one in the code."""

import re

from ai_admin.access.scopes import ROLE_SCOPES, Scope
from tests.conftest import ROOT


def test_the_documented_roles_are_those_of_the_code() -> None:
    """Who decides about roles reads the document."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", text, re.MULTILINE))
    scopes = {role: set(re.findall(r"`(\w+:\w+)`", said)) for role, said in rows.items()}
    assert scopes == {role.value: {scope.value for scope in given} for role, given in ROLE_SCOPES.items()}
    assert scopes["owner"] == {scope.value for scope in Scope}
