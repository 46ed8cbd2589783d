"""Questions of gateways and their answers: token introspection (RFC 7662)."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ai_admin.http.models import LEFT_ALONE, ApiModel
from ai_admin.users.schemas import Kind, ModelPattern, Tag

_LONGEST_TOKEN = 8192
# Bytes of a question: percent-encoding makes three of one.
LARGEST_QUESTION = 32 * 1024
Model = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\u0000-\u001f]+$",
        description="The model that is to be called.",
        examples=["gpt-5-mini"],
    ),
]


class Question(BaseModel):
    """The parameters of introspection (RFC 7662, 2.1), and a model."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"token": "aia_…", "model": "gpt-5-mini"}]}
    )

    token: Annotated[str, Field(min_length=1, max_length=_LONGEST_TOKEN, description="The credential to look at.")]
    token_type_hint: Annotated[str | None, Field(max_length=100, description="Not needed, and not looked at.")] = None
    model: Model | None = None


class Introspection(ApiModel):
    """What is known of a credential (RFC 7662, 2.2). One that is not good is `active: false`, and nothing else."""

    active: Annotated[bool, Field(description="Whether the credential is good, and its user active, now.")]
    sub: Annotated[UUID, Field(description="The user's id.")] = LEFT_ALONE
    scope: Annotated[str, Field(description="What it may be used for here, with spaces between.")] = LEFT_ALONE
    exp: Annotated[int, Field(description="When it ends, in seconds since 1970; absent where it does not.")] = (
        LEFT_ALONE
    )
    token_type: Annotated[Literal["Bearer"], Field(alias="token_type")] = LEFT_ALONE
    tag: Tag = LEFT_ALONE
    kind: Kind = LEFT_ALONE
    models: Annotated[list[ModelPattern], Field(description="Patterns of the models its user may call.")] = LEFT_ALONE
    key_models: Annotated[
        list[ModelPattern], Field(description="Patterns that limit this key further; absent where none do.")
    ] = LEFT_ALONE
    model_allowed: Annotated[bool, Field(description="Whether `model` may be called; absent without it.")] = LEFT_ALONE


class AuthorizeQuery(BaseModel):
    """The query parameters of authorization."""

    model_config = ConfigDict(extra="forbid")

    model: Model | None = None
