"""Fission function `ai-admin-api-keys`: `/ai/admin/users/{UserID}/keys`, one of them, and its rotation."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()

_KEYS = "/ai/admin/users/<UserID>/keys"


def main() -> Response:
    """List, make, change, rotate and revoke API keys of a user."""
    return fission.answer(application, _KEYS, f"{_KEYS}/<KeyID>", f"{_KEYS}/<KeyID>/rotate")
