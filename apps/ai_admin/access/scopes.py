"""Scopes, and which role has which: the one table of what anybody may do (docs/security.md shows it)."""

from enum import Enum
from typing import Literal

from ai_admin.users.values import Kind, Role


class Scope(str, Enum):
    """What a credential may be used for; `subject:action`."""

    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    SECRETS_READ = "secrets:read"
    SECRETS_WRITE = "secrets:write"
    SECRETS_REVEAL = "secrets:reveal"
    AUDIT_READ = "audit:read"
    TOKENS_INTROSPECT = "tokens:introspect"


# What a route asks for: a scope, any valid credential, or nothing at all.
Entry = Scope | Literal["signed-in", "public"]

ROLE_SCOPES: dict[Role, frozenset[Scope]] = {
    Role.OWNER: frozenset(Scope),
    Role.ADMIN: frozenset(
        {
            Scope.USERS_READ,
            Scope.USERS_WRITE,
            Scope.KEYS_READ,
            Scope.KEYS_WRITE,
            Scope.SECRETS_READ,
            Scope.SECRETS_WRITE,
            Scope.TOKENS_INTROSPECT,
        }
    ),
    Role.AUDITOR: frozenset({Scope.USERS_READ, Scope.AUDIT_READ}),
    Role.MEMBER: frozenset(),
}
# What a key of a service may hold though its role does not: the work of a gateway, which administers nothing.
GATEWAY_SCOPES = frozenset({Scope.TOKENS_INTROSPECT, Scope.SECRETS_REVEAL})


def scopes_of(role: Role, granted: frozenset[Scope] | None, kind: Kind) -> frozenset[Scope]:
    """What a credential may do: all that the role gives, or what of it, and of a gateway's work, was granted."""
    given = ROLE_SCOPES[role]
    if granted is None:
        return given
    # A person who was an owner does not keep what the role gave them.
    return granted & (given | GATEWAY_SCOPES if kind == Kind.SERVICE else given)
