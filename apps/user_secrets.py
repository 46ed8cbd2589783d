"""Fission function `ai-admin-user-secrets`: `/ai/admin/users/{UserID}/secrets` and what is below."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()

_SECRETS = "/ai/admin/users/<UserID>/secrets"


def main() -> Response:
    """List, set, remove, reveal and restore credentials of a user."""
    return fission.answer(
        application,
        _SECRETS,
        f"{_SECRETS}/<Name>",
        f"{_SECRETS}/<Name>/reveal",
        f"{_SECRETS}/<Name>/versions",
        f"{_SECRETS}/<Name>/restore",
    )
