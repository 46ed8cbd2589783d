"""Who acts, as an operation and the audit log need to know: the caller of a request, or the service itself."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from ai_admin.access.scopes import ROLE_SCOPES, Scope
from ai_admin.errors import Forbidden
from ai_admin.users.schemas import Role

OWNERS_ONLY = "Only an owner can see or change what belongs to an owner."


@dataclass(frozen=True)
class Actor:
    """A user with one of their credentials; nobody, where `user_id` is None, or the service itself."""

    request_id: str
    user_id: UUID | None = None
    key_id: UUID | None = None
    role: Role = Role.MEMBER
    scopes: frozenset[Scope] = frozenset()
    # Of the key as it was presented: the key may have been rotated since.
    key_digest: bytes | None = field(default=None, repr=False)
    key_models: tuple[str, ...] | None = None
    key_expires_at: datetime | None = None
    # Issuer and subject of the token that they came with.
    identity: tuple[str, str] | None = None
    source: str = ""
    audit_key: bytes | None = field(default=None, repr=False)

    def require_reach(self, role: Role) -> None:
        """Raise `Forbidden` where a user of this role is out of reach: only owners see or change what is an owner's."""
        if role == Role.OWNER and self.role != Role.OWNER:
            raise Forbidden(OWNERS_ONLY)

    def require_grant(self, scopes: frozenset[Scope]) -> None:
        """Raise `Forbidden` where one of these scopes is lacking: nobody gives what they do not have."""
        lacking = sorted(scope.value for scope in scopes - self.scopes)
        if lacking:
            raise Forbidden(f"Nobody grants what they lack: {', '.join(lacking)}.")

    def require_grant_to(self, user_id: UUID, scopes: frozenset[Scope]) -> None:
        """As `require_grant`, for a key of this user: a gateway renews its own, and makes no other one."""
        self.require_grant(scopes)
        if Scope.SECRETS_REVEAL in scopes and self.role != Role.OWNER and self.user_id != user_id:
            raise Forbidden("Only an owner grants secrets:reveal.")

    def require_role_grant(self, role: Role) -> None:
        """Raise `Forbidden` where this role is not theirs to give, also to themselves."""
        self.require_reach(role)
        self.require_grant(ROLE_SCOPES[role])


def service(request_id: str) -> Actor:
    """The service itself, at the hands of who has its database: a command, or the first start."""
    return Actor(request_id=request_id, role=Role.OWNER, scopes=frozenset(Scope))
