"""Cursors of lists over HTTP: what a cursor belongs to, and back from its text."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pydantic import BaseModel

from ai_admin.access.guard import principal
from ai_admin.cursors import CursorInvalid, Keys, Position, seal, unseal
from ai_admin.errors import RequestInvalid
from ai_admin.http.answers import canonical
from ai_admin.services import services


@dataclass(frozen=True)
class Cursors:
    """The cursors of one list, as one caller asks for it with some filters and an order."""

    asked: bytes

    @classmethod
    def of(cls, name: str, query: BaseModel, beside: AbstractSet[str]) -> "Cursors":
        """Those of the list `name`; the members in `beside` choose a page and may differ from one to the next."""
        asked = query.model_dump(mode="json", exclude=set(beside), exclude_none=True)
        return cls(name.encode() + principal().user_id.bytes + canonical(asked))

    def position(self, cursor: str | None) -> Position | None:
        """The position that a cursor stands for. Raises `RequestInvalid` for one that is not of this list."""
        if cursor is None:
            return None
        try:
            return unseal(cursor, self.asked, _keys())
        except CursorInvalid:
            raise RequestInvalid.at(
                "query",
                "cursor",
                message="This cursor is not of this list: filters and sort must be those it came with",
            ) from None

    def cursor(self, position: Position | None) -> str | None:
        """The cursor of a position; None on the last page."""
        return None if position is None else seal(position, self.asked, _keys())


def _keys() -> Keys:
    return services().settings.secret.cursor_keys()
