"""What an API key is, as callers send and receive it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field

from ai_admin.access.scopes import Scope
from ai_admin.access.tokens import FORM
from ai_admin.http.models import LEFT_ALONE, ApiModel, Time
from ai_admin.users.schemas import Models, Name

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
