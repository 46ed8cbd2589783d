"""What a user is, as callers send and receive it: the Pydantic models behind validation and OpenAPI."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from ai_admin.domains import ascii_domain
from ai_admin.http.models import LEFT_ALONE, ApiModel, Positive, Time
from ai_admin.http.path import UuidText
from ai_admin.users.values import Kind as Kind
from ai_admin.users.values import Role as Role
from ai_admin.users.values import Status as Status
from ai_admin.users.values import UserOrder as UserOrder

LARGEST_ATTRIBUTES = 16 * 1024
# Bytes of a request with a user: escapes of JSON make six bytes of one, and indentation adds to that.
LARGEST_USER = 256 * 1024
# Objects and lists in one another, the attributes themselves included: as deep as a request with them can be read.
DEEPEST_ATTRIBUTES = 199
LARGEST_PAGE = 200

# The "valid e-mail address" of the HTML standard (WHATWG, 4.10.5.1.5), which browsers apply too. It is ASCII:
# an international domain is kept in its IDNA form (`ascii_domain`), so that no address can look like another.
_EMAIL = (
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
)
_TAG = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
# Something to see, and no control characters: none that break lines, end strings (U+0000) or turn the
# direction of what follows (U+202A to U+202E, U+2066 to U+2069).
_UNSEEN = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069"
_INVISIBLE = r"\u00ad\u200b-\u200f\u2060-\u2064\ufeff"
_NAME = rf"^[^{_UNSEEN}]*[^{_UNSEEN}{_INVISIBLE}\s][^{_UNSEEN}]*$"
_MODEL = r"^[A-Za-z0-9*@][A-Za-z0-9._:/@+*-]{0,127}$"
# Signed and unsigned ones of 64 bits: what JSON parsers agree on.
_INTEGERS = range(-(2**63), 2**64)


LiveStatus = Annotated[
    Literal["active", "suspended"],
    Field(description="Whether the user may use anything. A user is deleted with DELETE, not by a status."),
]


def _storable(value: object, depth: int = 1) -> None:
    """Refuse what JSON can say and PostgreSQL's jsonb cannot keep exactly, or nobody could send again."""
    if isinstance(value, list | dict) and depth > DEEPEST_ATTRIBUTES:
        raise ValueError(f"must not be nested deeper than {DEEPEST_ATTRIBUTES} levels")
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("a string must not contain U+0000")
    if isinstance(value, int) and value not in _INTEGERS:
        raise ValueError("an integer must fit in 64 bits; send a larger one as a string")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124  NaN
        raise ValueError("a number must be finite")
    if isinstance(value, list):
        for item in value:
            _storable(item, depth + 1)
    if isinstance(value, dict):
        for key, item in value.items():
            _storable(key)
            _storable(item, depth + 1)


def _attributes(value: dict[str, Any]) -> dict[str, Any]:
    _storable(value)
    if len(orjson.dumps(value)) > LARGEST_ATTRIBUTES:
        raise ValueError(f"must be at most {LARGEST_ATTRIBUTES} bytes as JSON")
    return value


def _once(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


Tag = Annotated[
    str,
    StringConstraints(pattern=_TAG),
    AfterValidator(str.lower),
    Field(description="The handle: unique, stored in lower case.", examples=["ada.lovelace"]),
]
Email = Annotated[
    str,
    # Before the validator, or Pydantic would leave them out of the JSON Schema.
    StringConstraints(pattern=_EMAIL, max_length=254),
    BeforeValidator(ascii_domain),
    Field(
        description="Unique; case makes no difference. Required for a human, optional for a service. An international "
        "domain is kept in its ASCII form: `ada@bücher.example` becomes `ada@xn--bcher-kva.example`.",
        examples=["ada@example.com"],
    ),
]
Name = Annotated[
    str,
    StringConstraints(pattern=_NAME, min_length=1, max_length=200),
    AfterValidator(str.strip),
    Field(description="The name that is shown, 1 to 200 characters.", examples=["Ada Lovelace"]),
]
ModelPattern = Annotated[str, StringConstraints(pattern=_MODEL)]
Models = Annotated[
    list[ModelPattern],
    Field(
        max_length=100,
        description="Patterns of the models the user may call; `*` stands for any characters. Empty means none.",
        examples=[["gpt-5*", "claude-*"]],
    ),
    AfterValidator(_once),
]
_JSON_SCHEMA = {
    "type": "object",
    "propertyNames": {"pattern": r"^[^\u0000]*$"},
    "additionalProperties": {"$ref": "#/components/schemas/JsonValue"},
    "description": "The organisation's own facts about the user: a JSON object of at most 16 KiB.",
    "examples": [{"team": "research", "costCentre": 4711}],
}
Attributes = Annotated[dict[str, Any], AfterValidator(_attributes), WithJsonSchema(_JSON_SCHEMA)]

# The component that `Attributes` refers to.
JSON_VALUE_SCHEMA: dict[str, Any] = {
    "title": "JsonValue",
    "description": "Any JSON value; integers fit in 64 bits, strings hold no U+0000.",
    "anyOf": [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "integer", "minimum": _INTEGERS.start, "maximum": _INTEGERS.stop - 1},
        {"type": "number"},
        {"type": "string", "pattern": r"^[^\u0000]*$"},
        {"type": "array", "items": {"$ref": "#/components/schemas/JsonValue"}},
        {
            "type": "object",
            "propertyNames": {"pattern": r"^[^\u0000]*$"},
            "additionalProperties": {"$ref": "#/components/schemas/JsonValue"},
        },
    ],
}


class AiUser(ApiModel):
    """A user of the directory."""

    id: UUID
    tag: Tag
    email: Email | None
    name: Name
    kind: Kind
    role: Role
    status: Status
    models: Models
    attributes: Attributes
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: Annotated[int, Field(ge=1, description="Counts the changes; also the ETag.")]


class AiUserCreate(ApiModel):
    """A user to create: a human with an email address, or a service."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["email"], "properties": {"email": {"type": "string"}}},
                {"required": ["kind"], "properties": {"kind": {"const": "service"}}},
            ],
            "examples": [
                {"tag": "ada.lovelace", "email": "ada@example.com", "name": "Ada Lovelace", "models": ["gpt-5*"]},
                {"tag": "nightly-eval", "name": "Nightly evaluation", "kind": "service"},
            ],
        }
    )

    tag: Tag
    email: Email | None = None
    name: Annotated[Name | None, Field(description="The name that is shown; the tag where none is sent.")] = None
    kind: Kind = Kind.HUMAN
    role: Role = Role.MEMBER
    status: LiveStatus = "active"
    models: Models = Field(default=[])
    attributes: Attributes = Field(default={})


class AiUserUpdate(ApiModel):
    """Changes to a user: the members that are sent change, the others stay. `null` clears the email of a service."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "suspended"}, {"name": "Ada King", "models": []}]}
    )

    tag: Tag = LEFT_ALONE
    email: Email | None = LEFT_ALONE
    name: Name = LEFT_ALONE
    kind: Kind = LEFT_ALONE
    role: Role = LEFT_ALONE
    status: LiveStatus = LEFT_ALONE
    models: Models = LEFT_ALONE
    attributes: Attributes = LEFT_ALONE

    def sent(self) -> dict[str, Any]:
        """The members that were sent, by name."""
        return self.model_dump(mode="json", include=self.model_fields_set)


_SEARCHED = r"^[^\u0000]*$"


def _no_blank(address: str) -> str:
    """A `+` in a query is a blank (application/x-www-form-urlencoded): `ada+test@example.com` finds nobody."""
    if " " in address:
        raise ValueError("an email address has no blank; write a + as %2B, such as ada%2Btest@example.com")
    return str(ascii_domain(address))


Searched = Annotated[str, StringConstraints(min_length=1, max_length=254, pattern=_SEARCHED)]
AnyOf = Annotated[list[Searched], Field(max_length=100, description="Equal to this; repeated, to any of them.")]
_Address = Annotated[Searched, AfterValidator(_no_blank), Field(json_schema_extra={"pattern": r"^[^\u0000 ]*$"})]
Addresses = Annotated[list[_Address], Field(max_length=100, description="Equal to this; repeated, to any of them.")]
_BEGINS = Field(description="Begins with this; letters' case makes no difference.")
Prefix = Annotated[Searched, _BEGINS]


# Pydantic would write the keys' pattern as `patternProperties`, which lets every other key pass.
_ATTRIBUTES_FILTER = {
    "type": "object",
    "propertyNames": {"minLength": 1, "maxLength": 254, "pattern": _SEARCHED},
    "additionalProperties": {"type": "string", "maxLength": 254, "pattern": _SEARCHED},
    "maxProperties": 10,
    "description": "`attributes[key]=value`: the member equals the value, as a string or as a number, boolean or null.",
    "examples": [{"team": "research"}],
}


class UserFilter(BaseModel):
    """The query parameters that choose users. Each is served by an index."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[list[UuidText], Field(max_length=100, description="Any of these ids.")] | None = None
    tag: AnyOf | None = None
    email: Addresses | None = None
    name: AnyOf | None = None
    kind: Annotated[list[Kind], Field(max_length=100)] | None = None
    role: Annotated[list[Role], Field(max_length=100)] | None = None
    status: (
        Annotated[list[Status], Field(max_length=100, description="Deleted users are listed only when asked for.")]
        | None
    ) = None
    tag_prefix: Annotated[Prefix | None, Field(alias="tag[prefix]")] = None
    email_prefix: Annotated[Annotated[_Address, _BEGINS] | None, Field(alias="email[prefix]")] = None
    name_prefix: Annotated[Prefix | None, Field(alias="name[prefix]")] = None
    created_gte: Annotated[Time | None, Field(alias="createdAt[gte]")] = None
    created_gt: Annotated[Time | None, Field(alias="createdAt[gt]")] = None
    created_lte: Annotated[Time | None, Field(alias="createdAt[lte]")] = None
    created_lt: Annotated[Time | None, Field(alias="createdAt[lt]")] = None
    updated_gte: Annotated[Time | None, Field(alias="updatedAt[gte]")] = None
    updated_gt: Annotated[Time | None, Field(alias="updatedAt[gt]")] = None
    updated_lte: Annotated[Time | None, Field(alias="updatedAt[lte]")] = None
    updated_lt: Annotated[Time | None, Field(alias="updatedAt[lt]")] = None
    attributes: Annotated[
        dict[Searched, Annotated[str, StringConstraints(max_length=254, pattern=_SEARCHED)]] | None,
        Field(max_length=10),
        WithJsonSchema(_ATTRIBUTES_FILTER),
    ] = None
    q: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_SEARCHED)] | None,
        Field(
            description="Words, each the beginning of a word in tag, email or name; "
            "case and diacritics make no difference. An id finds the user who has it.",
            examples=["ada love"],
        ),
    ] = None


class UserQuery(UserFilter):
    """The query parameters of the list."""

    sort: UserOrder = UserOrder.CREATED_AT_DESC
    size: Annotated[Positive, Field(description="Users a page; more than 200 is 200.")] = 20
    page: Annotated[
        Positive | None,
        Field(
            description="The page, from 1 (the default), as far as row 10,000; a cursor goes to any depth.",
        ),
    ] = None
    cursor: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=8192,
            description="`nextCursor` of the page before, with the same filters and order.",
        ),
    ] = None
    count: Annotated[
        Literal["capped", "none"],
        Field(description="`none` leaves `total` out, which is faster."),
    ] = "capped"


class DeleteQuery(BaseModel):
    """The query parameters of DELETE."""

    model_config = ConfigDict(extra="forbid")

    purge: Annotated[Literal["true", "false"], Field(description="`true` erases the person for good.")] = "false"


class UserPage(ApiModel):
    """A page of the list."""

    data: list[AiUser]
    page: Annotated[int, Field(ge=1, description="The page; absent where a cursor was sent.")] = LEFT_ALONE
    size: Annotated[int, Field(ge=1, le=LARGEST_PAGE)]
    total: Annotated[int, Field(ge=0, description="Users that match; absent with `count=none`.")] = LEFT_ALONE
    total_is_estimate: Annotated[bool, Field(description="Whether `total` is an estimate, as it is beyond 10,000.")] = (
        LEFT_ALONE
    )
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; null on the last one.")]
