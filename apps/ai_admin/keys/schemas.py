"""What an API key is, as callers send and receive it."""

import re
from datetime import datetime
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ai_admin.access.scopes import Scope
from ai_admin.access.tokens import FORM
from ai_admin.http.models import LEFT_ALONE, ApiModel, Positive, Time
from ai_admin.http.path import UuidText
from ai_admin.keys.values import KeyOrder as KeyOrder
from ai_admin.users.schemas import LARGEST_PAGE, Models, Name, Tag

MOST_KEYS = 100
# Bytes of a request with a key: a hundred patterns of models are a fifth of it.
LARGEST_KEY = 64 * 1024
LARGEST_ROTATION = 4096
_LONGEST_OVERLAP_S = 30 * 24 * 3600


def _number(value: object) -> object:
    """Pydantic takes `false` for 0 and `"60"` for 60; JSON Schema does not."""
    if isinstance(value, bool | str):
        raise ValueError("must be an integer")  # noqa: TRY004  Pydantic's way to say it
    return value


KeyName = Annotated[Name, Field(description="What the key is for, 1 to 200 characters.", examples=["CI of search"])]
Scopes = Annotated[
    list[Scope],
    Field(max_length=len(Scope), description="What the key may be used for; null is all that the user's role gives."),
]
KeyModels = Annotated[
    Models, Field(description="Patterns of the models that this key may call; null is all that the user may.")
]
Expiry = Annotated[Time, Field(description="When the key ends; null is never.", examples=["2099-12-31T12:00:00Z"])]


class ApiKey(ApiModel):
    """An API key of a user, without the key itself."""

    id: UUID
    name: KeyName
    last_four: Annotated[str, Field(min_length=4, max_length=4, description="The key's last four characters.")]
    scopes: Scopes | None
    models: KeyModels | None
    created_at: datetime
    created_by: Annotated[UUID | None, Field(description="The user who made it; null for the service itself.")]
    expires_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="When it was last used, to the minute.")]
    rotated_at: Annotated[datetime | None, Field(description="When it was last rotated; null for never.")]
    previous_expires_at: Annotated[
        datetime | None,
        Field(description="When the value that the last rotation replaced stops working; null for never rotated."),
    ]


class NewApiKey(ApiKey):
    """An API key that was just made or rotated. This is the only time that it is shown."""

    key: Annotated[str, Field(pattern=f"^{FORM}$", description="The key. Keep it now: it is not shown again.")]


class ApiKeyList(ApiModel):
    """The keys of a user, oldest first; at most 100."""

    data: list[ApiKey]


class ApiKeyCreate(ApiModel):
    """A key to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "CI of search"}, {"name": "Gateway", "scopes": ["tokens:introspect"], "models": []}]
        }
    )

    name: KeyName
    scopes: Scopes | None = None
    models: KeyModels | None = None
    expires_at: Expiry | None = None


class ApiKeyRotate(ApiModel):
    """A rotation: the key gets a new value, and keeps its id and everything else that is not sent."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"overlapSeconds": 3600}, {"expiresAt": "2099-12-31T12:00:00Z"}]}
    )

    overlap_seconds: Annotated[
        int,
        Field(ge=0, le=_LONGEST_OVERLAP_S, description="How much longer the present value works."),
        BeforeValidator(_number),
    ] = 0
    expires_at: Expiry | None = LEFT_ALONE


class ApiKeyUpdate(ApiModel):
    """Changes to a key: the members that are sent change, the others stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "CI of search, second run"}, {"models": None}]})

    name: KeyName = LEFT_ALONE
    scopes: Scopes | None = LEFT_ALONE
    models: KeyModels | None = LEFT_ALONE
    expires_at: Expiry | None = LEFT_ALONE


class KeyState(str, Enum):
    """Whether a key still works, as far as its expiry goes."""

    ACTIVE = "active"
    EXPIRED = "expired"


Flag = Literal["true", "false"]


class KeyFilter(BaseModel):
    """The query parameters that choose keys. Each is served by an index."""

    model_config = ConfigDict(extra="forbid")

    user: Annotated[list[UuidText], Field(max_length=100, description="Of any of these users.")] | None = None
    scope: (
        Annotated[
            list[Scope],
            Field(
                max_length=len(Scope),
                description="Named by the key, or given by the user's role to a key without limits; any of these.",
            ),
        ]
        | None
    ) = None
    state: Annotated[KeyState | None, Field(description="Not expired, or expired.")] = None
    never_expires: Annotated[Flag | None, Field(alias="neverExpires", description="Without expiry, or with one.")] = (
        None
    )
    never_used: Annotated[Flag | None, Field(alias="neverUsed", description="Never used, or used.")] = None
    created_gte: Annotated[Time | None, Field(alias="createdAt[gte]")] = None
    created_gt: Annotated[Time | None, Field(alias="createdAt[gt]")] = None
    created_lte: Annotated[Time | None, Field(alias="createdAt[lte]")] = None
    created_lt: Annotated[Time | None, Field(alias="createdAt[lt]")] = None
    expires_gte: Annotated[Time | None, Field(alias="expiresAt[gte]")] = None
    expires_gt: Annotated[Time | None, Field(alias="expiresAt[gt]")] = None
    expires_lte: Annotated[Time | None, Field(alias="expiresAt[lte]")] = None
    expires_lt: Annotated[Time | None, Field(alias="expiresAt[lt]")] = None
    used_gte: Annotated[Time | None, Field(alias="lastUsedAt[gte]")] = None
    used_gt: Annotated[Time | None, Field(alias="lastUsedAt[gt]")] = None
    used_lte: Annotated[Time | None, Field(alias="lastUsedAt[lte]")] = None
    used_lt: Annotated[Time | None, Field(alias="lastUsedAt[lt]")] = None


class KeyQuery(KeyFilter):
    """The query parameters of the list of all keys."""

    sort: KeyOrder = KeyOrder.CREATED_AT_DESC
    size: Annotated[Positive, Field(description="Keys a page; more than 200 is 200.")] = 50
    cursor: Annotated[
        str | None,
        Field(min_length=1, max_length=8192, description="`nextCursor` of the page before, with the same filters."),
    ] = None


class UserKey(ApiKey):
    """An API key in the list of all keys."""

    user_id: Annotated[UUID, Field(description="The user whose key it is.")]
    user_tag: Annotated[Tag, Field(description="The user's tag; absent for a caller without users:read.")] = LEFT_ALONE


class KeyPage(ApiModel):
    """A page of the list of all keys."""

    data: list[UserKey]
    size: Annotated[int, Field(ge=1, le=LARGEST_PAGE)]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; null on the last one.")]


def _key_text(value: object) -> object:
    """A pattern would be shown to people; this says the same in words."""
    if not isinstance(value, str) or not re.fullmatch(FORM, value.strip()):
        raise ValueError("must be an API key: aia_ and 49 letters and digits")
    return value.strip()


class LeakReport(ApiModel):
    """The text of a key that has leaked."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": "aia_" + "0" * 49}]})

    key: Annotated[
        str,
        BeforeValidator(_key_text),
        Field(description="The key itself.", json_schema_extra={"pattern": f"^{FORM}$", "writeOnly": True}),
    ]


class LeakedKey(ApiModel):
    """What has become of a key that has leaked."""

    key_id: UUID
    user_id: Annotated[UUID, Field(description="The user whose key it is.")]
    revoked: Annotated[
        bool, Field(description="Whether this request revoked it; false where its text had stopped working before.")
    ]
    ended_at: Annotated[datetime, Field(description="When the text stopped working for good.")]
