"""Values in paths."""

import re
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator

from ai_admin.errors import RequestInvalid

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _canonical(value: object) -> object:
    """Python takes braces, a urn: and missing hyphens too; an id here has one form (RFC 9562, 4)."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError("must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")
    return value


UuidText = Annotated[UUID, BeforeValidator(_canonical)]


def read_uuid(name: str, text: str) -> UUID:
    """The id that stands in a path. Raises `RequestInvalid`."""
    try:
        return UUID(str(_canonical(text)))
    except ValueError as error:
        raise RequestInvalid.at("path", name, message=str(error)) from None
