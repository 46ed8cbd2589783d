"""Entity tags of single records: the version in quotes, and the conditions that name them (RFC 9110, 8.8.3, 13.1)."""

import re
from dataclasses import dataclass

from ai_admin.errors import RequestInvalid

ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# Characters of a list; a cache names a few versions.
_LONGEST = 4096
_LIST = re.compile(rf"\s*{ENTITY_TAG}\s*(?:,\s*{ENTITY_TAG}\s*)*")
_ONE = re.compile(ENTITY_TAG)


def entity_tag(version: int) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


@dataclass(frozen=True)
class Precondition:
    """What If-Match demands: one of these entity tags, any at all (`*`), or nothing (no header)."""

    tags: tuple[str, ...] | None
    any: bool = False

    def holds(self, version: int) -> bool:
        """Compare strongly: a weak tag never matches (RFC 9110, 8.8.3.2)."""
        return self.any or self.tags is None or entity_tag(version) in self.tags


def _parse(header: str, name: str) -> tuple[str, ...]:
    if len(header) > _LONGEST:
        raise RequestInvalid.at("header", name, message=f"Longer than {_LONGEST} characters")
    if not _LIST.fullmatch(header):
        raise RequestInvalid.at("header", name, message='Must be "*" or entity tags in quotes, such as "3"')
    return tuple(_ONE.findall(header))


def if_match(header: str | None) -> Precondition:
    """Read If-Match. Raises `RequestInvalid`."""
    if header is None:
        return Precondition(None)
    if header.strip() == "*":
        return Precondition((), any=True)
    return Precondition(_parse(header, "If-Match"))


def none_match(header: str | None, version: int) -> bool:
    """Whether If-None-Match lets the answer pass; the comparison is weak. Raises `RequestInvalid`."""
    if header is None:
        return True
    if header.strip() == "*":
        return False
    return entity_tag(version) not in {tag.removeprefix("W/") for tag in _parse(header, "If-None-Match")}
