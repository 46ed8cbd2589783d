"""The closed list of actions, without PostgreSQL's driver: the command line imports it in milliseconds."""

from enum import Enum


class Action(str, Enum):
    """What was done; `subject:action`."""

    USERS_CREATE = "users:create"
    USERS_UPDATE = "users:update"
    USERS_SUSPEND = "users:suspend"
    USERS_ACTIVATE = "users:activate"
    USERS_DELETE = "users:delete"
    USERS_RESTORE = "users:restore"
    USERS_PURGE = "users:purge"
    USERS_EXPORT = "users:export"
    KEYS_CREATE = "keys:create"
    KEYS_UPDATE = "keys:update"
    KEYS_ROTATE = "keys:rotate"
    KEYS_REVOKE = "keys:revoke"
    KEYS_REPORT_LEAK = "keys:report_leak"
    SECRETS_SET = "secrets:set"
    SECRETS_REMOVE = "secrets:remove"
    SECRETS_RESTORE = "secrets:restore"
    SECRETS_REVEAL = "secrets:reveal"
    IDENTITIES_BIND = "identities:bind"
    IDENTITIES_UNBIND = "identities:unbind"
    SESSIONS_BEGIN = "sessions:begin"
    SESSIONS_END = "sessions:end"
    ACCESS_REFUSE = "access:refuse"
