"""The closed lists of a user's values, without Pydantic: the command line imports them in milliseconds."""

from enum import Enum


class Kind(str, Enum):
    """Whether a user is a person or a program."""

    HUMAN = "human"
    SERVICE = "service"


class Role(str, Enum):
    """What a user may administer."""

    OWNER = "owner"
    ADMIN = "admin"
    AUDITOR = "auditor"
    MEMBER = "member"


class Status(str, Enum):
    """Whether a user may use anything; `deleted` is set by DELETE alone."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


class UserOrder(str, Enum):
    """Orders of the list; `-` descends."""

    CREATED_AT = "createdAt"
    CREATED_AT_DESC = "-createdAt"
    UPDATED_AT = "updatedAt"
    UPDATED_AT_DESC = "-updatedAt"
    TAG = "tag"
    TAG_DESC = "-tag"
    EMAIL = "email"
    EMAIL_DESC = "-email"
    NAME = "name"
    NAME_DESC = "-name"
