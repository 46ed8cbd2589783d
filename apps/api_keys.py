"""Fission function `ai-admin-api-keys`: `/ai/admin/users/{UserID}/keys` and one of them."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """List, make, change and revoke API keys of a user."""
    return fission.answer(application, "/ai/admin/users/<UserID>/keys", "/ai/admin/users/<UserID>/keys/<KeyID>")
