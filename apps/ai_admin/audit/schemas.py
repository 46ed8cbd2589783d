"""What an event of the audit log is, as callers receive it, and how they choose among them."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ai_admin.audit.events import Action
from ai_admin.http.models import ApiModel, Positive, Time
from ai_admin.http.path import UuidText

LARGEST_PAGE = 200
_CHANGES: dict[str, Any] = {
    "description": "What was changed: `before` and `after` of each member of a user, the members of a key, a "
    "credential without its value, or the request that was refused. Texts of a person who was purged are gone, and "
    "`erased` is true. Where they do not open although nobody erased the person, `unreadable` is true.",
    "examples": [{"role": {"before": "member", "after": "auditor"}}],
}
# As in the log: a caller's or the router's, one that the service made, or the name of a command.
RequestId = Annotated[str, Field(min_length=1, max_length=192, pattern=r"^[^\u0000]*$")]


class EventOrder(str, Enum):
    """Orders of the log; `-` descends."""

    AT = "at"
    AT_DESC = "-at"


class EventFilter(BaseModel):
    """The query parameters that choose events. Each is served by an index."""

    model_config = ConfigDict(extra="forbid")

    actor: Annotated[list[UuidText], Field(max_length=100, description="Done by any of these users.")] | None = None
    target: Annotated[list[UuidText], Field(max_length=100, description="Done to any of these users.")] | None = None
    key: Annotated[list[UuidText], Field(max_length=100, description="Done with any of these API keys.")] | None = None
    request_id: Annotated[
        list[RequestId] | None,
        Field(alias="requestId", max_length=100, description="Done by any of these requests."),
    ] = None
    action: Annotated[list[Action], Field(max_length=100, description="Any of these actions.")] | None = None
    at_gte: Annotated[Time | None, Field(alias="at[gte]")] = None
    at_gt: Annotated[Time | None, Field(alias="at[gt]")] = None
    at_lte: Annotated[Time | None, Field(alias="at[lte]")] = None
    at_lt: Annotated[Time | None, Field(alias="at[lt]")] = None


class EventQuery(EventFilter):
    """The query parameters of the log."""

    sort: EventOrder = EventOrder.AT_DESC
    size: Annotated[Positive, Field(description="Events a page; more than 200 is 200.")] = 50
    cursor: Annotated[
        str | None,
        Field(min_length=1, max_length=8192, description="`nextCursor` of the page before, with the same filters."),
    ] = None


class Event(ApiModel):
    """One event."""

    id: UUID
    at: datetime
    action: Action
    actor: Annotated[UUID | None, Field(description="Who did it; null for the service itself, and for nobody known.")]
    key: Annotated[UUID | None, Field(description="The API key that was used.")]
    target: Annotated[UUID | None, Field(description="The user it was done to.")]
    changes: Annotated[dict[str, Any], Field(json_schema_extra=_CHANGES)]
    request_id: str
    source: Annotated[str | None, Field(description="The caller's address; null once the actor was purged.")]
    seal: Annotated[int | None, Field(ge=1, description="The number of the seal that covers it; null until sealed.")]


class EventPage(ApiModel):
    """A page of the log."""

    data: list[Event]
    size: Annotated[int, Field(ge=1, le=LARGEST_PAGE)]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; null on the last one.")]
