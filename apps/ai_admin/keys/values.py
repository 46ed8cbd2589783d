"""The closed lists of a key's values, without Pydantic: the command line imports them in milliseconds."""

from enum import Enum


class KeyOrder(str, Enum):
    """Orders of the list of all keys; `-` descends."""

    CREATED_AT = "createdAt"
    CREATED_AT_DESC = "-createdAt"
    EXPIRES_AT = "expiresAt"
    EXPIRES_AT_DESC = "-expiresAt"
    LAST_USED_AT = "lastUsedAt"
    LAST_USED_AT_DESC = "-lastUsedAt"
