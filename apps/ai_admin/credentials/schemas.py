"""What a credential is, as callers send and receive it. A value is in requests and in one answer, never in a list."""

import base64
import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from ai_admin.credentials import content
from ai_admin.errors import RequestInvalid
from ai_admin.http.models import LEFT_ALONE, ApiModel
from ai_admin.vault.secret_value import SecretValue

MOST_SECRETS = 100
MOST_VERSIONS = 100
LARGEST_VALUE = 64 * 1024
# Bytes of a request with a value, as escapes of JSON make six bytes of one; and of a request without.
LARGEST_SECRET = 512 * 1024
LARGEST_QUESTION = 16 * 1024
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
_LARGEST_INTEGER = 2**31 - 1
_BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
# Something to see, and no control characters.
_REASON = r"^[^\u0000-\u001f\u007f]*[^\u0000-\u0020\u007f][^\u0000-\u001f\u007f]*$"
_ONE_VALUE: dict[str, Any] = {"oneOf": [{"required": ["value"]}, {"required": ["valueBase64"]}]}


def read_name(text: str) -> str:
    """The name that stands in a path. Raises `RequestInvalid`."""
    if not re.fullmatch(NAME, text):
        message = "must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen, with a letter or digit first"
        raise RequestInvalid.at("path", "Name", message=message)
    return text


def _of_size(value: bytes) -> bytes:
    if not 0 < len(value) <= LARGEST_VALUE:
        raise ValueError(f"must be 1 to {LARGEST_VALUE} bytes")
    return value


def _from_text(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004  Pydantic's way to say it
    if "\x00" in value:
        raise ValueError("must not contain U+0000; send bytes as valueBase64")
    return _of_size(value.encode())


def _from_base64(value: object) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(_BASE64, value):
        raise ValueError("must be base64 with padding (RFC 4648, 4)")
    return _of_size(base64.b64decode(value))


def _number(value: object) -> object:
    """Pydantic takes `true` and `"1"` for integers; JSON Schema takes neither, and 1.0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be an integer")  # noqa: TRY004
    return value


Provider = Annotated[
    str,
    StringConstraints(pattern=f"^{NAME}$"),
    Field(description="Where the credential is good: a name that gateways know.", examples=["openai"]),
]
_TEXT_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": LARGEST_VALUE,
    "pattern": r"^[^\u0000]*$",
    "format": "password",
    "description": "The credential as text, 1 byte to 64 KiB in UTF-8.",
}
_BASE64_SCHEMA = {
    "type": "string",
    "minLength": 4,
    "maxLength": -(-LARGEST_VALUE // 3) * 4,
    "pattern": _BASE64,
    "contentEncoding": "base64",
    "description": "The credential as any bytes, 1 byte to 64 KiB, in base64.",
}
TextValue = Annotated[SecretValue, BeforeValidator(_from_text), WithJsonSchema(_TEXT_SCHEMA)]
Base64Value = Annotated[SecretValue, BeforeValidator(_from_base64), WithJsonSchema(_BASE64_SCHEMA)]
LastFour = Annotated[
    str,
    Field(
        pattern="^(?:[ -~]{4})?$",
        description="The last four characters of a text of at least twelve ASCII characters; else empty.",
    ),
]
Version = Annotated[
    int,
    Field(ge=1, le=_LARGEST_INTEGER, description="Counts the values of this name."),
    BeforeValidator(_number),
]
Setter = Annotated[UUID | None, Field(description="The user who set it; null for the service itself.")]
Used = Annotated[datetime | None, Field(description="When this version was last revealed, to the minute.")]


class UserSecret(ApiModel):
    """A credential of a user, without its value."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    provider: Provider
    last_four: LastFour
    version: Version
    created_at: Annotated[datetime, Field(description="When the oldest of the versions that are kept was set.")]
    rotated_at: Annotated[datetime, Field(description="When the version in force was set.")]
    rotated_by: Setter
    used_at: Used


class UserSecretList(ApiModel):
    """The credentials of a user, by name; at most 100."""

    data: list[UserSecret]


class SecretVersion(ApiModel):
    """A version of a credential, without its value."""

    version: Version
    provider: Provider
    last_four: LastFour
    created_at: datetime
    created_by: Setter
    used_at: Used
    ended_at: Annotated[datetime | None, Field(description="When it was replaced or removed; null for that in force.")]


class SecretVersionList(ApiModel):
    """The versions of a credential that can be restored, and the one in force, newest first; at most 100."""

    data: list[SecretVersion]


class SecretPut(ApiModel):
    """A credential to set: its value as text or as bytes."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        json_schema_extra={
            **_ONE_VALUE,
            "examples": [
                {"provider": "openai", "value": "the provider's key"},
                {"provider": "example-cloud", "valueBase64": "AAECAwQFBgc="},
            ],
        },
    )

    provider: Provider
    value: TextValue = LEFT_ALONE
    value_base64: Base64Value = LEFT_ALONE

    @model_validator(mode="after")
    def _one_value(self) -> "SecretPut":
        if len({"value", "value_base64"} & self.model_fields_set) != 1:
            raise ValueError("send either value or valueBase64")
        return self

    def content(self) -> SecretValue:
        """What is to be sealed."""
        if "value" in self.model_fields_set:
            return content.of_text(self.value)
        return content.of_bytes(self.value_base64)


class SecretRestore(ApiModel):
    """Which version is to be in force again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 3}]})

    version: Version


class SecretReveal(ApiModel):
    """Why a credential is to be revealed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "request of the user to their model"}, {"reason": "ticket 4711"}]}
    )

    reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=500, pattern=_REASON),
        Field(description="For the audit log: 1 to 500 characters without line breaks."),
    ]


class RevealedSecret(ApiModel):
    """A credential with its value, in the form in which it was sent."""

    model_config = ConfigDict(json_schema_extra=_ONE_VALUE)

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    provider: Provider
    version: Version
    value: TextValue = LEFT_ALONE
    value_base64: Base64Value = LEFT_ALONE
