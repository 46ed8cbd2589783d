"""A sign-in at the identity provider that is under way, and which answer completes it (RFC 6749, 10.12; RFC 9207)."""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_admin.errors import Unauthenticated

_SECRET_BYTES = 32
_LONGEST_CODE = 4096
# The error codes of RFC 6749, 4.1.2.1 and 5.2, and of OpenID Connect Core, 3.1.2.6. Any other text may be somebody's,
# and is repeated in no log.
_ERRORS = frozenset(
    {
        "access_denied", "account_selection_required", "consent_required", "interaction_required", "invalid_client",
        "invalid_grant", "invalid_request", "invalid_request_object", "invalid_request_uri", "invalid_scope",
        "login_required", "registration_not_supported", "request_not_supported", "request_uri_not_supported",
        "server_error", "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
        "unsupported_response_type",
    }
)  # fmt: skip


class StaleAttempt(Unauthenticated):
    """The answer belongs to no sign-in that this browser has under way."""


class BrokenOff(Unauthenticated):
    """The provider, or the person there, did not want to."""


@dataclass(frozen=True)
class Attempt:
    """What alone completes a sign-in: `state` its answer, `nonce` its ID token, `verifier` its code (PKCE)."""

    state: str
    nonce: str
    verifier: str


def new_attempt() -> Attempt:
    """One that nobody can guess."""
    return Attempt(*(secrets.token_urlsafe(_SECRET_BYTES) for _ in range(3)))


def code_of(answer: Mapping[str, Sequence[str]], attempt: Attempt, issuer: str) -> str:
    """The code in an answer to this attempt, if this issuer gave it. Raises `StaleAttempt`, `BrokenOff`.

    A parameter that is there twice could mean one thing here and another elsewhere, and so means nothing.
    """
    found = {name: values[0] for name, values in answer.items() if len(values) == 1}
    if not hmac.compare_digest(found.get("state", "").encode(), attempt.state.encode()):
        raise StaleAttempt("state: of no sign-in of this browser")
    if "iss" in answer and found.get("iss") != issuer:
        raise StaleAttempt("iss: another issuer has answered")
    if "error" in answer:
        raise BrokenOff(f"provider: {error_code(found.get('error'))}")
    code = found.get("code", "")
    if not 0 < len(code) <= _LONGEST_CODE:
        raise BrokenOff("provider: no code")
    return code


def error_code(told: object) -> str:
    """The error code that a provider gave, where it is one of the standards."""
    return told if isinstance(told, str) and told in _ERRORS else "no standard error code"
